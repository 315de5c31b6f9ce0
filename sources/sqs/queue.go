package sqs

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/reason"
)

// queue is one SQS queue of a subscription: its receive loops, everything that is held of it, and what becomes of it.
//
//	receive → take → [its message group] → ready → hand on → settled → acks | releases
//
// Meanwhile, from take until it is deleted or released, a message is in held and its visibility is extended.
type queue struct {
	s     *Settings
	m     *metrics
	log   *zap.Logger
	given string // URL or name, as given
	name  string
	fifo  bool
	batch int32
	// budget is the most messages that may be received and ready to be handed on, those asked for included;
	// groupBudget the most with those that wait behind the heads of groups.
	budget, groupBudget int
	mostBytes           int64 // received and not handed on
	reading             room  // of the answers that are being read

	// client, url and visibility are set by prepare, before any other goroutine runs.
	client      Client
	url         string
	visibility  time.Duration
	askExplicit bool // receives must carry the visibility: the queue's own is not known or not usable
	prepared    bool
	primed      bool // the first receive is done
	mayWatch    bool

	stopped     chan struct{} // closed by drain: no new polls, nothing more is handed on
	abandon     chan struct{} // closed by close: what is not settled is given back
	finished    chan struct{} // closed when every ack is sent: nothing is extended any more
	polls       context.Context
	cancelPolls context.CancelFunc
	calls       context.Context // of acks, releases and extensions
	cancelCalls context.CancelFunc

	acks     *gatherer
	releases *gatherer
	running  sync.WaitGroup // receive loops, the hand-on loop, waits for outcomes
	upkeep   sync.WaitGroup // extending and watching

	mu             sync.Mutex
	held           map[string]*held  // by message id
	done           []*held           // acked but not deletable, oldest first; also in held
	groups         map[string]*group // FIFO only
	attempts       []string          // FIFO only: ids of receives that failed and may have been handed messages
	ready          fifo[*held]
	toExtend       dueList
	extendWake     chan struct{}
	waiting        int // received and not handed on
	behind         int // of these, behind the heads of their groups
	waitingBytes   int
	asked          int // messages that running receives may bring
	askedBytes     int // what room is kept for, for these
	typical        int // bytes of a recent message, for planning
	pollers        int
	parked         int
	spare          *atomic.Int64 // receive loops that the subscription may add
	ctx            context.Context
	more           *sync.Cond // something is ready, or stopping
	room           *sync.Cond // a receive may start, or stopping
	stopping       bool
	err            error // of the last receive
	failures       int
	failing        time.Time // since when
	nextTry        time.Time // of a receive, while it fails
	ackErr         error     // of the last delete request
	ackErrSince    time.Time
	visibilityTold bool
}

// held is one message from its receipt until it is deleted or released. Its fields are guarded by queue.mu.
type held struct {
	id, group string
	receipt   string
	sum       string           // MD5 of the body, when the server tells it
	msg       *message.Message // nil once settled
	cancel    context.CancelFunc
	size      int
	receives  int
	state     state
	at        time.Time // when the current receipt handle came
	sent      time.Time

	due        time.Time // next extension
	prev, next *held     // in queue.toExtend
	listed     bool
	extending  bool // an extension is under way
	deleting   bool // a delete is gathered or under way
	tries      int
	releaseIn  time.Duration // the visibility that a release sets
	releaseDue bool          // release when the extension under way has returned
	rest       []*held       // of its group: to be released after it
	forget     time.Time     // when an entry of queue.done goes
}

type state uint8

const (
	stateWaiting state = iota // in a group or in ready
	stateOffered              // at the channel
	stateHanded               // with the engine
	stateAcked                // to be deleted
)

// ahead is how many messages of a queue may be received ahead of the engine: ready to be handed on, and in all.
func ahead(queue string, consumers, batch, maxInFlight int) (ready, all int) {
	ready = min(consumers*batch, maxInFlight)
	if !isFIFO(queue) {
		return ready, ready
	}
	// A receive may bring a whole batch of one group. As long as the engine takes messages, what waits behind those
	// that it has must not keep other groups from being received.
	return ready, (maxInFlight + ready) * batch
}

