package sqs_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
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

func TestSubscriber_failedExtensionIsTriedAgainInTime(t *testing.T) {
	for name, c := range map[string]struct {
		visibility time.Duration
		fail       func(try int) error // of an extension
		entry      string              // its code, when only the entry fails
	}{
		"the request":                       {30 * time.Second, func(try int) error { return failFirst(try, 1) }, ""},
		"the request, twice":                {30 * time.Second, func(try int) error { return failFirst(try, 2) }, ""},
		"the entry":                         {30 * time.Second, nil, "InternalError"},
		"a request without an answer":       {5 * time.Second, nil, ""},
		"a request without an answer, 30 s": {30 * time.Second, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(c.visibility)
				f.send("", "x")
				var try atomic.Int64
				switch {
				case c.fail != nil:
					f.fail = func(action string) error {
						if action != "ChangeMessageVisibilityBatch" {
							return nil
						}
						return c.fail(int(try.Add(1)))
					}
				case c.entry != "":
					f.failEntry = func(action, _ string) string {
						if action == "ChangeMessageVisibilityBatch" && try.Add(1) == 1 {
							return c.entry
						}
						return ""
					}
				default:
					f.hang = func(action string) bool {
						if action != "ChangeMessageVisibilityBatch" {
							return false
						}
						return try.Add(1)%5 == 1
					}
				}
				sub, msgs := subscribe(t, f)
				msg := <-msgs
				time.Sleep(10 * time.Minute)
				if n := f.received(); n != 1 || try.Load() < 10 {
					t.Errorf("received %d times while it was held, %d extensions; want once: an extension that fails must be tried again before the time is over", n, try.Load())
				}
				msg.Ack()
				closeSubscriber(t, sub)
			})
		})
	}
}

func failFirst(try, n int) error {
	if try <= n {
		return apiError("InternalError")
	}
	return nil
}

func TestSubscriber_shortOutageUnderLoadCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.latency = 10 * time.Millisecond
		f.send("", bodies(20_000)...)
		sub, msgs := subscribe(t, f)
		go func() {
			for msg := range msgs {
				msg.Ack()
			}
		}()
		time.Sleep(500 * time.Millisecond)
		if f.peak() != 10 {
			t.Fatalf("%d receives at a time, the test wants all 10", f.peak())
		}
		f.mu.Lock()
		f.fail = func(action string) error {
			if action == "ReceiveMessage" {
				return apiError("ServiceUnavailable")
			}
			return nil
		}
		f.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		began, before := time.Now(), f.received()
		for f.received() == before {
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("after an outage of 100 ms nothing was received for another %s", d)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_overLimitEndsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		began := time.Now()
		f.fail = func(action string) error {
			switch {
			case action != "ReceiveMessage":
				return nil
			case time.Since(began) < 10*time.Second:
				return apiError("InternalError")
			}
			return apiError("OverLimit")
		}
		settings := f.settings()
		settings.Topic = f.topic()
		sub := sqs.New(settings)
		if err := sub.Start(t.Context()); err == nil {
			t.Error("it started although receiving fails")
		}
		time.Sleep(10 * time.Second)
		if err := sub.Start(t.Context()); err != nil {
			t.Errorf("start: %v; want none: others hold as much as SQS hands out, and nothing has failed", err)
		}
		began = time.Now()
		if _, err := sub.Subscribe(t.Context(), settings.Topic); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n, err := sub.Receiving(); n != 0 || err == nil {
			t.Errorf("receiving while it fails: got %d, %v", n, err)
		}
		time.Sleep(2 * time.Minute)
		if n, err := sub.Receiving(); n != 10 || err != nil {
			t.Errorf("receiving: got %d, %v; want no error", n, err)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_deletesThatFailForLongAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fail = func(action string) error {
			if action == "DeleteMessageBatch" {
				return apiError("AccessDenied")
			}
			return nil
		}
		f.send("", bodies(5)...)
		sub, msgs := subscribe(t, f)
		for range 5 {
			(<-msgs).Ack()
		}
		time.Sleep(time.Second)
		if n, err := sub.Receiving(); n != 10 || err != nil {
			t.Errorf("after a second: got %d, %v; want none: a failure that passes is no news", n, err)
		}
		time.Sleep(2 * time.Minute)
		if n, err := sub.Receiving(); n != 0 || err == nil {
			t.Errorf("after two minutes: got %d, %v; want an error", n, err)
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		time.Sleep(time.Minute)
		if n, err := sub.Receiving(); n != 10 || err != nil || f.left() != 0 {
			t.Errorf("when it works again: got %d, %v, %d left", n, err, f.left())
		}
		closeSubscriber(t, sub)
	})
}

