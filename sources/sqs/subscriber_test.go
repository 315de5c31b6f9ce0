package sqs_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/sources/sqs"
)

// subscribe runs a subscriber of f until the test closes it.
func subscribe(t *testing.T, f *fake, edit ...func(*sqs.Settings)) (*sqs.Subscriber, <-chan *message.Message) {
	t.Helper()
	settings := f.settings()
	for _, e := range edit {
		e(&settings)
	}
	sub := sqs.New(settings)
	msgs, err := sub.Subscribe(t.Context(), f.topic())
	if err != nil {
		t.Fatal(err)
	}
	return sub, msgs
}

func closeSubscriber(t *testing.T, sub *sqs.Subscriber) {
	t.Helper()
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}

// none fails the test when a message comes within d.
func none(t *testing.T, msgs <-chan *message.Message, d time.Duration) {
	t.Helper()
	select {
	case msg, ok := <-msgs:
		if ok {
			t.Fatalf("%s came, want nothing for %s", msg.Payload, d)
		}
	case <-time.After(d):
	}
}

func TestSubscriber_whatIsHeldStaysHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(60)...)
		sub, msgs := subscribe(t, f)
		var handed []*message.Message
		for range 25 { // the others wait to be handed on
			handed = append(handed, <-msgs)
		}
		time.Sleep(10 * time.Minute)
		if n := f.received(); n != 60 {
			t.Errorf("%d receives of 60 messages: some were visible while they were held", n)
		}
		extensions, entries := f.count("ChangeMessageVisibilityBatch"), locked(f, func() int { return f.entries["ChangeMessageVisibilityBatch"] })
		if want := 60 * 10 * 60 / 15; entries > want*11/10 {
			t.Errorf("%d extensions of a message each, want at most %d: one every half visibility timeout", entries, want*11/10)
		}
		if perRequest := float64(entries) / float64(extensions); perRequest < 8 {
			t.Errorf("%.1f messages per request to extend, want close to 10", perRequest)
		}
		for _, msg := range handed {
			msg.Ack()
		}
		for range 35 {
			(<-msgs).Ack()
		}
		closeSubscriber(t, sub)
		if f.left() != 0 || f.lateDeletes() != 0 {
			t.Errorf("%d messages are left, %d deletes came too late", f.left(), f.lateDeletes())
		}
	})
}

func TestSubscriber_heldForTwelveHours(t *testing.T) {
	for name, visibility := range map[string]time.Duration{"30 s": 30 * time.Second, "11 h": 11 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(visibility)
				f.send("", "x")
				core, logs := observer.New(zap.WarnLevel)
				sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.Logger = zap.New(core) })
				msg := <-msgs
				began := time.Now()
				time.Sleep(11*time.Hour + 25*time.Minute)
				if n := f.received(); n != 1 {
					t.Fatalf("received %d times within 11 h 25 min, want once", n)
				}
				time.Sleep(10 * time.Minute)
				if n := f.received(); n != 2 {
					t.Errorf("received %d times after 11.5 hours, want twice: it must be given back before SQS's 12 hours are over", n)
				}
				if logs.FilterMessageSnippet("11.5 hours").Len() != 1 {
					t.Errorf("it was not told once: %v", logs.All())
				}
				none(t, msgs, 11*time.Hour) // it is with us: it must not be handled a second time, and its clock starts anew
				msg.Ack()
				closeSubscriber(t, sub)
				if f.left() != 0 || f.lateDeletes() != 0 {
					t.Errorf("after %s: %d left, %d late deletes", time.Since(began), f.left(), f.lateDeletes())
				}
			})
		})
	}
}

func TestSubscriber_receivedAgainWhileHeld(t *testing.T) {
	for name, c := range map[string]struct {
		before func(f *fake, msg *message.Message) // with the message at hand
	}{
		"while it is handled": {func(f *fake, _ *message.Message) { f.again("x") }},
		"three times": {func(f *fake, _ *message.Message) {
			for range 3 {
				f.again("x")
				time.Sleep(time.Second)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(30 * time.Second)
				f.send("", "x")
				sub, msgs := subscribe(t, f)
				msg := <-msgs
				c.before(f, msg)
				none(t, msgs, 5*time.Minute)
				msg.Ack()
				time.Sleep(time.Second)
				if f.left() != 0 || f.lateDeletes() != 0 {
					t.Errorf("%d left, %d deletes by an old handle: want the newest to be used", f.left(), f.lateDeletes())
				}
				closeSubscriber(t, sub)
			})
		})
	}
}

