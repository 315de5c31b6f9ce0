package sqs_test

import (
	"context"
	"crypto/md5"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/sources/sqs"
)

// fake is an SQS queue in memory, on the clock of the test's bubble. It is strict where SQS is lenient: only the
// newest receipt handle of a message that is hidden is good. It gives a receive up to ten messages, several of a
// group included, none of a FIFO group while one of the group is hidden, and the same again for the same attempt id.
type fake struct {
	fifo       bool
	visibility time.Duration
	latency    time.Duration // of every request
	sums       bool          // whether it tells the MD5 of bodies

	// fail, when set, decides about a request before it takes effect; failEntry about one entry of a batch.
	fail      func(action string) error
	failEntry func(action, body string) string // an error code, or ""
	// hang, when set, tells which requests get no answer.
	hang func(action string) bool
	// lose, when set, tells which responses are lost on their way, after the request took effect.
	lose func(action string) bool
	// changing, when set, sees every change of visibility.
	changing func(body string, timeout time.Duration)

	mu       sync.Mutex
	messages []*fakeMessage
	sent     int
	handles  int
	changed  chan struct{}
	requests map[string]int
	open     int // receives
	mostOpen int
	entries  map[string]int // of batches
	stale    int            // deletes with an outdated handle
	receives int            // messages handed out
	attempts map[string][]types.Message
	byHandle map[string]*fakeMessage // the newest handles
}

type fakeMessage struct {
	id, body, group string
	sent            time.Time
	visibleAt       time.Time
	first           time.Time // receipt of the newest handle
	handle          string
	count           int
}

func newFake(visibility time.Duration) *fake {
	return &fake{visibility: visibility, changed: make(chan struct{}), requests: map[string]int{}, entries: map[string]int{}, attempts: map[string][]types.Message{}, byHandle: map[string]*fakeMessage{}}
}

func (f *fake) settings() sqs.Settings {
	return sqs.Settings{
		Connect:  func(_ context.Context, queue string) (sqs.Client, string, error) { return f, queue, nil },
		WaitTime: 20 * time.Second, AckLinger: 20 * time.Millisecond,
	}
}

// topic is a name that fits.
func (f *fake) topic() string {
	if f.fifo {
		return "https://sqs.eu-west-1.amazonaws.com/1/q.fifo"
	}
	return "https://sqs.eu-west-1.amazonaws.com/1/q"
}

func (f *fake) send(group string, bodies ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, body := range bodies {
		f.sent++
		f.messages = append(f.messages, &fakeMessage{id: fmt.Sprintf("id-%d", f.sent), body: body, group: group, sent: time.Now()})
	}
	f.wake()
}

// again makes the messages visible as if their timeouts had run out; receives then hand them out a second time.
func (f *fake) again(bodies ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.messages {
		for _, body := range bodies {
			if m.body == body {
				m.visibleAt = time.Time{}
			}
		}
	}
	f.wake()
}

func (f *fake) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.messages)
}

// visibleIn returns how long until the message is visible.
func (f *fake) visibleIn(body string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.messages {
		if m.body == body {
			return max(0, time.Until(m.visibleAt))
		}
	}
	return -1
}

func (f *fake) count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[action]
}

func (f *fake) received() int { return locked(f, func() int { return f.receives }) }

func (f *fake) lateDeletes() int { return locked(f, func() int { return f.stale }) }

// peak is the most receives that were open at a time.
func (f *fake) peak() int { return locked(f, func() int { return f.mostOpen }) }

// locked reads something of f.
func locked[T any](f *fake, read func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return read()
}

