// Package gate holds attempts back while a backend is away: a circuit breaker that loses nothing, since whoever it
// stops waits.
package gate

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Gate holds the attempts of a pipeline back while a backend is away.
//
// While it is open everybody passes, and nothing is counted. While it is closed everybody waits; after a pause one
// attempt passes, to probe. When that one finds the backend there, two may pass at once, and twice as many with every
// further success, until the gate is open or nobody waits any more. An attempt that finds the backend away closes the
// gate again, for a longer pause.
//
// Set OnClose and OnOpen before the first use. All methods are safe for concurrent use.
type Gate struct {
	shut atomic.Bool // not fully open: the slow path

	mu       sync.Mutex
	limit    int // how many may pass at once while not open; 0: closed
	passing  int
	opening  Pass // counts the openings, so that passes from before the last one are not counted again
	failures int  // in a row, of probes
	cause    error
	since    time.Time
	waiting  *list.List // of chan Pass, first come first served
	probe    *time.Timer
	idle     bool // closed without a message to probe with: a ping reopens it
	changed  chan struct{}
	full     int       // limit at which the gate is open
	most     int       // that waited or probed at the same time, since it closed
	next     time.Time // of the next probe; zero: none is planned

	// OnClose, when set, is called when an outage begins, OnOpen when it ends, with the most attempts that were held at
	// the same time.
	OnClose func(cause error)
	OnOpen  func(closedFor time.Duration, held int)
}

const (
	firstProbe = 100 * time.Millisecond
	// lastProbe bounds the pause between probes, so that a pipeline goes on within seconds of its backend's return.
	lastProbe = 2 * time.Second
)

// New makes an open gate. While it reopens, full attempts at once mean that it is open.
func New(full int) *Gate {
	return &Gate{full: full, opening: 1, waiting: list.New(), changed: make(chan struct{})}
}

// Pass is what Enter gives and Leave takes back: the number of the opening in which it counts, or 0 for one through an
// open gate.
type Pass int

// Enter waits until an attempt may be made; it returns ctx's error when ctx ends first. held is how long it waited.
func (g *Gate) Enter(ctx context.Context) (p Pass, held time.Duration, err error) {
	if !g.shut.Load() {
		return 0, 0, nil
	}
	g.mu.Lock()
	if !g.shut.Load() {
		g.mu.Unlock()
		return 0, 0, nil
	}
	if g.passing < g.limit && g.waiting.Len() == 0 {
		p = g.take()
		g.mu.Unlock()
		return p, 0, nil
	}
	turn := make(chan Pass, 1)
	place := g.waiting.PushBack(turn)
	g.most = max(g.most, g.waiting.Len()+g.passing)
	if g.idle {
		// Closed by a ping; from now on there is a message to probe with.
		g.idle = false
		g.scheduleProbe()
	}
	g.mu.Unlock()

	start := time.Now()
	select {
	case p = <-turn:
		return p, time.Since(start), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case p = <-turn: // let through at the same moment: the turn goes to the next
		g.giveBack(p)
		g.admit()
	default:
		g.waiting.Remove(place)
	}
	return 0, time.Since(start), context.Cause(ctx)
}

// Leave reports how an attempt ended: unavailable is non-nil when it found a backend away.
func (g *Gate) Leave(p Pass, unavailable error) {
	if p == 0 && unavailable == nil {
		return
	}
	g.mu.Lock()
	var notify func()
	counted := g.giveBack(p)
	switch {
	case unavailable != nil && (!g.shut.Load() || g.limit > 0):
		notify = g.close(unavailable)
	case unavailable != nil:
		g.cause = unavailable
	case counted && g.shut.Load() && g.limit > 0:
		g.failures = 0
		g.limit *= 2
		if g.limit >= g.full || g.passing == 0 && g.waiting.Len() == 0 {
			notify = g.open()
		}
	}
	g.admit()
	g.mu.Unlock()
	if notify != nil {
		notify()
	}
}