func TestSubscriber_receivedAgainWhileItIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "x")
		first := true
		f.fail = func(action string) error {
			if action == "DeleteMessageBatch" && first {
				first = false
				f.again("x")
				time.Sleep(time.Second) // meanwhile it is received
			}
			return nil
		}
		sub, msgs := subscribe(t, f)
		(<-msgs).Ack()
		none(t, msgs, 10*time.Second)
		if f.left() != 0 || f.lateDeletes() != 1 {
			t.Errorf("%d left, %d deletes by the old handle; want 0 and the one that was under way", f.left(), f.lateDeletes())
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_acksThatCameTooLateDoNotStopReceiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.failEntry = func(action, _ string) string {
			if action == "DeleteMessageBatch" {
				return "ReceiptHandleIsInvalid"
			}
			return ""
		}
		f.send("", bodies(1000)...)
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.MaxInFlight = 10 })
		for range 1000 { // far more than may be held
			(<-msgs).Ack()
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_acksThatSQSDoesNotTakeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fail = func(action string) error {
			if action == "DeleteMessageBatch" {
				return apiError("ServiceUnavailable")
			}
			return nil
		}
		f.send("", bodies(1000)...)
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.MaxInFlight = 10 })
		acks := make(chan struct{})
		go func() {
			defer close(acks)
			for range 1000 {
				(<-msgs).Ack()
			}
		}()
		time.Sleep(time.Hour)
		if n := f.received(); n > 16*10+10 {
			t.Errorf("%d messages were received and none deleted, want at most 16 times what may be in flight", n)
		}
		requests, entries := f.count("DeleteMessageBatch"), locked(f, func() int { return f.entries["DeleteMessageBatch"] })
		if perRequest := float64(entries) / float64(requests); perRequest < 5 {
			t.Errorf("%.1f messages per request: what failed together should be tried again together", perRequest)
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		<-acks
		time.Sleep(time.Minute)
		closeSubscriber(t, sub)
		if f.left() != 0 || f.received() != 1000 {
			t.Errorf("%d left, %d receives of 1000", f.left(), f.received())
		}
	})
}

func TestSubscriber_warnsWhenExtendingCantKeepUp(t *testing.T) {
	for name, c := range map[string]struct {
		visibility  time.Duration
		maxInFlight int
		want        int
	}{
		"plenty of time": {30 * time.Second, 10_000, 0},
		"too many":       {2 * time.Second, 10_000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.WarnLevel)
				sub, _ := subscribe(t, newFake(c.visibility), func(s *sqs.Settings) {
					s.Logger, s.MaxInFlight = zap.New(core), c.maxInFlight
				})
				synctest.Wait()
				if n := logs.FilterMessageSnippet("can be kept hidden").Len(); n != c.want {
					t.Errorf("%d warnings, want %d", n, c.want)
				}
				closeSubscriber(t, sub)
			})
		})
	}
}

