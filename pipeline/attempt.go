package pipeline

import (
	"context"
	"sync"
	"time"
)

// attempt is the context of one attempt: what context.WithTimeout would make of the delivery, without a timer and a
// place in a parent's list for each, which cost a twentieth of the CPU of a message. One goroutine per pipeline ends
// those that take too long ([runner.watchAttempts]), so that a timeout may come late by a twentieth of it.
type attempt struct {
	context.Context // of the message: for its values
	deadline        time.Time

	mu    sync.Mutex
	err   error
	done  chan struct{} // made when somebody asks for it
	after map[*func()]struct{}
}

func (a *attempt) Deadline() (time.Time, bool) { return a.deadline, true }

func (a *attempt) Done() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done == nil {
		a.done = make(chan struct{})
		if a.err != nil {
			close(a.done)
		}
	}
	return a.done
}

func (a *attempt) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// AfterFunc is what the context package looks for in contexts that are not its own: with it, a context derived from
// this one costs no goroutine.
func (a *attempt) AfterFunc(f func()) (stop func() bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		go f()
		return func() bool { return false }
	}
	if a.after == nil {
		a.after = map[*func()]struct{}{}
	}
	a.after[&f] = struct{}{}
	return func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		_, waiting := a.after[&f]
		delete(a.after, &f)
		return waiting
	}
}

// end ends the attempt because of err; only the first call counts.
func (a *attempt) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return
	}
	a.err = err
	if a.done != nil {
		close(a.done)
	}
	for f := range a.after {
		go (*f)()
	}
	a.after = nil
}

// begin makes the context of an attempt on d.
func (r *runner) begin(ctx context.Context, d *delivery) *attempt {
	a := &attempt{Context: ctx, deadline: time.Now().Add(r.p.MessageTimeout)}
	d.current.Store(a)
	if r.hard.Err() != nil {
		a.end(context.Canceled)
	}
	return a
}

// watchAttempts ends attempts when their time is over, and all of them when the pipeline is stopped hard.
func (r *runner) watchAttempts(stop <-chan struct{}) {
	tick := time.NewTicker(min(max(r.p.MessageTimeout/20, time.Millisecond), time.Second))
	defer tick.Stop()
	hard := r.hard.Done()
	for {
		select {
		case now := <-tick.C:
			r.endAttempts(func(a *attempt) bool { return now.After(a.deadline) }, context.DeadlineExceeded)
		case <-hard:
			r.endAttempts(func(*attempt) bool { return true }, context.Canceled)
			hard = nil // attempts that begin from now on end by themselves
		case <-stop:
			return
		}
	}
}

func (r *runner) endAttempts(over func(*attempt) bool, why error) {
	var ending []*attempt
	r.mu.Lock()
	for d := r.oldest; d != nil; d = d.next {
		if a := d.current.Load(); a != nil && over(a) {
			ending = append(ending, a)
		}
	}
	r.mu.Unlock()
	for _, a := range ending {
		a.end(why)
	}
}
