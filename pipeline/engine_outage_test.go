package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestEngine_anOutageIsNotPoisonAndCountsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payloads := make([]string, 100)
		for i := range payloads {
			payloads[i] = fmt.Sprint("m", i)
		}
		f := newFixture(true, payloads...)
		f.p.Retry = pipeline.RetryConfig{MaxAttempts: 1, OnExhausted: "poison"}
		f.p.MaxInFlight = 10
		outage := time.Now().Add(2 * time.Hour)
		var most, now atomic.Int64
		f.store.Before = func(context.Context, int, *message.Message) error {
			if time.Now().Before(outage) {
				return pipeline.Unavailable(errBroken)
			}
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Millisecond)
			now.Add(-1)
			return nil
		}
		f.start(t)
		time.Sleep(time.Hour)
		h := f.engine.Health()[0]
		if h.Up || h.Consumers != 0 || h.SinkConnected || !strings.Contains(h.Reason, "broken") {
			t.Errorf("health in the outage: %+v", h)
		}
		if n := f.engine.Ledgers()[0].InFlight(); n > 10 {
			t.Errorf("%d in flight", n)
		}
		if calls := f.store.Calls(); calls < 1000 || calls > 8000 {
			t.Errorf("%d calls in an hour of outage: want one probe every 1 to 2 s", calls)
		}
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 100, 0, 0, 0)
		if took := time.Since(outage); took > 5*time.Second {
			t.Errorf("went on %s after the store was back", took)
		}
		if l.Retries != 0 {
			t.Errorf("%d retries counted", l.Retries)
		}
	})
}

// pinged is a sink whose backend can be switched off while nothing flows.
type pinged struct {
	*pipelinetest.Store
	away atomic.Bool
}

func (p *pinged) Start(ctx context.Context) error { return p.Ping(ctx) }

func (p *pinged) Ping(context.Context) error {
	if p.away.Load() {
		return pipeline.Unavailable(errBroken)
	}
	return nil
}

func TestEngine_startsWithItsStoreAwayAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a", "b")
		sink := &pinged{Store: f.store}
		sink.away.Store(true)
		f.p.Sink.Publisher = sink
		f.start(t)
		time.Sleep(10 * time.Minute)
		if h := f.engine.Health()[0]; h.Up || h.SinkConnected {
			t.Errorf("health: %+v", h)
		}
		if n := f.engine.Ledgers()[0].Received; n != 0 {
			t.Errorf("received %d while the store was away", n)
		}
		sink.away.Store(false)
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 2, 0, 0, 0)
	})
}

func (p *pinged) Report() map[string]any { return map[string]any{"away": p.away.Load()} }

func TestEngine_healthHoldsTheReportsOfComponents(t *testing.T) {
	f := newFixture(true)
	f.p.Sink.Publisher = &pinged{Store: f.store}
	batching := pipeline.BatchSinkFunc(nil, pipeline.BatchSettings{Report: func() map[string]any { return map[string]any{"n": 1} }})
	f.p.PoisonQueue = &batching
	engine, err := pipeline.New(pipeline.Settings{}, f.p)
	if err != nil {
		t.Fatal(err)
	}
	reports := engine.Health()[0].Reports
	if len(reports) != 2 || reports[pipeline.RoleSink]["away"] != false || reports[pipeline.RolePoisonQueue]["n"] != 1 {
		t.Errorf("reports %v", reports)
	}
	if err := engine.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestEngine_idlePipelineNoticesItsStoreGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false)
		sink := &pinged{Store: f.store}
		f.p.Sink.Publisher = sink
		f.store.Before = func(ctx context.Context, _ int, _ *message.Message) error { return sink.Ping(ctx) }
		f.start(t)
		time.Sleep(time.Minute)
		if h := f.engine.Health()[0]; !h.Up || h.Consumers != 1 {
			t.Fatalf("health at first: %+v", h)
		}
		sink.away.Store(true)
		time.Sleep(10 * time.Second)
		if h := f.engine.Health()[0]; h.Up || h.SinkConnected || h.Consumers != 0 {
			t.Errorf("health with the store away: %+v", h)
		}
		f.queue.Push("x")
		time.Sleep(10 * time.Second)
		if n := len(f.store.Payloads()); n != 0 {
			t.Errorf("%d stored in an absent store", n)
		}
		sink.away.Store(false)
		time.Sleep(5 * time.Second)
		if h := f.engine.Health()[0]; !h.Up {
			t.Errorf("health with the store back: %+v", h)
		}
		f.stop()
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 1, 0, 0, 0)
	})
}

