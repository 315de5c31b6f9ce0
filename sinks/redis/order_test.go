package redis

import (
	"flag"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

var (
	histories = flag.Int("histories", 500, "how many random histories the order is tested with")
	seedFlag  = flag.Uint64("seed", 0, "the first seed of the random histories; 0 = by the clock")
)

func firstSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", seed)
	return seed
}

// kindsOfServer are the kinds of Redis that every rule must hold on.
var kindsOfServer = map[string]func(t *testing.T) string{
	"redis-server": func(t *testing.T) string { return testserver.Redis(t) },
	"miniredis":    func(t *testing.T) string { return miniredis.RunT(t).Addr() },
}

func testConfig(addr string) *Config {
	return &Config{
		Host: addr, Port: defaultPort, Prefix: "p", TTL: freshTTL, Connections: 2,
		Batch: pipeline.Batch{Count: 256, Bytes: 1 << 20}, RespectSDKLocks: true, Timeout: 5 * time.Second,
	}
}

// newStore starts sinks, each as if in a process of its own, with that script.
func newStore(t testing.TB, addr string, sinks int, s script) *store {
	t.Helper()
	conf := testConfig(addr)
	st := &store{client: testClient(t, addr), prefix: conf.Prefix, metrics: prometheus.NewRegistry()}
	for range sinks {
		st.sinks = append(st.sinks, started(t, newSink(conf, pipeline.Env{Metrics: st.metrics}, s)))
	}
	return st
}

func started(t testing.TB, sink pipeline.Sink) pipeline.Sink {
	t.Helper()
	t.Cleanup(func() {
		if err := sink.Publisher.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := sink.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sink
}

func testClient(t testing.TB, addr string) *goredis.Client {
	t.Helper()
	client := redisclient.New(redisclient.Config{Address: addr, Connections: 2})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *store) empty(t testing.TB) {
	t.Helper()
	if err := s.client.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestOrder_everyStepAsTheModelSays(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, serve(t), 1, writeScript)
			seed := firstSeed(t)
			for i := range uint64(max(*histories/10, 1)) {
				s.empty(t)
				if err := checkSteps(t.Context(), s, seed+i, 100); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestOrder_anyOrderAnyDuplicatesAnyNumberOfSinks(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, serve(t), 4, writeScript)
			seed := firstSeed(t)
			n := *histories
			if name == "miniredis" { // slower by far, and there is no concurrency in it to shake
				n = max(n/5, 1)
			}
			for i := range uint64(n) {
				s.empty(t)
				if err := checkShuffled(t.Context(), s, seed+i, 60); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// rule finds the rules of the script.
var rule = regexp.MustCompile(`(?m)^ *-- rule (\w+) \{\n`)

func without(t *testing.T, text, name string) string {
	t.Helper()
	from := strings.Index(text, "-- rule "+name+" {")
	end := "-- } " + name + "\n"
	to := strings.Index(text, end)
	if from < 0 || to < from {
		t.Fatalf("rule %s has no begin or no end", name)
	}
	return text[:from] + text[to+len(end):]
}

func TestOrder_everyRuleOfTheScriptIsNeeded(t *testing.T) {
	addr := testserver.Redis(t)
	seed := firstSeed(t)
	names := rule.FindAllStringSubmatch(writeLua, -1)
	if got, want := len(names), strings.Count(writeLua, "-- rule "); got != want || got < 14 {
		t.Fatalf("found %d rules of %d", got, want)
	}
	for _, name := range names {
		t.Run(name[1], func(t *testing.T) {
			s := newStore(t, addr, 2, newScript(without(t, writeLua, name[1])))
			for i := range uint64(100) {
				s.empty(t)
				if err := checkSteps(t.Context(), s, seed+i, 100); err != nil {
					return
				}
				s.empty(t)
				if err := checkShuffled(t.Context(), s, seed+i, 60); err != nil {
					return
				}
				if i == 0 && (checkLock(t.Context(), s) != nil || checkOtherTypes(t.Context(), s) != nil) {
					return
				}
			}
			t.Error("nothing was noticed in 200 histories")
		})
	}
}
