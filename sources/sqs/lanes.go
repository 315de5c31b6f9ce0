package sqs

// lane is a message group of a FIFO queue, for as long as something of it is held. Its head is ready, offered or with the
// engine; what is behind it waits in order.
type lane struct{ behind fifo[*held] }

// enter puts h at the end of its lane. mu is held.
func (q *queue) enter(h *held) {
	if l := q.lanes[h.group]; l != nil {
		l.behind.push(h)
		q.behind++
		return
	}
	q.lanes[h.group] = &lane{}
	q.ready.push(h)
}

// advance makes the next of the lane its head, after the head is done. mu is held.
func (q *queue) advance(group string) {
	l := q.lanes[group]
	if l.behind.len() == 0 {
		delete(q.lanes, group)
		return
	}
	q.ready.push(l.behind.pop())
	q.behind--
	if q.stopping {
		q.returnReady()
		return
	}
	q.more.Signal()
}

// closeLane ends the lane and returns what waits in it, in order. mu is held.
func (q *queue) closeLane(group string) []*held {
	l := q.lanes[group]
	if l == nil {
		return nil
	}
	delete(q.lanes, group)
	var rest []*held
	for l.behind.len() > 0 {
		rest = append(rest, l.behind.pop())
		q.behind--
	}
	return rest
}
