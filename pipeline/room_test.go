package pipeline_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// unpacking is a transform that reserves in two steps what it makes of a message, and counts what is held at a time.
type unpacking struct {
	size           int64
	now, most, ran atomic.Int64
}

func (u *unpacking) transform(msg *message.Message) ([]*message.Message, error) {
	u.ran.Add(1)
	for range 2 {
		if err := pipeline.Reserve(msg.Context(), u.size/2); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
	}
	now := u.now.Add(u.size)
	for most := u.most.Load(); now > most && !u.most.CompareAndSwap(most, now); most = u.most.Load() {
	}
	time.Sleep(time.Second)
	u.now.Add(-u.size)
	return []*message.Message{msg}, nil
}

func TestReserve_whatMessagesUnpackToIsBounded(t *testing.T) {
	for name, test := range map[string]struct{ bound, size, most int64 }{
		"a fifth of the bound each":    {10_000, 2_000, 10_000 + 2_000},
		"half of the bound each":       {10_000, 5_000, 10_000 + 5_000},
		"each larger than the bound":   {10_000, 50_000, 50_000},
		"nothing reserved to speak of": {10_000, 2, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 60
				var payloads []string
				for i := range n {
					payloads = append(payloads, fmt.Sprint(i))
				}
				f := newFixture(true, payloads...)
				u := &unpacking{size: test.size}
				f.p.Transforms = []pipeline.Transform{u.transform}
				f.p.MaxInFlightBytes = test.bound
				f.p.Retry.MaxAttempts = 1 // waiting for room is no attempt
				l := f.run(t)
				wantLedger(t, l, n, 0, 0, 0)
				if l.Retries != 0 {
					t.Errorf("%d retries", l.Retries)
				}
				if most := u.most.Load(); most > test.most || most < test.size {
					t.Errorf("held %d bytes at a time, want %d at most", most, test.most)
				}
			})
		})
	}
}

// A stop releases at once what waits for room.
func TestReserve_stopReleasesWhatWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "1", "2", "3", "4")
		u := &unpacking{size: 50_000}
		f.p.Transforms = []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
			time.Sleep(10 * time.Millisecond) // all four are in before the first takes the room
			return u.transform(msg)
		}}
		f.p.MaxInFlightBytes = 10_000
		f.start(t)
		time.Sleep(100 * time.Millisecond)
		begin := time.Now()
		f.stop()
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 1, 0, 0, 3)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the stop took %s", took)
		}
	})
}

// What a transform returns counts, too, whether it has asked or not: nothing more is received meanwhile.
func TestReserve_resultsOfTransformsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(false, "1")
		f.p.Transforms = []pipeline.Transform{
			func(msg *message.Message) ([]*message.Message, error) {
				msg.Payload = make([]byte, 100_000)
				return []*message.Message{msg}, nil
			},
			func(msg *message.Message) ([]*message.Message, error) {
				time.Sleep(time.Second)
				return []*message.Message{msg}, nil
			},
		}
		f.p.MaxInFlightBytes = 50_000
		f.start(t)
		time.Sleep(100 * time.Millisecond)
		for _, payload := range []string{"2", "3", "4"} {
			f.queue.Push(payload)
		}
		time.Sleep(500 * time.Millisecond)
		if n := f.engine.Ledgers()[0].Received; n != 1 {
			t.Errorf("received %d messages while the first holds twice the bound, want 1", n)
		}
		time.Sleep(10 * time.Second)
		f.stop()
		l, err := f.finish(t)
		if err != nil {
			t.Fatal(err)
		}
		wantLedger(t, l, 4, 0, 0, 0)
	})
}
