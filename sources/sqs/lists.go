package sqs

import "time"

// fifo is a queue on a slice that gives its memory back.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(v T) { f.items = append(f.items, v) }

// pop takes the first; the queue must not be empty.
func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > 4096 {
			f.items = nil
		}
	} else if f.head > 64 && f.head*2 > len(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return v
}

// dueList is what must be extended, the earliest first. It links the entries themselves, so that settling one takes it
// out at once. Nearly every entry goes to the end, where insert begins to look.
type dueList struct{ first, last *held }

func (l *dueList) insert(h *held, due time.Time) {
	l.remove(h)
	h.due, h.listed = due, true
	after := l.last
	for after != nil && after.due.After(due) {
		after = after.prev
	}
	h.prev = after
	if after == nil {
		h.next, l.first = l.first, h
	} else {
		h.next, after.next = after.next, h
	}
	if h.next == nil {
		l.last = h
	} else {
		h.next.prev = h
	}
}

func (l *dueList) remove(h *held) {
	if !h.listed {
		return
	}
	if h.prev == nil {
		l.first = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		l.last = h.prev
	} else {
		h.next.prev = h.prev
	}
	h.prev, h.next, h.listed = nil, nil, false
}
