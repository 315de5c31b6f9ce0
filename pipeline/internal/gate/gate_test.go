package gate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("away")

func TestGate_oneProbesThenTwiceAsManyWithEverySuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(64)
		defer g.Stop()
		g.Leave(0, errAway)
		if closed, _, cause := g.State(); !closed || !errors.Is(cause, errAway) {
			t.Fatalf("closed %v because of %v", closed, cause)
		}
		var now, most atomic.Int64
		var rounds []int64
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				p, _, err := g.Enter(t.Context())
				if err != nil {
					t.Error(err)
				}
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
				g.Leave(p, nil)
			})
		}
		for range 3 {
			time.Sleep(time.Second)
			rounds = append(rounds, most.Load())
		}
		wg.Wait()
		if rounds[0] != 1 || rounds[1] > 2 || rounds[2] > 8 {
			t.Errorf("at once after 1, 2, 3 seconds: %v, want 1 and then a gradual growth", rounds)
		}
		if g.shut.Load() {
			t.Error("still not open")
		}
	})
}

func TestGate_failedProbesComeLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(8)
		defer g.Stop()
		g.Leave(0, errAway)
		var waits []time.Duration
		for range 10 {
			begin := time.Now()
			p, held, err := g.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if held != time.Since(begin) {
				t.Errorf("held %s, waited %s", held, time.Since(begin))
			}
			waits = append(waits, held)
			g.Leave(p, errAway)
		}
		if waits[0] > firstProbe || waits[9] < lastProbe/2 || waits[9] > lastProbe {
			t.Errorf("waits %v", waits)
		}
	})
}

func TestGate_waiterThatGivesUpPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(8)
		defer g.Stop()
		g.Leave(0, errAway)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, _, err := g.Enter(ctx); err == nil {
					t.Error("entered with an ended context")
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		p, _, err := g.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g.Leave(p, nil)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.passing != 0 || g.waiting.Len() != 0 {
			t.Errorf("passing %d, waiting %d, want none", g.passing, g.waiting.Len())
		}
	})
}

func TestGate_passFromBeforeAnOpeningIsNotCountedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1) // opens with the first success
		defer g.Stop()
		g.Leave(0, errAway)
		first, _, _ := g.Enter(t.Context())
		g.Leave(first, nil)
		if g.shut.Load() {
			t.Fatal("not open after a success")
		}
		g.Leave(0, errAway)
		g.Leave(first, nil) // late, or twice: says nothing about now
		if closed, _, _ := g.State(); !closed {
			t.Error("a pass from before the last opening opened the gate")
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.passing != 0 {
			t.Errorf("passing %d, want 0", g.passing)
		}
	})
}

func TestGate_pingReopensOnlyWhatAPingClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(8)
		defer g.Stop()
		g.Suspend(errAway)
		time.Sleep(time.Hour)
		if closed, _, _ := g.State(); !closed {
			t.Error("opened by itself, with nobody to probe")
		}
		g.Resume()
		if g.shut.Load() {
			t.Error("not open after a ping")
		}

		g.Leave(0, errAway)
		g.Resume()
		if closed, _, _ := g.State(); !closed {
			t.Error("a ping opened what a message closed")
		}
	})
}

func TestGate_opensWithTheFirstSuccessWhenNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(64)
		defer g.Stop()
		g.Leave(0, errAway)
		p, _, err := g.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if g.Away() == nil {
			t.Error("back before anybody has asked")
		}
		g.Leave(p, nil)
		if g.shut.Load() || g.Away() != nil {
			t.Error("still shut: nobody would open it before the next message")
		}
	})
}
