package sqs_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFIFO_groupsInOrderOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		const groups, each = 200, 25
		for i := range each {
			for g := range groups {
				f.send(fmt.Sprintf("g%d", g), fmt.Sprintf("g%d %d", g, i))
			}
		}
		sub, msgs := subscribe(t, f)
		var mu sync.Mutex
		next := map[string]int{}
		busy := map[string]bool{}
		finished := map[string]time.Duration{}
		began := time.Now()
		done := make(chan struct{})
		var handling sync.WaitGroup
		failing := func(g string) bool { return strings.HasSuffix(g, "0") || strings.HasSuffix(g, "5") } // 20 %
		go func() {
			for msg := range msgs {
				handling.Go(func() {
					g := msg.Metadata["sqs_group_id"]
					mu.Lock()
					if busy[g] {
						t.Errorf("two of %s at a time", g)
					}
					busy[g] = true
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					busy[g] = false
					if want := fmt.Sprintf("%s %d", g, next[g]); string(msg.Payload) != want {
						t.Errorf("got %s, want %s", msg.Payload, want)
					}
					if failing(g) && rand.N(2) == 0 {
						msg.Nack()
						return
					}
					if next[g]++; next[g] == each {
						finished[g] = time.Since(began)
						if len(finished) == groups {
							close(done)
						}
					}
					msg.Ack()
				})
			}
		}()
		<-done
		closeSubscriber(t, sub)
		handling.Wait()
		var good []time.Duration
		for g, d := range finished {
			if !failing(g) {
				good = append(good, d)
			}
		}
		slices.Sort(good)
		// 25 messages of 10 ms each, one by one, and the requests: groups that fail wait for seconds.
		if slowest := good[len(good)-1]; slowest > 3*time.Second {
			t.Errorf("the slowest group without failures took %s", slowest)
		}
		if f.left() != 0 || f.lateDeletes() != 0 {
			t.Errorf("%d left, %d late deletes", f.left(), f.lateDeletes())
		}
	})
}

func TestFIFO_releasedHeadTakesItsGroupAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		f.send("a", "a0", "a1", "a2", "a3")
		f.send("b", "b0")
		var mu sync.Mutex
		var changes []string
		f.changing = func(body string, timeout time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, fmt.Sprintf("%s %s", body, timeout))
		}
		sub, msgs := subscribe(t, f)
		a0, b0 := <-msgs, <-msgs
		none(t, msgs, time.Second)
		a0.Nack()
		time.Sleep(300 * time.Millisecond)
		mu.Lock()
		if want := []string{"a0 1s", "a1 1s", "a2 1s", "a3 1s"}; !slices.Equal(changes, want) {
			t.Errorf("changes of visibility: %v, want %v", changes, want)
		}
		mu.Unlock()
		b0.Ack()
		for _, want := range []string{"a0", "a1", "a2", "a3"} {
			msg := <-msgs
			if string(msg.Payload) != want {
				t.Errorf("got %s, want %s", msg.Payload, want)
			}
			msg.Ack()
		}
		closeSubscriber(t, sub)
		if f.left() != 0 {
			t.Errorf("%d left", f.left())
		}
	})
}

func TestFIFO_slowGroupBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		f.send("slow", bodies(10)...)
		sub, msgs := subscribe(t, f)
		slow := <-msgs
		for i := range 100 {
			f.send("fast", fmt.Sprintf("fast %d", i))
		}
		began := time.Now()
		for i := range 100 {
			msg := <-msgs
			if want := fmt.Sprintf("fast %d", i); string(msg.Payload) != want {
				t.Fatalf("got %s, want %s", msg.Payload, want)
			}
			msg.Ack()
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("100 messages beside a blocked group took %s", d)
		}
		time.Sleep(5 * time.Minute) // the group's messages stay hidden and in order
		slow.Ack()
		for i := 1; i < 10; i++ {
			msg := <-msgs
			if want := fmt.Sprintf("body %d", i); string(msg.Payload) != want {
				t.Errorf("got %s, want %s", msg.Payload, want)
			}
			msg.Ack()
		}
		closeSubscriber(t, sub)
		if f.left() != 0 || f.lateDeletes() != 0 {
			t.Errorf("%d left, %d late deletes", f.left(), f.lateDeletes())
		}
	})
}

func TestFIFO_lostResponseIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		f.send("a", bodies(20)...)
		lost := 0
		f.lose = func(action string) bool {
			lose := action == "ReceiveMessage" && lost < 3
			if lose {
				lost++
			}
			return lose
		}
		began := time.Now()
		sub, msgs := subscribe(t, f)
		for range 20 {
			(<-msgs).Ack()
		}
		if d := time.Since(began); lost != 3 || d > 5*time.Second {
			t.Errorf("%d responses lost, and it took %s; want 3, and no wait for the visibility timeout", lost, d)
		}
		closeSubscriber(t, sub)
	})
}

func TestFIFO_stopKeepsWhatIsBehindAHeadUntilItIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.fifo = true
		f.send("a", "a0", "a1")
		sub, msgs := subscribe(t, f)
		a0 := <-msgs
		sub.Drain()
		time.Sleep(time.Minute) // a0 is still being handled
		if d := f.visibleIn("a1"); d == 0 {
			t.Error("a1 is visible before a0 is settled")
		}
		a0.Ack()
		time.Sleep(100 * time.Millisecond)
		if d := f.visibleIn("a1"); d != 0 {
			t.Errorf("a1 is visible in %s, want now", d)
		}
		closeSubscriber(t, sub)
	})
}
