package pipeline_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

// fixture is one pipeline in a bubble of fake time.
type fixture struct {
	queue  *pipelinetest.Queue
	store  *pipelinetest.Store
	poison *pipelinetest.Store
	p      *pipeline.Pipeline
	engine *pipeline.Engine
	log    *zap.Logger // nil: none
	stop   context.CancelFunc
	done   chan error
}

func newFixture(finite bool, payloads ...string) *fixture {
	f := &fixture{
		queue: pipelinetest.NewQueue(finite, payloads...),
		store: &pipelinetest.Store{}, poison: &pipelinetest.Store{},
		done: make(chan error, 1),
	}
	poison := f.poison.Sink()
	f.p = &pipeline.Pipeline{
		Name: "test", Source: f.queue.Source(), Sink: f.store.Sink(), SinkName: "store", PoisonQueue: &poison,
	}
	return f
}

func (f *fixture) start(t *testing.T) {
	t.Helper()
	var err error
	if f.engine, err = pipeline.New(pipeline.Settings{Logger: f.log}, f.p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	t.Cleanup(cancel)
	go func() { f.done <- f.engine.Run(ctx) }()
}

// finish waits for the end of the run and returns the ledger, which must add up.
func (f *fixture) finish(t *testing.T) (pipeline.Ledger, error) {
	t.Helper()
	err := <-f.done
	l := f.engine.Ledgers()[0]
	pipelinetest.CheckLedger(t, l)
	if !f.store.Closed() || !f.poison.Closed() {
		t.Error("a sink was not closed")
	}
	return l, err
}

func (f *fixture) run(t *testing.T) pipeline.Ledger {
	t.Helper()
	f.start(t)
	l, err := f.finish(t)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return l
}

func wantLedger(t *testing.T, l pipeline.Ledger, written, filtered, poisoned, released int64) {
	t.Helper()
	got := [4]int64{l.Written, l.Filtered, l.Poisoned, l.Released}
	if want := [4]int64{written, filtered, poisoned, released}; got != want {
		t.Errorf("written, filtered, poisoned, released = %v, want %v", got, want)
	}
}

func upper(msg *message.Message) ([]*message.Message, error) {
	msg.Payload = []byte(strings.ToUpper(string(msg.Payload)))
	return []*message.Message{msg}, nil
}

func TestEngine_messagesGoThroughTransformsIntoTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a", "b", "skip", "c")
		f.p.Transforms = []pipeline.Transform{
			func(msg *message.Message) ([]*message.Message, error) {
				if string(msg.Payload) == "skip" {
					return nil, nil
				}
				other := message.NewMessage(msg.UUID, append([]byte("2"), msg.Payload...))
				return []*message.Message{msg, other}, nil
			},
			upper,
		}
		wantLedger(t, f.run(t), 3, 1, 0, 0)
		got := f.store.Payloads()
		slices.Sort(got)
		if want := []string{"2A", "2B", "2C", "A", "B", "C"}; !slices.Equal(got, want) {
			t.Errorf("stored %v, want %v", got, want)
		}
	})
}

func TestEngine_failedAttemptsAreRepeatedOnTheOriginal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.p.Transforms = []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
			msg.Metadata["seen"] += "x"
			msg.Payload = append([]byte("t"), msg.Payload...)
			return []*message.Message{msg}, nil
		}}
		f.store.Before = func(_ context.Context, call int, msg *message.Message) error {
			if msg.Metadata["seen"] != "x" {
				t.Errorf("attempt %d sees the metadata of the one before: %q", call, msg.Metadata["seen"])
			}
			if call < 4 {
				return errBroken
			}
			return nil
		}
		l := f.run(t)
		wantLedger(t, l, 1, 0, 0, 0)
		if l.Retries != 3 {
			t.Errorf("retries = %d, want 3", l.Retries)
		}
		if got := f.store.Payloads(); !slices.Equal(got, []string{"ta"}) {
			t.Errorf("stored %v", got)
		}
	})
}

func TestEngine_spentBudgetReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.store.Before = func(_ context.Context, call int, _ *message.Message) error {
			if call <= 5 {
				return errBroken
			}
			return nil
		}
		wantLedger(t, f.run(t), 1, 0, 0, 1)
		if n := f.queue.Deliveries("0"); n != 2 {
			t.Errorf("deliveries = %d, want 2", n)
		}
	})
}

