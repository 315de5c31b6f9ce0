package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline/internal/gate"
)

// This file is what happens to one delivery. The layers, from the outside in:
//
//	settle → poison → retry → recover → (the user's middleware) → process: transforms and sink
//
// process returns what it stored (nothing: filtered) or an error, which the layers around it turn into one of the
// four outcomes. Only settle acks and nacks.

type outcome int

const (
	outcomeWritten outcome = iota
	outcomeFiltered
	outcomePoisoned
	outcomeReleased
	outcomes
)

var outcomeNames = [outcomes]string{"written", "filtered", "poisoned", "released"}

// errStopping is why deliveries end that a stop takes away from their attempts or waits.
var errStopping = errors.New("the pipeline is stopping")

// errExhausted is wrapped by the error of a delivery whose retry budget is spent.
var errExhausted = reason.New("retry budget spent")

// poisonedError tells settle that the delivery is in the poison queue.
type poisonedError struct{ reason error }

func (e *poisonedError) Error() string { return e.reason.Error() }

func stageOf(err error) string {
	return cmp.Or(inside.Stage(err), string(RoleSource))
}

func (r *runner) handler() message.HandlerFunc {
	attempt := r.process
	for i := len(r.p.Middleware) - 1; i >= 0; i-- {
		attempt = r.p.Middleware[i](attempt)
	}
	return r.settle(r.poison(r.retry(r.recover(attempt))))
}

// settle counts the delivery and acks or nacks it. It never returns an error: the router would log it per message.
func (r *runner) settle(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		growStack()
		d := deliveryOf(msg.Context())
		stored, err := next(msg)
		result := outcomeReleased
		switch {
		case err == nil && len(stored) > 0:
			result = outcomeWritten
		case err == nil:
			result = outcomeFiltered
		default:
			if p, ok := errors.AsType[*poisonedError](err); ok {
				result = outcomePoisoned
				r.lastPoison.Store(&p.reason)
			}
		}
		if result == outcomeReleased {
			msg.Nack()
		} else {
			msg.Ack()
		}
		r.settled[result].Add(1)
		r.poisonWindow.settled(result)
		r.duration.Observe(time.Since(d.received).Seconds())
		if d.trace != nil {
			d.endTrace(result, err)
		}
		r.forget(d)
		return nil, nil
	}
}

// growStack makes room on the stack for the layers below and a typical transform in one step. The router starts a
// goroutine for every message, with 2 KB; growing later, in the depth of a transform, takes two steps that copy and
// adjust all frames in between: a third of the CPU of a message, measured.
//
//go:noinline
func growStack() byte {
	var room [4 << 10]byte
	return room[stackProbe]
}

var stackProbe int // never set; the compiler must not know

// poison stores what can't be processed, whole, and releases it when that keeps failing.
func (r *runner) poison(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		stored, err := next(msg)
		if err == nil {
			return stored, nil
		}
		exhausted := errors.Is(err, errExhausted)
		switch {
		case errors.Is(err, errStopping):
			return nil, err
		case IsFatal(err):
			r.fail(err)
			return nil, err
		case !IsPermanent(err) && (!exhausted || r.p.Retry.OnExhausted != "poison"):
			r.complainOften(titleReleased, err)
			return nil, err
		case r.p.PoisonQueue == nil:
			r.complainOften(titleNoPoisonQueue, err)
			return nil, err
		}
		d := deliveryOf(msg.Context())
		if full := r.poisonWindow.allow(err); full != nil {
			r.fail(full)
			return nil, full
		}
		if perr := r.storePoison(d, err); perr != nil {
			r.poisonWindow.cancelled()
			if errors.Is(perr, errStopping) {
				return nil, perr
			}
			if IsFatal(perr) {
				r.fail(fmt.Errorf("%s: %w", RolePoisonQueue, perr))
			}
			r.complainOften(titleNotPoisoned, reason.Errorf("%w (to be poisoned because of: %w)", perr, err))
			return nil, perr
		}
		r.complainOften(titlePoisoned, err)
		return nil, &poisonedError{reason: err}
	}
}

// The metadata that a message carries into the poison queue, beside its own.
const (
	MetadataPoisonReason     = "poison_reason"
	MetadataPoisonStage      = "poison_stage"
	MetadataPoisonAttempts   = "poison_attempts"
	MetadataPoisonReceivedAt = "poison_received_at" // RFC 3339, nanoseconds, UTC
	MetadataPoisonAt         = "poison_at"          // RFC 3339, nanoseconds, UTC
	MetadataPoisonPipeline   = "poison_pipeline"
	MetadataPoisonStack      = "poison_stack" // of a panic
)

