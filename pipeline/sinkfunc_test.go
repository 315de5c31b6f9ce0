package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// publishAll publishes each payload from a goroutine of its own and returns their errors.
func publishAll(sink pipeline.Sink, payloads ...string) []error {
	errs := make([]error, len(payloads))
	var wg sync.WaitGroup
	for i, p := range payloads {
		wg.Go(func() { errs[i] = sink.Publisher.Publish("", message.NewMessage(fmt.Sprint(i), []byte(p))) })
	}
	wg.Wait()
	return errs
}

func TestBatchSinkFunc_gathersWhatArrivesWhileABatchIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		sink := pipeline.BatchSinkFunc(func(_ context.Context, msgs []*message.Message) []error {
			sizes = append(sizes, len(msgs))
			time.Sleep(time.Second)
			return nil
		}, pipeline.BatchSettings{Batch: pipeline.Batch{Count: 60}})
		begin := time.Now()
		if err := errors.Join(publishAll(sink, slices.Repeat([]string{"x"}, 100)...)...); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, n := range sizes {
			sum += n
			if n > 60 {
				t.Errorf("a batch of %d, want 60 at most", n)
			}
		}
		if sum != 100 || len(sizes) > 3 {
			t.Errorf("batches %v, want 100 messages in 3 batches at most", sizes)
		}
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("took %s", d)
		}
		if err := sink.Publisher.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestBatchSinkFunc_aLoneMessageDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := pipeline.BatchSinkFunc(func(context.Context, []*message.Message) []error { return nil })
		begin := time.Now()
		if err := errors.Join(publishAll(sink, "x")...); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("waited %s for company", d)
		}
		_ = sink.Publisher.Close()
	})
}

func TestBatchSinkFunc_aPeriodFillsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		sink := pipeline.BatchSinkFunc(func(_ context.Context, msgs []*message.Message) []error {
			sizes = append(sizes, len(msgs))
			return nil
		}, pipeline.BatchSettings{Batch: pipeline.Batch{Period: time.Second}})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				_ = errors.Join(publishAll(sink, "x")...)
			})
		}
		wg.Wait()
		if !slices.Equal(sizes, []int{10}) {
			t.Errorf("batches %v, want one of 10", sizes)
		}
		_ = sink.Publisher.Close()
	})
}

func TestBatchSinkFunc_bytesBoundABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := pipeline.BatchSinkFunc(func(_ context.Context, msgs []*message.Message) []error {
			bytes := 0
			for _, m := range msgs {
				bytes += len(m.Payload)
			}
			if len(msgs) > 1 && bytes > 100 {
				t.Errorf("a batch of %d bytes", bytes)
			}
			time.Sleep(time.Second)
			return nil
		}, pipeline.BatchSettings{Batch: pipeline.Batch{Bytes: 100}})
		payloads := append(slices.Repeat([]string{strings.Repeat("x", 40)}, 20), strings.Repeat("y", 1000))
		if err := errors.Join(publishAll(sink, payloads...)...); err != nil {
			t.Error(err)
		}
		_ = sink.Publisher.Close()
	})
}

func TestBatchSinkFunc_everyMessageGetsItsOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := pipeline.BatchSinkFunc(func(_ context.Context, msgs []*message.Message) []error {
			errs := make([]error, len(msgs))
			for i, m := range msgs {
				if strings.HasPrefix(string(m.Payload), "bad") {
					errs[i] = fmt.Errorf("no good: %s", m.Payload)
				}
			}
			return errs
		})
		errs := publishAll(sink, "good", "bad1", "good", "bad2")
		for i, want := range []string{"", "no good: bad1", "", "no good: bad2"} {
			if got := fmt.Sprint(errs[i]); got != want && (want != "" || errs[i] != nil) {
				t.Errorf("message %d: %v, want %q", i, errs[i], want)
			}
		}
		_ = sink.Publisher.Close()
	})
}

