package sqs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/sources/sqs"
)

func TestSubscriber_visibilityIsTheQueuesOwnUnlessItCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		queue, setting time.Duration
		denied         bool
		want           time.Duration
		warnings       int
	}{
		"the queue's own":                     {queue: 2 * time.Minute, want: 2 * time.Minute},
		"the setting, longer":                 {queue: 5 * time.Second, setting: time.Minute, want: time.Minute},
		"the setting, shorter":                {queue: 2 * time.Minute, setting: 10 * time.Second, want: 10 * time.Second},
		"the queue's is 0":                    {queue: 0, want: 30 * time.Second, warnings: 1},
		"the queue's is too short":            {queue: time.Second, want: 30 * time.Second, warnings: 1},
		"nobody may know":                     {queue: 5 * time.Second, denied: true, want: 30 * time.Second, warnings: 1},
		"nobody may know, but a setting says": {queue: 5 * time.Second, setting: time.Minute, denied: true, want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(c.queue)
				f.fail = func(action string) error {
					if action == "GetQueueAttributes" && c.denied {
						return apiError("AccessDenied")
					}
					return nil
				}
				f.send("", "x")
				core, logs := observer.New(zap.WarnLevel)
				sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.VisibilityTimeout, s.Logger = c.setting, zap.New(core) })
				msg := <-msgs
				if got := f.visibleIn("x"); got != c.want {
					t.Errorf("hidden for %s, want %s", got, c.want)
				}
				time.Sleep(10 * time.Minute)
				if n := f.received(); n != 1 {
					t.Errorf("received %d times while it was held", n)
				}
				if n := logs.Len(); n != c.warnings {
					t.Errorf("%d warnings, want %d: %v", n, c.warnings, logs.All())
				}
				msg.Ack()
				closeSubscriber(t, sub)
			})
		})
	}
}

func TestSubscriber_contextOfAMessageEndsWhenItIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		f.send("", "acked", "nacked", "held")
		sub, msgs := subscribe(t, f)
		for range 3 {
			msg := <-msgs
			if msg.Context().Err() != nil {
				t.Errorf("%s came with a context that has ended", msg.Payload)
			}
			switch string(msg.Payload) {
			case "acked":
				msg.Ack()
			case "nacked":
				msg.Nack()
			}
			synctest.Wait()
			if ended := msg.Context().Err() != nil; ended != (string(msg.Payload) != "held") {
				t.Errorf("%s: the context has ended: %v", msg.Payload, ended)
			}
		}
		closeSubscriber(t, sub)
	})
}

func TestSubscriber_failedReleasesAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(10 * time.Minute)
		f.send("", "x")
		tries := 0
		f.fail = func(action string) error {
			if action == "ChangeMessageVisibilityBatch" {
				if tries++; tries <= 3 {
					return apiError("InternalError")
				}
			}
			return nil
		}
		sub, msgs := subscribe(t, f)
		(<-msgs).Nack()
		began := time.Now()
		(<-msgs).Ack()
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("it came back after %s, want that its release is tried again", d)
		}
		closeSubscriber(t, sub)
	})
}

// numbers are the metrics by name, counters, gauges and sample counts alike; labels are added up.
func numbers(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			all[family.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// What is received is deleted, released, received twice, or held.
func TestSubscriber_metricsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30 * time.Second)
		refuse := map[string]bool{"DeleteMessageBatch body 0": true, "ChangeMessageVisibilityBatch body 18": true}
		f.failEntry = func(action, body string) string {
			if !refuse[action+" "+body] {
				return ""
			}
			delete(refuse, action+" "+body) // once
			return "InternalError"
		}
		registry := prometheus.NewRegistry()
		sub, msgs := subscribe(t, f, func(s *sqs.Settings) { s.Metrics = registry })
		f.send("", bodies(20)...)
		for i := range 20 {
			switch msg := <-msgs; {
			case i < 12:
				msg.Ack()
			case i < 15:
				msg.Nack()
			}
		}
		f.again("body 19")
		time.Sleep(200 * time.Millisecond)
		for range 3 { // the released come back, and are held
			<-msgs
		}
		time.Sleep(12 * time.Hour)
		got := numbers(t, registry)
		for name, want := range map[string]float64{
			"received_total": got["penstock_sqs_deleted_total"] + got["penstock_sqs_released_total"] + got["penstock_sqs_duplicates_total"] + got["penstock_sqs_held_messages"],
			"deleted_total":  12, "released_total": 3, "held_messages": 8, "lapsed_total": 8, "duplicates_total": 1 + 8, "ack_failures_total": 1, "visibility_failures_total": 1,
			"receive_count": 20 + 3 + 1 + 8, "queue_messages": 20 - 12, "oldest_message_seconds": 12*60*60 - 60,
		} {
			if n := got["penstock_sqs_"+name]; n != want && (name != "oldest_message_seconds" || n < want) {
				t.Errorf("%s is %v, want %v", name, n, want)
			}
		}
		if n := got["penstock_sqs_empty_receives_total"]; n < 12*60*2 {
			t.Errorf("%v empty receives in 12 hours", n)
		}
		closeSubscriber(t, sub)
	})
}
