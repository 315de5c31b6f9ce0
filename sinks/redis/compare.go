package redis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/alicebob/miniredis/v2"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/pipeline"
)

// NewComparer connects to the server that the sink of this config writes to and returns what tells which keys messages
// would change. It reads keys with GET and PTTL and sends nothing else. The memory it takes grows with the keys that
// the messages are about.
func (c *Config) NewComparer(ctx context.Context) (cache.Comparer, error) {
	store, err := c.NewReader(ctx)
	if err != nil {
		return nil, err
	}
	shadow := miniredis.NewMiniRedis()
	if err := shadow.StartAddr("127.0.0.1:0"); err != nil {
		_ = store.Close()
		return nil, fmt.Errorf("serve the copy of what the store has: %w", err)
	}
	local := Config{}
	pipeline.SetDefaults(&local)
	local.Host, local.Port = "127.0.0.1", shadowPort(shadow)
	local.Prefix, local.Plain, local.Connections = c.Prefix, c.Plain, 1
	local.TTL = -time.Millisecond // the copy needs none
	local.RespectSDKLocks = false // nobody else writes to the copy
	return &comparer{store: store, shadow: shadow, writer: newWriter(&local, pipeline.Env{}, writeScript), copied: map[string]bool{}}, nil
}

func shadowPort(m *miniredis.Miniredis) int {
	return m.Server().Addr().Port
}

// comparer carries writes out on a copy of those keys of the store that they look at, by the script of the sink, so
// that it decides as the sink does.
type comparer struct {
	store  cache.Reader
	shadow *miniredis.Miniredis
	writer *writer

	mu     sync.Mutex
	copied map[string]bool // keys without prefix
}

func (c *comparer) Compare(ctx context.Context, payload []byte) ([]cache.Change, error) {
	writes, err := c.writer.parse(nil, payload)
	if err != nil {
		return nil, pipeline.Permanent(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.copy(ctx, writes); err != nil {
		return nil, err
	}
	changes := make([]cache.Change, len(writes))
	for i, write := range writes {
		key := c.writer.config.Prefix + ":" + write.Key
		one := payload
		if c.writer.config.Plain == nil {
			one = cache.Append(nil, write)
		}
		before := c.value(key)
		if err := c.writer.store(ctx, []*message.Message{message.NewMessage("", one)}); err != nil {
			return nil, err[0]
		}
		changes[i] = cache.Change{Key: key, Before: before, After: c.value(key)}
	}
	return changes, nil
}

// copy reads what the writes look at and what is not in the copy yet.
func (c *comparer) copy(ctx context.Context, writes []cache.Write) error {
	var keys []string
	want := func(key string) {
		if !c.copied[key] {
			c.copied[key] = true
			keys = append(keys, key)
		}
	}
	for _, write := range writes {
		want(write.Key)
		want(write.Key + versionSuffix)
		want(ownKeys + write.Key)
		for _, key := range write.IfAnyExists {
			want(key + versionSuffix)
		}
	}
	entries, err := c.store.Get(ctx, keys...)
	if err != nil {
		for _, key := range keys {
			delete(c.copied, key)
		}
		return err
	}
	for i, entry := range entries {
		if entry.Found {
			if err := c.shadow.Set(c.writer.config.Prefix+":"+keys[i], string(entry.Value)); err != nil {
				return err
			}
		}
	}
	return nil
}

// value is what the copy has under a key; nil when it has nothing.
func (c *comparer) value(key string) []byte {
	value, err := c.shadow.Get(key)
	if err != nil {
		return nil
	}
	return []byte(value)
}

func (c *comparer) Close() error {
	err := c.writer.close()
	c.shadow.Close()
	if closing := c.store.Close(); err == nil {
		err = closing
	}
	return err
}
