package sqs

// group is a message group of a FIFO queue, for as long as something of it is held. Its head is ready, offered or
// with the engine; what is behind it waits in order.
type group struct{ behind fifo[*held] }

// enter puts h at the end of its group. mu is locked.
func (q *queue) enter(h *held) {
	if g := q.groups[h.group]; g != nil {
		g.behind.push(h)
		q.behind++
		return
	}
	q.groups[h.group] = &group{}
	q.ready.push(h)
}

// advance makes the next message of the group its head, after the head is done. mu is locked.
func (q *queue) advance(id string) {
	g := q.groups[id]
	if g.behind.len() == 0 {
		delete(q.groups, id)
		return
	}
	q.ready.push(g.behind.pop())
	q.behind--
	if q.stopping {
		q.returnReady()
		return
	}
	q.more.Signal()
}

// closeGroup ends the group and returns what waits in it, in order. mu is locked.
func (q *queue) closeGroup(id string) []*held {
	g := q.groups[id]
	if g == nil {
		return nil
	}
	delete(q.groups, id)
	var rest []*held
	for g.behind.len() > 0 {
		rest = append(rest, g.behind.pop())
		q.behind--
	}
	return rest
}
