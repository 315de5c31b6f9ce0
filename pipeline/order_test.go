package pipeline

import (
	"context"
	"errors"
	"strings"
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

// A message of several parts, such as an array of events, is poisoned whole when one part is bad, and the reason says
// which.
func TestEngine_ofAMessageInPartsTheBadOneIsNamedAndNoneIsWritten(t *testing.T) {
	var written atomic.Int64
	var told atomic.Value
	poison := SinkFunc(func(_ context.Context, msg *message.Message) error {
		told.Store(msg.Metadata.Get(MetadataPoisonReason))
		return nil
	})
	engine, err := New(Settings{}, &Pipeline{
		Name: "x", Source: FromSubscriber(&oneByOne{}, ""), MaxInFlight: 1, PoisonQueue: &poison,
		Transforms: []Transform{
			func(msg *message.Message) ([]*message.Message, error) {
				return []*message.Message{msg, msg.Copy(), message.NewMessage("bad", nil)}, nil
			},
			func(msg *message.Message) ([]*message.Message, error) {
				if msg.UUID == "bad" {
					return nil, Permanent(errors.New("no event"))
				}
				return []*message.Message{msg}, nil
			},
		},
		Sink: SinkFunc(func(context.Context, *message.Message) error { written.Add(1); return nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := engine.Ledgers()[0]
	if l.Poisoned != 2 || l.Written != 0 || written.Load() != 0 {
		t.Errorf("%+v, %d parts written; want both messages poisoned and no part written", l, written.Load())
	}
	if got, _ := told.Load().(string); !strings.Contains(got, "part 3 of 3: no event") {
		t.Errorf("the reason is %q", got)
	}
}
