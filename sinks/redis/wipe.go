package redis

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
)

// contentsKey holds a random name of the database's contents. Whoever finds it absent sets it, and it never expires:
// when its value has changed since it was last seen, the database has been emptied. A cluster has one on each master,
// with a hash tag behind it.
const contentsKey = ownKeys + "contents"

// wipeCheck notices a database that was emptied.
type wipeCheck struct {
	check atomic.Bool // there is a new connection: it may lead to another database

	mu   sync.Mutex
	seen map[string]string // of each key that was looked at

	wiped atomic.Pointer[time.Time] // when the database was last found emptied
}

const afterWipe = "readers miss until events and SDKs have filled it again; a replay of recordings (penstock replay) fills it at once"

// report tells the status API when the database was emptied.
func (w *writer) report() map[string]any {
	at := w.wipe.wiped.Load()
	if at == nil {
		return nil
	}
	return map[string]any{"wiped_at": at.UTC(), "wiped": "Redis was emptied, or is another one now: " + afterWipe}
}

// checkForWipe logs and counts a database that was emptied. Readers would miss, and no error would say why.
func (w *writer) checkForWipe(ctx context.Context) error {
	w.wipe.mu.Lock()
	defer w.wipe.mu.Unlock()
	servers, err := w.connected()
	if err != nil {
		return err
	}
	w.wipe.check.Store(false)
	err = w.compareContents(ctx, servers)
	if err != nil {
		w.wipe.check.Store(true)
	}
	return err
}

func (w *writer) compareContents(ctx context.Context, s *servers) error {
	keys, err := s.everywhere(ctx, w.config.Prefix, contentsKey)
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
		is, was := got[i].Val(), w.wipe.seen[key]
		if was != "" && is != was {
			now := time.Now()
			w.wipe.wiped.Store(&now)
			w.wipes.Inc()
			complaint.Warn(w.log, "Redis has been emptied, or is another one now: "+afterWipe,
				zap.String("redis", w.config.Address()), zap.String("key", key), zap.String("was", was), zap.String("is", is))
		}
		w.wipe.seen[key] = is
	}
	return nil
}
