package sinks

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/outage"
	"github.com/penstock-dev/penstock/pipeline"
)

// FanOutConfig stores every message in several sinks, the legs, at the same time. It is a list of sinks:
//
//	sink:
//	  fan_out:
//	    - redis: {host: new}
//	    - file: {dir: recordings}
//
// A message is acknowledged when all legs have stored it. When some fail, the next attempts go to these alone: what a
// leg has stored, or will never take, is remembered for as long as the delivery lasts. The worst error decides: one
// that is fatal, then a leg that is away, then what can be tried again; a message goes to the poison queue when a leg
// will never take it and no other leg is left to be tried. As long as one leg is away, all wait for it.
//
// Order: with order: source on the pipeline the next message goes to the legs when all have the one before.
type FanOutConfig []pipeline.SinkSpec

// MinItems says that it needs a sink.
func (c *FanOutConfig) MinItems() int { return 1 }

// Validate reports broken rules.
func (c *FanOutConfig) Validate() error {
	if len(*c) == 0 {
		return code.Mark(code.Required, pipeline.Invalid("", "must have at least one sink"))
	}
	return nil
}

// NewSink makes the sink and its legs. Its Publisher is a [pipeline.Starter] and [pipeline.Pinger].
func (c *FanOutConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	if env.Logger == nil {
		env.Logger = zap.NewNop()
	}
	s := &fanOut{logger: env.Logger}
	for i, spec := range *c {
		if spec.Path == "" {
			spec.Path = fmt.Sprintf("%s[%d].%s", env.Path, i, spec.Name)
		}
		sink, err := spec.New(env)
		if err != nil {
			return pipeline.Sink{}, errors.Join(fmt.Errorf("%s: %w", spec.Path, err), s.Close())
		}
		s.legs = append(s.legs, &leg{Sink: sink, path: spec.Path, outage: outage.New(spec.Path)})
	}
	return pipeline.Sink{Publisher: s}, nil
}

type fanOut struct {
	logger *zap.Logger
	legs   []*leg
}

// Report returns the reports of the legs by their place in the file.
func (s *fanOut) Report() map[string]any {
	all := map[string]any{}
	for _, leg := range s.legs {
		if r, ok := leg.Publisher.(pipeline.Reporter); ok {
			if facts := r.Report(); len(facts) > 0 {
				all[leg.path] = facts
			}
		}
	}
	return all
}

// Outages tells the state of each leg, and of the parts of those that are made of sinks, too.
func (s *fanOut) Outages() []outage.Status {
	var all []outage.Status
	for _, l := range s.legs {
		all = append(all, l.outage.Status())
		if parts, ok := l.Publisher.(interface{ Outages() []outage.Status }); ok {
			all = append(all, parts.Outages()...)
		}
	}
	return all
}

type leg struct {
	pipeline.Sink
	path   string
	outage *outage.Component
	// needsMessage says that a message found the leg away.
	needsMessage atomic.Bool

	mu      sync.Mutex
	started bool
}

var (
	_ pipeline.Starter = (*fanOut)(nil)
	_ pipeline.Pinger  = (*fanOut)(nil)
)

// progress is what became of the messages of a delivery that not all legs have stored yet, by fingerprint of the
// messages: they are all that one Publish was given.
type progress struct {
	mu     sync.Mutex
	states map[uint64]*legStates
}

type legStates struct {
	stored []bool
	never  []error // permanent errors
}

// Publish stores the messages in every leg that does not have them yet, and waits for all.
func (s *fanOut) Publish(_ string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	p := pipeline.DeliveryValue(msgs[0].Context(), s, func() any { return new(progress) }).(*progress)
	p.mu.Lock()
	states := p.of(msgs)
	p.mu.Unlock()

	errs := make([]error, len(s.legs))
	var running sync.WaitGroup
	last := -1 // runs here, with the originals
	for i := range s.legs {
		if states != nil && (states.stored[i] || states.never[i] != nil) {
			continue
		}
		if last >= 0 {
			own := copies(msgs)
			running.Go(func(i int) func() { return func() { errs[i] = s.publish(i, own) } }(last))
		}
		last = i
	}
	if last >= 0 {
		errs[last] = s.publish(last, msgs)
	}
	running.Wait()

	failed := false
	for _, err := range errs {
		failed = failed || err != nil
	}
	if !failed && states == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if states == nil {
		states = p.remember(msgs, len(s.legs))
	}
	for i, err := range errs {
		switch {
		case states.never[i] != nil:
			errs[i] = states.never[i]
		case err == nil:
			states.stored[i] = true
		case pipeline.IsPermanent(err):
			states.never[i] = err
		}
	}
	return pipeline.Worst(errs...)
}