// Abandon gives a pass back that has told nothing about the backend.
func (g *Gate) Abandon(p Pass) {
	if p == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.giveBack(p)
	g.admit()
}

// Suspend closes an open gate although no attempt failed: the backend did not answer a ping.
func (g *Gate) Suspend(cause error) {
	g.mu.Lock()
	var notify func()
	if !g.shut.Load() {
		notify = g.close(cause)
		g.idle = g.waiting.Len() == 0
		if g.idle {
			g.probe.Stop()
		}
	}
	g.mu.Unlock()
	if notify != nil {
		notify()
	}
}

// Resume reopens a gate that suspend closed, when no message waits that could probe.
func (g *Gate) Resume() {
	g.mu.Lock()
	var notify func()
	if g.shut.Load() && g.idle {
		notify = g.open()
	}
	g.mu.Unlock()
	if notify != nil {
		notify()
	}
}

// IsOpen reports whether everybody passes. It takes no lock.
func (g *Gate) IsOpen() bool { return !g.shut.Load() }

// State returns whether attempts are held back entirely, a channel that is closed at the next change, and why the
// Gate is not open.
func (g *Gate) State() (closed bool, changed <-chan struct{}, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut.Load() && g.limit == 0, g.changed, g.cause
}

// Held returns how many attempts wait, and when the next one probes; zero: one does, or nobody could.
func (g *Gate) Held() (waiting int, nextProbe time.Time) {
	if !g.shut.Load() {
		return 0, time.Time{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit == 0 && !g.idle {
		nextProbe = g.next
	}
	return g.waiting.Len(), nextProbe
}

// Away returns why a backend is known to be away, since the gate was closed and until the first success; nil: it is
// not.
func (g *Gate) Away() error {
	if !g.shut.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures == 0 {
		return nil
	}
	return g.cause
}

// Stop ends the timer.
func (g *Gate) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probe != nil {
		g.probe.Stop()
	}
}

// The methods below wants g.mu locked.

func (g *Gate) close(cause error) (notify func()) {
	wasOpen := !g.shut.Load()
	g.limit, g.cause = 0, cause
	g.shut.Store(true)
	g.broadcast()
	g.scheduleProbe()
	if !wasOpen {
		return nil
	}
	g.since = time.Now()
	if g.OnClose == nil {
		return nil
	}
	return func() { g.OnClose(cause) }
}

func (g *Gate) open() (notify func()) {
	g.limit, g.failures, g.cause, g.idle = 0, 0, nil, false
	g.shut.Store(false)
	if g.probe != nil {
		g.probe.Stop()
	}
	for g.waiting.Len() > 0 {
		g.letThrough(0)
	}
	g.passing = 0
	g.opening++
	g.broadcast()
	closedFor, most := time.Since(g.since), g.most
	g.most = 0
	if g.OnOpen == nil {
		return nil
	}
	return func() { g.OnOpen(closedFor, most) }
}

func (g *Gate) scheduleProbe() {
	pause := min(firstProbe<<min(g.failures, 10), lastProbe)
	pause = pause/2 + rand.N(pause/2+1)
	g.failures++
	g.next = time.Now().Add(pause)
	if g.probe == nil {
		g.probe = time.AfterFunc(pause, g.halfOpen)
		return
	}
	g.probe.Reset(pause)
}

func (g *Gate) halfOpen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut.Load() || g.limit > 0 || g.idle {
		return
	}
	g.limit = 1
	g.broadcast()
	g.admit()
}

func (g *Gate) admit() {
	for g.shut.Load() && g.passing < g.limit && g.waiting.Len() > 0 {
		g.letThrough(g.take())
	}
}

func (g *Gate) take() Pass {
	g.passing++
	return g.opening
}

func (g *Gate) giveBack(p Pass) (counted bool) {
	if p != g.opening {
		return false
	}
	g.passing--
	return true
}

func (g *Gate) letThrough(p Pass) {
	g.waiting.Remove(g.waiting.Front()).(chan Pass) <- p
}

func (g *Gate) broadcast() {
	close(g.changed)
	g.changed = make(chan struct{})
}
