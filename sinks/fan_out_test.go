package sinks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/feed"
	"github.com/penstock-dev/penstock/internal/outage"
	"github.com/penstock-dev/penstock/pipeline"
)

// legConfig is a sink that does what a test tells it.
type legConfig struct {
	publish func(attempt int, msgs []*message.Message) error
	start   func() error
	ping    func() error
	newErr  error

	mu       sync.Mutex
	attempts map[string]int // by UUIDs of a Publish
	roles    []pipeline.Role
	starts   atomic.Int64
	closes   atomic.Int64
}

func (c *legConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	c.roles = append(c.roles, env.Role)
	return pipeline.Sink{Publisher: c, Topic: "leg"}, c.newErr
}

func (c *legConfig) Publish(topic string, msgs ...*message.Message) error {
	if topic != "leg" {
		return fmt.Errorf("topic %q", topic)
	}
	key := ""
	for _, msg := range msgs {
		key += msg.UUID
		msg.Metadata.Set("changed", "by a leg") // publishers may
	}
	c.mu.Lock()
	if c.attempts == nil {
		c.attempts = make(map[string]int)
	}
	c.attempts[key]++
	attempt := c.attempts[key]
	c.mu.Unlock()
	if c.publish == nil {
		return nil
	}
	return c.publish(attempt, msgs)
}

func (c *legConfig) Start(context.Context) error {
	c.starts.Add(1)
	if c.start == nil {
		return nil
	}
	return c.start()
}

func (c *legConfig) Ping(context.Context) error {
	if c.ping == nil {
		return nil
	}
	return c.ping()
}

func (c *legConfig) Close() error { c.closes.Add(1); return nil }

func (c *legConfig) tries(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts[key]
}

