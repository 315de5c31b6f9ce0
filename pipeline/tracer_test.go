package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

type spanKey struct{}

// tracer writes down what it is told, by payload.
type tracer struct {
	mu  sync.Mutex
	log map[string][]string
}

type span struct {
	*tracer
	name string
}

func (t *tracer) note(name, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log[name] = append(t.log[name], fmt.Sprintf(format, args...))
}

func (t *tracer) Start(ctx context.Context, name string, received time.Time, msg *message.Message) (context.Context, pipeline.Trace) {
	if received.IsZero() || name != "traced" {
		t.note(string(msg.Payload), "bad start")
	}
	s := &span{t, string(msg.Payload)}
	return context.WithValue(ctx, spanKey{}, s.name), s
}

func (s *span) Publish(ctx context.Context, stage string) (context.Context, func(error)) {
	s.note(s.name, "publish %s", stage)
	return context.WithValue(ctx, spanKey{}, s.name+"/publish"), func(err error) { s.note(s.name, "published: %v", err) }
}

func (s *span) Failed(err error) { s.note(s.name, "failed: %v", err) }

func (s *span) End(r pipeline.TraceResult) {
	s.note(s.name, "end %s after %d: %v", r.Outcome, r.Attempts, r.Err)
}

func TestTracer_followsEveryDelivery(t *testing.T) {
	tr := &tracer{log: map[string][]string{}}
	queue := pipelinetest.NewQueue(true, "stored", "filtered", "permanent", "panic", "again")
	poison := pipeline.SinkFunc(func(context.Context, *message.Message) error { return nil })
	failedOnce := false
	engine, err := pipeline.New(pipeline.Settings{Tracer: tr}, &pipeline.Pipeline{
		Name: "traced", Source: pipeline.FromSubscriber(queue, "q"), PoisonQueue: &poison,
		Retry: pipeline.RetryConfig{InitialInterval: time.Millisecond},
		Transforms: []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
			if got := msg.Context().Value(spanKey{}); got != string(msg.Payload) {
				t.Errorf("a transform sees the span %v of %s", got, msg.Payload)
			}
			if string(msg.Payload) == "filtered" {
				return nil, nil
			}
			return []*message.Message{msg}, nil
		}},
		Sink: pipeline.SinkFunc(func(ctx context.Context, msg *message.Message) error {
			if got := ctx.Value(spanKey{}); got != string(msg.Payload)+"/publish" {
				t.Errorf("the sink sees the span %v of %s", got, msg.Payload)
			}
			switch name := string(msg.Payload); {
			case name == "permanent":
				return pipeline.Permanent(errors.New("never"))
			case name == "panic":
				panic("oh")
			case name == "again" && !failedOnce:
				failedOnce = true
				return errors.New("not yet")
			}
			return nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"stored":    {"publish sink", "published: <nil>", "end written after 1: <nil>"},
		"filtered":  {"end filtered after 1: <nil>"},
		"permanent": {"publish sink", "published: sink: never", "failed: sink: never", "end poisoned after 1: sink: never"},
		"panic":     {"publish sink", "published: sink: panic: oh", "failed: sink: panic: oh", "end poisoned after 1: sink: panic: oh"},
		"again":     {"publish sink", "published: sink: not yet", "failed: sink: not yet", "publish sink", "published: <nil>", "end written after 2: <nil>"},
	} {
		if got := tr.log[name]; !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, want)
		}
	}
}