func TestEngine_spentBudgetPoisonsWhereAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.p.Retry = pipeline.RetryConfig{OnExhausted: "poison", MaxAttempts: 2}
		f.store.Before = func(context.Context, int, *message.Message) error { return errBroken }
		wantLedger(t, f.run(t), 0, 0, 1, 0)
		m := f.poison.Messages()[0].Metadata
		if m[pipeline.MetadataPoisonAttempts] != "2" || m[pipeline.MetadataPoisonStage] != "sink.store" ||
			!strings.Contains(m[pipeline.MetadataPoisonReason], "broken") {
			t.Errorf("poison metadata: %v", m)
		}
	})
}

func TestEngine_elapsedTimeEndsTheBudgetToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.p.Retry = pipeline.RetryConfig{MaxAttempts: 1000, MaxElapsedTime: 30 * time.Second, OnExhausted: "poison"}
		f.store.Before = func(context.Context, int, *message.Message) error { return errBroken }
		begin := time.Now()
		wantLedger(t, f.run(t), 0, 0, 1, 0)
		if d := time.Since(begin); d > 40*time.Second || d < 10*time.Second {
			t.Errorf("gave up after %s, want about 30s", d)
		}
	})
}

func TestEngine_retryAfterIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		var first time.Time
		f.store.Before = func(_ context.Context, call int, _ *message.Message) error {
			if call == 1 {
				first = time.Now()
				return pipeline.RetryAfter(errBroken, 20*time.Second)
			}
			if d := time.Since(first); d < 20*time.Second {
				t.Errorf("tried again after %s, want 20s at least", d)
			}
			return nil
		}
		wantLedger(t, f.run(t), 1, 0, 0, 0)
	})
}

func TestEngine_permanentErrorsPoisonTheOriginalWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "original")
		f.p.Transforms = []pipeline.Transform{upper, func(*message.Message) ([]*message.Message, error) {
			return nil, pipeline.Permanent(errBroken)
		}}
		l := f.run(t)
		wantLedger(t, l, 0, 0, 1, 0)
		if l.Retries != 0 {
			t.Errorf("retried %d times", l.Retries)
		}
		msg := f.poison.Messages()[0]
		if string(msg.Payload) != "original" || msg.UUID != "0" {
			t.Errorf("poisoned %s %q", msg.UUID, msg.Payload)
		}
		if stage := msg.Metadata[pipeline.MetadataPoisonStage]; stage != "transforms[1]" {
			t.Errorf("stage %q", stage)
		}
		if !strings.Contains(l.LastPoison, "broken") {
			t.Errorf("last poison %q", l.LastPoison)
		}
	})
}

func TestEngine_panicIsAPermanentErrorOfItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a", "b")
		f.store.Before = func(_ context.Context, _ int, msg *message.Message) error {
			if string(msg.Payload) == "a" {
				panic("sink panics")
			}
			return nil
		}
		wantLedger(t, f.run(t), 1, 0, 1, 0)
		m := f.poison.Messages()[0].Metadata
		if !strings.Contains(m[pipeline.MetadataPoisonReason], "sink panics") ||
			!strings.Contains(m[pipeline.MetadataPoisonStack], "engine_test.go") {
			t.Errorf("poison metadata: %v", m)
		}
	})
}

func TestEngine_unstorablePoisonIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.queue.RedeliverAfter = time.Second
		f.poison.Before = func(_ context.Context, call int, _ *message.Message) error {
			if call <= 10 { // the attempts of two deliveries
				return errBroken
			}
			return nil
		}
		f.store.Before = func(context.Context, int, *message.Message) error { return pipeline.Permanent(errBroken) }
		wantLedger(t, f.run(t), 0, 0, 1, 2)
	})
}

func TestEngine_brokenPoisonQueueStopsThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "a")
		f.poison.Before = func(context.Context, int, *message.Message) error { return pipeline.Fatal(errBroken) }
		f.store.Before = func(context.Context, int, *message.Message) error { return pipeline.Permanent(errors.New("bad")) }
		f.start(t)
		l, err := f.finish(t)
		if err == nil || !strings.Contains(err.Error(), "poison_queue: broken") {
			t.Errorf("run returned %v", err)
		}
		wantLedger(t, l, 0, 0, 0, 1)
	})
}

