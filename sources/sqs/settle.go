package sqs

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
)

// gatherer sends entries in batches of up to ten, each within linger of its arrival, with a bounded number of
// requests at a time. Acks and releases have one each, so that neither waits for the other.
type gatherer struct {
	linger  time.Duration
	patient bool // full batches linger, too
	most    int  // requests at a time
	send    func(batch []*held)

	mu      sync.Mutex
	pending []*held
	since   time.Time // of the oldest pending
	later   []retry
	running int
	sending int // entries of the running requests
	hurry   bool
	armed   time.Time
	timer   *time.Timer
	idle    chan struct{} // closed when nothing is left, in a hurry
	idling  bool
}

type retry struct {
	h  *held
	at time.Time
}

func newGatherer(linger time.Duration, most int, send func([]*held)) *gatherer {
	return &gatherer{linger: linger, most: most, send: send, idle: make(chan struct{})}
}

func (g *gatherer) add(entries ...*held) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.pending) == 0 {
		g.since = time.Now()
	}
	g.pending = append(g.pending, entries...)
	g.kick()
}

// tryAgain adds entries after a wait that grows with their tries; in a hurry it is short. They stay together, so that
// they go in one request again.
func (g *gatherer) tryAgain(entries []*held, tries int) {
	if len(entries) == 0 {
		return
	}
	wait := backoff(tries, 100*time.Millisecond, 10*time.Second)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hurry {
		wait = min(wait, hurriedRetry)
	}
	at := time.Now().Add(wait)
	for _, h := range entries {
		g.later = append(g.later, retry{h, at})
	}
	g.kick()
}

const hurriedRetry = 200 * time.Millisecond

// kick sends what is due and sets the timer for the rest. mu is locked.
func (g *gatherer) kick() {
	now := time.Now()
	var next time.Time
	kept := g.later[:0]
	for _, r := range g.later {
		if r.at.After(now) {
			kept = append(kept, r)
			if next.IsZero() || r.at.Before(next) {
				next = r.at
			}
			continue
		}
		if len(g.pending) == 0 {
			g.since = now
		}
		g.pending = append(g.pending, r.h)
	}
	clear(g.later[len(kept):])
	g.later = kept
	due := g.hurry || now.Sub(g.since) >= g.linger
	for g.running < g.most && len(g.pending) > 0 && (due || len(g.pending) >= maxBatch && !g.patient) {
		n := min(len(g.pending), maxBatch)
		batch := make([]*held, n)
		copy(batch, g.pending)
		left := copy(g.pending, g.pending[n:])
		clear(g.pending[left:])
		g.pending = g.pending[:left]
		g.since = now // what is left came after
		g.running++
		g.sending += n
		go g.work(batch)
	}
	if len(g.pending) > 0 && g.running < g.most {
		if due := g.since.Add(g.linger); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if !next.IsZero() && !next.Equal(g.armed) {
		g.armed = next
		if g.timer == nil {
			g.timer = time.AfterFunc(next.Sub(now), g.tick)
		} else {
			g.timer.Reset(next.Sub(now))
		}
	}
	if g.hurry && !g.idling && g.left() == 0 {
		g.idling = true
		close(g.idle)
	}
}

func (g *gatherer) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = time.Time{}
	g.kick()
}

func (g *gatherer) work(batch []*held) {
	g.send(batch)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.sending -= len(batch)
	g.kick()
}

// sendAtOnce stops gathering: from now on every entry is sent without delay.
func (g *gatherer) sendAtOnce() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.linger = 0
	g.kick()
}

func (g *gatherer) left() int { return len(g.pending) + len(g.later) + g.sending }

// finish sends everything without lingering and returns how many entries are left at the deadline.
func (g *gatherer) finish(deadline time.Time) int {
	g.mu.Lock()
	g.hurry = true
	for i := range g.later {
		if soon := time.Now().Add(hurriedRetry); g.later[i].at.After(soon) {
			g.later[i].at = soon
		}
	}
	g.kick()
	g.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-g.idle:
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.left()
	g.most = 0 // whoever retries after the deadline finds nobody
	if g.timer != nil {
		g.timer.Stop()
	}
	return n
}

// entryID is the id of entry i of a batch.
func entryID(i int) *string { return &entryIDs[i] }

var entryIDs = [maxBatch]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}

// failures returns the failed entries of a batch by their position.
func failuresOf(failed []types.BatchResultErrorEntry) map[int]*types.BatchResultErrorEntry {
	if len(failed) == 0 {
		return nil
	}
	m := make(map[int]*types.BatchResultErrorEntry, len(failed))
	for i := range failed {
		if failed[i].Id == nil {
			continue
		}
		if n, err := strconv.Atoi(*failed[i].Id); err == nil {
			m[n] = &failed[i]
		}
	}
	return m
}

// receipts copies the newest receipt handles of a batch.
func (q *queue) receipts(batch []*held) []string {
	handles := make([]string, len(batch))
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, h := range batch {
		handles[i] = h.receipt
	}
	return handles
}