// isFIFO tells by the URL or the name: SQS demands the ending of FIFO queues, and of no others.
func isFIFO(queue string) bool { return strings.HasSuffix(queue, ".fifo") }

// holds is the most messages of a queue, given by URL or name, that may be held and must be kept hidden.
func holds(queue string, consumers, batch, maxInFlight int) int {
	_, all := ahead(queue, consumers, batch, maxInFlight)
	return maxInFlight + all
}

// newQueue makes one of so many queues of a subscription.
func newQueue(s *Subscriber, given string, queues int) *queue {
	name := given
	if i := strings.LastIndexByte(strings.TrimRight(given, "/"), '/'); i >= 0 {
		name = path.Base(given)
	}
	q := &queue{
		s: &s.settings, m: s.metrics, given: given, name: name,
		log:        s.settings.Logger.With(zap.String("queue", name)),
		fifo:       isFIFO(name),
		batch:      int32(s.settings.BatchSize),
		stopped:    make(chan struct{}),
		abandon:    make(chan struct{}),
		finished:   make(chan struct{}),
		held:       map[string]*held{},
		groups:     map[string]*group{},
		extendWake: make(chan struct{}, 1),
		typical:    typicalBefore,
	}
	q.budget, q.groupBudget = ahead(name, s.settings.Consumers, s.settings.BatchSize, s.settings.MaxInFlight)
	q.mostBytes = s.settings.MaxInFlightBytes / 4 / int64(queues)
	q.reading.most = q.mostBytes
	q.more, q.room = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	q.polls, q.cancelPolls = context.WithCancel(context.Background())
	q.calls, q.cancelCalls = context.WithCancel(context.Background())
	workers := max(4, s.settings.Consumers)
	q.acks = newGatherer(s.settings.AckLinger, workers, q.deleteBatch)
	q.releases = newGatherer(releaseLinger, workers, q.releaseBatch)
	q.releases.patient = true
	return q
}

// prepare connects and asks for the queue's visibility timeout. It is called until it succeeds.
func (q *queue) prepare(ctx context.Context) error {
	if q.prepared {
		return nil
	}
	client, url, err := q.s.Connect(ctx, q.given)
	if err != nil {
		return describe(err, q.given, "sqs:GetQueueUrl")
	}
	q.client, q.url = client, url
	q.visibility = q.s.VisibilityTimeout
	q.askExplicit = q.visibility > 0
	attributes, err := q.attributes(ctx)
	switch {
	case err == nil:
		q.mayWatch = true
		if q.askExplicit {
			break
		}
		seconds, err := strconv.Atoi(attributes[string(types.QueueAttributeNameVisibilityTimeout)])
		if q.visibility = time.Duration(seconds) * time.Second; err != nil || q.visibility < minVisibility {
			complaint.Warn(q.log, "the queue's visibility timeout can't be used: set it to 30 s or more, or set visibility_timeout",
				zap.Duration("visibility_timeout", q.visibility), zap.Duration("using", fallbackVisibility))
			q.visibility, q.askExplicit = fallbackVisibility, true
		}
	case awsclient.FailureOf(err) == awsclient.Denied:
		if !q.askExplicit {
			complaint.Warn(q.log, "the queue's visibility timeout is not known: allow sqs:GetQueueAttributes, or set visibility_timeout",
				zap.String("queue_url", url), zap.Duration("using", fallbackVisibility))
			q.visibility, q.askExplicit = fallbackVisibility, true
		}
	default:
		return describe(err, url, "sqs:GetQueueAttributes")
	}
	if most, held := extendable(q.visibility), q.s.MaxInFlight+q.groupBudget; held > most {
		complaint.Warn(q.log, "more messages may be held than can be kept hidden when a request takes 100 ms: raise the visibility timeout, or lower max_in_flight",
			zap.Duration("visibility_timeout", q.visibility), zap.Int("max_in_flight", q.s.MaxInFlight), zap.Int("held", held), zap.Int("extendable", most))
	}
	q.prepared = true
	return nil
}