func fanOutOf(t *testing.T, legs ...pipeline.SinkConfig) pipeline.Sink {
	t.Helper()
	var c FanOutConfig
	for _, l := range legs {
		c = append(c, pipeline.SinkSpec{Component: pipeline.Component{Name: "leg", Config: l}})
	}
	s, err := c.NewSink(pipeline.Env{Pipeline: "p", Role: pipeline.RoleRecord, Path: "sink.fan_out"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run delivers messages to a sink through an engine.
func run(t *testing.T, sink pipeline.Sink, poison *pipeline.Sink, transform pipeline.Transform, uuids ...string) (pipeline.Ledger, error) {
	t.Helper()
	source := feed.New(feed.Settings{Next: func() (feed.Item, error) {
		if len(uuids) == 0 {
			return feed.Item{}, io.EOF
		}
		id := uuids[0]
		uuids = uuids[1:]
		return feed.Item{Message: message.NewMessage(id, []byte(id))}, nil
	}})
	p := &pipeline.Pipeline{Name: "p", Source: pipeline.FromSubscriber(source, ""), Sink: sink, PoisonQueue: poison,
		Retry: pipeline.RetryConfig{InitialInterval: time.Millisecond, MaxInterval: time.Millisecond, Multiplier: 1, MaxAttempts: 5, MaxElapsedTime: time.Minute, OnExhausted: "release"}}
	if transform != nil {
		p.Transforms = []pipeline.Transform{transform}
	}
	engine, err := pipeline.New(pipeline.Settings{}, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = engine.Run(ctx)
	return engine.Ledgers()[0], err
}

func TestFanOut_triesOnlyTheLegsThatFailed(t *testing.T) {
	fine, flaky, busy := &legConfig{}, &legConfig{}, &legConfig{}
	flaky.publish = func(attempt int, _ []*message.Message) error {
		if attempt < 3 {
			return errors.New("not now")
		}
		return nil
	}
	busy.publish = func(attempt int, _ []*message.Message) error {
		if attempt < 2 {
			return pipeline.RetryAfter(errors.New("busy"), time.Millisecond)
		}
		return nil
	}
	sink := fanOutOf(t, fine, flaky, busy)
	ledger, err := run(t, sink, nil, nil, "a", "b", "c")
	if err != nil || ledger.Written != 3 {
		t.Errorf("%v %+v", err, ledger)
	}
	for _, id := range []string{"a", "b", "c"} {
		if fine.tries(id) != 1 || flaky.tries(id) != 3 || busy.tries(id) != 2 {
			t.Errorf("%s was tried %d, %d and %d times, want 1, 3 and 2", id, fine.tries(id), flaky.tries(id), busy.tries(id))
		}
	}
}

func TestFanOut_forgetsWithTheDelivery(t *testing.T) {
	fine := &legConfig{}
	broken := &legConfig{publish: func(int, []*message.Message) error { return errors.New("never") }}
	sink := fanOutOf(t, fine, broken)
	for delivery := 1; delivery <= 2; delivery++ {
		if ledger, err := run(t, sink, nil, nil, "a"); err != nil || ledger.Released != 1 {
			t.Errorf("%v %+v", err, ledger)
		}
		if fine.tries("a") != delivery || broken.tries("a") != 5*delivery {
			t.Errorf("after delivery %d: tried %d and %d times", delivery, fine.tries("a"), broken.tries("a"))
		}
	}
}

// A transform that makes something else of a message the second time: what was stored is not what is to be stored.
func TestFanOut_remembersWhatWasStoredNotThatSomethingWas(t *testing.T) {
	fine := &legConfig{}
	flaky := &legConfig{publish: func(attempt int, msgs []*message.Message) error {
		if msgs[0].UUID == "1" {
			return errors.New("not now")
		}
		return nil
	}}
	n := 0
	transform := func(msg *message.Message) ([]*message.Message, error) {
		n++
		msg.UUID = fmt.Sprint(n)
		return message.Messages{msg}, nil
	}
	if ledger, err := run(t, fanOutOf(t, fine, flaky), nil, transform, "a"); err != nil || ledger.Written != 1 {
		t.Errorf("%v %+v", err, ledger)
	}
	if fine.tries("1") != 1 || fine.tries("2") != 1 {
		t.Errorf("the second version was stored %d times", fine.tries("2"))
	}
}

func TestFanOut_poisonsWhenOnlyALegThatWillNeverTakeItIsLeft(t *testing.T) {
	picky := &legConfig{publish: func(int, []*message.Message) error { return pipeline.Permanent(errors.New("won't fit")) }}
	flaky := &legConfig{publish: func(attempt int, _ []*message.Message) error {
		if attempt < 3 {
			return errors.New("not now")
		}
		return nil
	}}
	var reason string
	poison := pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		reason = msg.Metadata["poison_reason"]
		return nil
	})
	ledger, err := run(t, fanOutOf(t, picky, flaky), &poison, nil, "a")
	if err != nil || ledger.Poisoned != 1 || !strings.Contains(reason, "sink.fan_out[0].leg: won't fit") {
		t.Errorf("%v %+v %q", err, ledger, reason)
	}
	if picky.tries("a") != 1 || flaky.tries("a") != 3 {
		t.Errorf("tried %d and %d times, want 1 and 3", picky.tries("a"), flaky.tries("a"))
	}
}

func TestFanOut_theWorstLegDecides(t *testing.T) {
	plain, permanent := errors.New("plain"), pipeline.Permanent(errors.New("permanent"))
	unavailable, fatal := pipeline.Unavailable(errors.New("away")), pipeline.Fatal(errors.New("fatal"))
	cases := map[string]struct {
		errs                          []error
		fatal, unavailable, permanent bool
	}{
		"all fine":            {errs: []error{nil, nil}},
		"one fails":           {errs: []error{nil, plain, nil}},
		"plain and permanent": {errs: []error{plain, permanent}},
		"permanent and plain": {errs: []error{permanent, plain}},
		"permanent":           {errs: []error{nil, permanent}, permanent: true},
		"away":                {errs: []error{permanent, unavailable, plain}, unavailable: true},
		"fatal":               {errs: []error{unavailable, plain, fatal}, fatal: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var legs []pipeline.SinkConfig
			failing := 0
			for _, err := range c.errs {
				legs = append(legs, &legConfig{publish: func(int, []*message.Message) error { return err }})
				if err != nil {
					failing++
				}
			}
			err := fanOutOf(t, legs...).Publisher.Publish("", message.NewMessage("a", nil))
			if (err != nil) != (failing > 0) || pipeline.IsFatal(err) != c.fatal || pipeline.IsUnavailable(err) != c.unavailable || pipeline.IsPermanent(err) != c.permanent {
				t.Errorf("got %v", err)
			}
			for i, legErr := range c.errs {
				if legErr != nil && !strings.Contains(err.Error(), fmt.Sprintf("sink.fan_out[%d].leg: %v", i, legErr)) {
					t.Errorf("does not name leg %d: %v", i, err)
				}
			}
		})
	}
}

func TestFanOut_legsRunSideBySide(t *testing.T) {
	var meet sync.WaitGroup
	meet.Add(3)
	together := func(int, []*message.Message) error {
		meet.Done()
		meet.Wait() // for ever, if one waits for another
		return nil
	}
	msg := message.NewMessage("a", []byte("x"))
	sink := fanOutOf(t, &legConfig{publish: together}, &legConfig{publish: together}, &legConfig{publish: together})
	if err := sink.Publisher.Publish("", msg, message.NewMessage("b", nil)); err != nil {
		t.Error(err)
	}
}

func TestFanOut_aPanicIsAnErrorOfTheMessage(t *testing.T) {
	for i := range 2 {
		legs := []pipeline.SinkConfig{&legConfig{}, &legConfig{}}
		legs[i].(*legConfig).publish = func(int, []*message.Message) error { panic("boom") }
		err := fanOutOf(t, legs...).Publisher.Publish("", message.NewMessage("a", nil))
		if want := fmt.Sprintf("sink.fan_out[%d].leg: panic: boom", i); !pipeline.IsPermanent(err) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFanOut_startsPingsAndClosesItsLegs(t *testing.T) {
	here := &legConfig{}
	gone := true
	away := &legConfig{start: func() error {
		if gone {
			return pipeline.Unavailable(errors.New("away"))
		}
		return nil
	}}
	away.ping = away.start
	sink := fanOutOf(t, here, away)
	start, ping := sink.Publisher.(pipeline.Starter), sink.Publisher.(pipeline.Pinger)
	ctx := context.Background()
	if err := start.Start(ctx); !pipeline.IsUnavailable(err) {
		t.Errorf("start: %v", err)
	}
	if err := ping.Ping(ctx); !pipeline.IsUnavailable(err) {
		t.Errorf("ping: %v", err)
	}
	gone = false
	if err := start.Start(ctx); err != nil || here.starts.Load() != 1 || away.starts.Load() != 2 {
		t.Errorf("start again: %v; started %d and %d times", err, here.starts.Load(), away.starts.Load())
	}
	if err := ping.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := sink.Publisher.Close(); err != nil || here.closes.Load() != 1 || away.closes.Load() != 1 {
		t.Errorf("%v; closed %d and %d times", err, here.closes.Load(), away.closes.Load())
	}
	if here.roles[0] != pipeline.RoleRecord {
		t.Errorf("a leg has the role %s", here.roles[0])
	}
}

func TestFanOut_aLegThatCannotStartIsWorseThanOneThatIsAway(t *testing.T) {
	sink := fanOutOf(t, &legConfig{start: func() error { return pipeline.Unavailable(errors.New("away")) }}, &legConfig{start: func() error { return errors.New("no such directory") }})
	if err := sink.Publisher.(pipeline.Starter).Start(context.Background()); !pipeline.IsFatal(err) {
		t.Errorf("got %v", err)
	}
}

func TestFanOut_closesWhatItMadeWhenALegCannotBeMade(t *testing.T) {
	made := &legConfig{}
	c := FanOutConfig{
		{Component: pipeline.Component{Name: "leg", Config: made}},
		{Component: pipeline.Component{Name: "leg", Config: &legConfig{newErr: errors.New("bad key")}}},
	}
	if _, err := c.NewSink(pipeline.Env{Path: "sink.fan_out"}); err == nil || err.Error() != "sink.fan_out[1].leg: bad key" || made.closes.Load() != 1 {
		t.Errorf("%v; closed %d times", err, made.closes.Load())
	}
	if err := new(FanOutConfig).Validate(); err == nil {
		t.Error("accepts no legs")
	}
}

func BenchmarkFanOut(b *testing.B) {
	b.ReportAllocs()
	c := FanOutConfig{{Component: pipeline.Component{Name: "drop", Config: &DropConfig{}}}, {Component: pipeline.Component{Name: "drop", Config: &DropConfig{}}}}
	sink, err := c.NewSink(pipeline.Env{})
	if err != nil {
		b.Fatal(err)
	}
	msg := message.NewMessage("a", make([]byte, 300))
	for range b.N {
		if err := sink.Publisher.Publish("", msg); err != nil {
			b.Fatal(err)
		}
	}
}

func TestFanOut_tellsTheStateOfEachLeg(t *testing.T) {
	gone := errors.New("gone")
	var away, pinged atomic.Bool
	unreachable := func() error {
		if away.Load() {
			return pipeline.Unavailable(gone)
		}
		return nil
	}
	first := &legConfig{publish: func(int, []*message.Message) error { return unreachable() }} // its pings say nothing
	second := &legConfig{ping: func() error {
		if pinged.Load() {
			return pipeline.Unavailable(gone)
		}
		return nil
	}}
	sink := fanOutOf(t, first, second)
	f := sink.Publisher.(*fanOut)
	states := func(want ...outage.State) {
		t.Helper()
		got := f.Outages()
		for i, s := range got {
			if s.State != want[i] || s.Path != f.legs[i].path || (s.State == outage.Away) != (s.Tries > 0) || s.State == outage.Away && !errors.Is(s.Err, gone) {
				t.Errorf("leg %d: %+v, want %s", i, s, want[i])
			}
		}
	}
	states(outage.Starting, outage.Starting)
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	states(outage.Up, outage.Up)
	publish := func() error { return f.Publish("", message.NewMessage("m", nil)) }
	away.Store(true)
	if err := publish(); !pipeline.IsUnavailable(err) {
		t.Fatal(err)
	}
	states(outage.Away, outage.Up)
	away.Store(false)
	pinged.Store(true)
	_ = f.Ping(t.Context())
	states(outage.Away, outage.Away)
	pinged.Store(false)
	if err := f.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	states(outage.Away, outage.Up) // a message found the first away
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	states(outage.Up, outage.Up)
}
