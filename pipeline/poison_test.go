package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/penstock-dev/penstock/pipeline"
)

func TestPoisonQueue_thatIsAwayHoldsWhatIsToBePoisonedAndNothingElse(t *testing.T) {
	const bad, good = 50, 20
	var full atomic.Bool
	var tries, written atomic.Int64
	full.Store(true)
	poison := pipeline.SinkFunc(func(context.Context, *message.Message) error {
		if tries.Add(1); full.Load() {
			return pipeline.Unavailable(errors.New("no space is left"))
		}
		return nil
	})
	channel := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 100}, watermill.NopLogger{})
	e, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "p", Source: pipeline.FromSubscriber(channel, "in"), PoisonQueue: &poison,
		Retry: pipeline.RetryConfig{MaxAttempts: 2, MaxElapsedTime: 50 * time.Millisecond},
		Sink: pipeline.SinkFunc(func(_ context.Context, m *message.Message) error {
			if string(m.Payload) == "bad" {
				return pipeline.Permanent(errors.New("bad"))
			}
			written.Add(1)
			return nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	publish := func(n int, body string) {
		for i := range n {
			if err := channel.Publish("in", message.NewMessage(fmt.Sprint(body, i), []byte(body))); err != nil {
				t.Fatal(err)
			}
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s; %+v, %+v", what, e.Ledgers()[0], e.Health()[0])
			}
		}
	}
	begin := time.Now()
	publish(bad, "bad")
	until("all wait", func() bool { w := e.Health()[0].PoisonWaiting; return w != nil && w.Messages == bad })
	publish(good, "good")
	until("the good ones are written", func() bool { return written.Load() == good })
	time.Sleep(time.Second) // long beyond the retry budget
	w, h, l := e.Health()[0].PoisonWaiting, e.Health()[0], e.Ledgers()[0]
	if w == nil || w.Messages != bad || w.Bytes != 3*bad || w.Reason != "no space is left" || w.Since.Before(begin) || !h.Up {
		t.Errorf("health %+v, waiting %+v", h, w)
	}
	if l.Received != bad+good || l.Released != 0 || l.Poisoned != 0 {
		t.Errorf("a receive was spent: %+v", l)
	}
	if n := tries.Load(); n > bad+10 {
		t.Errorf("%d tries in a second of %d messages: one probes, not all", n, bad)
	}
	full.Store(false)
	until("all are poisoned", func() bool { return e.Ledgers()[0].Poisoned == bad })
	until("nothing waits", func() bool { return e.Health()[0].PoisonWaiting == nil })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if l := e.Ledgers()[0]; l.Released != 0 || l.Received != bad+good {
		t.Errorf("in the end: %+v", l)
	}
	_ = channel.Close()
}

func TestPoisonQueue_thatIsAwayAtTheStopReleasesWhatWaits(t *testing.T) {
	poison := pipeline.SinkFunc(func(context.Context, *message.Message) error {
		return pipeline.Unavailable(errors.New("no space is left"))
	})
	channel := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 100}, watermill.NopLogger{})
	e, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "p", Source: pipeline.FromSubscriber(channel, "in"), PoisonQueue: &poison, ShutdownTimeout: 5 * time.Second,
		Sink: pipeline.SinkFunc(func(context.Context, *message.Message) error { return pipeline.Permanent(errors.New("bad")) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	if err := channel.Publish("in", message.NewMessage("1", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	for e.Health()[0].PoisonWaiting == nil {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if l := e.Ledgers()[0]; l.Released != 1 || l.Poisoned != 0 || time.Since(begin) > 3*time.Second {
		t.Errorf("%+v after %s", l, time.Since(begin))
	}
	_ = channel.Close()
}