const (
	// releaseLinger is how long a release waits for others, and for a stop that may have caused it.
	releaseLinger = 100 * time.Millisecond
	// fallbackVisibility is SQS's default.
	fallbackVisibility = 30 * time.Second
	// minVisibility is the least that can be extended in time.
	minVisibility = 2 * time.Second
)

func (q *queue) attributes(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	q.m.requests.WithLabelValues("GetQueueAttributes").Inc()
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &q.url,
		AttributeNames: []types.QueueAttributeName{
			types.QueueAttributeNameVisibilityTimeout,
			types.QueueAttributeNameApproximateNumberOfMessages,
			types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
			types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
		},
	})
	if err != nil {
		return nil, err
	}
	q.m.setQueueMessages(q.name, out.Attributes)
	return out.Attributes, nil
}

// start is prepare and a first receive that doesn't wait. What it brings is held for run. It may be called again after
// it failed.
func (q *queue) start(ctx context.Context) error {
	if q.primed {
		return nil
	}
	err := q.prepare(ctx)
	if err == nil {
		attempt := q.attempt()
		var msgs []types.Message
		ask := q.nextAsk()
		if msgs, err = q.receive(ctx, &ask, 0, attempt); err != nil {
			q.attemptAgain(attempt)
		}
		if err != nil && awsclient.FailureOf(err) == awsclient.OverLimit {
			err = nil // others hold as much as SQS hands out
		}
		err = describe(err, q.url, "sqs:ReceiveMessage")
		q.primed = err == nil
		q.take(msgs)
		q.reading.leave(ask.read)
	}
	q.mu.Lock()
	q.err = err
	q.mu.Unlock()
	return err
}

// run starts the queue's goroutines. handed is called when nothing more goes to out.
func (q *queue) run(ctx context.Context, out chan<- *message.Message, spare *atomic.Int64, handed func()) {
	q.ctx, q.spare = ctx, spare
	// A subscription whose context ends is drained: acks of what it handed on are still honoured.
	unwatch := context.AfterFunc(ctx, q.drain)
	q.running.Go(func() {
		defer handed()
		defer unwatch()
		if q.prepareUntilStopped() {
			q.upkeep.Go(q.extend)
			q.upkeep.Go(q.watch)
			q.mu.Lock()
			q.addPoller()
			q.mu.Unlock()
			q.handOn(out)
		}
	})
}

// prepareUntilStopped reports whether the queue is prepared.
func (q *queue) prepareUntilStopped() bool {
	for {
		err := q.prepare(q.polls)
		if err == nil {
			return true
		}
		wait := q.failed(err)
		select {
		case <-q.stopped:
			return false
		case <-time.After(wait):
		}
	}
}

// handOn is the one loop that gives messages to the engine.
func (q *queue) handOn(out chan<- *message.Message) {
	for {
		q.mu.Lock()
		for q.ready.len() == 0 && !q.stopping {
			q.more.Wait()
		}
		if q.stopping {
			q.mu.Unlock()
			return
		}
		h := q.ready.pop()
		h.state = stateOffered
		var ctx context.Context
		ctx, h.cancel = context.WithCancel(q.ctx)
		q.mu.Unlock()
		h.msg.SetContext(ctx)
		select {
		case out <- h.msg:
			q.mu.Lock()
			h.state = stateHanded
			q.leaveWaiting(h)
			q.mu.Unlock()
			q.running.Go(func() { q.await(h) })
		case <-q.stopped:
			q.mu.Lock()
			q.leaveWaiting(h)
			q.giveBack(h, 0, q.closeGroup(h.group))
			q.mu.Unlock()
			return
		}
	}
}