func TestSubscriber_ackedTooLateIsDeletedAtItsNextDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "x")
		sub, msgs := subscribe(t, f)
		msg := <-msgs
		// Nobody receives while the visibility runs out.
		f.mu.Lock()
		f.fail = func(action string) error {
			if action == "DeleteMessageBatch" {
				return nil
			}
			return apiError("InternalError")
		}
		f.mu.Unlock()
		time.Sleep(10 * time.Minute)
		msg.Ack()
		time.Sleep(time.Second)
		if f.lateDeletes() != 1 || f.left() != 1 {
			t.Fatalf("%d late deletes, %d left: the test wants one that SQS refuses", f.lateDeletes(), f.left())
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		none(t, msgs, 2*time.Minute)
		if f.left() != 0 {
			t.Error("it came again and was not deleted")
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_failedDeletesAreTriedAgain(t *testing.T) {
	for name, script := range map[string]func(f *fake){
		"some entries": func(f *fake) {
			f.failEntry = func(action, _ string) string {
				if action == "DeleteMessageBatch" && rand.N(3) > 0 {
					return "InternalError"
				}
				return ""
			}
		},
		"whole requests": func(f *fake) {
			f.fail = func(action string) error {
				if action == "DeleteMessageBatch" && rand.N(3) > 0 {
					return apiError("ThrottlingException")
				}
				return nil
			}
		},
		"every request for longer than the visibility": func(f *fake) {
			until := time.Now().Add(2 * time.Minute)
			f.fail = func(action string) error {
				if action == "DeleteMessageBatch" && time.Now().Before(until) {
					return apiError("ServiceUnavailable")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(30 * time.Second)
				script(f)
				f.send("", bodies(200)...)
				sub, msgs := subscribe(t, f)
				for range 200 {
					(<-msgs).Ack()
				}
				none(t, msgs, 5*time.Minute)
				closeSubscriber(t, sub)
				if f.left() != 0 || f.lateDeletes() != 0 || f.received() != 200 {
					t.Errorf("%d left, %d late deletes, %d receives of 200 messages", f.left(), f.lateDeletes(), f.received())
				}
			})
		})
	}
}

func TestSubscriber_acksGoOutWithinTheirLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(13)...)
		sub, msgs := subscribe(t, f)
		var all []*message.Message
		for range 13 {
			all = append(all, <-msgs)
		}
		for _, msg := range all {
			msg.Ack()
		}
		synctest.Wait()
		if f.left() != 3 {
			t.Errorf("%d left at once, want 3: ten acks fill a request", f.left())
		}
		time.Sleep(19 * time.Millisecond)
		if f.left() != 3 {
			t.Errorf("%d left before the linger is over, want 3", f.left())
		}
		time.Sleep(2 * time.Millisecond)
		if f.left() != 0 || f.count("DeleteMessageBatch") != 2 {
			t.Errorf("%d left, %d requests; want 0 by 2", f.left(), f.count("DeleteMessageBatch"))
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_acksDontWaitForExtensionsNorReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(100)...)
		f.fail = func(action string) error {
			if action == "ChangeMessageVisibilityBatch" {
				time.Sleep(9 * time.Second)
			}
			return nil
		}
		sub, msgs := subscribe(t, f)
		var all []*message.Message
		for range 100 {
			all = append(all, <-msgs)
		}
		time.Sleep(16 * time.Second) // extensions are on their way, and slow
		if f.count("ChangeMessageVisibilityBatch") == 0 {
			t.Fatal("nothing is being extended: the test wants it")
		}
		for _, msg := range all {
			msg.Ack()
		}
		time.Sleep(30 * time.Millisecond)
		if f.left() != 0 {
			t.Errorf("%d of 100 are not deleted after 30 ms", f.left())
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_releaseBacksOffWithTheReceiveCount(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		want   []time.Duration
	}{
		"backoff": {sqs.ReleaseBackoff, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second}},
		"now":     {sqs.ReleaseNow, []time.Duration{0, 0, 0}},
		"leave":   {sqs.ReleaseLeave, []time.Duration{30 * time.Second, 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(30 * time.Second)
				f.send("", "x")
				sub, msgs := subscribe(t, f, func(s *sqs.Settings) {
					s.Release, s.ReleaseMax = c.policy, 10*time.Second
				})
				msg := <-msgs
				for i, want := range c.want {
					nacked := time.Now()
					msg.Nack()
					msg = <-msgs
					// Releases linger, for 100 ms.
					if got := time.Since(nacked); got < want || got > want+110*time.Millisecond {
						t.Errorf("release %d: it came back after %s, want %s", i+1, got, want)
					}
				}
				msg.Ack()
				closeSubscriber(t, sub)
			})
		})
	}
}