func TestEngine_withoutAPoisonQueuePermanentErrorsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.p.PoisonQueue = nil
		f.queue.RedeliverAfter = time.Second
		f.store.Before = func(_ context.Context, call int, _ *message.Message) error {
			if call < 3 {
				return pipeline.Permanent(errBroken)
			}
			return nil
		}
		f.start(t)
		<-f.done
		l := f.engine.Ledgers()[0]
		pipelinetest.CheckLedger(t, l)
		wantLedger(t, l, 1, 0, 0, 2)
	})
}

func TestEngine_rejectedBySourceIsPoisonedAsItStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "torn")
		f.p.Source = pipeline.FromSubscriber(rejecting{f.queue}, "")
		wantLedger(t, f.run(t), 0, 0, 1, 0)
		if f.store.Calls() != 0 {
			t.Error("a rejected message was processed")
		}
		msg := f.poison.Messages()[0]
		if string(msg.Payload) != "torn" || msg.Metadata[pipeline.MetadataPoisonStage] != "source" {
			t.Errorf("poisoned %q %v", msg.Payload, msg.Metadata)
		}
	})
}

type rejecting struct{ *pipelinetest.Queue }

func (r rejecting) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := r.Queue.Subscribe(ctx, topic)
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for msg := range in {
			pipeline.Reject(msg, errBroken)
			out <- msg
		}
	}()
	return out, err
}

func TestEngine_fatalErrorStopsThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "a")
		f.store.Before = func(context.Context, int, *message.Message) error { return pipeline.Fatal(errBroken) }
		f.start(t)
		l, err := f.finish(t)
		if err == nil || !strings.Contains(err.Error(), "broken") || !pipeline.IsFatal(err) {
			t.Errorf("run returned %v", err)
		}
		wantLedger(t, l, 0, 0, 0, 1)
	})
}

func TestEngine_attemptsEndWithTheirTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.p.MessageTimeout = 3 * time.Second
		f.store.Before = func(ctx context.Context, call int, _ *message.Message) error {
			if call == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		l := f.run(t)
		wantLedger(t, l, 1, 0, 0, 0)
		if l.Retries != 1 {
			t.Errorf("retries = %d, want 1", l.Retries)
		}
	})
}

func TestEngine_gracefulStopFinishesWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "a", "b", "c")
		f.store.Before = func(ctx context.Context, _ int, _ *message.Message) error {
			select {
			case <-time.After(5 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		f.start(t)
		time.Sleep(time.Second)
		f.stop()
		time.Sleep(time.Second)
		f.queue.Push("too late")
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 3, 0, 0, 0)
		if f.queue.Len() != 1 {
			t.Errorf("%d left in the queue, want 1", f.queue.Len())
		}
	})
}

func TestEngine_stopReleasesWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "slow")
		f.p.Retry.OnExhausted = "poison"
		f.store.Before = func(ctx context.Context, _ int, _ *message.Message) error { <-ctx.Done(); return ctx.Err() }
		f.start(t)
		time.Sleep(time.Second)
		begin := time.Now()
		f.stop()
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 0, 0, 0, 1)
		if d := time.Since(begin); d != 8*time.Second {
			t.Errorf("stopped after %s, want shutdown_timeout", d)
		}
	})
}

func TestEngine_stopReleasesWhatWaits(t *testing.T) {
	for name, failure := range map[string]error{
		"for its next attempt":  pipeline.RetryAfter(errBroken, 30*time.Second),
		"for an absent backend": pipeline.Unavailable(errBroken),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(false, "a", "b")
				f.p.Retry.OnExhausted = "poison"
				f.store.Before = func(context.Context, int, *message.Message) error { return failure }
				f.start(t)
				time.Sleep(10 * time.Second)
				begin := time.Now()
				f.stop()
				l, err := f.finish(t)
				if err != nil {
					t.Fatal(err)
				}
				if l.Released == 0 || l.Poisoned+l.Written+l.Filtered != 0 {
					t.Errorf("ledger %+v", l)
				}
				if d := time.Since(begin); d > time.Second {
					t.Errorf("stopped after %s", d)
				}
			})
		})
	}
}

