// Package pipelinetest helps to test pipelines and their components: test doubles named by what they do, and checks of
// the ledger.
package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// CheckLedger fails the test when the counters of an ended pipeline don't add up: every delivery ends in exactly one of
// the four outcomes.
func CheckLedger(t testing.TB, l pipeline.Ledger) {
	t.Helper()
	if sum := l.Written + l.Filtered + l.Poisoned + l.Released; l.Received != sum {
		t.Errorf("ledger of %s does not add up: received %d, but written %d + filtered %d + poisoned %d + released %d = %d",
			l.Pipeline, l.Received, l.Written, l.Filtered, l.Poisoned, l.Released, sum)
	}
}

// Queue is a source in memory that behaves like a message queue: any number of messages are in flight, and a released
// one comes back after RedeliverAfter. It is safe for concurrent use; make one with [NewQueue].
type Queue struct {
	// RedeliverAfter is the delay before a released message comes back.
	RedeliverAfter time.Duration

	mu         sync.Mutex
	waiting    []*item
	deliveries map[string]int
	acked      map[string]int
	open       int // pushed and not acked
	finite     bool
	wake       chan struct{}
	draining   chan struct{}
	drainOnce  sync.Once
	out        chan *message.Message
	settling   sync.WaitGroup
	subscribed bool
	ended      chan struct{}
}

type item struct {
	id      string
	payload []byte
}

// NewQueue returns a queue that holds one message per payload, named "0", "1", …. A finite one ends when all are acked.
func NewQueue(finite bool, payloads ...string) *Queue {
	q := &Queue{
		deliveries: map[string]int{}, acked: map[string]int{}, finite: finite,
		wake: make(chan struct{}, 1), draining: make(chan struct{}), ended: make(chan struct{}),
		out: make(chan *message.Message),
	}
	q.Push(payloads...)
	return q
}

// Source returns the queue as a source.
func (q *Queue) Source() pipeline.Source { return pipeline.FromSubscriber(q, "queue") }

// Push adds messages.
func (q *Queue) Push(payloads ...string) {
	q.mu.Lock()
	for _, p := range payloads {
		q.waiting = append(q.waiting, &item{id: fmt.Sprint(len(q.deliveries)), payload: []byte(p)})
		q.deliveries[fmt.Sprint(len(q.deliveries))] = 0
		q.open++
	}
	q.mu.Unlock()
	q.signal()
}

// Acked returns how often the message was acked: the queue takes it out at the first time.
func (q *Queue) Acked(id string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.acked[id]
}

// Deliveries returns how often the message was handed on.
func (q *Queue) Deliveries(id string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.deliveries[id]
}

// Len returns how many messages are not acked.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open
}

// Subscribe hands on the messages; the topic is ignored. It may be called once.
func (q *Queue) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.subscribed {
		return nil, errors.New("queue is subscribed to already")
	}
	q.subscribed = true
	go q.deliver(ctx)
	return q.out, nil
}

func (q *Queue) deliver(ctx context.Context) {
	defer close(q.ended)
	defer close(q.out)
	for {
		q.mu.Lock()
		var next *item
		if len(q.waiting) > 0 {
			next = q.waiting[0]
		}
		over := q.finite && q.open == 0
		q.mu.Unlock()
		if over {
			return
		}
		if next == nil {
			select {
			case <-q.wake:
				continue
			case <-q.draining:
				return
			case <-ctx.Done():
				return
			}
		}
		msg := message.NewMessage(next.id, next.payload)
		select {
		case q.out <- msg:
			q.mu.Lock()
			q.waiting = q.waiting[1:]
			q.deliveries[next.id]++
			q.mu.Unlock()
			q.settling.Go(func() { q.settle(next, msg) })
		case <-q.draining:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (q *Queue) settle(it *item, msg *message.Message) {
	select {
	case <-msg.Acked():
		q.mu.Lock()
		q.acked[it.id]++
		q.open--
		q.mu.Unlock()
	case <-msg.Nacked():
		if q.RedeliverAfter > 0 {
			timer := time.NewTimer(q.RedeliverAfter)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-q.draining:
			}
		}
		q.mu.Lock()
		q.waiting = append(q.waiting, it)
		q.mu.Unlock()
	}
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Drain stops handing on; acks are still honoured.
func (q *Queue) Drain() { q.drainOnce.Do(func() { close(q.draining) }) }

// Close waits until everything handed on is settled.
func (q *Queue) Close() error {
	q.Drain()
	q.mu.Lock()
	subscribed := q.subscribed
	q.mu.Unlock()
	if subscribed {
		<-q.ended
	}
	q.settling.Wait()
	return nil
}

// Store is a sink in memory that remembers what it stored. It is safe for concurrent use; the zero value is ready.
type Store struct {
	// Before, when set, is called before a message is stored, with the number of this call (from 1): an error is returned
	// instead of storing.
	Before func(ctx context.Context, call int, msg *message.Message) error

	mu     sync.Mutex
	calls  int
	stored []string
	msgs   []*message.Message
	closed bool
}

// Sink returns the store as a sink.
func (s *Store) Sink() pipeline.Sink { return pipeline.FromPublisher(s, "store") }

// Publish stores the messages.
func (s *Store) Publish(_ string, msgs ...*message.Message) error {
	for _, msg := range msgs {
		s.mu.Lock()
		s.calls++
		call := s.calls
		s.mu.Unlock()
		if s.Before != nil {
			if err := s.Before(msg.Context(), call, msg); err != nil {
				return err
			}
		}
		s.mu.Lock()
		s.stored = append(s.stored, string(msg.Payload))
		s.msgs = append(s.msgs, msg.Copy())
		s.mu.Unlock()
	}
	return nil
}

// Close notes that the store was closed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Closed reports whether Close was called.
func (s *Store) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Calls returns how many messages were offered.
func (s *Store) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Payloads returns what was stored, in order.
func (s *Store) Payloads() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.stored...)
}

// Messages returns copies of the messages stored, in order.
func (s *Store) Messages() []*message.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*message.Message(nil), s.msgs...)
}
