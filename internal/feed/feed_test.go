package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// count makes n messages with the payloads "1", "2", …
func count(n int) func() (Item, error) {
	i := 0
	return func() (Item, error) {
		if i == n {
			return Item{}, io.EOF
		}
		i++
		return Item{Message: message.NewMessage(strconv.Itoa(i), []byte(strconv.Itoa(i))), File: "f", Line: int64(i)}, nil
	}
}

func subscribe(t *testing.T, f *Feed) <-chan *message.Message {
	t.Helper()
	out, err := f.Subscribe(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return out
}

func TestFeed_closesItsChannelWhenAllIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Settings{Next: count(3)})
		out := subscribe(t, f)
		var held []*message.Message
		for range 3 {
			held = append(held, <-out)
		}
		for i := 2; i >= 0; i-- {
			synctest.Wait()
			select {
			case msg, ok := <-out:
				t.Fatalf("got %v, %v with %d unsettled", msg, ok, i+1)
			default:
			}
			held[i].Ack()
		}
		if _, ok := <-out; ok {
			t.Fatal("more messages than there are")
		}
		if n, first := f.Unresolved(); n != 0 || len(first) != 0 {
			t.Errorf("unresolved: %d %v", n, first)
		}
		if f.Handed() != 3 {
			t.Errorf("handed on: %d", f.Handed())
		}
	})
}

func TestFeed_offersNackedMessagesAgainUntilTheirBudgetIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Settings{Next: count(20), Redeliveries: 2})
		seen := make(map[string]int)
		for msg := range subscribe(t, f) {
			payload := string(msg.Payload)
			if msg.UUID != payload {
				t.Errorf("message %s came back as %s", payload, msg.UUID)
			}
			seen[payload]++
			n, _ := strconv.Atoi(payload)
			switch {
			case n == 7 && seen[payload] == 3: // the last chance
				msg.Ack()
			case n > 5:
				msg.Nack()
			default:
				msg.Ack()
			}
		}
		for n := 1; n <= 20; n++ {
			want := 3
			if n <= 5 {
				want = 1
			}
			if got := seen[strconv.Itoa(n)]; got != want {
				t.Errorf("message %d was offered %d times, want %d", n, got, want)
			}
		}
		n, first := f.Unresolved()
		if n != 14 || len(first) != 10 {
			t.Fatalf("unresolved: %d %v", n, first)
		}
		for _, place := range first {
			if place == "f:7" {
				t.Error("names a message that was written")
			}
		}
	})
}

func TestFeed_staysBoundedBehindAMessageThatTakesItsTime(t *testing.T) {
	const n = 10 * minSweep
	f := New(Settings{Next: count(n), Redeliveries: 1})
	out := subscribe(t, f)
	slow := <-out
	nacked := make(map[string]bool)
	for range n - 1 + n/1000 {
		msg := <-out
		if line, _ := strconv.Atoi(msg.UUID); line%1000 == 0 && !nacked[msg.UUID] {
			nacked[msg.UUID] = true
			msg.Nack()
			continue
		}
		msg.Ack()
		f.mu.Lock()
		if held := len(f.watched); held > 2*minSweep {
			t.Fatalf("holds %d messages with 1 unsettled", held)
		}
		f.mu.Unlock()
	}
	slow.Ack()
	if _, ok := <-out; ok {
		t.Error("more messages than there are")
	}
}

func TestFeed_drainTakesBackWhatWasNotHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Settings{Next: count(100), Redeliveries: 3})
		out := subscribe(t, f)
		msg := <-out
		synctest.Wait()
		f.Drain()
		if _, ok := <-out; ok {
			t.Error("handed on after the drain")
		}
		// A stop releases what is in flight: that is not the message's fault.
		msg.Nack()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if n, _ := f.Unresolved(); n != 0 {
			t.Errorf("counts %d messages as given up", n)
		}
	})
}

func TestFeed_stopsWithTheContextOfItsSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Settings{Next: count(100)})
		ctx, cancel := context.WithCancel(context.Background())
		out, err := f.Subscribe(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if _, ok := <-out; ok {
			t.Error("still hands on")
		}
		if _, err := f.Subscribe(context.Background(), ""); err == nil {
			t.Error("a second subscription would take half of the messages")
		}
	})
}

func TestFeed_keepsItsRate(t *testing.T) {
	for rate, n := range map[float64]int{0.5: 5, 500: 1000, 3: 31} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(Settings{Next: count(n), Rate: rate})
				start := time.Now()
				for msg := range subscribe(t, f) {
					msg.Ack()
				}
				want := time.Duration(float64(n-1) / rate * float64(time.Second))
				if took := time.Since(start); took < want-time.Millisecond || took > want+time.Millisecond {
					t.Errorf("took %s, want %s", took, want)
				}
			})
		})
	}
}

func TestFeed_makesLateMessagesWhenTheirTurnHasCome(t *testing.T) {
	for name, c := range map[string]struct {
		late bool
		age  time.Duration
	}{"late": {true, 0}, "ahead": {false, time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(Settings{Rate: 1, Late: c.late, Next: func() (Item, error) {
					return Item{Message: message.NewMessage("", []byte(time.Now().Format(time.RFC3339Nano)))}, nil
				}})
				out := subscribe(t, f)
				(<-out).Ack()
				msg := <-out
				made, err := time.Parse(time.RFC3339Nano, string(msg.Payload))
				if err != nil {
					t.Fatal(err)
				}
				if age := time.Since(made); age != c.age {
					t.Errorf("made %s before it was handed on, want %s", age, c.age)
				}
				msg.Ack()
			})
		})
	}
}

func TestFeed_catchesUpLittleAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Settings{Next: count(1000), Rate: 100})
		out := subscribe(t, f)
		(<-out).Ack()
		time.Sleep(time.Minute)
		start := time.Now()
		for range 111 { // one was waiting, ten are caught up
			(<-out).Ack()
		}
		if took := time.Since(start); took < 990*time.Millisecond || took > 1010*time.Millisecond {
			t.Errorf("111 messages took %s after the pause", took)
		}
	})
}

func TestFeed_offersAgainWhileItWaitsForItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Settings{Next: count(2), Rate: 1.0 / 3600, Redeliveries: 1})
		out := subscribe(t, f)
		start := time.Now()
		(<-out).Nack()
		(<-out).Ack()
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestFeed_waitsForTheTimeOfAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		due := time.Now().Add(90 * time.Second)
		next := count(1)
		f := New(Settings{Next: func() (Item, error) {
			item, err := next()
			item.NotBefore = due
			return item, err
		}})
		(<-subscribe(t, f)).Ack()
		if !time.Now().Equal(due) {
			t.Errorf("handed on %s after its time", time.Since(due))
		}
	})
}

func TestFeed_closeWithoutASubscription(t *testing.T) {
	f := New(Settings{Next: func() (Item, error) { return Item{}, errors.New("called") }})
	for range 2 {
		f.Drain()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkFeed(b *testing.B) {
	b.ReportAllocs()
	f := New(Settings{Next: count(b.N)})
	out, err := f.Subscribe(context.Background(), "")
	if err != nil {
		b.Fatal(err)
	}
	for msg := range out {
		msg.Ack()
	}
}