// A release must not be undone by an extension that was under way when the message was released.
func TestSubscriber_releaseWinsOverAnExtensionUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "x")
		slow := true
		f.fail = func(action string) error {
			if action == "ChangeMessageVisibilityBatch" && slow {
				slow = false
				time.Sleep(3 * time.Second)
			}
			return nil
		}
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.ReleaseInitial = 10 * time.Second })
		msg := <-msgs
		for f.count("ChangeMessageVisibilityBatch") == 0 {
			time.Sleep(time.Second)
		}
		began := time.Now()
		msg.Nack()
		(<-msgs).Ack()
		if d := time.Since(began); d > 14*time.Second {
			t.Errorf("it came back after %s, want 10 s after the extension", d)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_idleQueueCostsOneOpenRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		sub, _ := subscribe(t, f)
		time.Sleep(time.Hour)
		total := locked(f, func() (n int) {
			for _, v := range f.requests {
				n += v
			}
			return n
		})
		if total > 4*60+4 || f.peak() != 1 {
			t.Errorf("%d requests in an hour, %d receives at a time; want at most 4 a minute and 1", total, f.peak())
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_consumersFollowTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.latency = 10 * time.Millisecond
		f.send("", bodies(5000)...)
		sub, msgs := subscribe(t, f)
		began := time.Now()
		for range 5000 {
			(<-msgs).Ack()
		}
		// One receive at a time would take 5 s.
		if d := time.Since(began); d > time.Second {
			t.Errorf("5000 messages took %s at 10 ms a request", d)
		}
		if f.peak() != 10 {
			t.Errorf("%d receives at a time under load, want all 10", f.peak())
		}
		time.Sleep(time.Minute)
		if open := locked(f, func() int { return f.open }); open != 1 {
			t.Errorf("%d receives are open on the empty queue, want 1", open)
		}
		requests := f.count("ReceiveMessage") + f.count("DeleteMessageBatch")
		if perMessage := float64(requests) / 5000; perMessage > 0.22 {
			t.Errorf("%.3f requests per message, want at most 0.22", perMessage)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_serverThatDoesNotWaitIsNotAskedInAHotLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		sub, _ := subscribe(t, f, func(s *sqs.Settings) { s.WaitTime = 0 })
		time.Sleep(time.Minute)
		if n := f.count("ReceiveMessage"); n > 80 {
			t.Errorf("%d receives in a minute", n)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_nobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(5000)...)
		sub, _ := subscribe(t, f)
		time.Sleep(10 * time.Minute)
		if n := f.received(); n > 100 {
			t.Errorf("%d messages were received and nobody took one: want at most consumers x batch_size", n)
		}
		sub.Drain()
		synctest.Wait()
		if n := f.visibleIn("body 0"); n != 0 {
			t.Errorf("what was not handed on is visible in %s, want at once", n)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_largeMessagesAreBoundedByTheirBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		large := strings.Repeat("x", 1<<20)
		for i := range 200 {
			f.send("", fmt.Sprintf("%d %s", i, large))
		}
		sub, _ := subscribe(t, f)
		time.Sleep(time.Minute)
		if n := f.received(); n > 40 {
			t.Errorf("%d MiB were received and nobody took any: want a part of the 64 MiB of the pipeline", n)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_errorsBackOffAndAreTold(t *testing.T) {
	for name, code := range map[string]string{
		"throttled": "ThrottlingException", "server error": "InternalError", "denied at run time": "AccessDenied",
		"queue deleted at run time": "AWS.SimpleQueueService.NonExistentQueue",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(30 * time.Second)
				core, logs := observer.New(zap.InfoLevel)
				sub, _ := subscribe(t, f, func(s *sqs.Settings) { s.Logger = zap.New(core) })
				time.Sleep(time.Minute)
				if n, err := sub.Receiving(); n != 10 || err != nil {
					t.Errorf("receiving: got %d, %v", n, err)
				}
				f.mu.Lock()
				before := f.requests["ReceiveMessage"]
				f.fail = func(action string) error {
					if action == "ReceiveMessage" {
						return apiError(code)
					}
					return nil
				}
				f.mu.Unlock()
				time.Sleep(10 * time.Minute)
				if n, err := sub.Receiving(); n != 0 || err == nil || !strings.Contains(err.Error(), "/1/q") {
					t.Errorf("receiving: got %d, %v; want an error that names the queue", n, err)
				}
				if n := f.count("ReceiveMessage") - before; n < 15 || n > 450 {
					t.Errorf("%d receives in 10 minutes of errors", n)
				}
				f.mu.Lock()
				f.fail = nil
				f.mu.Unlock()
				time.Sleep(31 * time.Second) // the longest wait, and no long poll on top
				if n, err := sub.Receiving(); n != 10 || err != nil {
					t.Errorf("receiving again: got %d, %v", n, err)
				}
				if n := logs.Len(); n != 2 {
					t.Errorf("%d log lines, want one at the beginning and one at the end: %v", n, logs.All())
				}
				closeSubscriber(t, sub)
			})
		})
	}
}

func TestSubscriber_overLimitIsFullNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fail = func(action string) error {
			if action == "ReceiveMessage" {
				return apiError("OverLimit")
			}
			return nil
		}
		sub, _ := subscribe(t, f)
		time.Sleep(time.Minute)
		if n, err := sub.Receiving(); n != 10 || err != nil {
			t.Errorf("receiving: got %d, %v; want no error", n, err)
		}
		if n := f.count("ReceiveMessage"); n > 62 {
			t.Errorf("%d receives in a minute", n)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_lostResponsesLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.lose = func(string) bool { return rand.N(10) == 0 }
		f.send("", bodies(1000)...)
		sub, msgs := subscribe(t, f)
		times := map[string]int{}
		for len(times) < 1000 {
			msg := <-msgs
			times[string(msg.Payload)]++
			msg.Ack()
		}
		none(t, msgs, 5*time.Minute)
		closeSubscriber(t, sub)
		for body, n := range times {
			if n != 1 {
				t.Errorf("%s was handled %d times", body, n)
			}
		}
		if f.left() != 0 {
			t.Errorf("%d left", f.left())
		}
	})
}

