package pipeline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

// lateQueue is a queue that can't be started at first.
type lateQueue struct {
	*pipelinetest.Queue
	away func() error
}

func (q lateQueue) Start(context.Context) error { return q.away() }

// An outage of any component is told once when it begins and once when it ends, with what it was, and the status says
// meanwhile since when, why, how often it was tried, and when it is tried next.
func TestEngine_tellsTheOutageOfEachComponent(t *testing.T) {
	for name, c := range map[string]struct {
		setUp             func(f *fixture, away func() error)
		path, code        string
		begins, ends      string
		held              int           // at the same time, the one that probes included
		pause             time.Duration // longest between tries
		role              pipeline.Role
		written, poisoned int64
	}{
		"sink": {
			setUp: func(f *fixture, away func() error) {
				f.store.Before = func(context.Context, int, *message.Message) error { return away() }
			},
			path: "sink.store", role: pipeline.RoleSink, code: "PS411", begins: "outage begins: a backend is away, messages are held",
			ends: "outage ends: the backend is back", held: 5, pause: 2 * time.Second, written: 5,
		},
		"transform": {
			setUp: func(f *fixture, away func() error) {
				f.p.Transforms = []pipeline.Transform{same, func(m *message.Message) ([]*message.Message, error) {
					return []*message.Message{m}, away()
				}}
			},
			path: "transforms[1]", role: pipeline.RoleTransform, code: "PS412", begins: "outage begins: a backend is away, messages that need it are held",
			ends: "outage ends: the backend is back", held: 5, pause: 2 * time.Second, written: 5,
		},
		"poison queue": {
			setUp: func(f *fixture, away func() error) {
				f.p.Transforms = []pipeline.Transform{func(*message.Message) ([]*message.Message, error) {
					return nil, pipeline.Permanent(errors.New("bad"))
				}}
				f.poison.Before = func(context.Context, int, *message.Message) error { return away() }
			},
			path: "poison_queue", role: pipeline.RolePoisonQueue, code: "PS414", begins: "the poison_queue is away",
			ends: "the poison_queue is back", held: 5, pause: 2 * time.Second, poisoned: 5,
		},
		"record": {
			setUp: func(f *fixture, away func() error) {
				record := (&pipelinetest.Store{Before: func(context.Context, int, *message.Message) error { return away() }}).Sink()
				f.p.Record, f.p.RecordOnError = &record, "block"
			},
			path: "record", role: pipeline.RoleRecord, code: "PS415", begins: "the record is away", ends: "the record is back",
			pause: 5 * time.Second, written: 5,
		},
		"source": {
			setUp: func(f *fixture, away func() error) {
				f.p.Source = pipeline.FromSubscriber(lateQueue{f.queue, away}, "")
			},
			path: "source", role: pipeline.RoleSource, code: "PS413", begins: "the source is away, trying again", ends: "the source is back",
			pause: time.Second, written: 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(true, "a", "b", "c", "d", "e")
				begin := time.Now()
				back := begin.Add(time.Hour)
				c.setUp(f, func() error {
					if time.Now().Before(back) {
						return pipeline.Unavailable(errBroken)
					}
					return nil
				})
				core, logs := observer.New(zap.InfoLevel)
				f.log = zap.New(core)
				f.start(t)
				time.Sleep(30*time.Minute + 50*time.Millisecond)
				now := time.Now()
				got := component(t, f, c.path)
				if got.Role != c.role || got.State != "away" || got.Since.Sub(begin) > time.Second || !errors.Is(got.LastError, errBroken) || got.Code != c.code ||
					now.Sub(got.LastErrorAt) > c.pause || got.Tries < int(30*time.Minute/c.pause)-1 {
					t.Errorf("in the outage: %+v", got)
				}
				if got.NextTry.Before(now) || got.NextTry.After(now.Add(c.pause)) {
					t.Errorf("the next try is in %s, want within %s", got.NextTry.Sub(now), c.pause)
				}
				if got.Held < c.held-1 || got.Held > c.held {
					t.Errorf("%d held, want %d, of which one may probe", got.Held, c.held)
				}
				for _, other := range f.engine.Health()[0].Components {
					if other.Path != c.path && (other.State == "away" || other.LastError != nil || !other.NextTry.IsZero()) {
						t.Errorf("another component: %+v", other)
					}
				}
				l, err := f.finish(t)
				if err != nil {
					t.Fatal(err)
				}
				wantLedger(t, l, c.written, 0, c.poisoned, 0)
				begins, ends := logs.FilterMessage(c.begins).All(), logs.FilterMessage(c.ends).All()
				if len(begins) != 1 || len(ends) != 1 {
					t.Fatalf("told %d times that it begins, %d times that it ends, want once each:\n%v", len(begins), len(ends), logs.All())
				}
				fields := ends[0].ContextMap()
				if after, _ := fields["after"].(time.Duration); after < time.Hour-time.Second || after > time.Hour+c.pause+time.Second {
					t.Errorf("ended after %v, want an hour", fields["after"])
				}
				if tries, _ := fields["tries"].(int64); tries < int64(time.Hour/c.pause)-1 || tries > int64(2*time.Hour/time.Second)+10 {
					t.Errorf("%v tries in an hour", fields["tries"])
				}
				if held, _ := fields["held"].(int64); held != int64(c.held) {
					t.Errorf("%v held, want %d", fields["held"], c.held)
				}
			})
		})
	}
}

func component(t *testing.T, f *fixture, path string) pipeline.ComponentHealth {
	t.Helper()
	for _, c := range f.engine.Health()[0].Components {
		if c.Path == path {
			return c
		}
	}
	t.Fatalf("no component %q in %+v", path, f.engine.Health()[0].Components)
	return pipeline.ComponentHealth{}
}

// flakyQueue receives, except for a while.
type flakyQueue struct {
	*pipelinetest.Queue
	from, to time.Time
}

func (q flakyQueue) Receiving() (int, error) {
	if now := time.Now(); now.After(q.from) && now.Before(q.to) {
		return 0, errBroken
	}
	return 3, nil
}

func (q flakyQueue) NextTry() time.Time { return time.Now().Add(7 * time.Second) }

func TestEngine_tellsWhatASourceThatTriesByItselfSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false)
		from := time.Now().Add(time.Minute)
		f.p.Source = pipeline.FromSubscriber(flakyQueue{f.queue, from, from.Add(time.Minute)}, "")
		f.start(t)
		if got := component(t, f, "source"); got.State != "starting" && got.State != "up" {
			t.Errorf("at first: %+v", got)
		}
		time.Sleep(90 * time.Second)
		got := component(t, f, "source")
		if late := got.Since.Sub(from); got.State != "away" || late < 0 || late > 2*time.Second || !errors.Is(got.LastError, errBroken) || time.Until(got.NextTry) != 7*time.Second {
			t.Errorf("in the outage: %+v", got)
		}
		time.Sleep(time.Minute)
		if got = component(t, f, "source"); got.State != "up" || got.LastError == nil || !got.NextTry.IsZero() {
			t.Errorf("after it: %+v", got)
		}
		f.stop()
		if _, err := f.finish(t); err != nil {
			t.Fatal(err)
		}
		if got = component(t, f, "source"); got.State != "stopped" {
			t.Errorf("at the end: %+v", got)
		}
	})
}
