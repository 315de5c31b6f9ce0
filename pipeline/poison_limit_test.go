package pipeline_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// refuseSome makes messages that begin with "bad" permanent errors.
func refuseSome(msg *message.Message) ([]*message.Message, error) {
	if strings.HasPrefix(string(msg.Payload), "bad") {
		return nil, pipeline.Permanent(errBroken)
	}
	return []*message.Message{msg}, nil
}

func TestPoisonLimit(t *testing.T) {
	for name, test := range map[string]struct {
		limit    *pipeline.PoisonLimitConfig
		bad      func(i int) bool
		poisoned int
		stops    bool
	}{
		"no limit":                   {nil, func(int) bool { return true }, 300, false},
		"all are bad":                {&pipeline.PoisonLimitConfig{MoreThan: 10, OfLast: 100}, func(int) bool { return true }, 10, true},
		"as many as are allowed":     {&pipeline.PoisonLimitConfig{MoreThan: 10, OfLast: 100}, func(i int) bool { return i%10 == 0 }, 30, false},
		"a few more, in one place":   {&pipeline.PoisonLimitConfig{MoreThan: 10, OfLast: 100}, func(i int) bool { return i > 100 && i%5 == 0 }, 10, true},
		"many, but long ago":         {&pipeline.PoisonLimitConfig{MoreThan: 10, OfLast: 50}, func(i int) bool { return i%100 < 10 }, 30, false},
		"a limit of one in a window": {&pipeline.PoisonLimitConfig{MoreThan: 1, OfLast: 2}, func(i int) bool { return i%2 == 0 }, 150, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var payloads []string
				for i := range 300 {
					payload := fmt.Sprintf("good %d", i)
					if test.bad(i) {
						payload = fmt.Sprintf("bad %d", i)
					}
					payloads = append(payloads, payload)
				}
				f := newFixture(true, payloads...)
				f.p.Transforms = []pipeline.Transform{refuseSome}
				f.p.PoisonLimit = test.limit
				f.p.MaxInFlight = 1 // in their order
				f.start(t)
				l, err := f.finish(t)
				if int(l.Poisoned) != test.poisoned || len(f.poison.Payloads()) != test.poisoned {
					t.Errorf("poisoned %d, stored %d, want %d", l.Poisoned, len(f.poison.Payloads()), test.poisoned)
				}
				if stopped := pipeline.IsFatal(err); stopped != test.stops {
					t.Errorf("ended with %v, want a stop: %v", err, test.stops)
				}
				if test.stops && !strings.Contains(fmt.Sprint(err), "poison_limit") {
					t.Errorf("the error doesn't name poison_limit: %v", err)
				}
			})
		})
	}
}

// With many in flight at a time no more is stored than the limit allows.
func TestPoisonLimit_holdsWithManyInFlight(t *testing.T) {
	var payloads []string
	for i := range 2000 {
		payloads = append(payloads, fmt.Sprintf("bad %d", i))
	}
	f := newFixture(true, payloads...)
	f.p.Transforms = []pipeline.Transform{refuseSome}
	f.p.PoisonLimit = &pipeline.PoisonLimitConfig{MoreThan: 25, OfLast: 1000}
	f.start(t)
	l, err := f.finish(t)
	if !pipeline.IsFatal(err) || l.Poisoned != 25 || len(f.poison.Payloads()) != 25 {
		t.Errorf("poisoned %d, stored %d, ended with %v; want 25 and a stop", l.Poisoned, len(f.poison.Payloads()), err)
	}
}
