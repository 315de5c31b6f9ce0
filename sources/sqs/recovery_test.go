package sqs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-dev/penstock/sources/sqs"
)

func TestSubscriber_goesOnAfterAnIdleTimeWithLittleRoom(t *testing.T) {
	for name, edit := range map[string]func(*sqs.Settings){
		"few in flight": func(s *sqs.Settings) { s.MaxInFlight = 25 },
		"few bytes":     func(s *sqs.Settings) { s.MaxInFlightBytes = 4 * 3 * 100 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(30 * time.Second)
				f.latency = 10 * time.Millisecond
				sub, msgs := subscribe(t, f, edit)
				for round := range 5 {
					f.send("", bodies(500)...)
					for i := range 500 {
						select {
						case msg := <-msgs:
							msg.Ack()
						case <-time.After(time.Minute):
							t.Fatalf("round %d: nothing comes after %d of 500 messages: no receive is open", round+1, i)
						}
					}
					time.Sleep(5 * time.Minute)
					if open := locked(f, func() int { return f.open }); open != 1 {
						t.Errorf("round %d: %d receives are open on the empty queue, want 1", round+1, open)
					}
				}
				closeSubscriber(t, sub)
			})
		})
	}
}
