package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// everySecond is a subscriber that hands on one message a second, and ends after that many.
type everySecond int

func (n everySecond) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for range int(n) {
			time.Sleep(time.Second)
			select {
			case out <- message.NewMessage("m", nil):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (everySecond) Close() error { return nil }

func TestEngine_aPipelineThatFailsLeavesTheOthersRunning(t *testing.T) {
	refused := errors.New("password refused")
	for name, broken := range map[string]*Pipeline{
		"a fatal error": {Source: FromSubscriber(everySecond(100), ""), Sink: SinkFunc(func(context.Context, *message.Message) error { return Fatal(refused) })},
		"at the start": {Source: FromSubscriber(everySecond(100), ""), Sink: BatchSinkFunc(
			func(context.Context, []*message.Message) []error { return nil },
			BatchSettings{Start: func(context.Context) error { return Fatal(refused) }})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := *broken
				bad.Name = "bad"
				good := &Pipeline{Name: "good", Source: FromSubscriber(everySecond(10), ""), Sink: SinkFunc(func(context.Context, *message.Message) error { return nil })}
				engine, err := New(Settings{}, &bad, good)
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- engine.Run(t.Context()) }()
				time.Sleep(5500 * time.Millisecond)
				health := engine.Health()
				if h := health[0]; h.Up || !strings.Contains(h.Reason, "failed: ") || !strings.Contains(h.Reason, "password refused") {
					t.Errorf("bad: %+v", h)
				}
				if h := health[1]; !h.Up {
					t.Errorf("good: %+v", h)
				}
				if err := <-done; err == nil || !strings.Contains(err.Error(), "pipeline bad: ") || strings.Contains(err.Error(), "good") {
					t.Errorf("run: %v", err)
				}
				if l := engine.Ledgers()[1]; l.Written != 10 {
					t.Errorf("good: %+v", l)
				}
			})
		})
	}
}