// deleteBatch deletes acked messages. What fails is tried again, for as long as its receipt handle is good.
func (q *queue) deleteBatch(batch []*held) {
	receipts := q.receipts(batch)
	entries := make([]types.DeleteMessageBatchRequestEntry, len(batch))
	for i := range batch {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: entryID(i), ReceiptHandle: &receipts[i]}
	}
	ctx, cancel := context.WithTimeout(q.calls, callTimeout)
	defer cancel()
	q.m.requests.WithLabelValues("DeleteMessageBatch").Inc()
	out, err := q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	var failed map[int]*types.BatchResultErrorEntry
	if err == nil {
		failed = failuresOf(out.Failed)
	}
	q.noteAck(describe(err, q.url, "sqs:DeleteMessage"))
	var again []*held
	tries := 0
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, h := range batch {
		f := failed[i]
		switch {
		case err == nil && f == nil && h.receipt == receipts[i]:
			q.forget(h)
			q.m.deleted.Inc()
		case h.receipt != receipts[i]:
			// It was received again meanwhile: a delete by the old handle may have succeeded without any effect.
			q.acks.add(h)
		case f != nil && invalidReceipt(f.Code):
			// Its visibility timeout has run out. When it comes back it is deleted without being handled again.
			q.m.ackFailures.Inc()
			h.deleting = false
			q.toExtend.remove(h)
			q.remember(h)
		default:
			q.m.ackFailures.Inc()
			h.tries++
			again, tries = append(again, h), max(tries, h.tries)
		}
	}
	q.acks.tryAgain(again, tries)
}

// noteAck tells once that deleting fails, and once that it works again.
func (q *queue) noteAck(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case err == nil && q.ackErr != nil:
		q.log.Info("deleting works again", zap.Duration("after", time.Since(q.ackErrSince).Round(time.Millisecond)))
	case err != nil && q.ackErr == nil && q.calls.Err() == nil:
		complaint.Warn(q.log, "deleting fails: trying on", zap.Error(err))
		q.ackErrSince = time.Now()
	}
	q.ackErr = err
}

// ackPatience is how long deletes may fail before receiving counts as failing, too: what is received then only piles
// up.
const ackPatience = 5 * time.Second

// doneMemory bounds how many acked messages are remembered that could not be deleted.
const doneMemory = 10_000

// remember keeps h for its next delivery. mu is locked.
func (q *queue) remember(h *held) {
	h.forget = time.Now().Add(2*q.visibility + time.Minute)
	q.done = append(q.done, h)
	q.forgetDone(time.Now())
	q.makeRoom()
}

// forgetDone forgets what was not delivered again in time. mu is locked.
func (q *queue) forgetDone(now time.Time) {
	n := 0
	for ; n < len(q.done) && (len(q.done)-n > doneMemory || !q.done[n].forget.After(now)); n++ {
		if h := q.done[n]; !h.deleting && q.held[h.id] == h {
			q.forget(h)
		}
	}
	if n > 0 {
		left := copy(q.done, q.done[n:])
		clear(q.done[left:])
		q.done = q.done[:left]
	}
}

// releaseBatch makes messages visible again, each after its delay.
func (q *queue) releaseBatch(batch []*held) {
	receipts := q.receipts(batch)
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(batch))
	q.mu.Lock()
	for i, h := range batch {
		if q.stopping {
			// What is released just before the stop is so because of it, as a rule, and has not failed.
			h.releaseIn = 0
		}
		entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
			Id: entryID(i), ReceiptHandle: &receipts[i], VisibilityTimeout: seconds(max(0, min(h.releaseIn, visibilityLeft(h.at)))),
		}
	}
	q.mu.Unlock()
	failed, err := q.changeVisibility(entries, callTimeout)
	var next, again []*held
	tries := 0
	for i, h := range batch {
		f := failed[i]
		switch {
		case err == nil && f == nil:
			next = append(next, h.rest...)
		case f != nil && invalidReceipt(f.Code): // it is visible already, and so may be what is behind it
		default:
			q.m.visibilityFailures.Inc()
			if h.tries++; h.tries < releaseTries {
				again, tries = append(again, h), max(tries, h.tries)
			} // else their visibility timeouts run out by themselves
			continue
		}
		h.rest = nil
	}
	q.releases.tryAgain(again, tries)
	if len(next) > 0 {
		q.releases.add(next...)
	}
}

// releaseTries bounds how often a release is tried: it only makes sooner what happens anyway.
const releaseTries = 5

func (q *queue) changeVisibility(entries []types.ChangeMessageVisibilityBatchRequestEntry, timeout time.Duration) (map[int]*types.BatchResultErrorEntry, error) {
	ctx, cancel := context.WithTimeout(q.calls, timeout)
	defer cancel()
	q.m.requests.WithLabelValues("ChangeMessageVisibilityBatch").Inc()
	out, err := q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: entries})
	if err != nil {
		err = describe(err, q.url, "sqs:ChangeMessageVisibility")
		q.mu.Lock()
		told := q.visibilityTold
		q.visibilityTold = true
		q.mu.Unlock()
		if !told && q.calls.Err() == nil {
			complaint.Warn(q.log, "changing visibility fails: trying on", zap.Error(err))
		}
		return nil, err
	}
	q.mu.Lock()
	q.visibilityTold = false
	q.mu.Unlock()
	return failuresOf(out.Failed), nil
}
