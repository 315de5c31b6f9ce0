package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline/internal/gate"
)

// delivery is one message on its way through a pipeline, from the intake until it is settled. It is the parent
// context of its attempts: it ends only when the pipeline is stopped hard, and it carries the values of the source's
// context.
type delivery struct {
	context.Context                 // the pipeline's hard-stop context
	values          context.Context // what the source put on the message, for its values alone

	run      *runner
	msg      *message.Message
	size     int64
	received time.Time

	// What the attempt has reserved, what the bounds have granted for it, and what it was refused; guarded by the
	// runner's mutex.
	reserved, granted, wanted int64

	// The fields below belong to the goroutine that handles the delivery.
	attempts int           // failed and successful ones; an attempt against an absent backend does not count
	first    time.Time     // start of the first attempt
	held     time.Duration // how long it waited for absent backends since then
	away     *gate.Gate    // of the transform whose backend it has found away
	recorded bool
	trace    Trace // nil without a tracer

	current atomic.Pointer[attempt] // the last attempt that began

	mu      sync.Mutex
	scratch map[any]any

	prev, next *delivery // in the runner's list, oldest first; guarded by its mutex
}

type contextKey int

const (
	deliveryKey contextKey = iota
	rejectionKey
)

// Value looks into the hard-stop context first: the standard library finds a parent's cancellation that way, and with
// it saves a goroutine per derived context.
func (d *delivery) Value(key any) any {
	if key == deliveryKey {
		return d
	}
	if v := d.Context.Value(key); v != nil {
		return v
	}
	return d.values.Value(key)
}

func deliveryOf(ctx context.Context) *delivery {
	d, _ := ctx.Value(deliveryKey).(*delivery)
	return d
}

// DeliveryValue returns what is remembered under key for the delivery that ctx belongs to, over all its attempts; the
// first call makes it. Outside a delivery every call makes a new one. Keys are compared with ==; use an unexported
// type or a pointer of your own. Safe for concurrent use.
func DeliveryValue(ctx context.Context, key any, make func() any) any {
	d := deliveryOf(ctx)
	if d == nil {
		return make()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.scratch[key]; ok {
		return v
	}
	v := make()
	if d.scratch == nil {
		d.scratch = map[any]any{}
	}
	d.scratch[key] = v
	return v
}

// Reject marks a message that a source can't make sense of, such as a torn line of a recording: the engine does not
// process it, but treats err as a [Permanent] error of the message as it stands. Sources call it before handing on.
func Reject(msg *message.Message, err error) {
	if err == nil {
		err = reason.New("rejected by the source")
	}
	msg.SetContext(context.WithValue(msg.Context(), rejectionKey, err))
}

func rejection(ctx context.Context) error {
	err, _ := ctx.Value(rejectionKey).(error)
	return err
}