func TestBatchSinkFunc_oneMessagesTimeoutLeavesItsNeighboursAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := pipeline.BatchSinkFunc(func(ctx context.Context, _ []*message.Message) []error {
			time.Sleep(10 * time.Second)
			if ctx.Err() != nil {
				t.Error("the batch's context ended with a message's")
			}
			return nil
		}, pipeline.BatchSettings{Batch: pipeline.Batch{Period: 100 * time.Millisecond}}) // all in one batch
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			err := sink.Publisher.Publish("", message.NewMessageWithContext(ctx, "impatient", nil))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("impatient message got %v", err)
			}
		})
		if err := errors.Join(publishAll(sink, "a", "b")...); err != nil {
			t.Error(err)
		}
		wg.Wait()
		_ = sink.Publisher.Close()
	})
}

func TestBatchSinkFunc_aCallThatNobodyWaitsForIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := pipeline.BatchSinkFunc(func(ctx context.Context, _ []*message.Message) []error {
			<-ctx.Done()
			return nil
		}, pipeline.BatchSettings{Timeout: time.Hour})
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
				defer cancel()
				_ = sink.Publisher.Publish("", message.NewMessageWithContext(ctx, "", nil))
			})
		}
		wg.Wait()
		if err := sink.Publisher.Close(); err != nil {
			t.Error(err)
		}
		// The first call may hold one message, the next one the other two.
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("the calls lasted %s, want to the end of the last message's wait", d)
		}
	})
}

func TestBatchSinkFunc_panicAndWrongCountAreErrorsOfTheBatch(t *testing.T) {
	for name, c := range map[string]struct {
		f     func(context.Context, []*message.Message) []error
		check func(error) bool
	}{
		"panic":       {func(context.Context, []*message.Message) []error { panic("oops") }, pipeline.IsPermanent},
		"wrong count": {func(context.Context, []*message.Message) []error { return make([]error, 7) }, pipeline.IsFatal},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := pipeline.BatchSinkFunc(c.f)
				for range 2 { // the worker outlives it
					if errs := publishAll(sink, "x"); !c.check(errs[0]) {
						t.Errorf("got %v", errs[0])
					}
				}
				_ = sink.Publisher.Close()
			})
		})
	}
}

func TestBatchSinkFunc_closeStoresWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := 0
		sink := pipeline.BatchSinkFunc(func(_ context.Context, msgs []*message.Message) []error {
			time.Sleep(time.Second)
			stored += len(msgs)
			return nil
		}, pipeline.BatchSettings{Batch: pipeline.Batch{Count: 2}})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _ = errors.Join(publishAll(sink, "x")...) })
		}
		synctest.Wait()
		if err := sink.Publisher.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if stored != 10 {
			t.Errorf("stored %d, want 10", stored)
		}
		if errs := publishAll(sink, "x"); errs[0] == nil {
			t.Error("a closed sink takes messages")
		}
	})
}

func TestSeveralMessagesOfADelivery_theWorstErrorDecides(t *testing.T) {
	retryable := errors.New("plain")
	sink := pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		switch string(msg.Payload) {
		case "permanent":
			return pipeline.Permanent(errBroken)
		case "unavailable":
			return pipeline.Unavailable(errBroken)
		case "plain":
			return retryable
		}
		return nil
	})
	for name, c := range map[string]struct {
		payloads []string
		check    func(error) bool
	}{
		"nothing wrong":                    {[]string{"a", "b"}, func(err error) bool { return err == nil }},
		"permanent alone":                  {[]string{"a", "permanent"}, pipeline.IsPermanent},
		"retryable goes before permanent":  {[]string{"permanent", "plain"}, func(err error) bool { return !pipeline.IsPermanent(err) && errors.Is(err, retryable) }},
		"unavailable goes before the rest": {[]string{"permanent", "plain", "unavailable"}, pipeline.IsUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var msgs []*message.Message
			for _, p := range c.payloads {
				msgs = append(msgs, message.NewMessage("", []byte(p)))
			}
			if err := sink.Publisher.Publish("", msgs...); !c.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}
