package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/reason"
)

// SinkFunc makes a sink of a function. f stores one message and returns nil only when it is stored; it is called
// concurrently and may see duplicates. ctx is the message's: it ends with the attempt.
func SinkFunc(f func(ctx context.Context, msg *message.Message) error) Sink {
	return Sink{Publisher: sinkFunc(f)}
}

type sinkFunc func(ctx context.Context, msg *message.Message) error

func (f sinkFunc) Publish(_ string, msgs ...*message.Message) error {
	if len(msgs) == 1 {
		return f(msgs[0].Context(), msgs[0])
	}
	var errs []error
	for _, msg := range msgs {
		if err := f(msg.Context(), msg); err != nil {
			errs = append(errs, err)
		}
	}
	return Worst(errs...)
}

func (f sinkFunc) Close() error { return nil }

// Batch bounds the batches that a batching sink is given.
type Batch struct {
	// Most messages in a batch; at least 1.
	Count int `yaml:"count" default:"256" range:"1.." unit:"messages"`
	// Most bytes of payload in a batch. A single larger message is a batch of its own.
	Bytes ByteSize `yaml:"bytes" default:"1MiB" range:"1.."`
	// How long to wait for a batch to fill. With 0 a batch is whatever has gathered while the one before it was being
	// stored, so that a lone message is not delayed.
	Period time.Duration `yaml:"period" default:"0s" range:"0.."`
}

// Validate reports bounds that make no sense.
func (b Batch) Validate() error { return CheckTags(b) }

// BatchSettings is how [BatchSinkFunc] gathers batches. The zero value takes the defaults.
type BatchSettings struct {
	// Batch bounds each batch; zero fields mean 256 messages, 1 MiB, no waiting.
	Batch Batch
	// Workers is how many batches may be stored at once (one per connection, say); 0 means 1.
	Workers int
	// Timeout bounds one call of the function; 0 means 30 s.
	Timeout time.Duration
	// Observe, when set, is told the size of every batch before it is stored.
	Observe func(messages int)
	// Start, Ping and Close, when set, make the sink a [Starter], a [Pinger], and release what it holds.
	Start func(ctx context.Context) error
	Ping  func(ctx context.Context) error
	Close func() error
	// Report, when set, makes the sink a [Reporter].
	Report func() map[string]any
}

// BatchSinkFunc makes a sink of a function that stores a batch. The engine gathers concurrent messages into batches and
// calls f with 1 to Batch.Count of them; f returns one error per message, in their order (nil when it is stored), or
// a nil slice when all are. f must not keep the slice or the messages.
//
// ctx belongs to the batch, not to any of its messages: one message's timeout never cancels its neighbours. It ends
// when nobody waits for any of them any more.
func BatchSinkFunc(f func(ctx context.Context, msgs []*message.Message) []error, settings ...BatchSettings) Sink {
	var s BatchSettings
	if len(settings) > 0 {
		s = settings[0]
	}
	return Sink{Publisher: newBatcher(f, s)}
}

const (
	defaultBatchCount   = 256
	defaultBatchBytes   = 1 << 20
	defaultBatchTimeout = 30 * time.Second
)