// leaveWaiting takes h out of the count of what waits to be handed on. mu is locked.
func (q *queue) leaveWaiting(h *held) {
	q.waiting--
	q.waitingBytes -= h.size
	q.makeRoom()
}

// await waits for the outcome of a message that was handed on.
func (q *queue) await(h *held) {
	msg := h.msg
	select {
	case <-msg.Acked():
	case <-msg.Nacked():
	case <-q.abandon:
	}
	select {
	case <-msg.Acked(): // also when it was abandoned at the same moment
		q.acked(h)
	default:
		q.released(h)
	}
}

func (q *queue) acked(h *held) {
	q.mu.Lock()
	h.state = stateAcked
	h.deleting = true
	q.settle(h)
	if q.fifo {
		q.advance(h.group)
	}
	q.mu.Unlock()
	q.acks.add(h)
}

func (q *queue) released(h *held) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBack(h, q.releaseDelay(h), q.closeGroup(h.group))
}

// releaseDelay is the time that the policy says; negative: leave it. mu is locked.
func (q *queue) releaseDelay(h *held) time.Duration {
	if q.stopping {
		return 0 // another process may have it
	}
	switch q.s.Release {
	case ReleaseNow:
		return 0
	case ReleaseLeave:
		return -1
	}
	d := q.s.ReleaseInitial
	for range h.receives - 1 {
		if d *= 2; d >= q.s.ReleaseMax {
			break
		}
	}
	return min(d, q.s.ReleaseMax)
}

// giveBack stops holding h and has it made visible after delay; rest follows it, and never comes before it. A negative
// delay leaves them to their visibility timeouts. mu is locked.
func (q *queue) giveBack(h *held, delay time.Duration, rest []*held) {
	q.drop(h)
	for _, r := range rest {
		q.drop(r)
		r.releaseIn = delay
	}
	h.releaseIn, h.rest = delay, rest
	switch {
	case delay < 0:
	case h.extending:
		h.releaseDue = true // else the extension under way might undo it
	default:
		q.releases.add(h) // has a lock of its own, and never calls back under it
	}
}

// drop forgets h. mu is locked.
func (q *queue) drop(h *held) {
	if h.state == stateWaiting {
		q.leaveWaiting(h)
	}
	q.forget(h)
	q.m.released.Inc()
}

// forget ends the bookkeeping of h. mu is locked.
func (q *queue) forget(h *held) {
	if q.held[h.id] == h {
		delete(q.held, h.id)
	}
	q.toExtend.remove(h)
	q.settle(h)
	q.m.held.Dec()
	q.makeRoom()
}

// settle lets go of the message itself. mu is locked.
func (q *queue) settle(h *held) {
	h.msg = nil
	if h.cancel != nil {
		h.cancel()
		h.cancel = nil
	}
}

// take begins to hold what was received.
func (q *queue) take(msgs []types.Message) {
	if len(msgs) == 0 {
		return
	}
	now := time.Now()
	fresh := make([]*held, len(msgs))
	bytes := 0
	for i := range msgs {
		fresh[i] = newHeld(&msgs[i], q.name, now)
		msgs[i].Body = nil // it is the payload now
		bytes += fresh[i].size
	}
	q.m.received.Add(float64(len(msgs)))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.learn(len(msgs), bytes)
	q.forgetDone(now)
	for _, h := range fresh {
		q.m.receives.Observe(float64(h.receives))
		if known := q.held[h.id]; known != nil {
			if known.sum == h.sum {
				q.again(known, h, now)
				continue
			}
			h.id += " " + h.receipt // a server that uses ids again: this is another message
		}
		q.held[h.id] = h
		q.m.held.Inc()
		q.schedule(h, now, q.visibility)
		q.waiting++
		q.waitingBytes += h.size
		if q.fifo {
			q.enter(h)
		} else {
			q.ready.push(h)
		}
	}
	if q.stopping {
		q.returnReady()
	}
	q.more.Signal()
}