type refusing struct {
	*pipelinetest.Store
	now atomic.Bool
}

func (r *refusing) Ping(context.Context) error {
	if r.now.Load() {
		return pipeline.Fatal(errBroken)
	}
	return nil
}

func TestEngine_fatalPingStopsAnIdlePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false)
		sink := &refusing{Store: f.store}
		f.p.Sink.Publisher = sink
		f.start(t)
		sink.now.Store(true)
		time.Sleep(time.Minute)
		f.stop() // too late, if the ping has done it
		if l, err := f.finish(t); !pipeline.IsFatal(err) {
			t.Errorf("run returned %v, %+v", err, l)
		}
	})
}

// hanging is a store whose pings hang while it is set to.
type hanging struct {
	*pipelinetest.Store
	now atomic.Bool
}

func (h *hanging) Ping(ctx context.Context) error {
	if !h.now.Load() {
		return nil
	}
	<-ctx.Done()
	return pipeline.Unavailable(ctx.Err())
}

// A store that takes connections and doesn't answer is told within 5 s, and so is its return.
func TestEngine_hangingStoreIsToldWithinFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false)
		sink := &hanging{Store: f.store}
		f.p.Sink.Publisher = sink
		f.start(t)
		time.Sleep(time.Minute)
		for _, after := range []time.Duration{0, 400 * time.Millisecond, 1100 * time.Millisecond} { // at different points of the rhythm
			time.Sleep(after)
			sink.now.Store(true)
			time.Sleep(5 * time.Second)
			if h := f.engine.Health()[0]; h.Up || h.SinkConnected || h.Consumers != 0 {
				t.Errorf("5 s after it began to hang: %+v", h)
			}
			sink.now.Store(false)
			time.Sleep(5 * time.Second)
			if h := f.engine.Health()[0]; !h.Up {
				t.Errorf("5 s after it answers again: %+v", h)
			}
		}
		f.stop()
		if _, err := f.finish(t); err != nil {
			t.Fatal(err)
		}
	})
}

// A store that answers pings and fails every message is away until a message has passed.
func TestEngine_storeThatOnlyAnswersPingsIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false)
		f.p.Sink.Publisher = &hanging{Store: f.store}
		var broken atomic.Bool
		f.store.Before = func(context.Context, int, *message.Message) error {
			if broken.Load() {
				time.Sleep(500 * time.Millisecond) // the gate is half open meanwhile, and pings are answered
				return pipeline.Unavailable(errBroken)
			}
			return nil
		}
		f.start(t)
		time.Sleep(time.Second)
		broken.Store(true)
		f.queue.Push("x")
		time.Sleep(time.Second) // the first attempt finds it out
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			if h := f.engine.Health()[0]; h.Up {
				t.Fatalf("up while no message can be stored: %+v", h)
			}
		}
		broken.Store(false)
		time.Sleep(5 * time.Second)
		if h := f.engine.Health()[0]; !h.Up {
			t.Errorf("5 s after it takes messages again: %+v", h)
		}
		f.stop()
		if _, err := f.finish(t); err != nil {
			t.Fatal(err)
		}
	})
}

// A store that is slow, and answers the parts of a ping, is not away.
func TestEngine_slowStoreIsNotAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false)
		f.p.Sink.Publisher = slow{f.store}
		f.start(t)
		time.Sleep(10 * time.Second)
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if h := f.engine.Health()[0]; !h.Up {
				t.Fatalf("a slow store counts as away: %+v", h)
			}
		}
		f.stop()
		if _, err := f.finish(t); err != nil {
			t.Fatal(err)
		}
	})
}

// slow takes 2 s for each of the two parts of a ping.
type slow struct{ *pipelinetest.Store }

func (slow) Ping(ctx context.Context) error {
	for range 2 {
		select {
		case <-time.After(2 * time.Second):
			inside.Answered(ctx)
		case <-ctx.Done():
			return pipeline.Unavailable(ctx.Err())
		}
	}
	return nil
}
