// Package sqs is a Watermill subscriber for AWS SQS that is meant for production: it receives ten messages per
// request with many in flight, deletes in batches of ten, keeps everything that it holds invisible to others until it
// is settled, keeps the order of FIFO groups, and gives back what it didn't hand on when it stops.
package sqs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/pipeline"
)

// Client is what the subscriber asks of SQS; *sqs.Client of the AWS SDK is one. Calls must not be repeated by the
// client itself: the subscriber counts requests and does its own repeating.
type Client interface {
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// What a released message waits for.
const (
	// ReleaseBackoff makes it visible after a delay that doubles with every receive.
	ReleaseBackoff = "backoff"
	// ReleaseNow makes it visible at once.
	ReleaseNow = "now"
	// ReleaseLeave lets its visibility timeout run out.
	ReleaseLeave = "leave"
)

// Settings are what a [Subscriber] is made of. Zero fields take the defaults named here.
type Settings struct {
	// Topic is what [Subscriber.Start] checks: queue URLs or names, separated by commas.
	Topic string
	// Connect returns a client for a queue, given by URL or name, and the queue's URL. It may be called again after it
	// failed. Required.
	Connect func(ctx context.Context, queue string) (Client, string, error)
	// Closed, when set, is called when Close is through, to release what Connect opened.
	Closed func()
	// Consumers is the most receive requests at a time, over all queues of a subscription; every queue has at least one.
	// 0 means 10.
	Consumers int
	// BatchSize is the most messages per receive request, 1 to 10; 0 means 10.
	BatchSize int
	// WaitTime is how long a receive request waits for messages, in whole seconds up to 20 s. 0 means no waiting.
	WaitTime time.Duration
	// AckLinger is how long an ack may wait for others to be sent in one request.
	AckLinger time.Duration
	// VisibilityTimeout is for how long a message is hidden from others; it is extended at half its time. 0 means the
	// queue's own.
	VisibilityTimeout time.Duration
	// Release is ReleaseBackoff (the default), ReleaseNow or ReleaseLeave; ReleaseInitial (0: 1 s) and ReleaseMax
	// (0: 5 min) bound the backoff.
	Release                    string
	ReleaseInitial, ReleaseMax time.Duration
	// MaxInFlight and MaxInFlightBytes bound what is received and not handed on; 0 means 1024 and 64 MiB.
	MaxInFlight      int
	MaxInFlightBytes int64
	// Logger and Metrics may be nil.
	Logger  *zap.Logger
	Metrics prometheus.Registerer
}

func (s *Settings) setDefaults() {
	s.Consumers = orDefault(s.Consumers, 10)
	s.BatchSize = min(orDefault(s.BatchSize, maxBatch), maxBatch)
	s.MaxInFlight = orDefault(s.MaxInFlight, 1024)
	s.MaxInFlightBytes = orDefault(s.MaxInFlightBytes, 64<<20)
	s.BatchSize = min(s.BatchSize, s.MaxInFlight)
	s.ReleaseInitial = orDefault(s.ReleaseInitial, time.Second)
	s.ReleaseMax = orDefault(s.ReleaseMax, 5*time.Minute)
	s.Release = orDefault(s.Release, ReleaseBackoff)
	if s.Logger == nil {
		s.Logger = zap.NewNop()
	}
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

const (
	// maxBatch is SQS's limit of entries in a request.
	maxBatch = 10
	// pollGrace is how long running polls may go on after a stop: what SQS hands to a poll that was cancelled stays hidden
	// for its visibility timeout.
	pollGrace = 2 * time.Second
	// closeTimeout bounds the flush of acks and releases in Close.
	closeTimeout = 5 * time.Second
	// callTimeout bounds every request but a receive, which has its wait time on top.
	callTimeout = 10 * time.Second
	// answerTimeout is how long the answer to a receive may take to begin, beyond its wait time.
	answerTimeout = 5 * time.Second
)

var errStopped = errors.New("stopped")

// Subscriber consumes SQS queues. A topic is one or more queue URLs or names, separated by commas; queues are never
// created. It implements [message.Subscriber], [pipeline.Starter], [pipeline.Drainer], [pipeline.Receiver] and
// [pipeline.Reporter], and is
// safe for concurrent use.
//
// An ack deletes the message, within the ack linger; a nack makes it visible again as the release policy says. Both are
// honoured until Close. The context of a message ends when it is settled.
type Subscriber struct {
	settings Settings
	metrics  *metrics

	mu      sync.Mutex
	started map[string]*queue // made by Start, waiting for Subscribe
	queues  []*queue
	subs    sync.WaitGroup
	drained bool
	closed  chan struct{} // closed by the first Close when it is through
	closing bool
}

var (
	_ message.Subscriber = (*Subscriber)(nil)
	_ pipeline.Starter   = (*Subscriber)(nil)
	_ pipeline.Drainer   = (*Subscriber)(nil)
	_ pipeline.Receiver  = (*Subscriber)(nil)
	_ pipeline.Reporter  = (*Subscriber)(nil)
)

// New makes a subscriber. It does no I/O.
func New(settings Settings) *Subscriber {
	settings.setDefaults()
	return &Subscriber{
		settings: settings,
		metrics:  newMetrics(settings.Metrics),
		started:  map[string]*queue{},
		closed:   make(chan struct{}),
	}
}

// Start reaches the queues of Settings.Topic and makes a first receive from each, so that a wrong URL and a missing
// right are known before anything runs: these are [pipeline.Fatal]. A server that can't be reached is
// [pipeline.Unavailable]: Start may be called again then, or Subscribe, which goes on trying by itself.
func (s *Subscriber) Start(ctx context.Context) error {
	names := splitTopic(s.settings.Topic)
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		s.mu.Lock()
		q := s.started[name]
		if q == nil {
			q = newQueue(s, name, len(names))
			s.started[name] = q
			s.queues = append(s.queues, q)
		}
		s.mu.Unlock()
		wg.Go(func() { errs[i] = q.start(ctx) })
	}
	wg.Wait()
	// The worst comes first: it is what the engine looks at.
	for i, err := range errs {
		if err != nil && pipeline.IsFatal(err) {
			errs[0], errs[i] = errs[i], errs[0]
		}
	}
	return errors.Join(errs...)
}

// Subscribe receives from the queues of the topic until ctx ends, Drain or Close.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	names := splitTopic(topic)
	if len(names) == 0 {
		return nil, errors.New("subscribe: no queue in the topic")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, errStopped)
	}
	out := make(chan *message.Message)
	spare := new(atomic.Int64)
	spare.Store(int64(s.settings.Consumers - len(names)))
	var handing sync.WaitGroup
	for _, name := range names {
		q := s.started[name]
		if q == nil {
			q = newQueue(s, name, len(names))
			s.queues = append(s.queues, q)
		}
		delete(s.started, name)
		handing.Add(1)
		q.run(ctx, out, spare, handing.Done)
	}
	s.subs.Go(func() {
		handing.Wait()
		close(out)
	})
	return out, nil
}

