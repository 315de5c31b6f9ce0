package edgeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/penstock-dev/penstock/entitlement"
)

// RefresherOptions say how questions are collapsed. The zero value of a field is its default.
type RefresherOptions struct {
	// Delay is how long a question waits after the last event about the same customer, five times that in all at
	// most, so that a burst makes one request, and so that the API knows by then what the events are about. 0 is 1 s,
	// negative is none.
	Delay time.Duration
	// ClockSkew is how far this machine's clock may be from the one that dates events: an answer is good for an event
	// that was sent that much, and no less than Delay, before its request began. 0 is 500 ms.
	ClockSkew time.Duration
	// Keep is how long an answer is good for events that were sent before its request began, such as the rest of a
	// backlog. 0 is 1 min.
	Keep time.Duration
}

// Refresher asks an [Client] on behalf of events. At any time one request is in flight for a customer, or one of its
// resources; what comes in before a request begins shares its answer, and what comes in later shares the next one,
// because the answer of the first may be older. It is safe for concurrent use, and runs nothing while nobody waits.
type Refresher struct {
	edge    *Client
	options RefresherOptions

	mu sync.Mutex
	// gathering are the flights whose request has not begun, asking those whose request is under way.
	gathering, asking map[entitlement.Subject]*flight
	// away is why the API did not answer last; then one flight at a time finds out whether it is back, and the others fail
	// with it at once.
	away    error
	probing bool

	answers *lru.Cache[entitlement.Subject, Answer]
}

// flight is one question and those who wait for its answer.
type flight struct {
	ctx     context.Context
	cancel  context.CancelFunc
	waiters int
	before  *flight   // whose request must be over first; nil: none
	joined  time.Time // the last of them
	began   time.Time // its request, once it is under way
	done    chan struct{}
	answer  Answer
	err     error
}

const (
	// keptAnswers and keptBytes bound the memory of answers: 16 MiB at the very most.
	keptAnswers = 1024
	keptBytes   = 16 << 10
)

// NewRefresher returns a refresher that asks edge.
func NewRefresher(edge *Client, o RefresherOptions) *Refresher {
	o.Delay = cmp.Or(o.Delay, time.Second)
	o.ClockSkew = cmp.Or(o.ClockSkew, 500*time.Millisecond)
	o.Keep = cmp.Or(o.Keep, time.Minute)
	answers, err := lru.New[entitlement.Subject, Answer](keptAnswers)
	if err != nil {
		panic(err) // the size is positive
	}
	return &Refresher{edge: edge, options: o, gathering: map[entitlement.Subject]*flight{}, asking: map[entitlement.Subject]*flight{}, answers: answers}
}

// Refresh returns what the API says of a customer, or one of its resources, since an event: the request began after
// Refresh was called, or well after sent, the time at which the event was sent (zero: not known). The error is an
// [*Error], or that of ctx; the end of ctx does not disturb others who wait for the same answer.
func (r *Refresher) Refresh(ctx context.Context, of entitlement.Subject, sent time.Time) (Answer, error) {
	r.mu.Lock()
	if answer, ok := r.kept(of, sent); ok {
		r.mu.Unlock()
		return answer, nil
	}
	f := r.gathering[of]
	if asking := r.asking[of]; f == nil && asking != nil && asking.waiters > 0 && r.serves(asking.began, sent) {
		f = asking
	}
	if f == nil {
		f = &flight{before: r.asking[of], done: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(context.Background())
		r.gathering[of] = f
		go r.fly(of, f)
	}
	f.waiters++
	f.joined = time.Now()
	r.mu.Unlock()

	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		// Nobody wants the answer any more, and whoever comes now must not join what is ending.
		f.cancel()
		if r.gathering[of] == f {
			delete(r.gathering, of)
		}
	}
	return Answer{}, context.Cause(ctx)
}

// kept returns an answer that is good for an event sent then.
func (r *Refresher) kept(of entitlement.Subject, sent time.Time) (Answer, bool) {
	answer, ok := r.answers.Get(of)
	return answer, ok && time.Since(answer.AsOf) < r.options.Keep && r.serves(answer.AsOf, sent)
}

// serves reports whether the answer to a request that began then is good for an event that was sent at that time.
func (r *Refresher) serves(began, sent time.Time) bool {
	return !sent.IsZero() && sent.Add(max(r.options.ClockSkew, r.options.Delay)).Before(began)
}

// fly gathers, asks, and tells those who wait.
func (r *Refresher) fly(of entitlement.Subject, f *flight) {
	defer close(f.done)
	defer f.cancel()
	probes, err := r.mayAsk()
	if err == nil {
		err = r.gather(f)
	}
	if err == nil {
		f.answer, err = r.ask(of, f)
	}
	f.err = err

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, flights := range []map[entitlement.Subject]*flight{r.gathering, r.asking} {
		if flights[of] == f {
			delete(flights, of)
		}
	}
	if probes {
		r.probing = false
	}
	failure, failed := errors.AsType[*Error](err)
	switch {
	case err == nil, failed && (failure.Outcome == Rejected || failure.Outcome == Failed):
		r.away = nil // it answers
	case failed:
		r.away = err
	}
	if err == nil && len(f.answer.Entitlements) <= keptBytes {
		r.answers.Add(of, f.answer)
	}
}

// mayAsk returns why the API is not to be asked now, or whether this question is the one that finds out if it is back.
func (r *Refresher) mayAsk() (probes bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away == nil {
		return false, nil
	}
	if r.probing {
		return false, r.away
	}
	r.probing = true
	return true, nil
}

// mostDelays bounds how long those who join one after the other can put a request off, in delays.
const mostDelays = 5

// gather waits until nobody has joined for a while, and for the request before to end.
func (r *Refresher) gather(f *flight) error {
	for first := time.Now(); r.options.Delay > 0; {
		r.mu.Lock()
		until := f.joined.Add(r.options.Delay)
		r.mu.Unlock()
		if last := first.Add(mostDelays * r.options.Delay); until.After(last) {
			until = last
		}
		wait := time.Until(until)
		if wait <= 0 {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-f.ctx.Done():
			timer.Stop()
			return context.Cause(f.ctx)
		}
	}
	if f.before == nil {
		return nil
	}
	select {
	case <-f.before.done:
		f.before = nil
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// ask makes a panic, of a transport say, an error of those who wait: nobody else is on this goroutine to catch it.
func (r *Refresher) ask(of entitlement.Subject, f *flight) (answer Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return r.edge.ask(f.ctx, of, func() { r.begins(of, f) })
}

// begins closes the flight to others: the answer may be older than what they come with.
func (r *Refresher) begins(of entitlement.Subject, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gathering[of] == f {
		delete(r.gathering, of)
	}
	f.began = time.Now()
	r.asking[of] = f
}