func (r *runner) storePoison(d *delivery, reason error) error {
	entry := copyMessage(d.msg)
	m := entry.Metadata
	m[MetadataPoisonReason] = reason.Error()
	m[MetadataPoisonStage] = stageOf(reason)
	m[MetadataPoisonAttempts] = fmt.Sprint(d.attempts)
	m[MetadataPoisonReceivedAt] = d.received.UTC().Format(time.RFC3339Nano)
	m[MetadataPoisonAt] = time.Now().UTC().Format(time.RFC3339Nano)
	m[MetadataPoisonPipeline] = r.p.Name
	if stack := inside.PanicStack(reason); stack != nil {
		m[MetadataPoisonStack] = string(stack)
	}
	return r.storeAside(d, entry)
}

// publishAside stores a message in a sink other than the pipeline's own, on time of its own.
func (r *runner) publishAside(d *delivery, sink *Sink, msg *message.Message) (err error) {
	ctx, cancel := context.WithTimeout(d, r.p.MessageTimeout)
	defer cancel()
	defer catch("", &err)
	msg.SetContext(ctx)
	return sink.Publisher.Publish(sink.Topic, msg)
}

// retry makes attempts until one succeeds, the error is final, the budget is spent, or the pipeline stops.
func (r *runner) retry(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		d := deliveryOf(msg.Context())
		for {
			turn, err := r.enter(d)
			if err != nil {
				return nil, errStopping
			}
			begin := time.Now()
			if d.first.IsZero() {
				d.first = begin
			}
			stored, err := r.attempt(d, msg, next)
			if err == nil {
				d.attempts++
				turn.leave()
				return stored, nil
			}
			switch {
			case errors.Is(err, ErrNoRoom):
				turn.abandon()
				d.held += time.Since(begin)
				if !r.waitForRoom(d) {
					return nil, errStopping
				}
				continue
			case r.hard.Err() != nil && !IsPermanent(err):
				// Our own cancellation made it fail, or may have: it says nothing about the message, nor about backends.
				turn.abandon()
				return nil, errStopping
			case IsUnavailable(err):
				d.held += time.Since(begin) // no attempt of the budget's, however long it took to find out
				r.unavailable(d, turn, err)
				continue
			}
			turn.leave()
			d.attempts++
			if IsPermanent(err) || IsFatal(err) || inside.IsRelease(err) {
				return nil, err
			}
			wait := r.backoff(d.attempts, RetryDelay(err))
			spent := time.Since(d.first) - d.held
			if d.attempts >= r.p.Retry.MaxAttempts || spent+wait > r.p.Retry.MaxElapsedTime {
				return nil, reason.Errorf("%w after %d attempts in %s: %w", errExhausted, d.attempts, spent.Round(time.Millisecond), err)
			}
			if !r.sleep(wait) {
				return nil, errStopping
			}
			r.retries.Add(1)
		}
	}
}

// turn is leave to make one attempt: passes through the gate of the transform whose backend the delivery has found
// away, if it has, and through that of the sink.
type turn struct {
	own, sink         *gate.Gate
	ownPass, sinkPass gate.Pass
}

// enter waits until an attempt may be made. Where the backend of a transform is away, only those deliveries wait that
// have met it: what doesn't need the backend goes on, as long as there is room in flight.
func (r *runner) enter(d *delivery) (t turn, err error) {
	var held time.Duration
	if t.own = d.away; t.own != nil {
		t.ownPass, held, err = t.own.Enter(r.soft)
		d.held += held
		if err != nil {
			return t, err
		}
	}
	t.sink = r.gate
	t.sinkPass, held, err = t.sink.Enter(r.soft)
	if !d.first.IsZero() {
		d.held += held
	}
	if err != nil && t.own != nil {
		t.own.Abandon(t.ownPass)
	}
	return t, err
}

// leave gives the passes back after an attempt that found every backend there.
func (t turn) leave() {
	if t.own != nil {
		t.own.Leave(t.ownPass, nil)
	}
	t.sink.Leave(t.sinkPass, nil)
}

// abandon gives the passes back after an attempt that has told nothing about the backends.
func (t turn) abandon() {
	if t.own != nil {
		t.own.Abandon(t.ownPass)
	}
	t.sink.Abandon(t.sinkPass)
}

// unavailable closes the gate of the backend that the attempt found away, for readiness too, and gives the passes back.
func (r *runner) unavailable(d *delivery, t turn, err error) {
	stage := stageOf(err)
	if c := r.components[stage]; c != nil && c.Failed(err) && stage == string(RoleRecord) {
		r.complain(titleRecordAway, err, zap.String("component", stage))
	}
	if g := r.transformGates[stage]; g != nil {
		t.sink.Abandon(t.sinkPass)
		if t.own == g {
			g.Leave(t.ownPass, err)
			return
		}
		if t.own != nil {
			t.own.Abandon(t.ownPass)
		}
		g.Leave(0, err)
		d.away = g
		return
	}
	if stage == r.sinkStage {
		r.sink.down.Store(&err)
	}
	if t.own != nil {
		t.own.Leave(t.ownPass, nil)
		d.away = nil
	}
	t.sink.Leave(t.sinkPass, err)
}