// wake wants f.mu locked.
func (f *fake) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) begin(ctx context.Context, action string, entries int) error {
	f.mu.Lock()
	f.requests[action]++
	f.entries[action] += entries
	fail := f.fail
	f.mu.Unlock()
	if f.latency > 0 {
		select {
		case <-time.After(f.latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.hang != nil && f.hang(action) {
		<-ctx.Done()
		return ctx.Err()
	}
	if fail != nil {
		return fail(action)
	}
	return nil
}

func (f *fake) end(action string) error {
	if f.lose != nil && f.lose(action) {
		return fmt.Errorf("read response: unexpected EOF")
	}
	return nil
}

func apiError(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "scripted"}
}

func (f *fake) GetQueueAttributes(ctx context.Context, _ *awssqs.GetQueueAttributesInput, _ ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error) {
	if err := f.begin(ctx, "GetQueueAttributes", 0); err != nil {
		return nil, err
	}
	return &awssqs.GetQueueAttributesOutput{Attributes: map[string]string{
		"VisibilityTimeout": strconv.Itoa(int(f.visibility / time.Second)), "ApproximateNumberOfMessages": strconv.Itoa(f.left()),
	}}, f.end("GetQueueAttributes")
}

func (f *fake) ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, _ ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	f.mu.Lock()
	f.open++
	f.mostOpen = max(f.mostOpen, f.open)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	if err := f.begin(ctx, "ReceiveMessage", 0); err != nil {
		return nil, err
	}
	visibility := f.visibility
	if in.VisibilityTimeout > 0 {
		visibility = time.Duration(in.VisibilityTimeout) * time.Second
	}
	deadline := time.Now().Add(time.Duration(in.WaitTimeSeconds) * time.Second)
	for {
		f.mu.Lock()
		out, repeated := f.attempts[aws.ToString(in.ReceiveRequestAttemptId)]
		if !repeated {
			out = f.take(int(in.MaxNumberOfMessages), visibility)
			if len(out) > 0 && in.ReceiveRequestAttemptId != nil {
				f.attempts[*in.ReceiveRequestAttemptId] = out
			}
		}
		changed, next := f.changed, f.nextVisible()
		f.mu.Unlock()
		if len(out) > 0 || !time.Now().Before(deadline) {
			return &awssqs.ReceiveMessageOutput{Messages: out}, f.end("ReceiveMessage")
		}
		if next.IsZero() || next.After(deadline) {
			next = deadline
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// nextVisible wants f.mu locked.
func (f *fake) nextVisible() time.Time {
	var next time.Time
	for _, m := range f.messages {
		if m.visibleAt.After(time.Now()) && (next.IsZero() || m.visibleAt.Before(next)) {
			next = m.visibleAt
		}
	}
	return next
}

// take wants f.mu locked.
func (f *fake) take(most int, visibility time.Duration) []types.Message {
	now := time.Now()
	blocked := map[string]bool{}
	if f.fifo {
		for _, m := range f.messages {
			if m.visibleAt.After(now) {
				blocked[m.group] = true
			}
		}
	}
	var out []types.Message
	for _, m := range f.messages {
		if len(out) == most {
			break
		}
		if m.visibleAt.After(now) || blocked[m.group] {
			continue
		}
		f.handles++
		delete(f.byHandle, m.handle)
		f.byHandle["handle-"+strconv.Itoa(f.handles)] = m
		m.handle, m.first, m.visibleAt = "handle-"+strconv.Itoa(f.handles), now, now.Add(visibility)
		m.count++
		f.receives++
		attributes := map[string]string{
			"SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10), "ApproximateReceiveCount": strconv.Itoa(m.count),
		}
		if m.group != "" {
			attributes["MessageGroupId"] = m.group
		}
		message := types.Message{MessageId: aws.String(m.id), ReceiptHandle: aws.String(m.handle), Body: aws.String(m.body), Attributes: attributes}
		if f.sums {
			message.MD5OfBody = aws.String(fmt.Sprintf("%x", md5.Sum([]byte(m.body))))
		}
		out = append(out, message)
	}
	return out
}

// find returns the hidden message of a handle, or nil. It wants f.mu locked.
func (f *fake) find(handle string) *fakeMessage {
	if m := f.byHandle[handle]; m != nil && m.visibleAt.After(time.Now()) {
		return m
	}
	return nil
}

func failedEntry(id *string, code string) types.BatchResultErrorEntry {
	return types.BatchResultErrorEntry{Id: id, Code: aws.String(code), SenderFault: true}
}

func (f *fake) DeleteMessageBatch(ctx context.Context, in *awssqs.DeleteMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	if err := f.begin(ctx, "DeleteMessageBatch", len(in.Entries)); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &awssqs.DeleteMessageBatchOutput{}
	for _, e := range in.Entries {
		m := f.find(*e.ReceiptHandle)
		switch {
		case m == nil:
			f.stale++
			out.Failed = append(out.Failed, failedEntry(e.Id, "ReceiptHandleIsInvalid"))
			continue
		case f.failEntry != nil:
			if code := f.failEntry("DeleteMessageBatch", m.body); code != "" {
				out.Failed = append(out.Failed, failedEntry(e.Id, code))
				continue
			}
		}
		i := slices.Index(f.messages, m)
		f.messages = append(f.messages[:i], f.messages[i+1:]...)
		delete(f.byHandle, m.handle)
		out.Successful = append(out.Successful, types.DeleteMessageBatchResultEntry{Id: e.Id})
	}
	f.wake()
	return out, f.end("DeleteMessageBatch")
}

func (f *fake) ChangeMessageVisibilityBatch(ctx context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, _ ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
	if err := f.begin(ctx, "ChangeMessageVisibilityBatch", len(in.Entries)); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &awssqs.ChangeMessageVisibilityBatchOutput{}
	for _, e := range in.Entries {
		m := f.find(*e.ReceiptHandle)
		timeout := time.Duration(e.VisibilityTimeout) * time.Second
		switch {
		case m == nil:
			out.Failed = append(out.Failed, failedEntry(e.Id, "InvalidParameterValue"))
			continue
		case time.Since(m.first)+timeout > 12*time.Hour:
			out.Failed = append(out.Failed, failedEntry(e.Id, "InvalidParameterValue"))
			continue
		case f.failEntry != nil:
			if code := f.failEntry("ChangeMessageVisibilityBatch", m.body); code != "" {
				out.Failed = append(out.Failed, failedEntry(e.Id, code))
				continue
			}
		}
		if f.changing != nil {
			f.changing(m.body, timeout)
		}
		m.visibleAt = time.Now().Add(timeout)
		out.Successful = append(out.Successful, types.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
	}
	f.wake()
	return out, f.end("ChangeMessageVisibilityBatch")
}
