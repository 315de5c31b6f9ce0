// Package outage keeps what is known of the backends of components: whether one is there, since when, why it was not,
// and when it is tried next. It is the one place for that: the log and the status API tell what stands here.
package outage

import (
	"sync"
	"sync/atomic"
	"time"
)

// State says whether a component's backend is there.
type State string

// The states of a component.
const (
	// Starting: it has not been tried yet.
	Starting State = "starting"
	// Up: it is there, as far as is known. A component without a backend is always up.
	Up State = "up"
	// Away: what needs it is held, and it is tried again and again.
	Away State = "away"
	// Reopening: it is there again, and what was held goes on gradually.
	Reopening State = "reopening"
)

// Status is what is known at a moment.
type Status struct {
	// Path is the place of the component in the pipeline file, such as "sink.fan_out[0].redis".
	Path  string
	State State
	// Since is when the state began.
	Since time.Time
	// Err is why the backend was away last, At when that was found out the last time; nil: it has never been away.
	Err error
	At  time.Time
	// Tries counts what found it away since the outage began: attempts of messages, pings and starts.
	Tries int
	// Next is when it is tried next; zero: nobody has planned that.
	Next time.Time
	// Held is how many messages wait for it.
	Held int
}

// Component keeps the status of one component. Make it with [New]; it is safe for concurrent use.
type Component struct {
	up  atomic.Bool // the state is Up: the fast path
	mu  sync.Mutex
	now Status
}

// New makes one that has not been tried yet.
func New(path string) *Component {
	return &Component{now: Status{Path: path, State: Starting, Since: time.Now()}}
}

// Failed notes that the backend was found away. It reports whether an outage begins.
func (c *Component) Failed(err error) (begins bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins = c.fail(err)
	c.now.Tries++
	return begins
}

// Failing notes that the backend is away, by one that tries it itself and counts its own tries.
func (c *Component) Failing(err error, next time.Time) (begins bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins = c.fail(err)
	c.now.Next = next
	return begins
}

func (c *Component) fail(err error) (begins bool) {
	now := time.Now()
	if begins = c.now.State != Away; begins {
		c.now.State, c.now.Since, c.now.Tries = Away, now, 0
		c.up.Store(false)
	}
	c.now.Err, c.now.At = err, now
	return begins
}

// Worked notes that the backend is there. When that ends an outage, it returns what was known of it.
func (c *Component) Worked() (over Status, ended bool) {
	if c.up.Load() {
		return Status{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	over = c.now
	c.up.Store(true)
	c.now.State, c.now.Since, c.now.Next, c.now.Tries = Up, time.Now(), time.Time{}, 0
	return over, over.State == Away
}

// TriedAt notes when the backend is tried next.
func (c *Component) TriedAt(next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Next = next
}

// Status returns what is known. Next is left out when it has passed or the backend is there.
func (c *Component) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.now
	if s.State == Up || s.Next.Before(time.Now()) {
		s.Next = time.Time{}
	}
	return s
}