// batcher is group commit: callers queue their messages and wait; each worker takes what has gathered, stores it in
// one call, and wakes the callers.
type batcher struct {
	f        func(ctx context.Context, msgs []*message.Message) []error
	settings BatchSettings

	mu      sync.Mutex
	queue   []*batchItem // FIFO; items whose caller has gone are skipped
	head    int
	idle    int // workers waiting on wake
	wake    *sync.Cond
	closing bool
	workers sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

// batchItem is one message on its way through a batch. done is buffered, so that a worker never waits for a caller.
type batchItem struct {
	msg  *message.Message
	done chan error

	// Guarded by batcher.mu:
	gone bool       // the caller stopped waiting
	call *batchCall // the call that stores it, once there is one
}

// batchCall is one call of the function. When all its callers have stopped waiting, nobody is left to store it for:
// it is cancelled. waiting is guarded by batcher.mu.
type batchCall struct {
	waiting int
	cancel  context.CancelFunc
}

func newBatcher(f func(context.Context, []*message.Message) []error, s BatchSettings) *batcher {
	if s.Batch.Count == 0 {
		s.Batch.Count = defaultBatchCount
	}
	if s.Batch.Bytes == 0 {
		s.Batch.Bytes = defaultBatchBytes
	}
	if s.Workers == 0 {
		s.Workers = 1
	}
	if s.Timeout == 0 {
		s.Timeout = defaultBatchTimeout
	}
	b := &batcher{f: f, settings: s}
	b.wake = sync.NewCond(&b.mu)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.workers.Add(s.Workers)
	for range s.Workers {
		go b.work()
	}
	return b
}

var errSinkClosed = reason.New("sink is closed")

// Publish waits until the messages are stored or their context ends. A message whose context ended may still be
// stored: sinks may see duplicates.
func (b *batcher) Publish(_ string, msgs ...*message.Message) error {
	if len(msgs) == 1 {
		item, err := b.enqueue(msgs[0])
		if err != nil {
			return err
		}
		return b.wait(item)
	}
	items := make([]*batchItem, 0, len(msgs))
	var errs []error
	for _, msg := range msgs {
		item, err := b.enqueue(msg)
		if err != nil {
			errs = append(errs, err)
			break
		}
		items = append(items, item)
	}
	for _, item := range items {
		if err := b.wait(item); err != nil {
			errs = append(errs, err)
		}
	}
	return Worst(errs...)
}

func (b *batcher) enqueue(msg *message.Message) (*batchItem, error) {
	item := &batchItem{msg: msg, done: make(chan error, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return nil, errSinkClosed
	}
	b.queue = append(b.queue, item)
	if b.idle > 0 {
		b.wake.Signal()
	}
	return item, nil
}

func (b *batcher) wait(item *batchItem) error {
	select {
	case err := <-item.done:
		return err
	case <-item.msg.Context().Done():
		b.mu.Lock()
		item.gone = true
		if call := item.call; call != nil {
			if call.waiting--; call.waiting == 0 {
				call.cancel()
			}
		}
		b.mu.Unlock()
		return item.msg.Context().Err()
	}
}

func (b *batcher) work() {
	defer b.workers.Done()
	var items []*batchItem
	var msgs []*message.Message
	for {
		items = b.take(items[:0])
		if len(items) == 0 {
			return
		}
		msgs = msgs[:0]
		for _, item := range items {
			msgs = append(msgs, item.msg)
		}
		b.store(items, msgs)
		clear(items)
		clear(msgs)
	}
}

func (b *batcher) store(items []*batchItem, msgs []*message.Message) {
	ctx, cancel := context.WithTimeout(b.ctx, b.settings.Timeout)
	defer cancel()
	call := &batchCall{cancel: cancel}
	b.mu.Lock()
	for _, item := range items {
		if !item.gone {
			item.call = call
			call.waiting++
		}
	}
	if call.waiting == 0 {
		cancel()
	}
	b.mu.Unlock()
	if b.settings.Observe != nil {
		b.settings.Observe(len(msgs))
	}
	errs, panicked := b.call(ctx, msgs)
	if panicked != nil {
		errs = nil
	}
	for i, item := range items {
		switch {
		case panicked != nil:
			item.done <- panicked
		case i < len(errs):
			item.done <- errs[i]
		default:
			item.done <- nil
		}
	}
}

// call turns a panic of the function into an error of its messages: a worker outlives it.
func (b *batcher) call(ctx context.Context, msgs []*message.Message) (errs []error, panicked error) {
	defer func() {
		if r := recover(); r != nil {
			panicked = newPanicError(r)
		}
	}()
	errs = b.f(ctx, msgs)
	if errs != nil && len(errs) != len(msgs) {
		return nil, Fatal(code.Mark(code.WrongBatchSink, reason.New("batch sink returned a wrong number of errors: want one per message")))
	}
	return errs, nil
}

// take blocks until there is something to store, then returns one batch; an empty one means that the sink is closed.
func (b *batcher) take(items []*batchItem) []*batchItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for len(b.queue) == b.head && !b.closing {
			b.idle++
			b.wake.Wait()
			b.idle--
		}
		if b.settings.Batch.Period > 0 && !b.closing && len(b.queue)-b.head < b.settings.Batch.Count {
			b.mu.Unlock()
			timer := time.NewTimer(b.settings.Batch.Period)
			select {
			case <-timer.C:
			case <-b.ctx.Done():
			}
			timer.Stop()
			b.mu.Lock()
		}
		bytes := 0
		for b.head < len(b.queue) && len(items) < b.settings.Batch.Count {
			item := b.queue[b.head]
			if !item.gone {
				bytes += len(item.msg.Payload)
				if len(items) > 0 && bytes > int(b.settings.Batch.Bytes) {
					break
				}
				items = append(items, item)
			}
			b.queue[b.head] = nil
			b.head++
		}
		if b.head*2 >= len(b.queue) {
			n := copy(b.queue, b.queue[b.head:])
			clear(b.queue[n:])
			b.queue, b.head = b.queue[:n], 0
		}
		if len(items) > 0 || b.closing && b.head == len(b.queue) {
			return items
		}
	}
}

func (b *batcher) Start(ctx context.Context) error {
	if b.settings.Start == nil {
		return nil
	}
	return b.settings.Start(ctx)
}

func (b *batcher) Ping(ctx context.Context) error {
	if b.settings.Ping == nil {
		return nil
	}
	return b.settings.Ping(ctx)
}

func (b *batcher) Report() map[string]any {
	if b.settings.Report == nil {
		return nil
	}
	return b.settings.Report()
}

// Close stores what is queued, waits for the workers, and releases what the sink holds.
func (b *batcher) Close() error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return nil
	}
	b.closing = true
	b.wake.Broadcast()
	b.mu.Unlock()
	b.workers.Wait()
	b.cancel()
	if b.settings.Close != nil {
		return b.settings.Close()
	}
	return nil
}
