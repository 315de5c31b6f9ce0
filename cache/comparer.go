package cache

import (
	"bytes"
	"context"
)

// Comparer tells what messages would change in a store, one after another, as if each had been stored. It reads the
// store and writes nothing to it. Implementations are safe for concurrent use.
type Comparer interface {
	// Compare returns what storing payload would do, one change for each of its writes, in their order. Its errors are
	// those that storing it would return.
	Compare(ctx context.Context, payload []byte) ([]Change, error)
	// Close releases the comparer's connections.
	Close() error
}

// Change is what one write would do to its key.
type Change struct {
	// Key is as the store has it, its prefix included.
	Key string
	// Before and After are the key's values; nil when there is none.
	Before, After []byte
}

// Same reports whether the write would change nothing: it is older than what the store has, equal to it, or kept out
// by its condition.
func (c Change) Same() bool {
	return (c.Before == nil) == (c.After == nil) && bytes.Equal(c.Before, c.After)
}