// attempt runs one attempt on a copy of the message, after recording the delivery if that is still to do.
func (r *runner) attempt(d *delivery, msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	if err := r.record(d); err != nil {
		return nil, err
	}
	if err := rejection(d.values); err != nil {
		return nil, &inside.StageError{Stage: string(RoleSource), Err: Permanent(err)}
	}
	ctx := r.begin(msg.Context(), d)
	defer ctx.end(context.Canceled)
	defer r.letGo(d)
	work := copyMessage(d.msg)
	work.SetContext(ctx)
	stored, err := next(work)
	if err != nil && d.trace != nil {
		d.trace.Failed(err)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) && r.hard.Err() == nil {
		err = reason.Errorf("attempt took longer than message_timeout (%s): %w", r.p.MessageTimeout, err)
	}
	return stored, err
}

// record stores the delivery as it was received, once.
func (r *runner) record(d *delivery) error {
	if r.p.Record == nil || d.recorded {
		return nil
	}
	if err := r.publishAside(d, r.p.Record, copyMessage(d.msg)); err != nil {
		if r.p.RecordOnError == "block" {
			return &inside.StageError{Stage: string(RoleRecord), Err: err}
		}
		if IsUnavailable(err) && r.components[string(RoleRecord)].Failed(err) {
			r.complain(titleRecordAway, err, zap.String("component", string(RoleRecord)))
		}
		r.recordErrors.Add(1)
		r.complainOften(titleNotRecorded, err)
	} else {
		r.over(string(RoleRecord), "the record is back", 0, 0, zap.String("component", string(RoleRecord)))
	}
	d.recorded = true
	return nil
}

// backoff returns the wait after the nth failed attempt: exponential with full jitter, but no less than asked for.
func (r *runner) backoff(n int, atLeast time.Duration) time.Duration {
	c := r.p.Retry
	limit := math.Min(float64(c.InitialInterval)*math.Pow(c.Multiplier, float64(n-1)), float64(c.MaxInterval))
	return max(time.Duration(rand.Float64()*limit), atLeast)
}

// sleep returns false when the pipeline stops first.
func (r *runner) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.soft.Done():
		return false
	}
}

// recover turns a panic of the user's middleware into a permanent error of the message. Those of transforms and sink
// are caught nearer by, where their stage is known.
func (r *runner) recover(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (stored []*message.Message, err error) {
		defer catch("middleware", &err)
		return next(msg)
	}
}

// catch, deferred, turns a panic into an error of that stage.
func catch(stage string, err *error) {
	if v := recover(); v != nil {
		*err = &inside.StageError{Stage: stage, Err: newPanicError(v)}
	}
}

// process runs the transforms and publishes what they return, all in one call.
func (r *runner) process(msg *message.Message) ([]*message.Message, error) {
	ctx := msg.Context()
	msgs := []*message.Message{msg}
	for i, transform := range r.p.Transforms {
		var err error
		if msgs, err = r.transform(i, transform, ctx, msgs); err != nil {
			return nil, err
		}
		if len(msgs) == 0 {
			return nil, nil
		}
		r.charge(deliveryOf(ctx), msgs)
	}
	for _, m := range msgs {
		if m.Context() != ctx {
			m.SetContext(ctx)
		}
	}
	if err := r.publish(msgs); err != nil {
		return nil, err
	}
	return msgs, nil
}

func (r *runner) transform(i int, f Transform, ctx context.Context, msgs []*message.Message) (all []*message.Message, err error) {
	stage := r.stages[i]
	defer catch(stage, &err)
	if len(msgs) == 1 {
		out, err := f(msgs[0])
		if err != nil {
			return nil, &inside.StageError{Stage: stage, Err: err}
		}
		return out, nil
	}
	for n, m := range msgs {
		if m.Context() != ctx {
			m.SetContext(ctx)
		}
		out, err := f(m)
		if err != nil {
			return nil, &inside.StageError{Stage: stage, Err: reason.Errorf("part %d of %d: %w", n+1, len(msgs), err)}
		}
		all = append(all, out...)
	}
	return all, nil
}

func (r *runner) publish(msgs []*message.Message) (err error) {
	if r.tracer != nil {
		end := r.tracePublish(msgs)
		defer func() { end(err) }()
	}
	defer catch(r.sinkStage, &err)
	if err := r.p.Sink.Publisher.Publish(r.p.Sink.Topic, msgs...); err != nil {
		return &inside.StageError{Stage: r.sinkStage, Err: err}
	}
	if r.sink.down.Load() != nil {
		r.sink.down.Store(nil)
	}
	return nil
}

// copyMessage makes a message of its own for one attempt: the payload's bytes are shared, the metadata is not, and
// acks do not reach the original.
func copyMessage(msg *message.Message) *message.Message {
	metadata := make(message.Metadata, len(msg.Metadata)+2)
	for k, v := range msg.Metadata {
		metadata[k] = v
	}
	return &message.Message{UUID: msg.UUID, Metadata: metadata, Payload: msg.Payload}
}
