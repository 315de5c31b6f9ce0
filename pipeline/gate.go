package pipeline

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// gate holds the attempts of a pipeline back while a backend is away.
//
// Open, everybody passes and nothing is counted. Closed, everybody waits; after a pause one attempt is let through to probe.
// When it finds the backend there, twice as many may pass at once, and twice as many again with every success, until
// the gate is open, or nobody waits any more. One attempt that finds the backend away closes it again, for a longer pause.
//
// A pipeline has one for its sink, which every attempt passes, and one for each transform, which only those pass that
// have found the transform's backend away: see [runner.enter].
type gate struct {
	shut atomic.Bool // not fully open: the slow path

	mu       sync.Mutex
	limit    int // how many may pass at once while not open; 0: closed
	passing  int
	epoch    pass // counts openings, so that passes from before the last one are not counted again
	failures int  // in a row, of probes
	cause    error
	since    time.Time
	waiting  *list.List // of chan pass, first come first served
	probe    *time.Timer
	idle     bool // closed without a message to probe with: a ping reopens it
	changed  chan struct{}
	full     int // limit at which the gate is open

	onClose func(cause error)
	onOpen  func(closedFor time.Duration)
}

const (
	firstProbe = 100 * time.Millisecond
	// lastProbe bounds the pause between probes, so that a pipeline goes on within seconds of its backend's return.
	lastProbe = 2 * time.Second
)

func newGate(full int) *gate {
	return &gate{full: full, epoch: 1, waiting: list.New(), changed: make(chan struct{})}
}

// pass is what enter gives and leave takes back: the epoch in which it counts, or 0 for one through an open gate.
type pass int

// enter waits until an attempt may be made; it returns ctx's error when ctx ends first. held is how long it waited.
func (g *gate) enter(ctx context.Context) (p pass, held time.Duration, err error) {
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
	turn := make(chan pass, 1)
	place := g.waiting.PushBack(turn)
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

// leave reports how an attempt ended: unavailable is non-nil when it found a backend away.
func (g *gate) leave(p pass, unavailable error) {
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

// abandon gives a pass back that has told nothing about the backend.
func (g *gate) abandon(p pass) {
	if p == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.giveBack(p)
	g.admit()
}

// suspend closes an open gate although no attempt failed: the backend did not answer a ping.
func (g *gate) suspend(cause error) {
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

// resume reopens a gate that suspend closed, when no message waits that could probe.
func (g *gate) resume() {
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

// state returns whether attempts are held back entirely, a channel that is closed at the next change, and why the
// gate is not open.
func (g *gate) state() (closed bool, changed <-chan struct{}, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut.Load() && g.limit == 0, g.changed, g.cause
}

// away returns why a backend is known to be away, since the gate was closed and until the first success; nil: it is not.
func (g *gate) away() error {
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

// stop ends the timer.
func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probe != nil {
		g.probe.Stop()
	}
}

// The methods below want g.mu held.

func (g *gate) close(cause error) (notify func()) {
	wasOpen := !g.shut.Load()
	g.limit, g.cause = 0, cause
	g.shut.Store(true)
	g.broadcast()
	g.scheduleProbe()
	if !wasOpen {
		return nil
	}
	g.since = time.Now()
	if g.onClose == nil {
		return nil
	}
	return func() { g.onClose(cause) }
}

func (g *gate) open() (notify func()) {
	g.limit, g.failures, g.cause, g.idle = 0, 0, nil, false
	g.shut.Store(false)
	if g.probe != nil {
		g.probe.Stop()
	}
	for g.waiting.Len() > 0 {
		g.letThrough(0)
	}
	g.passing = 0
	g.epoch++
	g.broadcast()
	closedFor := time.Since(g.since)
	if g.onOpen == nil {
		return nil
	}
	return func() { g.onOpen(closedFor) }
}

func (g *gate) scheduleProbe() {
	pause := min(firstProbe<<min(g.failures, 10), lastProbe)
	pause = pause/2 + rand.N(pause/2+1)
	g.failures++
	if g.probe == nil {
		g.probe = time.AfterFunc(pause, g.halfOpen)
		return
	}
	g.probe.Reset(pause)
}

func (g *gate) halfOpen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut.Load() || g.limit > 0 || g.idle {
		return
	}
	g.limit = 1
	g.broadcast()
	g.admit()
}

func (g *gate) admit() {
	for g.shut.Load() && g.passing < g.limit && g.waiting.Len() > 0 {
		g.letThrough(g.take())
	}
}

func (g *gate) take() pass {
	g.passing++
	return g.epoch
}

func (g *gate) giveBack(p pass) (counted bool) {
	if p != g.epoch {
		return false
	}
	g.passing--
	return true
}

func (g *gate) letThrough(p pass) {
	g.waiting.Remove(g.waiting.Front()).(chan pass) <- p
}

func (g *gate) broadcast() {
	close(g.changed)
	g.changed = make(chan struct{})
}
