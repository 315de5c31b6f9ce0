package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestSlot_isTheOneOfRedis(t *testing.T) {
	addr := testserver.Redis(t, "--cluster-enabled", "yes")
	client := testClient(t, addr)
	keys := []string{"", "a", "{", "}", "{}", "{}a", "a{b}c", "a{b}{c}", "a{{b}}c", "a{b", "}a{b}", "客户:{müller/😀}:x", "\x00{\xff}", "123456789"}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		key := make([]byte, rng.IntN(12))
		for i := range key {
			key[i] = "{}ab:\x00\xfe"[rng.IntN(7)]
		}
		keys = append(keys, string(key))
	}
	for _, key := range keys {
		if want := client.ClusterKeySlot(t.Context(), key).Val(); int64(slotOf(key)) != want {
			t.Errorf("%q: got %d, want %d", key, slotOf(key), want)
		}
	}
}

// cluster is a running Redis Cluster, and a client of it.
type cluster struct {
	*testserver.RedisCluster
	client *goredis.ClusterClient
}

func startCluster(t *testing.T, replicas int) *cluster {
	t.Helper()
	c := &cluster{RedisCluster: testserver.StartRedisCluster(t, replicas)}
	c.client = redisclient.NewCluster(redisclient.Config{Cluster: c.Addrs(), Connections: 4})
	t.Cleanup(func() { _ = c.client.Close() })
	return c
}

func (c *cluster) config() *Config {
	conf := testConfig(defaultHost)
	conf.Cluster = Cluster{Addresses: c.Addrs()}
	return conf
}

// customerWrites are the writes of a customer's snapshot, with tagged keys.
func customerWrites(i int, version int64) []cache.Write {
	key := fmt.Sprintf("c_{customer-%d}", i)
	value := fmt.Appendf(nil, "%d", version)
	return []cache.Write{
		{Key: key, Version: version, AsOf: version, Value: value},
		{Key: key + ":metadata", Version: version, AsOf: version, Value: value},
		{Key: key + ":f_1", Version: version, Value: value, IfAnyExists: []string{key}},
	}
}

// check compares what the cluster holds of a customer.
func (c *cluster) check(t *testing.T, i int, version int64) {
	t.Helper()
	for _, w := range customerWrites(i, version) {
		for _, key := range []string{"p:" + w.Key, "p:" + w.Key + versionSuffix} {
			if got := c.client.Get(t.Context(), key).Val(); got != string(w.Value) {
				t.Fatalf("%s: got %q, want %s", key, got, w.Value)
			}
		}
	}
}

