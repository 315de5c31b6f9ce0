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

	"github.com/penstock-dev/penstock/pipeline"
)

// lookup is a transform that asks a backend about the messages that begin with "ask".
type lookup struct {
	back  time.Time // until then the backend is away
	calls atomic.Int64
	now   atomic.Int64
	most  atomic.Int64 // at once, since the backend is back
}

func (l *lookup) transform(msg *message.Message) ([]*message.Message, error) {
	if !strings.HasPrefix(string(msg.Payload), "ask") {
		return []*message.Message{msg}, nil
	}
	l.calls.Add(1)
	if time.Now().Before(l.back) {
		return nil, pipeline.Unavailable(errBroken)
	}
	l.most.Store(max(l.most.Load(), l.now.Add(1)))
	time.Sleep(time.Millisecond)
	l.now.Add(-1)
	return []*message.Message{msg}, nil
}

func payloads(format string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return all
}

func TestEngine_awayBackendOfATransformHoldsOnlyWhatNeedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, append(payloads("ask %d", 20), payloads("plain %d", 500)...)...)
		f.p.MaxInFlight = 30
		api := &lookup{back: time.Now().Add(time.Hour)}
		f.p.Transforms = []pipeline.Transform{same, api.transform}
		f.start(t)
		time.Sleep(10 * time.Minute)
		if l := f.engine.Ledgers()[0]; l.Written != 500 || l.InFlight() != 20 || l.Retries != 0 {
			t.Errorf("in the outage: %+v, want what needs no backend written, the rest held", l)
		}
		h := f.engine.Health()[0]
		if h.Up || !h.SinkConnected || h.Consumers == 0 || !strings.Contains(h.Reason, "transforms[1]: broken") {
			t.Errorf("health in the outage: %+v", h)
		}
		if n := api.calls.Load(); n < 20+250 || n > 20+1500 {
			t.Errorf("%d calls in ten minutes: want one probe every 1 to 2 s", n)
		}
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 520, 0, 0, 0)
		if took := time.Since(api.back); took > 5*time.Second {
			t.Errorf("went on %s after the backend was back", took)
		}
		if n := api.most.Load(); n > 16 {
			t.Errorf("%d at once after the outage: want a gradual growth", n)
		}
	})
}

func same(msg *message.Message) ([]*message.Message, error) { return []*message.Message{msg}, nil }

func TestEngine_isReadyWithTheFirstAnswerOfATransformsBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "ask", "ask too")
		api := &lookup{back: time.Now().Add(time.Minute)}
		f.p.Transforms = []pipeline.Transform{api.transform}
		f.start(t)
		time.Sleep(30 * time.Second)
		if f.engine.Health()[0].Up {
			t.Error("ready in the outage")
		}
		time.Sleep(40 * time.Second)
		if h := f.engine.Health()[0]; !h.Up {
			t.Errorf("after the outage: %+v", h)
		}
		f.stop()
		if _, err := f.finish(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEngine_outagesOfStoreAndTransformTogetherEndBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, append(payloads("ask %d", 10), payloads("plain %d", 50)...)...)
		begin := time.Now()
		api := &lookup{back: begin.Add(time.Minute)}
		f.p.Transforms = []pipeline.Transform{api.transform}
		f.store.Before = func(context.Context, int, *message.Message) error {
			// Away from the start, and once more after the backend of the transform is back.
			if in := time.Since(begin); in < 30*time.Second || in > time.Minute && in < 90*time.Second {
				return pipeline.Unavailable(errBroken)
			}
			return nil
		}
		f.start(t)
		time.Sleep(20 * time.Second)
		if h := f.engine.Health()[0]; h.Up || h.Consumers != 0 || h.SinkConnected {
			t.Errorf("with both away: %+v", h)
		}
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 60, 0, 0, 0)
		if l.Retries != 0 || len(f.poison.Payloads()) != 0 {
			t.Errorf("%+v", l)
		}
	})
}

func TestEngine_stopReleasesWhatWaitsForATransformsBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "ask", "plain")
		api := &lookup{back: time.Now().Add(time.Hour)}
		f.p.Transforms = []pipeline.Transform{api.transform}
		f.start(t)
		time.Sleep(time.Minute)
		f.stop()
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 1, 0, 0, 1)
	})
}

func TestEngine_timeSpentOnAnAbsentBackendIsNotOfTheRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		f.p.MessageTimeout = time.Minute
		f.p.Retry.OnExhausted = "poison"
		f.store.Before = func(_ context.Context, call int, _ *message.Message) error {
			switch {
			case call <= 10: // each takes long to find out; a minute is the budget
				time.Sleep(30 * time.Second)
				return pipeline.Unavailable(errBroken)
			case call == 11:
				return errBroken
			}
			return nil
		}
		wantLedger(t, f.run(t), 1, 0, 0, 0)
	})
}