// 5,000 in flight, a visibility of 5 s and a store that takes 20 s: where visibility is not extended, everything comes
// again before it is done, with handles that are stale when it is, for ever.
func TestSubscriber_slowStoreDoesNotLivelock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8000
		f := newFake(5 * time.Second)
		f.latency = 10 * time.Millisecond
		f.send("", bodies(n)...)
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.MaxInFlight = 5000 })
		times := map[string]int{}
		slots := make(chan struct{}, 5000)
		for range n {
			slots <- struct{}{}
			msg := <-msgs
			times[string(msg.Payload)]++
			go func() {
				time.Sleep(20 * time.Second)
				msg.Ack()
				<-slots
			}()
		}
		none(t, msgs, time.Minute)
		closeSubscriber(t, sub)
		twice := 0
		for _, v := range times {
			if v > 1 {
				twice++
			}
		}
		if f.left() != 0 || f.lateDeletes() != 0 || twice != 0 || f.received() != n {
			t.Errorf("%d left, %d deletes failed, %d handled twice, %d receives of %d", f.left(), f.lateDeletes(), twice, f.received(), n)
		}
	})
}

// Once the size of messages is known, no receive is made for which there is no room.
func TestSubscriber_largeMessagesAreReceivedAsThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, most = 900_000, 16 << 20 // most is for what is received and not handed on
		f := newFake(30 * time.Second)
		f.latency = 10 * time.Millisecond
		all := make([]string, 100)
		for i := range all {
			all[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
		}
		f.send("", all...)
		sub, msgs := subscribe(t, f)
		defer closeSubscriber(t, sub)
		for taken := 0; taken < len(all); taken++ {
			time.Sleep(time.Second)
			synctest.Wait()
			if ahead := (f.received() - taken) * size; ahead > most {
				t.Fatalf("%d bytes wait after %d messages, want %d at most", ahead, taken, most)
			}
			(<-msgs).Ack()
		}
		if n := f.count("ReceiveMessage"); n > 100 {
			t.Errorf("%d receives for 100 messages", n)
		}
	})
}
