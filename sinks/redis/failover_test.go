package redis

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func awaitTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 40 s", what)
		}
	}
}

func replicasOf(t *testing.T, client *goredis.Client) int {
	t.Helper()
	info, err := client.Info(t.Context(), "replication").Result()
	if err != nil {
		return -1
	}
	return strings.Count(info, "state=online")
}

func TestWaitReplicas_storedMeansOnAReplica(t *testing.T) {
	t.Parallel()
	master := testserver.StartRedis(t)
	replica := testserver.StartRedis(t, "--replicaof", "127.0.0.1", fmt.Sprint(master.Port()))
	client := testClient(t, master.Addr())
	awaitTrue(t, "a replica", func() bool { return replicasOf(t, client) == 1 })
	conf := testConfig(master.Addr())
	conf.WaitReplicas = WaitReplicas{Count: 1, Timeout: 2 * time.Second}
	s := &store{sinks: []pipeline.Sink{started(t, newSink(conf, pipeline.Env{}, writeScript))}}
	write := cache.Write{Key: "c", Version: 1, AsOf: 1, Value: []byte("1")}
	if err := s.publish(0, write); err != nil {
		t.Fatal(err)
	}
	if got := testClient(t, replica.Addr()).Get(t.Context(), "p:c").Val(); got != "1" {
		t.Errorf("the replica has %q", got)
	}
	replica.Stop()
	write.Version = 2
	if err := s.publish(0, write); !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "the writes are on 0 replicas of the Redis, want 1") {
		t.Errorf("without a replica: got %v, want unavailable", err)
	}
	replica.Restart()
	awaitTrue(t, "the replica is back", func() bool { return s.publish(0, write) == nil })
}

// TestSentinel_aFailoverLosesNothing kills the master while messages flow. Every message must be in the new master,
// though each was acked once: that takes wait_replicas.
func TestSentinel_aFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	master := testserver.StartRedis(t)
	client := testClient(t, master.Addr())
	nodes := map[string]*testserver.RedisServer{master.Addr(): master}
	for range 2 {
		r := testserver.StartRedis(t, "--replicaof", "127.0.0.1", fmt.Sprint(master.Port()))
		nodes[r.Addr()] = r
	}
	awaitTrue(t, "two replicas", func() bool { return replicasOf(t, client) == 2 })
	var sentinels []string
	for range 3 {
		sentinels = append(sentinels, testserver.StartSentinel(t, "cache", master.Addr(), 2).Addr())
	}
	sentinel := goredis.NewSentinelClient(&goredis.Options{Addr: sentinels[0]})
	defer func() { _ = sentinel.Close() }()
	awaitTrue(t, "the Sentinels know each other and the replicas", func() bool {
		for _, addr := range sentinels {
			c := goredis.NewSentinelClient(&goredis.Options{Addr: addr})
			known, err := c.Master(t.Context(), "cache").Result()
			_ = c.Close()
			if err != nil || known["num-other-sentinels"] != "2" || known["num-slaves"] != "2" {
				return false
			}
		}
		return true
	})

	conf := testConfig(defaultHost)
	conf.Port = defaultPort
	conf.Sentinel = Sentinel{Master: "cache", Addresses: sentinels}
	conf.WaitReplicas = WaitReplicas{Count: 1, Timeout: time.Second}
	if err := conf.Validate(); err != nil {
		t.Fatal(err)
	}
	sink, err := conf.NewSink(pipeline.Env{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	queue := pipelinetest.NewQueue(false)
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{Name: "failover", Source: queue.Source(), Sink: sink, MaxInFlight: 50})
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
		pipelinetest.CheckLedger(t, engine.Ledgers()[0])
	}()

	const n = 4000
	push := func(from, to int) {
		for i := from; i < to; i++ {
			queue.Push(string(payload(cache.Write{Key: fmt.Sprintf("u_%d", i), Version: 1, Value: []byte("1")})))
		}
	}
	written := func() int64 { return engine.Ledgers()[0].Written }
	push(0, n/2)
	awaitTrue(t, "messages flow", func() bool { return written() > 100 })
	master.Stop()
	killed := time.Now()
	push(n/2, n)
	var now *testserver.RedisServer
	awaitTrue(t, "another master", func() bool {
		addr, err := sentinel.GetMasterAddrByName(t.Context(), "cache").Result()
		if err == nil {
			now = nodes[addr[0]+":"+addr[1]]
		}
		return err == nil && now != master
	})
	elected := time.Now()
	before := written()
	awaitTrue(t, "messages flow again", func() bool { return written() > before })
	t.Logf("another master after %s, messages flow %s later", elected.Sub(killed).Round(time.Millisecond), time.Since(elected).Round(time.Millisecond))
	awaitTrue(t, "all are written", func() bool { return written() == n })
	fresh := testClient(t, now.Addr())
	for i := range n {
		if got := fresh.Get(t.Context(), fmt.Sprintf("p:u_%d", i)).Val(); got != "1" {
			t.Fatalf("u_%d was acked and is lost", i)
		}
	}
}

// TestFull_messagesAreHeldUntilThereIsRoom fills the server while messages flow.
func TestFull_messagesAreHeldUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	server := testserver.StartRedis(t, "--maxmemory-policy", "noeviction")
	client := testClient(t, server.Addr())
	sink, err := testConfig(server.Addr()).NewSink(pipeline.Env{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	queue := pipelinetest.NewQueue(false)
	poison := &pipelinetest.Store{}
	poisonSink := poison.Sink()
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "full", Source: queue.Source(), Sink: sink, PoisonQueue: &poisonSink, MaxInFlight: 50,
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
		if ledger := engine.Ledgers()[0]; ledger.Poisoned != 0 {
			t.Errorf("poisoned %d", ledger.Poisoned)
		}
	}()
	push := func(from, to int) {
		for i := from; i < to; i++ {
			queue.Push(string(payload(cache.Write{Key: fmt.Sprintf("c_%d", i), Version: 1, AsOf: 1, Value: []byte("1")})))
		}
	}
	written := func(want int64) func() bool { return func() bool { return engine.Ledgers()[0].Written == want } }
	push(0, 100)
	awaitTrue(t, "the first ones", written(100))
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	push(100, 300)
	awaitTrue(t, "readiness says why", func() bool {
		h := engine.Health()[0]
		return !h.Up && !h.SinkConnected && strings.Contains(h.Reason, "OOM")
	})
	if got := engine.Ledgers()[0].Written; got != 100 {
		t.Errorf("%d written, want 100", got)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "all of them", written(300))
	awaitTrue(t, "ready again", func() bool { return engine.Health()[0].Up })
	if n := client.DBSize(t.Context()).Val(); n != 3*300+1 { // value, version and clocks of each, and penstock:contents
		t.Errorf("%d keys, want %d", n, 3*300+1)
	}
}
