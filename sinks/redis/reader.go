package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/redisclient"
)

// NewReader connects to the server that the sink of this config writes to (with Embedded, the process that serves it
// must be running) and returns a reader of its entries, which the caller closes. Keys are without the prefix.
func (c *Config) NewReader(ctx context.Context) (cache.Reader, error) {
	s, err := c.connect(1, nil)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	r := &reader{client: s.any(), prefix: c.Prefix + ":", address: c.Address()}
	if err := r.client.Ping(ctx).Err(); err != nil {
		_ = r.client.Close()
		return nil, r.failed(err)
	}
	return r, nil
}

type reader struct {
	client  redis.UniversalClient
	prefix  string
	address string
}

var _ cache.Reader = (*reader)(nil)

func (r *reader) Get(ctx context.Context, keys ...string) ([]cache.Entry, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := r.client.Pipeline()
	values := make([]*redis.StringCmd, len(keys))
	ttls := make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		values[i] = pipe.Get(ctx, r.prefix+key) // one by one: in a cluster they may be on several nodes
		ttls[i] = pipe.PTTL(ctx, r.prefix+key)
	}
	_, _ = pipe.Exec(ctx) // an absent key is an error to go-redis
	entries := make([]cache.Entry, len(keys))
	for i, value := range values {
		switch err := errors.Join(value.Err(), ttls[i].Err()); {
		case errors.Is(err, redis.Nil), redis.HasErrorPrefix(value.Err(), "WRONGTYPE"):
			continue // a key of another type reads as absent, to the SDK, too
		case err != nil:
			return nil, r.failed(err)
		}
		entries[i] = cache.Entry{Value: []byte(value.Val()), Found: true, TTL: ttls[i].Val()}
		if entries[i].TTL < 0 { // go-redis passes Redis's -1 (no expiry) and -2 (gone since the GET) on as they are
			entries[i].TTL = -1
		}
	}
	return entries, nil
}

func (r *reader) Close() error { return r.client.Close() }

func (r *reader) failed(err error) error {
	return fmt.Errorf("redis at %s: %w", r.address, redisclient.Outcome(err))
}
