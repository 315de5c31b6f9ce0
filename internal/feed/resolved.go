package feed

import "sync"

// Position is a place behind a message: the number of its file, and where in that file the next message begins.
type Position struct {
	File   int
	Offset int64 // bytes
	Line   int64 // lines read
}

// prefix knows how far everything is resolved. It keeps one mark for each message that is not resolved, in the order in
// which they were made; a resolved one becomes part of the mark before it. What it needs is thus bounded by what is in
// flight, however long the oldest message takes.
type prefix struct {
	mu          sync.Mutex
	first, last *mark
	resolved    Position
	stopped     bool // a place was given up: nothing behind it counts any more
}

type mark struct {
	end        Position // of this message, and of the resolved ones behind it
	prev, next *mark
	done       bool
}

// add enters a message that ends at end; nil when a place before it was given up.
func (p *prefix) add(end Position) *mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil
	}
	m := &mark{end: end, prev: p.last}
	if p.last != nil {
		p.last.next = m
	} else {
		p.first = m
	}
	p.last = m
	return m
}

// resolve takes a message out that was acked. A nil mark is none.
func (p *prefix) resolve(m *mark) {
	if m == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.done {
		return
	}
	m.done = true
	if m.prev != nil {
		m.prev.end, m.prev.next = m.end, m.next
	} else {
		p.resolved, p.first = m.end, m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	} else {
		p.last = m.prev
	}
	m.prev, m.next = nil, nil
}

// stop makes the end of the messages so far the last that can be resolved.
func (p *prefix) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// get returns how far all is resolved, and whether nothing waits and nothing was given up.
func (p *prefix) get() (at Position, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resolved, p.first == nil && !p.stopped
}
