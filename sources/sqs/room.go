package sqs

import (
	"context"
	"sync"
)

// room bounds the bytes of what is read at a time. One that is larger than the whole room is let in alone.
type room struct {
	most int64

	mu      sync.Mutex
	taken   int64
	changed chan struct{} // closed when there may be more room; nil when nobody waits
}

// enter waits for room for n bytes, or for the end of ctx.
func (r *room) enter(ctx context.Context, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.taken > 0 && r.taken+n > r.most {
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	r.taken += n
	return nil
}

// leave gives room back.
func (r *room) leave(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken -= n
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}