// again is a message that is received while it is held: its visibility timeout ran out, or SQS delivered it twice. Only
// the newest receipt handle is valid; the message itself is not handled twice. mu is locked.
func (q *queue) again(known, copied *held, now time.Time) {
	known.receipt, known.at, known.receives = copied.receipt, now, copied.receives
	q.m.duplicates.Inc()
	if !known.extending {
		q.schedule(known, now, q.visibility)
	}
	if known.state == stateAcked && !known.deleting {
		known.deleting, known.tries = true, 0
		q.acks.add(known)
	}
}

// drain stops receiving and handing on, and gives back what waits. It may be called more than once.
func (q *queue) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopping {
		return
	}
	q.stopping = true
	close(q.stopped)
	q.more.Broadcast()
	q.room.Broadcast()
	time.AfterFunc(pollGrace, q.cancelPolls)
	q.releases.sendAtOnce()
	q.returnReady()
}

// returnReady gives back what is ready, and what waits behind it. Groups whose head is with the engine are given back
// when that is settled. mu is locked.
func (q *queue) returnReady() {
	for q.ready.len() > 0 {
		h := q.ready.pop()
		q.giveBack(h, 0, q.closeGroup(h.group))
	}
}

// close gives back what is not settled and sends what is gathered.
func (q *queue) close() error {
	q.drain()
	close(q.abandon)
	q.running.Wait()
	q.cancelPolls()
	deadline := time.Now().Add(closeTimeout)
	defer time.AfterFunc(closeTimeout, q.cancelCalls).Stop()
	acked := q.acks.finish(deadline)
	close(q.finished)
	q.upkeep.Wait()
	released := q.releases.finish(deadline)
	q.cancelCalls()
	if n := acked + released; n > 0 {
		return reason.Errorf("queue %s: %d acks and releases could not be sent: these messages come back after their visibility timeout", q.url, n)
	}
	return nil
}

// rights are what a consumer needs.
const rights = "sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility, sqs:GetQueueAttributes and sqs:GetQueueUrl"

func describe(err error, queue, action string) error {
	return awsclient.Describe(err, queue, action, rights)
}

// invalidReceipt reports whether an entry of a batch failed because its receipt handle is outdated.
func invalidReceipt(code *string) bool {
	if code == nil {
		return false
	}
	switch (*code)[strings.LastIndexByte(*code, '.')+1:] {
	case "ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue", "InvalidIdFormat":
		return true
	}
	return false
}

func (q *queue) receiveError() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// health is the error that keeps the queue from being consumed: of receiving, or of deleting when that fails for long.
func (q *queue) health() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil && q.ackErr != nil && time.Since(q.ackErrSince) >= ackPatience {
		return q.ackErr
	}
	return q.err
}

// watch keeps the queue's own numbers in the metrics.
func (q *queue) watch() {
	if !q.mayWatch {
		return
	}
	for {
		select {
		case <-q.stopped:
			return
		case <-time.After(watchInterval):
		}
		q.mu.Lock()
		var oldest time.Duration
		for _, h := range q.held {
			if !h.sent.IsZero() {
				oldest = max(oldest, time.Since(h.sent))
			}
		}
		q.mu.Unlock()
		q.m.oldest.WithLabelValues(q.name).Set(oldest.Seconds())
		if _, err := q.attributes(q.calls); err != nil && !errors.Is(err, context.Canceled) {
			q.log.Debug("queue attributes", zap.Error(err))
		}
	}
}

// watchInterval makes one request a minute: with the three of an idle long poll it stays cheap.
const watchInterval = time.Minute

// backoff is the wait before try n+1, with full jitter but never less than half.
func backoff(n int, initial, limit time.Duration) time.Duration {
	d := min(limit, initial<<min(n-1, 16))
	return d/2 + rand.N(d/2+1)
}

func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) }
