package cache

import (
	"context"
	"time"
)

// Reader reads entries as a cache's own readers would, for inspection. Implementations are safe for concurrent use.
type Reader interface {
	// Get returns one entry for each key, in the order of keys (without the store's prefix). An absent key is no error:
	// its entry has Found false. The entries are read one after another, not in one transaction.
	Get(ctx context.Context, keys ...string) ([]Entry, error)
	// Close releases the reader's connections.
	Close() error
}

// Entry is what a cache holds under a key.
type Entry struct {
	// Value is the entry's bytes; nil when it is absent.
	Value []byte
	// Found tells an absent entry from an empty one.
	Found bool
	// TTL is how long the entry will live from now on; -1 means that it does not expire.
	TTL time.Duration
}
