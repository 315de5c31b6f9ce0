package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrNoRoom is what [Reserve] returns while there is no room; a component returns it as it is, or wrapped.
var ErrNoRoom = errors.New("no room for what the message unpacks to (max_in_flight_bytes)")

// Reserve is for components that make much of a message, such as one that unpacks it: it says that n bytes more are
// about to be held for the delivery that ctx belongs to. They count against max_in_flight_bytes until the attempt
// ends. While there is no room it returns [ErrNoRoom]: the component lets go of what it has and returns the error,
// and the engine makes the attempt again when there is room, and counts none. One delivery at a time may exceed the
// bound, so that none is too large. Outside a delivery it returns nil. Safe for concurrent use.
func Reserve(ctx context.Context, n int64) error {
	d := deliveryOf(ctx)
	if d == nil {
		return nil
	}
	return d.run.reserve(d, n)
}

func (r *runner) reserve(d *delivery, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := d.reserved + n
	if want > d.granted && !r.grant(d, want) {
		d.wanted = want
		return ErrNoRoom
	}
	d.reserved = want
	return nil
}

// grant makes room for want bytes of what becomes of d. r.mu is locked.
func (r *runner) grant(d *delivery, want int64) bool {
	more := want - d.granted
	if r.bytes+more > r.p.MaxInFlightBytes {
		if r.large != nil && r.large != d {
			return false
		}
		r.large = d
	}
	r.bytes += more
	d.granted = want
	return true
}

// charge counts what transforms have made of the delivery without asking for room.
func (r *runner) charge(d *delivery, msgs []*message.Message) {
	size := int64(0)
	for _, m := range msgs {
		size += int64(len(m.Payload))
	}
	if size < d.size+worthCounting {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if more := size - d.size - d.granted; more > 0 {
		r.bytes += more
		d.granted += more
	}
}

// worthCounting spares the lock for what transforms add to a message as a rule.
const worthCounting = 16 << 10

// letGo ends what the delivery has reserved: its attempt is over.
func (r *runner) letGo(d *delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.giveRoomBack(d)
}

// giveRoomBack wants r.mu locked.
func (r *runner) giveRoomBack(d *delivery) {
	r.bytes -= d.granted
	d.granted, d.reserved = 0, 0
	if r.large == d {
		r.large = nil
	}
	r.madeRoom()
}

// madeRoom wakes all that wait for room. r.mu is locked.
func (r *runner) madeRoom() {
	if r.room != nil {
		close(r.room)
		r.room = nil
	}
}

// awaitRoom returns a channel that is closed when there may be more room. r.mu is locked.
func (r *runner) awaitRoom() <-chan struct{} {
	if r.room == nil {
		r.room = make(chan struct{})
	}
	return r.room
}

// waitForRoom waits until what the last attempt wanted is granted; false means that the pipeline stops.
func (r *runner) waitForRoom(d *delivery) bool {
	begin := time.Now()
	defer func() { d.held += time.Since(begin) }()
	for {
		r.mu.Lock()
		if r.grant(d, d.wanted) {
			r.mu.Unlock()
			return r.soft.Err() == nil
		}
		room := r.awaitRoom()
		r.mu.Unlock()
		select {
		case <-room:
		case <-r.soft.Done():
			return false
		}
	}
}
