package pipeline

import (
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/pipeline/internal/gate"
)

// This file is how a poison queue is waited for that is away, such as a directory on a full disk. What is to be
// poisoned is held, as every message is whose backend is away: given back to the source it would come again at once
// and cost a receive each time. Everything else goes on as long as there is room in flight.

// poisonWaits counts what waits.
type poisonWaits struct {
	messages, bytes atomic.Int64
	since           atomic.Pointer[time.Time] // nil: the poison queue is there
}

func (w *poisonWaits) state(g *gate.Gate) *PoisonWaiting {
	since, n := w.since.Load(), w.messages.Load()
	if since == nil || n == 0 {
		return nil
	}
	state := &PoisonWaiting{Messages: n, Bytes: w.bytes.Load(), Since: *since}
	if _, _, cause := g.State(); cause != nil {
		state.Reason = cause.Error()
	}
	return state
}

func (r *runner) newPoisonGate() *gate.Gate {
	g := gate.New(r.p.MaxInFlight)
	g.OnClose = func(cause error) {
		now := time.Now()
		r.poisonWaits.since.Store(&now)
		r.complain(titlePoisonAway, cause, zap.String("component", string(RolePoisonQueue)))
	}
	g.OnOpen = func(closedFor time.Duration, held int) {
		r.poisonWaits.since.Store(nil)
		r.over(string(RolePoisonQueue), "the poison_queue is back", closedFor, held, zap.String("component", string(RolePoisonQueue)))
	}
	return g
}

// storeAside stores the entry of a delivery in the poison queue. While the queue is away it waits, for as long as that
// takes; other failures get the time that a retry budget gives.
func (r *runner) storeAside(d *delivery, entry *message.Message) error {
	counted := false
	count := func() {
		if !counted {
			counted = true
			r.poisonWaits.messages.Add(1)
			r.poisonWaits.bytes.Add(d.size)
		}
	}
	defer func() {
		if counted {
			r.poisonWaits.messages.Add(-1)
			r.poisonWaits.bytes.Add(-d.size)
		}
	}()
	begin, held := time.Now(), time.Duration(0)
	for attempt := 1; ; {
		if !r.poisonGate.IsOpen() {
			count()
		}
		pass, waited, err := r.poisonGate.Enter(r.soft)
		held += waited
		if err != nil {
			return errStopping
		}
		tried := time.Now()
		err = r.publishAside(d, r.p.PoisonQueue, copyMessage(entry))
		switch {
		case err != nil && r.hard.Err() != nil && !IsPermanent(err):
			r.poisonGate.Abandon(pass)
			return err
		case IsUnavailable(err):
			count()
			held += time.Since(tried)
			r.components[string(RolePoisonQueue)].Failed(err)
			r.poisonGate.Leave(pass, err)
			continue
		}
		r.poisonGate.Leave(pass, nil)
		if err == nil || IsPermanent(err) || IsFatal(err) {
			return err
		}
		wait := r.backoff(attempt, RetryDelay(err))
		if attempt >= r.p.Retry.MaxAttempts || time.Since(begin)-held+wait > r.p.Retry.MaxElapsedTime || !r.sleep(wait) {
			return err
		}
		attempt++
	}
}
