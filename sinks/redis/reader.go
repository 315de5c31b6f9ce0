package redis

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/redisclient"
)

// NewReader connects to the server that the sink of this config writes to (with Embedded, the process that serves it
// must be running) and returns a reader of its entries, which the caller closes. Keys are without the prefix.
func (c *Config) NewReader(ctx context.Context) (cache.Reader, error) {
	client, err := c.client(1, nil)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	r := &reader{client: client, prefix: c.Prefix + ":", address: c.Address()}
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, r.failed(err)
	}
	return r, nil
}

type reader struct {
	client  *redis.Client
	prefix  string
	address string
}

var _ cache.Reader = (*reader)(nil)

func (r *reader) Get(ctx context.Context, keys ...string) ([]cache.Entry, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = r.prefix + key
	}
	pipe := r.client.Pipeline()
	values := pipe.MGet(ctx, full...)
	ttls := make([]*redis.DurationCmd, len(keys))
	for i, key := range full {
		ttls[i] = pipe.PTTL(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, r.failed(err)
	}
	entries := make([]cache.Entry, len(keys))
	for i, value := range values.Val() {
		text, ok := value.(string) // a key of another type reads as absent, to the SDK, too
		if !ok {
			continue
		}
		entries[i] = cache.Entry{Value: []byte(text), Found: true, TTL: ttls[i].Val()}
		if entries[i].TTL < 0 { // go-redis passes Redis's -1 (no expiry) and -2 (gone since the MGET) on as they are
			entries[i].TTL = -1
		}
	}
	return entries, nil
}

func (r *reader) Close() error { return r.client.Close() }

func (r *reader) failed(err error) error {
	return fmt.Errorf("redis at %s: %w", r.address, redisclient.Outcome(err))
}