// copies gives a leg messages of its own: a publisher may change a message's metadata, and legs run side by side.
func copies(msgs []*message.Message) []*message.Message {
	own := make([]*message.Message, len(msgs))
	for i, msg := range msgs {
		own[i] = msg.CopyWithContext()
	}
	return own
}

// publish turns a panic of the leg into an error of its messages: in a goroutine of our own nobody else would.
func (s *fanOut) publish(i int, msgs []*message.Message) (err error) {
	l := s.legs[i]
	defer func() {
		if r := recover(); r != nil {
			complaint.Error(s.logger, "panic", zap.String("at", l.path), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			err = pipeline.Permanent(fmt.Errorf("%s: panic: %v", l.path, r))
		}
	}()
	if err := l.note(l.Publisher.Publish(l.Topic, msgs...), true); err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	return nil
}

// note keeps whether the leg is there. What a message has found away, only a message finds there again: a backend may
// answer pings and fail what matters.
func (l *leg) note(err error, message bool) error {
	switch {
	case pipeline.IsUnavailable(err):
		if message {
			l.needsMessage.Store(true)
		}
		l.outage.Failed(err)
	case err == nil && (message || !l.needsMessage.Load()):
		l.needsMessage.Store(false)
		l.outage.Worked()
	}
	return err
}

// of returns what is remembered of these messages, or nil.
func (p *progress) of(msgs []*message.Message) *legStates {
	if len(p.states) == 0 {
		return nil
	}
	return p.states[fingerprint(msgs)]
}

func (p *progress) remember(msgs []*message.Message, legs int) *legStates {
	if p.states == nil {
		p.states = make(map[uint64]*legStates)
	}
	states := &legStates{stored: make([]bool, legs), never: make([]error, legs)}
	p.states[fingerprint(msgs)] = states
	return states
}

var seed = maphash.MakeSeed()

// fingerprint tells messages apart that come out of one delivery, should its transforms not return the same ones
// every time.
func fingerprint(msgs []*message.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var length [8]byte
	for _, msg := range msgs {
		for i := range length {
			length[i] = byte(len(msg.Payload) >> (8 * i))
		}
		_, _ = h.Write(length[:])
		_, _ = h.Write(msg.Payload)
		_, _ = h.WriteString(msg.UUID)
	}
	return h.Sum64()
}

// Start starts the legs that are not started yet. One that is not there is [pipeline.Unavailable] unless another is
// worse.
func (s *fanOut) Start(ctx context.Context) error {
	return s.each(func(l *leg) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		starter, ok := l.Publisher.(pipeline.Starter)
		if !ok {
			return l.note(nil, false)
		}
		if l.started {
			return nil
		}
		err := l.note(starter.Start(ctx), false)
		l.started = err == nil
		if err != nil && !pipeline.IsUnavailable(err) {
			err = pipeline.Fatal(err) // as it is for a sink that stands alone
		}
		return err
	})
}

// Ping asks all legs; it fails when one fails.
func (s *fanOut) Ping(ctx context.Context) error {
	return s.each(func(l *leg) error {
		if pinger, ok := l.Publisher.(pipeline.Pinger); ok {
			return l.note(pinger.Ping(ctx), false)
		}
		return nil
	})
}

// Close closes all legs.
func (s *fanOut) Close() error {
	return s.each(func(l *leg) error { return l.Publisher.Close() })
}

// each calls f for all legs at the same time.
func (s *fanOut) each(f func(*leg) error) error {
	errs := make([]error, len(s.legs))
	var running sync.WaitGroup
	for i, l := range s.legs {
		running.Go(func() {
			if err := f(l); err != nil {
				errs[i] = fmt.Errorf("%s: %w", l.path, err)
			}
		})
	}
	running.Wait()
	return pipeline.Worst(errs...)
}