func TestEngine_killReleasesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "slow")
		f.store.Before = func(ctx context.Context, _ int, _ *message.Message) error { <-ctx.Done(); return ctx.Err() }
		f.start(t)
		time.Sleep(time.Second)
		begin := time.Now()
		f.engine.Kill()
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 0, 0, 0, 1)
		if d := time.Since(begin); d > time.Second {
			t.Errorf("stopped after %s", d)
		}
	})
}

func TestEngine_boundsWhatIsInFlight(t *testing.T) {
	for name, bound := range map[string]func(*pipeline.Pipeline){
		"in messages": func(p *pipeline.Pipeline) { p.MaxInFlight = 3 },
		"in bytes":    func(p *pipeline.Pipeline) { p.MaxInFlightBytes = 30 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				payloads := slices.Repeat([]string{"ten bytes!"}, 50)
				payloads = append(payloads, strings.Repeat("larger than the bound ", 10))
				f := newFixture(true, payloads...)
				bound(f.p)
				var now, most atomic.Int64
				f.store.Before = func(context.Context, int, *message.Message) error {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(time.Second)
					now.Add(-1)
					return nil
				}
				wantLedger(t, f.run(t), 51, 0, 0, 0)
				if most.Load() != 3 {
					t.Errorf("at most %d at once, want 3", most.Load())
				}
			})
		})
	}
}

func TestEngine_recordsEveryDeliveryOnceBeforeItsFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		record := &pipelinetest.Store{}
		sink := record.Sink()
		f.p.Record = &sink
		f.store.Before = func(_ context.Context, call int, _ *message.Message) error {
			if got := record.Payloads(); !slices.Equal(got, []string{"a"}) {
				t.Errorf("at attempt %d recorded %v", call, got)
			}
			if call < 3 {
				return errBroken
			}
			return nil
		}
		wantLedger(t, f.run(t), 1, 0, 0, 0)
	})
}

func TestEngine_failingRecordIsCountedOrBlocks(t *testing.T) {
	for policy, wantErrors := range map[string]int64{"continue": 1, "block": 0} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(true, "a")
				record := &pipelinetest.Store{Before: func(_ context.Context, call int, _ *message.Message) error {
					if call == 1 {
						return errBroken
					}
					return nil
				}}
				sink := record.Sink()
				f.p.Record, f.p.RecordOnError = &sink, policy
				l := f.run(t)
				wantLedger(t, l, 1, 0, 0, 0)
				if l.RecordErrors != wantErrors || int64(len(record.Payloads())) != 1-wantErrors {
					t.Errorf("record errors %d, recorded %d", l.RecordErrors, len(record.Payloads()))
				}
			})
		})
	}
}

func TestEngine_userMiddlewareWrapsEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		var trace []string
		mark := func(name string) message.HandlerMiddleware {
			return func(next message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) {
					trace = append(trace, name)
					return next(msg)
				}
			}
		}
		f.p.Middleware = []message.HandlerMiddleware{mark("outer"), mark("inner")}
		f.store.Before = func(_ context.Context, call int, _ *message.Message) error {
			if call == 1 {
				return errBroken
			}
			return nil
		}
		f.run(t)
		if want := []string{"outer", "inner", "outer", "inner"}; !slices.Equal(trace, want) {
			t.Errorf("trace %v, want %v", trace, want)
		}
	})
}

func TestEngine_twoEnginesInOneProcessShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newFixture(true, "a"), newFixture(true, "b", "b")
		a.start(t)
		b.start(t)
		la, errA := a.finish(t)
		lb, errB := b.finish(t)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		wantLedger(t, la, 1, 0, 0, 0)
		wantLedger(t, lb, 2, 0, 0, 0)
	})
}

// A source may have ended before the engine looks whether it runs: the router has stopped by itself then, without an
// error. Many engines on more threads than there are processors make that likely.
func TestEngine_sourceThatEndsAtOnceIsNoFailure(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * runtime.NumCPU()))
	var failed atomic.Pointer[error]
	var engines sync.WaitGroup
	for range 64 {
		engines.Go(func() {
			for range 30 {
				p := &pipeline.Pipeline{
					Name: "test", Source: pipelinetest.NewQueue(true).Source(), Sink: (&pipelinetest.Store{}).Sink(), SinkName: "store",
				}
				engine, err := pipeline.New(pipeline.Settings{}, p)
				if err == nil {
					err = engine.Run(t.Context())
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	engines.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}
