package pipeline

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// intake stands between a source's channel and the router. It hands on a message only while the pipeline's bounds and
// its gate allow, so that any Pub/Sub is bounded without knowing it; what it does not take, the source keeps.
//
// To the router it is the subscriber. It subscribes to the source under a context of its own: the router cancels
// its subscriptions when it closes, and many subscribers forget unacked messages then.
type intake struct {
	run    *runner
	ctx    context.Context // of the subscription
	cancel context.CancelFunc
	source <-chan *message.Message

	ended chan struct{} // closed: nothing more is handed on
}

func newIntake(r *runner) *intake {
	in := &intake{run: r, ended: make(chan struct{})}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	return in
}

func (in *intake) Subscribe(_ context.Context, topic string) (<-chan *message.Message, error) {
	source, err := in.run.p.Source.Subscriber.Subscribe(in.ctx, topic)
	if err != nil {
		close(in.ended)
		return nil, err
	}
	in.source = source
	out := make(chan *message.Message)
	go in.forward(out)
	return out, nil
}

func (in *intake) forward(out chan<- *message.Message) {
	defer close(in.ended)
	defer close(out)
	for in.waitForGate() && in.run.waitForTurn() {
		select {
		case msg, ok := <-in.source:
			if !ok {
				return
			}
			if !in.run.admit(msg) {
				msg.Nack()
				return
			}
			out <- msg // the router takes it at once: it starts a goroutine a message
		case <-in.run.soft.Done():
			return
		}
	}
}

// waitForGate blocks while the gate is closed; false means that the pipeline stops.
func (in *intake) waitForGate() bool {
	g := in.run.gate
	for !g.IsOpen() {
		closed, changed, _ := g.State()
		if !closed {
			break
		}
		select {
		case <-changed:
		case <-in.run.soft.Done():
			return false
		}
	}
	return in.run.soft.Err() == nil
}

// drain gives back what the source still tries to hand on, until its channel is closed.
func (in *intake) drain() {
	if in.source == nil {
		return
	}
	for msg := range in.source {
		msg.Nack()
	}
}

// Close is called by the router. The runner closes the source, when all acks are in.
func (in *intake) Close() error { return nil }

// waitForTurn blocks, where messages are processed one after another, until the one before is settled: a message that
// was received already would overtake that one when it is released. False means that the pipeline stops.
func (r *runner) waitForTurn() bool {
	if r.p.MaxInFlight != 1 {
		return true
	}
	select {
	case <-r.empty():
		return r.soft.Err() == nil
	case <-r.soft.Done():
		return false
	}
}

// admit enters a message into the ledger and the list of deliveries once the bounds allow it; false means that the
// pipeline stopped first.
func (r *runner) admit(msg *message.Message) bool {
	size := int64(len(msg.Payload))
	r.mu.Lock()
	for !r.fits(size) {
		room := r.awaitRoom()
		r.mu.Unlock()
		select {
		case <-room:
		case <-r.soft.Done():
			return false
		}
		r.mu.Lock()
	}
	if r.soft.Err() != nil {
		r.mu.Unlock()
		return false
	}
	d := &delivery{
		Context: r.hard, values: msg.Context(), run: r, msg: msg,
		size: size, received: time.Now(), prev: r.newest,
	}
	if r.newest != nil {
		r.newest.next = d
	} else {
		r.oldest = d
	}
	r.newest = d
	r.inFlight++
	r.bytes += size
	r.mu.Unlock()
	r.received.Add(1)
	if r.tracer != nil {
		d.values, d.trace = r.tracer.Start(d.values, r.p.Name, d.received, msg)
	}
	msg.SetContext(d)
	return true
}

// fits wants r.mu locked. A message larger than the whole bound is let through alone.
func (r *runner) fits(size int64) bool {
	return r.inFlight == 0 ||
		r.inFlight < r.p.MaxInFlight && r.bytes+size <= r.p.MaxInFlightBytes
}

// forget takes a settled delivery out of the list.
func (r *runner) forget(d *delivery) {
	r.mu.Lock()
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		r.oldest = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	} else {
		r.newest = d.prev
	}
	d.prev, d.next = nil, nil
	r.inFlight--
	r.bytes -= d.size
	r.giveRoomBack(d)
	empty := r.inFlight == 0 && r.whenEmpty != nil
	if empty {
		close(r.whenEmpty)
		r.whenEmpty = nil
	}
	r.mu.Unlock()
}

// empty returns a channel that is closed when nothing is in flight.
func (r *runner) empty() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := make(chan struct{})
	if r.inFlight == 0 {
		close(done)
		return done
	}
	r.whenEmpty = done
	return done
}