func TestFIFO_lostResponsesOfSeveralReceivesAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		f.latency = 10 * time.Millisecond
		const groups, each = 100, 10
		for g := range groups {
			for i := range each {
				f.send(fmt.Sprintf("g%d", g), fmt.Sprintf("g%d %d", g, i))
			}
		}
		var lost atomic.Int64
		f.lose = func(action string) bool {
			lose := action == "ReceiveMessage" && locked(f, func() int { return f.open }) > 5 && lost.Load() < 5
			if lose {
				lost.Add(1)
			}
			return lose
		}
		began := time.Now()
		sub, msgs := subscribe(t, f)
		for range groups * each {
			(<-msgs).Ack()
		}
		if d := time.Since(began); lost.Load() != 5 || d > 10*time.Second {
			t.Errorf("%d responses lost, and it took %s; want 5, and no wait for the visibility timeout", lost.Load(), d)
		}
		closeSubscriber(t, sub)
	})
}

func TestFIFO_manyBlockedGroupsBlockNoOther(t *testing.T) {
	for name, c := range map[string]struct{ maxInFlight, blocked int }{
		"few in flight": {10, 9},
		"the default":   {1024, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(30 * time.Second)
				f.fifo = true
				for g := range c.blocked {
					f.send(fmt.Sprintf("blocked %d", g), bodies(10)...)
				}
				sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.MaxInFlight = c.maxInFlight })
				for i := range c.blocked {
					select {
					case <-msgs: // and it is never settled
					case <-time.After(time.Minute):
						t.Fatalf("%d of %d heads came", i, c.blocked)
					}
				}
				f.send("free", bodies(100)...)
				for i := range 100 {
					select {
					case msg := <-msgs:
						if want := fmt.Sprintf("body %d", i); msg.Metadata["sqs_group_id"] != "free" || string(msg.Payload) != want {
							t.Fatalf("got %s of %s, want %s", msg.Payload, msg.Metadata["sqs_group_id"], want)
						}
						msg.Ack()
					case <-time.After(time.Minute):
						t.Fatalf("%d of 100 messages came beside %d blocked groups", i, c.blocked)
					}
				}
				closeSubscriber(t, sub)
			})
		})
	}
}

