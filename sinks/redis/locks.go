package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// The SDK's writer reads the versions, decides, and writes in another round trip, under a lock of the customer. A write
// of ours in between would be undone by an older one. While the SDK has the lock, ours wait; when it has not, ours is
// atomic, and an SDK that takes the lock after it sees its version.

// lockPatience is how long a message waits at most. The SDK's lock expires after 5 s, unless it is extended.
const lockPatience = 10 * time.Second

// lockPause returns how long to wait before a lock is looked at again.
func lockPause() time.Duration { return 50*time.Millisecond + rand.N(150*time.Millisecond) }

var errLocked = reason.New("redis: an SDK holds the lock of the customer")

// pastLocks marks, in a message's context, that it has waited long enough.
type pastLocks struct{}

// lockWaiter is a sink that tries messages again that met a lock. Meanwhile others pass.
type lockWaiter struct {
	batched  message.Publisher
	patience time.Duration
	waits    prometheus.Counter
}

func (l *lockWaiter) Publish(topic string, msgs ...*message.Message) error {
	err := l.batched.Publish(topic, msgs...)
	if !onlyLocked(err) {
		return err
	}
	ctx := msgs[0].Context()
	patience := l.patience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/2)
	}
	for begin := time.Now(); onlyLocked(err); {
		l.waits.Inc()
		pause := time.NewTimer(lockPause())
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-pause.C:
		}
		// What has been stored the time before is stored again: that changes nothing.
		if time.Since(begin) < patience {
			err = l.batched.Publish(topic, msgs...)
		} else {
			err = l.batched.Publish(topic, pastPatience(msgs)...)
		}
	}
	return err
}

func onlyLocked(err error) bool {
	return err != nil && errors.Is(err, errLocked) &&
		!pipeline.IsUnavailable(err) && !pipeline.IsFatal(err) && !pipeline.IsPermanent(err)
}

// pastPatience returns copies of the messages: the originals are the caller's.
func pastPatience(msgs []*message.Message) []*message.Message {
	copies := make([]*message.Message, len(msgs))
	for i, msg := range msgs {
		copies[i] = message.NewMessage(msg.UUID, msg.Payload)
		copies[i].SetContext(context.WithValue(msg.Context(), pastLocks{}, true))
	}
	return copies
}

func (l *lockWaiter) Start(ctx context.Context) error { return l.batched.(pipeline.Starter).Start(ctx) }
func (l *lockWaiter) Ping(ctx context.Context) error  { return l.batched.(pipeline.Pinger).Ping(ctx) }
func (l *lockWaiter) Report() map[string]any          { return l.batched.(pipeline.Reporter).Report() }
func (l *lockWaiter) Close() error                    { return l.batched.Close() }

// checkLocks switches locks off when their keys may not be read.
func (w *writer) checkLocks(ctx context.Context, s *servers) error {
	if !w.locks.Load() {
		return nil
	}
	err := s.any().Get(ctx, w.config.Prefix+"-penstock").Err()
	switch {
	case err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE"):
		return nil
	case redisclient.IsNoPermission(err):
		w.locks.Store(false)
		complaint.Warn(w.log, "no right to read the SDK's locks: an SDK that refetches a customer at the moment of a newer event may undo it; grant the keys, or set respect_sdk_locks: false",
			zap.String("keys", w.config.Prefix+"-*"))
		return nil
	}
	return w.failed(err)
}
