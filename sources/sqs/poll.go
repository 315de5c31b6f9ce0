package sqs

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/reason"
)

// addPoller starts a receive loop, when the subscription may have one more. mu is locked.
func (q *queue) addPoller() {
	if q.pollers > 0 {
		if q.spare.Add(-1) < 0 {
			q.spare.Add(1)
			return
		}
	}
	q.pollers++
	q.running.Go(q.poll)
}

// leavePoller ends a receive loop unless it is the last one. mu is locked.
func (q *queue) leavePoller() bool {
	if q.pollers == 1 {
		return false
	}
	q.pollers--
	q.spare.Add(1)
	return true
}

// poll is one receive loop. There is always one; full receives bring more, thin ones end them.
func (q *queue) poll() {
	thin, empty := 0, 0
	for {
		ask := q.reserve()
		if ask.messages == 0 {
			return
		}
		attempt := q.attempt()
		wait := q.s.WaitTime
		if q.receiveError() != nil {
			wait = 0 // that it works again must be known at once, not after a long poll
		}
		began := time.Now()
		msgs, err := q.receive(q.polls, &ask, wait, attempt)
		q.take(msgs)
		q.reading.leave(ask.read)
		if err != nil {
			q.attemptAgain(attempt)
		}
		q.mu.Lock()
		q.asked -= ask.messages
		q.askedBytes -= ask.bytes
		q.makeRoom() // for a loop that waits for it: this one may leave
		if q.stopping {
			q.mu.Unlock()
			return
		}
		var pause time.Duration
		leave := false
		switch n := len(msgs); {
		case err != nil:
			leave = q.leavePoller()
		case n >= ask.messages:
			thin, empty = 0, 0
			if (q.waiting-q.behind)*2 <= q.budget {
				q.addPoller()
			}
		case n == 0:
			q.m.emptyReceives.Inc()
			if leave = q.leavePoller(); !leave && time.Since(began) < min(q.s.WaitTime, time.Second)/2+time.Millisecond {
				// Not every server waits, and wait_time may be 0: an empty queue must not be asked in a hot loop.
				empty++
				pause = min(time.Second, 10*time.Millisecond<<min(empty, 10))
			}
		case 2*n < ask.messages:
			empty = 0
			if thin++; thin >= 2 {
				thin = 0
				leave = q.leavePoller()
			}
		default:
			thin, empty = 0, 0
		}
		q.mu.Unlock()
		switch {
		case err == nil:
			q.worked()
		case awsclient.FailureOf(err) == awsclient.OverLimit:
			// SQS has handed out all that it may: it is full, and nothing has failed.
			q.worked()
			pause = time.Second
		case leave:
			q.noted(describe(err, q.url, "sqs:ReceiveMessage"))
		default:
			pause = q.failed(describe(err, q.url, "sqs:ReceiveMessage"))
		}
		if leave {
			return
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-q.stopped:
				return
			}
		}
	}
}

// attempt returns the id of a receive from a FIFO queue: that of one that failed, whose messages SQS hands out again
// then, if it did, or a new one.
func (q *queue) attempt() string {
	if !q.fifo {
		return ""
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.attempts); n > 0 {
		id := q.attempts[n-1]
		q.attempts = q.attempts[:n-1]
		return id
	}
	return uuid.NewString()
}

