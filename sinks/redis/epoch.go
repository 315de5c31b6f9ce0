package redis

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// epochKey names a database's contents: whoever finds it absent sets it, to something that nobody else would. It never
// expires, so when it is absent or another one although it was seen before, the database has been emptied.
const epochKey = ownKeys + "epoch"

type epoch struct {
	check atomic.Bool // there is a new connection: it may lead to another database

	mu   sync.Mutex
	seen string

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
	client, err := w.connected()
	if err != nil {
		return err
	}
	w.epoch.check.Store(false)
	key := w.config.Prefix + ":" + epochKey
	pipe := client.Pipeline()
	pipe.SetNX(ctx, key, time.Now().UTC().Format(time.RFC3339)+" "+rand.Text(), 0)
	got := pipe.Get(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		w.epoch.check.Store(true)
		return err
	}
	if w.epoch.seen != "" && got.Val() != w.epoch.seen {
		now := time.Now()
		w.epoch.wiped.Store(&now)
		w.wipes.Inc()
		w.log.Warn("Redis has been emptied, or is another one now: "+afterWipe,
			zap.String("redis", w.config.Address()), zap.String("key", key), zap.String("was", w.epoch.seen), zap.String("is", got.Val()))
	}
	w.epoch.seen = got.Val()
	return nil
}
