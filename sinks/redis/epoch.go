package redis

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// epochKey names a database's contents: whoever finds it absent sets it, to something that nobody else would. It never
// expires, so when it is absent or another one although it was seen before, the database has been emptied. In a cluster there is
// one for each master, with a hash tag behind it.
const epochKey = ownKeys + "epoch"

type epoch struct {
	check atomic.Bool // there is a new connection: it may lead to another database

	mu   sync.Mutex
	seen map[string]string // of each key that was looked at

	wiped atomic.Pointer[time.Time] // when the database was last found emptied
}

const afterWipe = "readers miss until events and SDKs have filled it again; a replay of recordings (penstock replay) fills it at once"

// report tells the status API of a wipe.
func (w *writer) report() map[string]any {
	at := w.epoch.wiped.Load()
	if at == nil {
		return nil
	}
	return map[string]any{"wiped_at": at.UTC(), "wiped": "Redis was emptied, or is another one now: " + afterWipe}
}

// lookAtEpoch notices a database that was emptied: readers would miss, nothing would fail, and nobody would know.
func (w *writer) lookAtEpoch(ctx context.Context) error {
	w.epoch.mu.Lock()
	defer w.epoch.mu.Unlock()
	servers, err := w.connected()
	if err != nil {
		return err
	}
	w.epoch.check.Store(false)
	err = w.compareEpochs(ctx, servers)
	if err != nil {
		w.epoch.check.Store(true)
	}
	return err
}

func (w *writer) compareEpochs(ctx context.Context, s *servers) error {
	keys, err := s.everywhere(ctx, w.config.Prefix, epochKey)
	if err != nil {
		return err
	}
	pipe := s.any().Pipeline()
	got := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		keys[i] = w.config.Prefix + ":" + key
		pipe.SetNX(ctx, keys[i], time.Now().UTC().Format(time.RFC3339)+" "+rand.Text(), 0)
		got[i] = pipe.Get(ctx, keys[i])
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for i, key := range keys {
		is, was := got[i].Val(), w.epoch.seen[key]
		if was != "" && is != was {
			now := time.Now()
			w.epoch.wiped.Store(&now)
			w.wipes.Inc()
			w.log.Warn("Redis has been emptied, or is another one now: "+afterWipe,
				zap.String("redis", w.config.Address()), zap.String("key", key), zap.String("was", was), zap.String("is", is))
		}
		w.epoch.seen[key] = is
	}
	return nil
}
