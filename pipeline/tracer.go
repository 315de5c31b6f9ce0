package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Tracer follows deliveries one by one, from when the pipeline received them until they are settled. Its methods and
// those of the traces are called on the path of every message: they must not block.
type Tracer interface {
	// Start is called when a pipeline has received a message. The context that it returns is derived from ctx; its
	// values are those of the contexts that the transforms and the sink see. msg must not be changed or kept.
	Start(ctx context.Context, pipeline string, received time.Time, msg *message.Message) (context.Context, Trace)
}

// Trace follows one delivery. Its methods are called one after the other.
type Trace interface {
	// Publish is called before every attempt to store in the sink. The sink sees the context that it returns, derived from
	// ctx; end is called when the sink has returned.
	Publish(ctx context.Context, stage string) (_ context.Context, end func(error))
	// Failed is called for every attempt that failed, also when a backend was away.
	Failed(err error)
	// End is called once, when the delivery is settled.
	End(result TraceResult)
}

// TraceResult is what became of a delivery.
type TraceResult struct {
	// Outcome is "written", "filtered", "poisoned" or "released".
	Outcome string
	// Attempts counts those that said something about the message; see [Unavailable].
	Attempts int
	// Held is how long the delivery waited for a backend that was away, after its first attempt.
	Held time.Duration
	// Err is why it was poisoned or released; nil when it was neither, or released because the pipeline stops.
	Err error
}

// endTrace tells the trace what became of the delivery.
func (d *delivery) endTrace(result outcome, err error) {
	if p, ok := errors.AsType[*poisonedError](err); ok {
		err = p.reason
	} else if errors.Is(err, errStopping) {
		err = nil
	}
	d.trace.End(TraceResult{Outcome: outcomeNames[result], Attempts: d.attempts, Held: d.held, Err: err})
}

// tracePublish gives the messages of one call of the sink their trace's context.
func (r *runner) tracePublish(msgs []*message.Message) (end func(error)) {
	ctx := msgs[0].Context()
	d := deliveryOf(ctx)
	if d == nil || d.trace == nil { // middleware of the user's put another context there
		return func(error) {}
	}
	ctx, end = d.trace.Publish(ctx, r.sinkStage)
	for _, msg := range msgs {
		msg.SetContext(ctx)
	}
	return end
}