func TestSubscriber_bytesAreBoundedOverAllQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queues = 8
		large := strings.Repeat("x", 64<<10)
		fakes := map[string]*fake{}
		topic := ""
		for i := range queues {
			f := newFake(30 * time.Second)
			for range 100 {
				f.send("", large)
			}
			name := fmt.Sprintf("q%d", i)
			fakes[name] = f
			topic += name + ","
		}
		settings := fakes["q0"].settings()
		settings.MaxInFlightBytes = 4 << 20
		settings.Connect = func(_ context.Context, queue string) (sqs.Client, string, error) { return fakes[queue], queue, nil }
		sub := sqs.New(settings)
		if _, err := sub.Subscribe(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		sum := 0
		for _, f := range fakes {
			sum += f.received()
		}
		// Every queue has one receive open, whose size nobody knows before.
		if sum > queues*10 {
			t.Errorf("%d messages were received of %d queues and nobody took any, want at most a receive of each", sum, queues)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_anInvalidHandleIsNotRefreshedAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "x")
		invalid := 0
		f.failEntry = func(action, _ string) string {
			if action != "ChangeMessageVisibilityBatch" {
				return ""
			}
			invalid++
			return "AWS.SimpleQueueService.MessageNotInflight"
		}
		f.fail = func(action string) error { // nobody hands out a new handle
			if action == "ReceiveMessage" && locked(f, func() int { return f.receives }) > 0 {
				return apiError("InternalError")
			}
			return nil
		}
		sub, msgs := subscribe(t, f)
		msg := <-msgs
		time.Sleep(10 * time.Minute)
		if n := locked(f, func() int { return invalid }); n != 1 {
			t.Errorf("an outdated handle was extended %d times, want once", n)
		}
		msg.Ack()
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_whatIsSettledIsNotExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(400)...)
		f.fail = func(action string) error {
			if action == "ChangeMessageVisibilityBatch" {
				time.Sleep(time.Second) // 16 requests of ten at a time
			}
			return nil
		}
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.ReleaseInitial = time.Hour })
		var all []*message.Message
		for range 400 {
			all = append(all, <-msgs)
		}
		for f.count("ChangeMessageVisibilityBatch") == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		for i, msg := range all {
			if i%2 == 0 {
				msg.Ack()
			} else {
				msg.Nack()
			}
		}
		time.Sleep(100 * time.Millisecond)
		changes := func() int { return locked(f, func() int { return f.entries["ChangeMessageVisibilityBatch"] }) }
		before := changes()
		time.Sleep(20 * time.Second)
		if n := changes() - before; n > 200 {
			t.Errorf("%d changes of visibility after everything was acked or released, want the 200 releases", n)
		}
		closeSubscriber(t, sub)
	})
}

func TestFIFO_lostFirstResponseIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		f.send("a", "a0")
		lost := false
		f.lose = func(action string) bool {
			lose := action == "ReceiveMessage" && !lost
			lost = lost || lose
			return lose
		}
		settings := f.settings()
		settings.Topic = f.topic()
		sub := sqs.New(settings)
		if err := sub.Start(t.Context()); err == nil {
			t.Error("it started although its first receive failed")
		}
		if err := sub.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		msgs, err := sub.Subscribe(t.Context(), settings.Topic)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		(<-msgs).Ack()
		if d := time.Since(began); d > time.Second {
			t.Errorf("it came after %s, want no wait for the visibility timeout", d)
		}
		closeSubscriber(t, sub)
	})
}

// A server that takes a receive and never answers is told five seconds after the wait time, and the next receive brings
// what it would have brought.
func TestSubscriber_aReceiveWithoutAnAnswerIsToldSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		var silent atomic.Bool
		f.hang = func(action string) bool { return action == "ReceiveMessage" && silent.Load() }
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.WaitTime = 20 * time.Second })
		time.Sleep(time.Second) // the first receive waits
		silent.Store(true)
		time.Sleep(20*time.Second + 3*time.Second)
		if _, err := sub.Receiving(); err != nil {
			t.Errorf("nothing is late yet: %v", err)
		}
		time.Sleep(22 * time.Second)
		if _, err := sub.Receiving(); err == nil || !strings.Contains(err.Error(), "no answer within 25s") {
			t.Errorf("got %v, want that there was no answer within 25s", err)
		}
		silent.Store(false)
		f.send("", "x")
		(<-msgs).Ack()
		closeSubscriber(t, sub)
	})
}

// A server that gives several messages one id must not have one of them deleted for another.
func TestSubscriber_messagesWithTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.sums = true
		f.send("", bodies(20)...)
		f.mu.Lock()
		for _, m := range f.messages {
			m.id = "same"
		}
		f.mu.Unlock()
		sub, msgs := subscribe(t, f)
		seen := map[string]bool{}
		for range 20 {
			msg := <-msgs
			seen[string(msg.Payload)] = true
			msg.Ack()
		}
		closeSubscriber(t, sub)
		if len(seen) != 20 || f.left() != 0 {
			t.Errorf("%d of 20 messages came, %d are left", len(seen), f.left())
		}
	})
}
