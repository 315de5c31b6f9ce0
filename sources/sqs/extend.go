package sqs

import (
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
)

const (
	// maxVisibility is how long SQS hides a message in all, counted from its receipt.
	maxVisibility = 12 * time.Hour
	// holdLimit is when a message that is still held is given back: with maxVisibility nothing could keep it hidden.
	holdLimit = maxVisibility - 30*time.Minute
	// extendWorkers is how many requests to extend may run at a time. They don't share with acks and receives.
	extendWorkers = 16
)

// extendable is how many messages can be kept hidden when a request to extend takes 100 ms, far more than it does
// within a region: every worker sends ten requests a second, of ten messages each, and every message is due at half
// its visibility.
func extendable(visibility time.Duration) int {
	return int(visibility/2/(100*time.Millisecond)) * extendWorkers * maxBatch
}

// visibilityLeft is the most that the visibility timeout of a message received at the time given can be set to.
func visibilityLeft(at time.Time) time.Duration {
	return max(0, maxVisibility-time.Since(at)-10*time.Second)
}

// schedule plans the next extension of h, whose visibility timeout began now and takes granted. mu is locked.
func (q *queue) schedule(h *held, now time.Time, granted time.Duration) {
	due := now.Add(granted / 2)
	if limit := h.at.Add(holdLimit); due.After(limit) {
		due = limit
	}
	q.extendAt(h, due)
}

// extendAt plans an extension of h. mu is locked.
func (q *queue) extendAt(h *held, due time.Time) {
	q.toExtend.insert(h, due)
	if q.toExtend.first == h {
		select {
		case q.extendWake <- struct{}{}:
		default:
		}
	}
}

// extendTimeout bounds a request to extend, so that there is time for a second one when the first gets no answer: at
// half the visibility, a quarter for the one and an eighth until the other.
func (q *queue) extendTimeout() time.Duration { return min(q.visibility/4, callTimeout) }

// slack is how much sooner than due a message may be extended, so that requests are full.
func (q *queue) slack() time.Duration { return min(q.visibility/20, 10*time.Second) }

// extend extends the visibility of everything held, at half its time, until the queue is finished.
func (q *queue) extend() {
	workers := make(chan struct{}, extendWorkers)
	var requests sync.WaitGroup
	defer requests.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, lapsing, next := q.dueNow()
		for len(due) > 0 {
			n := min(len(due), maxBatch)
			batch := due[:n:n]
			due = due[n:]
			select {
			case workers <- struct{}{}:
			case <-q.finished:
				return
			}
			requests.Go(func() {
				defer func() { <-workers }()
				q.extendBatch(batch)
			})
		}
		if lapsing > 0 {
			q.m.lapsed.Add(float64(lapsing))
			complaint.Warn(q.log, "messages were held for 11.5 hours and are visible to others again: SQS hides none for more than 12",
				zap.Int("messages", lapsing))
		}
		if len(due) == 0 {
			timer.Reset(next)
			select {
			case <-timer.C:
			case <-q.extendWake:
			case <-q.finished:
				return
			}
		}
	}
}

// dueNow takes what is due, and what nearly is, so that batches fill. It returns how many of these have reached
// holdLimit, and how long until the next is due.
func (q *queue) dueNow() (due []*held, lapsing int, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	soon := now.Add(q.slack())
	for h := q.toExtend.first; h != nil && !h.due.After(soon); h = q.toExtend.first {
		q.toExtend.remove(h)
		h.extending = true
		if now.Sub(h.at) >= holdLimit-q.slack() {
			lapsing++
		}
		due = append(due, h)
	}
	if q.toExtend.first == nil {
		return due, lapsing, time.Hour
	}
	return due, lapsing, time.Until(q.toExtend.first.due.Add(-q.slack() / 2))
}

// stillHeld leaves out what was deleted or released while the batch waited for its turn.
func (q *queue) stillHeld(batch []*held) []*held {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := batch[:0]
	for _, h := range batch {
		switch {
		case h.releaseDue:
			h.extending = false
			q.releases.add(h)
		case q.held[h.id] == h:
			kept = append(kept, h)
		}
	}
	return kept
}

func (q *queue) extendBatch(batch []*held) {
	if batch = q.stillHeld(batch); len(batch) == 0 {
		return
	}
	receipts := q.receipts(batch)
	now := time.Now()
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(batch))
	granted := make([]time.Duration, len(batch))
	q.mu.Lock()
	for i, h := range batch {
		if now.Sub(h.at) < holdLimit-q.slack() {
			granted[i] = min(q.visibility, visibilityLeft(h.at))
		}
		entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
			Id: entryID(i), ReceiptHandle: &receipts[i], VisibilityTimeout: seconds(granted[i]),
		}
	}
	q.mu.Unlock()
	failed, err := q.changeVisibility(entries, q.extendTimeout())
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, h := range batch {
		f := failed[i]
		h.extending = false
		switch {
		case h.releaseDue:
			q.releases.add(h)
		case q.held[h.id] != h: // settled meanwhile
		case h.receipt != receipts[i]: // received again meanwhile: the new handle counts
			q.schedule(h, time.Now(), q.visibility)
		case err == nil && f == nil:
			if granted[i] > 0 {
				q.schedule(h, now, granted[i])
			} // else it is visible, and comes again
		case f != nil && invalidReceipt(f.Code):
			q.m.visibilityFailures.Inc()
		default:
			q.m.visibilityFailures.Inc()
			q.extendAt(h, time.Now().Add(min(q.visibility/8, 5*time.Second)))
		}
	}
}
