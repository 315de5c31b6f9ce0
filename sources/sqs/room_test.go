package sqs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestRoom_boundsWhatIsReadAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := room{most: 10}
		ctx := t.Context()
		for _, n := range []int64{6, 4} {
			if err := r.enter(ctx, n); err != nil {
				t.Fatal(err)
			}
		}
		in := make(chan int64, 2)
		for _, n := range []int64{5, 30} {
			go func() {
				if r.enter(ctx, n) == nil {
					in <- n
				}
			}()
			synctest.Wait()
		}
		r.leave(4)
		synctest.Wait()
		if len(in) != 0 {
			t.Fatal("4 are free: neither 5 nor 30 fit")
		}
		r.leave(6)
		synctest.Wait()
		if len(in) != 1 {
			t.Fatalf("%d are in, want one of 5 and 30", len(in))
		}
		r.leave(<-in)
		synctest.Wait()
		if len(in) != 1 {
			t.Fatal("nothing else is in: the other one fits, even if it is the one of 30")
		}
		r.leave(<-in)
		if err := r.enter(ctx, 10); err != nil {
			t.Error("all was given back:", err)
		}
	})
}

func TestRoom_waitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := room{most: 10}
		if err := r.enter(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.enter(ctx, 1) }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want the context's error", err)
		}
		if r.taken != 10 {
			t.Errorf("%d are taken, want 10: who didn't get in takes nothing", r.taken)
		}
	})
}

func TestQueue_asksForWhatThereIsRoomFor(t *testing.T) {
	q := newQueue(New(Settings{MaxInFlightBytes: 64 << 20}), "q", 1) // 16 MiB for what is received
	asks := func(want int) {
		t.Helper()
		if got := q.nextAsk().messages; got != want {
			t.Errorf("with messages of %d bytes it asks for %d, want %d", q.typical, got, want)
		}
	}
	asks(10)
	q.learn(10, 10*1500)
	asks(10)
	q.learn(10, 10*995_000)
	asks(2)
	for range 20 {
		q.learn(10, 10*1500) // small ones again
	}
	asks(10)

	small := newQueue(New(Settings{MaxInFlightBytes: 1000}), "q", 1)
	small.learn(1, 1<<20)
	if got := small.nextAsk().messages; got != 1 {
		t.Errorf("it asks for %d, want 1: never nothing", got)
	}
}
