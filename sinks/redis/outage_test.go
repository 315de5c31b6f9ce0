package redis

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

// TestOutage_nothingIsLostAndNothingPoisoned takes the server away before the start, kills it while messages flow, and
// freezes it.
func TestOutage_nothingIsLostAndNothingPoisoned(t *testing.T) {
	t.Parallel()
	server := testserver.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	server.Stop()
	const n = 3000
	var payloads []string
	for i := range int64(n) {
		payloads = append(payloads, string(payload(cache.Write{Key: fmt.Sprintf("u_%d", i%50), Version: i + 1, Value: fmt.Appendf(nil, "%d", i+1)})))
	}
	queue := pipelinetest.NewQueue(false)
	conf := testConfig(server.Addr())
	sink, err := conf.NewSink(pipeline.Env{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	poison := &pipelinetest.Store{}
	poisonSink := poison.Sink()
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "outage", Source: queue.Source(), Sink: sink, PoisonQueue: &poisonSink, MaxInFlight: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ledger := engine.Ledgers()[0]
		pipelinetest.CheckLedger(t, ledger)
		if ledger.Poisoned != 0 || len(poison.Payloads()) != 0 {
			t.Errorf("poisoned %d", ledger.Poisoned)
		}
		if ledger.Written != n {
			t.Errorf("written %d, want %d", ledger.Written, n)
		}
	}()
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not after 40 s; health %+v", what, engine.Health()[0])
			}
		}
	}
	up := func(want bool) func() bool { return func() bool { return engine.Health()[0].SinkConnected == want } }
	written := func(want int64) func() bool { return func() bool { return engine.Ledgers()[0].Written >= want } }

	queue.Push(payloads[:1000]...)
	await("away at the start", up(false))
	server.Restart()
	await("the first third", written(300))
	server.Stop()
	queue.Push(payloads[1000:2000]...)
	await("killed", up(false))
	server.Restart()
	await("the second third", written(1300))
	server.Pause()
	queue.Push(payloads[2000:]...)
	await("frozen", up(false))
	server.Resume()
	await("the rest", written(n))
	await("back", up(true))

	client := testClient(t, server.Addr())
	for i := range 50 {
		want := fmt.Sprint(n - 49 + i)
		if got := client.Get(t.Context(), fmt.Sprintf("p:u_%d", i)).Val(); got != want {
			t.Errorf("u_%d = %s, want %s", i, got, want)
		}
	}
}

func TestWipe_anEmptiedRedisIsNoticed(t *testing.T) {
	t.Parallel()
	for name, empty := range map[string]func(t *testing.T, server *testserver.RedisServer, client *goredis.Client){
		"by a ping after FLUSHDB": func(t *testing.T, _ *testserver.RedisServer, client *goredis.Client) {
			if err := client.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		},
		"by the next write after a restart": func(_ *testing.T, server *testserver.RedisServer, _ *goredis.Client) { server.Restart() },
		"though another replica was faster": func(t *testing.T, _ *testserver.RedisServer, client *goredis.Client) {
			if err := client.Set(t.Context(), "p:penstock:contents", "theirs", 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.StartRedis(t)
			client := testClient(t, server.Addr())
			client.Set(t.Context(), "p:c_old", "of another service", 0)
			core, logs := observer.New(zap.WarnLevel)
			st := &store{metrics: prometheus.NewRegistry()}
			conf := testConfig(server.Addr())
			st.sinks = append(st.sinks, started(t, newSink(conf, pipeline.Env{Metrics: st.metrics, Logger: zap.New(core)}, writeScript)))
			look := func() {
				t.Helper()
				if strings.HasPrefix(name, "by the next write") {
					for st.publish(0, cache.Write{Key: "u", Version: 1, Value: []byte("1")}) != nil && t.Context().Err() == nil {
						time.Sleep(10 * time.Millisecond)
					}
				} else if err := st.sinks[0].Publisher.(pipeline.Pinger).Ping(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			look()
			reporter := st.sinks[0].Publisher.(pipeline.Reporter)
			if r := reporter.Report(); len(r) != 0 {
				t.Errorf("first contact reported: %v", r)
			}
			if n := st.counted("penstock_store_wiped_total"); n != 0 {
				t.Fatalf("first contact counted as %v wipes", n)
			}
			if ttl := client.TTL(t.Context(), "p:penstock:contents").Val(); ttl != -1 {
				t.Errorf("TTL of penstock:contents is %s, want none", ttl)
			}
			empty(t, server, client)
			look()
			look()
			if n := st.counted("penstock_store_wiped_total"); n != 1 {
				t.Errorf("counted %v wipes, want 1", n)
			}
			if n := logs.FilterMessageSnippet("Redis has been emptied").Len(); n != 1 {
				t.Errorf("%d log lines, want 1", n)
			}
			if r := reporter.Report(); r["wiped_at"] == nil || !strings.Contains(fmt.Sprint(r["wiped"]), "penstock replay") {
				t.Errorf("report of a wipe: %v", r)
			}
		})
	}
}

// TestFailover_aDemotedServerIsWaitedFor makes the server a replica while messages flow, and a master again.
func TestFailover_aDemotedServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := testserver.StartRedis(t)
	client := testClient(t, server.Addr())
	s := newStore(t, server.Addr(), 1, writeScript)
	write := func(version int64) error {
		return s.publish(0, cache.Write{Key: "u", Version: version, Value: []byte("1")})
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	client.ReplicaOf(t.Context(), "127.0.0.1", "1")
	for range 3 {
		if err := write(2); !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("got %v, want READONLY, unavailable", err)
		}
		if err := s.sinks[0].Publisher.(pipeline.Pinger).Ping(t.Context()); !pipeline.IsUnavailable(err) {
			t.Errorf("ping: got %v, want unavailable", err)
		}
	}
	client.ReplicaOf(t.Context(), "no", "one")
	if err := write(2); err != nil {
		t.Error(err)
	}
}