// attemptAgain keeps the id of a receive that failed for the next one.
func (q *queue) attemptAgain(id string) {
	if id == "" {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.attempts = append(q.attempts, id)
}

// ask is what one receive asks for.
type ask struct {
	messages int
	bytes    int   // what room is kept for
	read     int64 // what of q.reading is taken: to be given back when the messages are taken over
}

// nextAsk is what the next receive asks for: ten messages, fewer when recent ones were large. That costs nothing,
// because SQS charges a request for every 64 KiB of an answer. mu is held.
func (q *queue) nextAsk() ask {
	n := min(max(1, max(int(q.mostBytes)/receiveParts, chargedBytes)/q.typical), int(q.batch))
	return ask{messages: n, bytes: n * q.typical * copies}
}

const (
	// receiveParts is into how many receives the room for what is received and not handed on is divided, at least.
	receiveParts = 8
	// chargedBytes of an answer are charged as one request by SQS.
	chargedBytes = 64 << 10
	// copies is how often a message is in memory while it is received: in the answer, decoded, and as a payload.
	copies = 3
	// typicalBefore is the size of a message that is planned with before the first one came.
	typicalBefore = 6 << 10
	// largestMessage is SQS's limit.
	largestMessage = 1 << 20
)

// learn adapts the size of a message that is planned with: up at once, down slowly. mu is held.
func (q *queue) learn(messages, bytes int) {
	if size := bytes / messages; size >= q.typical {
		q.typical = size
	} else {
		q.typical = max(1, q.typical-(q.typical-size+7)/8)
	}
}

// reserve waits until there is room for what a receive may bring, and returns what to ask for: nothing when stopping.
func (q *queue) reserve() ask {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.stopping && !q.hasRoom() {
		q.parked++
		q.room.Wait()
		q.parked--
	}
	if q.stopping {
		return ask{}
	}
	ask := q.nextAsk()
	q.asked += ask.messages
	q.askedBytes += ask.bytes
	return ask
}

// hasRoom reports whether one more receive may start. mu is locked.
func (q *queue) hasRoom() bool {
	// Acks that SQS doesn't take must not pile up without end.
	if len(q.held)-len(q.done) >= unsettledFactor*q.s.MaxInFlight {
		return false
	}
	next := q.nextAsk()
	switch {
	case q.waiting+q.asked == 0:
		return true
	case q.waiting-q.behind+q.asked+next.messages > q.budget && q.waiting-q.behind+q.asked > 0:
		return false
	case q.waiting+q.asked+next.messages > q.groupBudget:
		return false
	case int64(q.waitingBytes+q.askedBytes+next.bytes) > q.mostBytes:
		return false
	}
	return true
}

// makeRoom wakes a receive loop that there is room for again. mu is locked.
func (q *queue) makeRoom() {
	if q.parked > 0 && q.hasRoom() {
		q.room.Signal()
	}
}

// unsettledFactor times max_in_flight is the most that may be held in all, acks that are not confirmed included.
const unsettledFactor = 16

func (q *queue) receive(ctx context.Context, ask *ask, wait time.Duration, attempt string) ([]types.Message, error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	// An answer that has begun may take its time, one that doesn't come is an outage, which must be told soon.
	silent := time.AfterFunc(wait+answerTimeout, cancel)
	defer silent.Stop()
	// Sizes are learned, so that a first answer of large messages may be far larger than what room was kept for, in all
	// receives at the same time. What they then read at a time is bounded here.
	ctx = awsclient.WithRoom(ctx, func(ctx context.Context, length int64) error {
		silent.Stop()
		if length < 0 {
			length = int64(ask.messages) * largestMessage
		}
		if err := q.reading.enter(ctx, length); err != nil {
			return err
		}
		ask.read += length
		return nil
	})
	in := &sqs.ReceiveMessageInput{
		QueueUrl:                    &q.url,
		MaxNumberOfMessages:         int32(ask.messages),
		WaitTimeSeconds:             int32(wait / time.Second),
		MessageAttributeNames:       allAttributes,
		MessageSystemAttributeNames: systemAttributes[:3],
	}
	if q.fifo {
		in.MessageSystemAttributeNames = systemAttributes
		if attempt != "" {
			in.ReceiveRequestAttemptId = &attempt
		}
	}
	if q.askExplicit {
		in.VisibilityTimeout = seconds(q.visibility)
	}
	q.m.requests.WithLabelValues("ReceiveMessage").Inc()
	out, err := q.client.ReceiveMessage(ctx, in)
	switch {
	case err != nil && ctx.Err() != nil && parent.Err() == nil:
		return nil, fmt.Errorf("no answer within %s: %w", wait+answerTimeout, err)
	case err != nil:
		return nil, err
	}
	return sound(out.Messages)
}

// sound returns what can be handed on, and an error when something else came with it: a message without its id or
// receipt handle could never be deleted, and a body that differs from its checksum is not the one that was sent. Such
// are not messages: what is real comes back after its visibility timeout.
func sound(msgs []types.Message) (kept []types.Message, err error) {
	kept = msgs[:0]
	for i := range msgs {
		switch m := &msgs[i]; {
		case aws.ToString(m.MessageId) == "" || aws.ToString(m.ReceiptHandle) == "":
			err = errNoMessage
		case m.MD5OfBody != nil && !hasMD5(aws.ToString(m.Body), *m.MD5OfBody):
			err = errDamaged
		default:
			kept = append(kept, *m)
		}
	}
	return kept, err
}

func hasMD5(body, want string) bool {
	sum := md5.New() // the protocol's checksum, not a guard against anybody
	var part [1024]byte
	for len(body) > 0 { // in parts: a copy of a large body costs memory
		n := copy(part[:], body)
		_, _ = sum.Write(part[:n])
		body = body[n:]
	}
	return strings.EqualFold(hex.EncodeToString(sum.Sum(nil)), want)
}

var (
	errNoMessage = reason.New("the server answers with a message that has no id or no receipt handle: it doesn't speak SQS's protocol")
	errDamaged   = reason.New("the server answers with a body that differs from its checksum (MD5OfBody): something on the way changes it")
)

var (
	allAttributes    = []string{"All"}
	systemAttributes = []types.MessageSystemAttributeName{
		types.MessageSystemAttributeNameSentTimestamp,
		types.MessageSystemAttributeNameApproximateReceiveCount,
		types.MessageSystemAttributeNameAWSTraceHeader,
		types.MessageSystemAttributeNameMessageGroupId,
	}
)

// longestReceivePause bounds the wait between receives that fail, so that a queue that is back, or made again, is
// received from within seconds.
const longestReceivePause = 3 * time.Second

// failed notes that receiving fails and returns how long to wait.
func (q *queue) failed(err error) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopping {
		return 0
	}
	if q.failures++; q.failures == 1 {
		complaint.Warn(q.log, "receiving fails: trying on", zap.Error(err))
		q.failing = time.Now()
	}
	q.err = err
	pause := backoff(q.failures, 200*time.Millisecond, longestReceivePause)
	q.nextTry = time.Now().Add(pause)
	return pause
}

// noted notes the failure of a receive loop that leaves: the one that stays counts its own, so that what fails at the
// same moment in all is one failure.
func (q *queue) noted(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.stopping {
		q.err = err
	}
}

func (q *queue) worked() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failures > 0 {
		q.log.Info("receiving works again", zap.Int("failures", q.failures), zap.Duration("after", time.Since(q.failing).Round(time.Millisecond)))
	}
	q.failures, q.err, q.nextTry = 0, nil, time.Time{}
}
