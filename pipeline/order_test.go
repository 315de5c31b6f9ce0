package pipeline

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// oneByOne is a subscriber that hands on two messages, the second one as soon as somebody takes it.
type oneByOne struct {
	out   chan *message.Message
	taken atomic.Int64
}

func (s *oneByOne) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	s.out = make(chan *message.Message)
	go func() {
		defer close(s.out)
		for range 2 {
			msg := message.NewMessage("m", nil)
			s.out <- msg
			s.taken.Add(1)
		}
	}()
	return s.out, nil
}

func (s *oneByOne) Close() error { return nil }

func TestEngine_withOneInFlightTheNextIsReceivedWhenTheOneBeforeIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &oneByOne{}
		sink := SinkFunc(func(context.Context, *message.Message) error {
			time.Sleep(time.Second)
			return nil
		})
		engine, err := New(Settings{}, &Pipeline{Name: "x", Source: FromSubscriber(source, ""), Sink: sink, MaxInFlight: 1})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- engine.Run(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		if n := source.taken.Load(); n != 1 {
			t.Errorf("%d messages were received while the first was in flight, want 1: a released one would be overtaken", n)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if l := engine.Ledgers()[0]; l.Written != 2 {
			t.Errorf("%+v", l)
		}
	})
}