// Drain stops receiving, gives back what was not handed on, and closes the message channels. Running receives have 2 s
// to return before they are cancelled; what they bring is given back. It doesn't wait for them: Close does.
func (s *Subscriber) Drain() {
	s.mu.Lock()
	s.drained = true
	queues := s.queues
	s.mu.Unlock()
	for _, q := range queues {
		q.drain()
	}
}

// Close drains, gives back what is not settled, and waits until every ack and release is sent, for 5 s at most: what is
// not deleted by then comes back. It returns an error when some do.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.closed
		return nil
	}
	s.closing = true
	s.mu.Unlock()
	defer close(s.closed)
	s.Drain()
	s.subs.Wait()
	s.mu.Lock()
	queues := s.queues
	s.mu.Unlock()
	errs := make([]error, len(queues))
	var wg sync.WaitGroup
	for i, q := range queues {
		wg.Go(func() { errs[i] = q.close() })
	}
	wg.Wait()
	if s.settings.Closed != nil {
		s.settings.Closed()
	}
	return errors.Join(errs...)
}

// Receiving returns the configured number of consumers while every queue can be received from, or the error that keeps
// one from it. Deletes that fail for five seconds are such an error.
func (s *Subscriber) Receiving() (int, error) {
	s.mu.Lock()
	queues, drained := s.queues, s.drained
	s.mu.Unlock()
	if drained {
		return 0, errStopped
	}
	for _, q := range queues {
		if err := q.health(); err != nil {
			return 0, err
		}
	}
	return s.settings.Consumers, nil
}

// NextTry returns when a queue that can't be received from is tried next; zero when all can be, or one is tried now.
func (s *Subscriber) NextTry() (next time.Time) {
	s.mu.Lock()
	queues := s.queues
	s.mu.Unlock()
	for _, q := range queues {
		q.mu.Lock()
		if !q.nextTry.IsZero() && (next.IsZero() || q.nextTry.Before(next)) {
			next = q.nextTry
		}
		q.mu.Unlock()
	}
	return next
}

func splitTopic(topic string) []string {
	var names []string
	for name := range strings.SplitSeq(topic, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}
