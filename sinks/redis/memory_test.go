package redis

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// memoryOf returns penstock_redis_memory_used_bytes and …_max_bytes by server.
func memoryOf(t *testing.T, metrics prometheus.Gatherer) (used, most map[string]float64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]map[string]float64{"penstock_redis_memory_used_bytes": {}, "penstock_redis_memory_max_bytes": {}}
	for _, family := range families {
		if values := shown[family.GetName()]; values != nil {
			for _, m := range family.GetMetric() {
				values[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	return shown["penstock_redis_memory_used_bytes"], shown["penstock_redis_memory_max_bytes"]
}

func openWriter(t *testing.T, conf *Config) (*writer, *prometheus.Registry) {
	t.Helper()
	metrics := prometheus.NewRegistry()
	w := newWriter(conf, pipeline.Env{Metrics: metrics}, writeScript)
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w, metrics
}

func TestMemory_isShownWhileTheServerTells(t *testing.T) {
	t.Parallel()
	const limit = 512 << 20
	server := testserver.StartRedis(t, "--maxmemory-policy", "noeviction", "--maxmemory", strconv.Itoa(limit))
	address := server.Addr()
	client := testClient(t, address)
	w, metrics := openWriter(t, testConfig(address))
	ping := func(want string) {
		t.Helper()
		w.memory.next = time.Time{}
		if err := w.ping(t.Context()); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("ping: %v, want %q", err, want)
		}
	}
	configure := func(setting, value string) {
		t.Helper()
		if err := client.ConfigSet(t.Context(), setting, value).Err(); err != nil {
			t.Fatal(err)
		}
	}

	ping("")
	if used, most := memoryOf(t, metrics); used[address] < 100_000 || used[address] > limit || most[address] != limit {
		t.Errorf("used %v, max %v", used, most)
	}
	configure("maxmemory", "1")
	ping("OOM") // nothing can be written, and just then it matters
	if used, most := memoryOf(t, metrics); used[address] < 100_000 || most[address] != 1 {
		t.Errorf("when it is full: used %v, max %v", used, most)
	}
	configure("maxmemory", "0")
	ping("")
	if used, most := memoryOf(t, metrics); used[address] < 100_000 || len(most) != 0 {
		t.Errorf("without a limit: used %v, max %v", used, most)
	}
	server.Stop()
	ping(address)
	if used, most := memoryOf(t, metrics); len(used)+len(most) != 0 {
		t.Errorf("when it is away: used %v, max %v", used, most)
	}
	server.Restart()
	if err := w.ping(t.Context()); err != nil { // whenever it was asked last
		t.Fatal(err)
	}
	if used, most := memoryOf(t, metrics); used[address] < 100_000 || most[address] != limit {
		t.Errorf("when it is back: used %v, max %v", used, most)
	}
}

func TestMemory_isAskedForNowAndThen(t *testing.T) {
	t.Parallel()
	address := testserver.Redis(t)
	w, _ := openWriter(t, testConfig(address))
	for range 5 {
		if err := w.ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stats, err := testClient(t, address).Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stats, "cmdstat_info:calls=1,") {
		t.Errorf("want one INFO for five pings:\n%s", stats)
	}
}

func TestMemory_withoutTheRightNothingIsShownAndNothingFails(t *testing.T) {
	t.Parallel()
	address := testserver.Redis(t)
	client := testClient(t, address)
	if err := client.Do(t.Context(), "acl", "setuser", "penstock", "on", ">geheim", "~p:*", "~p-*",
		"+@read", "+@write", "+@scripting", "+@connection").Err(); err != nil {
		t.Fatal(err)
	}
	conf := testConfig(address)
	conf.User, conf.Password = "penstock", pipeline.NewSecret("geheim")
	w, metrics := openWriter(t, conf)
	if err := w.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, most := memoryOf(t, metrics); len(used)+len(most) != 0 {
		t.Errorf("used %v, max %v", used, most)
	}
	if pause := time.Until(w.memory.next); pause < memoryInterval {
		t.Errorf("asks again after %s: every refusal is a line in the server's ACL log", pause)
	}
	if err := client.Do(t.Context(), "acl", "setuser", "penstock", "+info").Err(); err != nil {
		t.Fatal(err)
	}
	w.memory.next = time.Time{}
	if err := w.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, _ := memoryOf(t, metrics); used[address] == 0 {
		t.Errorf("with +info: used %v", used)
	}
}

func TestMemory_ofEveryMasterOfACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	w, metrics := openWriter(t, c.config())
	if err := w.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(c.Addrs()))
	if used, _ := memoryOf(t, metrics); !slices.Equal(slices.Sorted(maps.Keys(used)), want) {
		t.Errorf("shown are %v, want %v", used, want)
	}
	// A node that is none of its masters any more.
	w.memory.told["gone:1"] = true
	w.memory.used.WithLabelValues("gone:1").Set(1)
	w.memory.next = time.Time{}
	if err := w.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, _ := memoryOf(t, metrics); !slices.Equal(slices.Sorted(maps.Keys(used)), want) {
		t.Errorf("shown are %v, want %v", used, want)
	}
}

func TestMemory_withSentinelsIsTheMasters(t *testing.T) {
	t.Parallel()
	master := testserver.StartRedis(t)
	sentinel := testserver.StartSentinel(t, "m", master.Addr(), 1)
	conf := testConfig(defaultHost)
	conf.Sentinel = Sentinel{Master: "m", Addresses: []string{sentinel.Addr()}}
	w, metrics := openWriter(t, conf)
	if err := w.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, _ := memoryOf(t, metrics); used["m at "+sentinel.Addr()] == 0 {
		t.Errorf("shown are %v", used)
	}
}

func TestMemory_whatInfoTells(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info string
		want float64
		ok   bool
	}{
		"among others":        {"# Memory\r\nused_memory_human:1M\r\nused_memory:42\r\nused_memory_rss:7\r\n", 42, true},
		"only like it":        {"used_memory_rss:7\r\n", 0, false},
		"not a number":        {"used_memory:many\r\n", 0, false},
		"an empty answer":     {"", 0, false},
		"beyond an int64":     {"used_memory:18446744073709551615\r\n", 18446744073709551615, true},
		"without a newline":   {"used_memory:42", 42, true},
		"a name that ends so": {"peak_used_memory:7\r\n", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := infoNumber(c.info, "used_memory"); got != c.want || ok != c.ok {
				t.Errorf("infoNumber = %v, %t, want %v, %t", got, ok, c.want, c.ok)
			}
		})
	}
}
