package sqs_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-dev/penstock/sources/sqs"
)

func TestSubscriber_stopGivesRunningReceivesTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		sub, msgs := subscribe(t, f)
		synctest.Wait()
		began := time.Now()
		sub.Drain()
		if _, open := <-msgs; open {
			t.Error("a message came after Drain")
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("the channel closed %s after Drain, want at once", d)
		}
		time.Sleep(time.Second)
		f.send("", "late")
		synctest.Wait()
		time.Sleep(25 * time.Millisecond)
		if d := f.visibleIn("late"); d != 0 || f.received() == 0 {
			t.Errorf("received %d times, visible in %s; want that it is received and given back at once", f.received(), d)
		}
		closeSubscriber(t, sub)
		if d := time.Since(began); d > 2100*time.Millisecond {
			t.Errorf("the stop took %s, want 2 s at most", d)
		}
	})
}

func TestSubscriber_stopEndsWhenNothingCanBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(20)...)
		f.fail = func(action string) error {
			if action == "DeleteMessageBatch" {
				return apiError("ServiceUnavailable")
			}
			return nil
		}
		sub, msgs := subscribe(t, f)
		for range 20 {
			(<-msgs).Ack()
		}
		began := time.Now()
		err := sub.Close()
		if err == nil || !strings.Contains(err.Error(), "20 acks") {
			t.Errorf("got %v, want how many acks were not sent", err)
		}
		if d := time.Since(began); d > 8*time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

func TestSubscriber_releasedWhileStoppingIsVisibleAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "x")
		sub, msgs := subscribe(t, f)
		msg := <-msgs
		sub.Drain()
		msg.Nack()
		time.Sleep(100 * time.Millisecond) // a receive that is still running may have had it, too
		if d := f.visibleIn("x"); d != 0 {
			t.Errorf("visible in %s, want at once: another process may have it", d)
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_releasedJustBeforeTheStopIsVisibleAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", bodies(40)...)
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.ReleaseInitial = time.Minute })
		for range 40 { // as the engine does with what waits for its next attempt
			(<-msgs).Nack()
		}
		synctest.Wait()
		sub.Drain()
		time.Sleep(300 * time.Millisecond)
		for _, body := range bodies(40) {
			if d := f.visibleIn(body); d != 0 {
				t.Errorf("%s is visible in %s, want at once", body, d)
			}
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_startHoldsWhatItsFirstReceiveBrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "x")
		settings := f.settings()
		settings.Topic = f.topic()
		for range 2 { // the first is closed before anybody subscribes
			sub := sqs.New(settings)
			if err := sub.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			closeSubscriber(t, sub)
			if d := f.visibleIn("x"); d != 0 {
				t.Errorf("visible in %s, want at once", d)
			}
		}
		sub := sqs.New(settings)
		if err := sub.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		msgs, err := sub.Subscribe(t.Context(), settings.Topic)
		if err != nil {
			t.Fatal(err)
		}
		(<-msgs).Ack()
		closeSubscriber(t, sub)
		if f.left() != 0 {
			t.Errorf("%d left", f.left())
		}
	})
}