func TestCluster_writesGoToTheirNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	s := &store{sinks: []pipeline.Sink{started(t, newSink(c.config(), pipeline.Env{}, writeScript))}}
	var all []cache.Write
	for i := range 2*maxWrites/3 + 10 { // more than one call takes, in one message
		all = append(all, customerWrites(i, 5)...)
	}
	if err := s.publish(0, all...); err != nil {
		t.Fatal(err)
	}
	if err := s.publish(0, customerWrites(1, 4)...); err != nil { // older
		t.Fatal(err)
	}
	if err := s.publish(0, cache.Write{Key: "c_{customer-2}", Version: 6, AsOf: 6, Delete: true}); err != nil {
		t.Fatal(err)
	}
	for i := range 2*maxWrites/3 + 10 {
		if i != 2 {
			c.check(t, i, 5)
		}
	}
	if got := c.client.Exists(t.Context(), "p:c_{customer-2}").Val(); got != 0 {
		t.Error("the deleted customer is there")
	}
	nodes := map[string]int64{}
	err := c.client.ForEachMaster(t.Context(), func(ctx context.Context, node *goredis.Client) error {
		n, err := node.DBSize(ctx).Result()
		if n == 0 {
			err = errors.New("no keys on " + node.Options().Addr)
		}
		return err
	})
	if err != nil {
		t.Error(err, nodes)
	}
	reader, err := c.config().NewReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	c.client.HSet(t.Context(), "p:hash", "a", "b")
	got, err := reader.Get(t.Context(), "c_{customer-1}", "c_{customer-3}", "c_{customer-2}", "hash")
	if err != nil || len(got) != 4 || string(got[0].Value) != "5" || !got[1].Found || got[1].TTL <= 0 || got[2].Found || got[3].Found {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestCluster_keysInSeveralSlotsFailAlone(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	for name, tt := range map[string]struct {
		bad  cache.Write
		want string
	}{
		"its version":   {cache.Write{Key: "c_a", Version: 1, Value: []byte("1")}, `"p:c_a#timestamp", which must be looked at in the same step`},
		"a condition":   {cache.Write{Key: "c_{a}", Version: 1, Value: []byte("1"), IfAnyExists: []string{"c_{a}", "c_{b}"}}, `"p:c_{b}#timestamp", which`},
		"the lock":      {cache.Write{Key: "c_{a}", Version: 1, Value: []byte("1"), Lock: "b"}, `"p-b", which`},
		"an empty tag":  {cache.Write{Key: "c_{}a", Version: 1, Value: []byte("1")}, `in slot `},
		"a tag too far": {cache.Write{Key: "c{", Version: 1, AsOf: 1, Value: []byte("1")}, `in slot `},
	} {
		t.Run(name, func(t *testing.T) {
			sink := started(t, newSink(c.config(), pipeline.Env{}, writeScript))
			errs := batched(t, sink, payload(customerWrites(1, 9)...), payload(tt.bad), payload(customerWrites(2, 9)...))
			if errs[0] != nil || errs[2] != nil {
				t.Errorf("neighbours: %v, %v", errs[0], errs[2])
			}
			if !pipeline.IsPermanent(errs[1]) || !strings.Contains(errs[1].Error(), tt.want) {
				t.Errorf("got %v\nwant a permanent error with %s", errs[1], tt.want)
			}
		})
	}
	t.Run("a prefix with a tag", func(t *testing.T) {
		conf := c.config()
		conf.Prefix = "{p}"
		s := &store{sinks: []pipeline.Sink{started(t, newSink(conf, pipeline.Env{}, writeScript))}}
		if err := s.publish(0, cache.Write{Key: "c_a", Version: 7, AsOf: 7, Value: []byte("1"), Lock: "a"}, cache.Write{Key: "c_b", Version: 7, Value: []byte("1"), IfAnyExists: []string{"c_a"}}); err != nil {
			t.Fatal(err)
		}
		if got := c.client.Get(t.Context(), "{p}:c_b").Val(); got != "1" {
			t.Errorf("got %q", got)
		}
	})
}

// TestCluster_anyOrderAnyDuplicatesAnyNumberOfSinks is the property of the order, on a cluster: histories of tagged
// keys.
func TestCluster_anyOrderAnyDuplicatesAnyNumberOfSinks(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	var sinks []pipeline.Sink
	for range 3 {
		sinks = append(sinks, started(t, newSink(c.config(), pipeline.Env{}, writeScript)))
	}
	s := &store{sinks: sinks, prefix: "p"}
	seed := firstSeed(t)
	for round := range uint64(max(*histories/50, 1)) {
		rng := rand.New(rand.NewPCG(seed+round, 3))
		greatest := map[string]cache.Write{}
		var messages [][]cache.Write
		for range 300 {
			var writes []cache.Write
			for range 1 + rng.IntN(4) {
				w := randomWrite(rng, "ucc")
				w.Key, w.IfAnyExists, w.Lock = fmt.Sprintf("%d{%s}", round, w.Key), nil, ""
				writes = append(writes, w)
				if best, ok := greatest[w.Key]; !ok || cache.Compare(w, best) > 0 {
					greatest[w.Key] = w
				}
			}
			for range 1 + rng.IntN(2) {
				messages = append(messages, writes)
			}
		}
		rng.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		errs := make(chan error, 8)
		for i := range cap(errs) {
			go func() {
				var err error
				for at := i; at < len(messages) && err == nil; at += cap(errs) {
					err = s.publish(i%len(sinks), messages[at]...)
				}
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		for key, w := range greatest {
			value, err := c.client.Get(t.Context(), "p:"+key).Result()
			if w.Delete && !errors.Is(err, goredis.Nil) || !w.Delete && value != string(w.Value) {
				t.Fatalf("seed %d: %s: got %q, %v, want %+v", seed+round, key, value, err, w)
			}
		}
	}
}

// flowing runs a pipeline from a queue into the sink until stop is called, and checks that it stayed whole.
func flowing(t *testing.T, conf *Config, env pipeline.Env) (queue *pipelinetest.Queue, ledger func() pipeline.Ledger, stop func()) {
	t.Helper()
	sink, err := conf.NewSink(env)
	if err != nil {
		t.Fatal(err)
	}
	queue = pipelinetest.NewQueue(false)
	poison := &pipelinetest.Store{}
	poisonSink := poison.Sink()
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "flowing", Source: queue.Source(), Sink: sink, PoisonQueue: &poisonSink, MaxInFlight: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	ledger = func() pipeline.Ledger { return engine.Ledgers()[0] }
	return queue, ledger, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if l := ledger(); l.Poisoned != 0 {
			t.Errorf("poisoned %d", l.Poisoned)
		}
		pipelinetest.CheckLedger(t, ledger())
	}
}

// TestCluster_aKilledMasterLosesNothing kills a master while messages flow. What was acked must be in its replica:
// that takes wait_replicas.
func TestCluster_aKilledMasterLosesNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	conf := c.config()
	conf.WaitReplicas = WaitReplicas{Count: 1, Timeout: time.Second}
	queue, ledger, stop := flowing(t, conf, pipeline.Env{Metrics: prometheus.NewRegistry()})
	defer stop()
	const n = 3000
	push := func(from, to int) {
		for i := from; i < to; i++ {
			queue.Push(string(payload(customerWrites(i, 5)...)))
		}
	}
	push(0, n/2)
	awaitTrue(t, "messages flow", func() bool { return ledger().Written > 200 })
	victim := c.Nodes[0]
	victim.Stop()
	killed := time.Now()
	push(n/2, n)
	other := testClient(t, c.Addrs()[1])
	awaitTrue(t, "the replica takes over", func() bool {
		masters, dead := 0, false
		for line := range strings.Lines(other.ClusterNodes(t.Context()).Val()) {
			failed := strings.Contains(line, "fail ") || strings.Contains(line, "fail,")
			switch {
			case strings.HasPrefix(line, c.IDs[0]):
				dead = failed
			case strings.Contains(line, "master ") && !failed:
				masters++
			}
		}
		return dead && masters == 3 && strings.Contains(other.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	elected := time.Now()
	// The new master has no replica: the killed node comes back as one, empty. (Had it come back sooner it would
	// still have been the master, and its replica would have become as empty: servers without persistence must not
	// restart by themselves.)
	victim.Restart()
	awaitTrue(t, "all are written", func() bool { return ledger().Written == n })
	t.Logf("another master after %s, all written %s later", elected.Sub(killed).Round(time.Millisecond), time.Since(elected).Round(time.Millisecond))
	for i := range n {
		c.check(t, i, 5)
	}
}

// TestCluster_slotsMoveWhileMessagesFlow moves slots with their keys to other nodes, as resharding does.
func TestCluster_slotsMoveWhileMessagesFlow(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	queue, ledger, stop := flowing(t, c.config(), pipeline.Env{Metrics: prometheus.NewRegistry()})
	defer stop()
	const customers, versions = 40, 60
	for v := range int64(versions) {
		for i := range customers {
			queue.Push(string(payload(customerWrites(i, v+1)...)))
		}
	}
	awaitTrue(t, "messages flow", func() bool { return ledger().Written > 100 })
	source, target := testClient(t, c.Addrs()[0]), testClient(t, c.Addrs()[1])
	moved := 0
	for i := range customers {
		slot := slotOf(fmt.Sprintf("{customer-%d}", i))
		if slot >= slots/3 {
			continue // not the source's
		}
		do := func(client *goredis.Client, args ...any) {
			t.Helper()
			if err := client.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(args, err)
			}
		}
		do(target, "cluster", "setslot", slot, "importing", c.IDs[0])
		do(source, "cluster", "setslot", slot, "migrating", c.IDs[1])
		for {
			keys := source.ClusterGetKeysInSlot(t.Context(), slot, 1).Val() // one by one: customers are torn in two meanwhile
			if len(keys) == 0 {
				break
			}
			do(source, "migrate", "127.0.0.1", fmt.Sprint(c.Nodes[1].Port()), keys[0], 0, 5000)
		}
		for _, addr := range c.Addrs() { // the target first, as the Redis documentation says
			do(testClient(t, addr), "cluster", "setslot", slot, "node", c.IDs[1])
		}
		moved++
		queue.Push(string(payload(customerWrites(i, versions+1)...)))
	}
	if moved < 5 {
		t.Fatalf("moved %d slots", moved)
	}
	awaitTrue(t, "all are written", func() bool { return ledger().Written == int64(customers*versions+moved) })
	for i := range customers {
		want := int64(versions)
		if slotOf(fmt.Sprintf("{customer-%d}", i)) < slots/3 {
			want++
		}
		c.check(t, i, want)
	}
}

func TestCluster_aWipedNodeIsNoticed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	core, logs := observer.New(zap.WarnLevel)
	metrics := prometheus.NewRegistry()
	sink := started(t, newSink(c.config(), pipeline.Env{Metrics: metrics, Logger: zap.New(core)}, writeScript))
	ping := func() {
		t.Helper()
		if err := sink.Publisher.(pipeline.Pinger).Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ping()
	if n := logs.Len(); n != 0 {
		t.Fatalf("logged %v", logs.All())
	}
	if err := testClient(t, c.Addrs()[1]).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	ping()
	ping()
	if got := logs.FilterMessageSnippet("emptied").Len(); got != 1 {
		t.Errorf("told %d times, want once: %v", got, logs.All())
	}
	if report := sink.Publisher.(pipeline.Reporter).Report(); report["wiped_at"] == nil {
		t.Errorf("report %v", report)
	}
}

func TestCluster_theRightsInTheDocumentsAreEnough(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	for _, addr := range c.Addrs() {
		err := testClient(t, addr).Do(t.Context(), "acl", "setuser", "penstock", "on", ">geheim", "~p:*", "~p-*",
			"+@read", "+@write", "+@scripting", "+@connection", "+cluster|slots").Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	conf := c.config()
	conf.User, conf.Password, conf.WaitReplicas = "penstock", pipeline.NewSecret("geheim"), WaitReplicas{Count: 1, Timeout: time.Second}
	s := &store{sinks: []pipeline.Sink{started(t, newSink(conf, pipeline.Env{}, writeScript))}}
	for i := range 20 {
		if err := s.publish(0, customerWrites(i, 5)...); err != nil {
			t.Fatal(err)
		}
		c.check(t, i, 5)
	}
}

// TestCluster_redirectionsAreFollowed: a slot that is on its way, or has gone, costs a message no failure.
func TestCluster_redirectionsAreFollowed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	s := &store{sinks: []pipeline.Sink{started(t, newSink(c.config(), pipeline.Env{}, writeScript))}}
	key := taggedInto([]goredis.ClusterSlot{{Start: slots / 4, End: slots/3 - 1}}, "u") // the first node's, but not that of the name of its contents
	slot := slotOf("p:" + key)
	source, target := testClient(t, c.Addrs()[0]), testClient(t, c.Addrs()[1])
	setSlot := func(client *goredis.Client, args ...any) {
		t.Helper()
		if err := client.Do(t.Context(), append([]any{"cluster", "setslot", slot}, args...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	setSlot(target, "importing", c.IDs[0])
	setSlot(source, "migrating", c.IDs[1])
	if err := s.publish(0, cache.Write{Key: key, Version: 1, Value: []byte("1")}); err != nil {
		t.Errorf("a slot on its way: %v", err)
	}
	if n := target.DBSize(t.Context()).Val(); n == 0 {
		t.Error("the new key is not on the node that the slot goes to")
	}
	if left := source.ClusterGetKeysInSlot(t.Context(), slot, 100).Val(); len(left) > 0 {
		t.Errorf("still on the node that the slot goes away from: %q", left)
	}
	for _, addr := range []string{c.Addrs()[1], c.Addrs()[0], c.Addrs()[2]} {
		setSlot(testClient(t, addr), "node", c.IDs[1])
	}
	if err := s.publish(0, cache.Write{Key: key, Version: 2, Value: []byte("2")}); err != nil {
		t.Errorf("a slot that has gone: %v", err)
	}
	if got := c.client.Get(t.Context(), "p:"+key).Val(); got != "2" {
		t.Errorf("got %q", got)
	}
}
