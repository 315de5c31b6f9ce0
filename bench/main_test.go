package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The benchmark starts itself as some of its contenders.
	if len(os.Args) == 4 && os.Args[1] == contenderFlag {
		if err := contenderMain(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func need(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if _, err := exec.LookPath(command); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed: run make setup", command)
			}
			t.Skipf("%s is not installed: run make setup", command)
		}
	}
}

func TestConfigFile_isAnothersOnly(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	first, err := b.configFile("sqs", "one")
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.configFile("sqs", "two")
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{first: "one", second: "two"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q: a process may be reading it", file, got, err, want)
		}
	}
}

// TestBench_everyPartRuns is the benchmark itself, small: it ends with a comparison of Redis and model after each run.
func TestBench_everyPartRuns(t *testing.T) {
	need(t, "redis-server", "node")
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "test", "node_modules", "fauxqs")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("npm packages are missing: run make setup")
		}
		t.Skip("npm packages are missing: run make setup")
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(copied, page, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mainErr(t.Context(), []string{"-short", "-out", copied}); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	if svg, err := os.ReadFile(filepath.Join(filepath.Dir(copied), "benchmarks-file.svg")); err != nil || xml.Unmarshal(svg, new(any)) != nil {
		t.Errorf("no chart: %v: %s", err, svg)
	}
	for _, c := range fileContenders {
		if c.name == benthosName {
			continue
		}
		if !strings.Contains(string(written), "**"+c.name+"**") {
			t.Errorf("the page has no figures of %s", c.name)
		}
	}
	for _, c := range sqsContenders {
		if c.name != benthosName && !strings.Contains(string(written), "**"+c.name+"**") {
			t.Errorf("the page has no figures of %s", c.name)
		}
	}
	for _, c := range scriptContenders {
		if !strings.Contains(string(written), "**"+c.name+"**: "+c.what) {
			t.Errorf("the page has no figures of the script %s", c.name)
		}
	}
	if n := strings.Count(string(written), "1 rounds"); n != len(parts) {
		t.Errorf("the page has %d new sections, want %d", n, len(parts))
	}
}

func TestAims_areMetMissedOrWithinTheNoise(t *testing.T) {
	for name, c := range map[string]struct {
		aim  aim
		want verdict
		got  string
	}{
		"all reach it":        {atLeast("x", 2, 1, 2, 3), met, "2.0 and 3.0"},
		"none does":           {atLeast("x", 2, 1, 1.9, 1), missed, "1.0 and 1.9"},
		"the control differs": {atLeast("x", 2, 1, 1.9, 2.1), undecided, "1.9 and 2.1"},
		"at most":             {atMost("x", 4, 0, 4), met, "4"},
		"more than that":      {atMost("x", 4, 0, 5), missed, "5"},
	} {
		if c.aim.verdict != c.want || c.aim.got != c.got {
			t.Errorf("%s: got %q of %q, want %q of %q", name, c.aim.verdict, c.aim.got, c.want, c.got)
		}
	}
	if text := aims(atLeast("measured", 1, 0, 1), atLeast("not measured", 1, 0, ratios([]sample{nil}, sample{1})...)); !strings.Contains(text, "measured") || strings.Contains(text, "not measured") {
		t.Errorf("got %s", text)
	}
}

func TestDurations_areReadFromTheMetrics(t *testing.T) {
	page := func(counts ...int) durations {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i, bound := range []string{"0.001", "0.01", "+Inf"} {
				_, _ = fmt.Fprintf(w, "penstock_message_duration_seconds_bucket{pipeline=\"p\",le=\"%s\"} %d\n", bound, counts[i])
			}
			_, _ = fmt.Fprintf(w, "# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total 1.5\npenstock_message_duration_seconds_count{pipeline=\"p\"} %d\n", counts[2])
		}))
		defer server.Close()
		d, err := scrape(t.Context(), strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := page(110, 200, 210).since(page(10, 10, 10))
	if d.count != 200 || d.within(0.005) != 0.5 || d.within(0.01) != 0.95 || d.cpu != 0 {
		t.Errorf("got %+v", d)
	}
	if half, most := d.quantile(0.5), d.quantile(0.725); half != 0.001 || most < 0.0054 || most > 0.0056 {
		t.Errorf("quantiles %v and %v", half, most)
	}
	if last := d.quantile(0.99); last < 1 {
		t.Errorf("a quantile beyond the last bound: %v", last)
	}
}

func TestWorkload_sizesAndSharesAreAsSaid(t *testing.T) {
	snapshots, usage, snapshotBytes, usageBytes := 0, 0, 0, 0
	err := workload{seed: 1, events: 5000, customers: 500}.each(func(body []byte) error {
		if !json.Valid(body) {
			t.Fatalf("no JSON: %s", body)
		}
		if bytes.Contains(body, []byte("EntitlementsUpdated")) {
			snapshots++
			snapshotBytes += len(body)
		} else {
			usage++
			usageBytes += len(body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if snapshots != 500 || usage != 4500 {
		t.Errorf("got %d snapshots and %d usage events, want 500 and 4,500", snapshots, usage)
	}
	if size := snapshotBytes / snapshots; size < 1400 || size > 1600 {
		t.Errorf("snapshots have %d bytes, want about 1,500", size)
	}
	if size := usageBytes / usage; size < 270 || size > 330 {
		t.Errorf("usage events have %d bytes, want about 300", size)
	}
}

func TestWorkload_isTheSameEveryTime(t *testing.T) {
	read := func(seed uint64) string {
		var all []byte
		_ = workload{seed: seed, events: 300, customers: 20}.each(func(body []byte) error {
			all = append(all, body...)
			return nil
		})
		return string(all)
	}
	first := read(1)
	if read(1) != first {
		t.Error("the same seed made other events")
	}
	if read(2) == first {
		t.Error("another seed made the same events")
	}
}

func TestModel_compareFindsEveryDifference(t *testing.T) {
	need(t, "redis-server")
	ctx := t.Context()
	server, err := startRedis(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	w := workload{seed: 1, events: 200, customers: 10}
	m, err := newModel(w)
	if err != nil {
		t.Fatal(err)
	}
	var key string
	fill := func() {
		t.Helper()
		if err := server.empty(ctx); err != nil {
			t.Fatal(err)
		}
		for _, write := range m {
			key = prefix + ":" + write.Key
			server.client.Set(ctx, key, write.Value, 0)
			server.client.Set(ctx, key+"#timestamp", write.Version, 0)
		}
		server.client.Set(ctx, prefix+":penstock:"+key, "own", 0)
	}
	fill()
	if err := m.compare(ctx, server.client, prefix); err != nil {
		t.Errorf("a Redis that holds the model: %v", err)
	}
	for name, spoil := range map[string]func(){
		"value changed":   func() { server.client.Set(ctx, key, "{}", 0) },
		"value missing":   func() { server.client.Del(ctx, key) },
		"version changed": func() { server.client.Set(ctx, key+"#timestamp", "1", 0) },
		"version missing": func() { server.client.Del(ctx, key+"#timestamp") },
		"extra key":       func() { server.client.Set(ctx, key+"x", "{}", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			fill()
			spoil()
			if err := m.compare(ctx, server.client, prefix); err == nil {
				t.Error("the difference was not found")
			}
		})
	}
}

func TestModel_keepsTheGreatestWrite(t *testing.T) {
	w := workload{seed: 3, events: 2000, customers: 5}
	m, err := newModel(w)
	if err != nil {
		t.Fatal(err)
	}
	// The newest usage event of each feature, found without the decoder and cache.Compare. It decides, unless a
	// snapshot is newer.
	type usageEvent struct {
		CustomerID           string              `json:"customerId"`
		EntitlementReference struct{ ID string } `json:"entitlementReference"`
		Usage                struct {
			CurrentUsage   int64     `json:"currentUsage"`
			UsageUpdatedAt time.Time `json:"usageUpdatedAt"`
		}
	}
	newest := map[string]usageEvent{}
	err = w.each(func(body []byte) error {
		var e usageEvent
		if err := json.Unmarshal(body, &e); err != nil {
			return err
		}
		key := "c_" + e.CustomerID + ":f_" + e.EntitlementReference.ID
		if old, ok := newest[key]; e.EntitlementReference.ID != "" && (!ok || old.Usage.UsageUpdatedAt.Before(e.Usage.UsageUpdatedAt)) {
			newest[key] = e
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for key, e := range newest {
		write := m[key]
		if write.Version != e.Usage.UsageUpdatedAt.UnixMilli() {
			if write.Version < e.Usage.UsageUpdatedAt.UnixMilli() {
				t.Errorf("%s: version %d, but there is a newer event of %d", key, write.Version, e.Usage.UsageUpdatedAt.UnixMilli())
			}
			continue
		}
		checked++
		if want := fmt.Sprintf(`{"currentUsage":%d}`, e.Usage.CurrentUsage); string(write.Value) != want {
			t.Errorf("%s: got %s, want %s", key, write.Value, want)
		}
	}
	if checked < 5 {
		t.Errorf("only %d of %d keys were decided by usage events", checked, len(newest))
	}
}

func TestBenthos_takesPartOnlyWhenAskedTo(t *testing.T) {
	for name, c := range map[string]struct {
		b    bench
		want bool
	}{
		"no program":         {bench{}, false},
		"only, no program":   {bench{only: []string{benthosName}}, false},
		"program":            {bench{benthos: "benthos"}, true},
		"program, only that": {bench{benthos: "benthos", only: []string{benthosName}}, true},
		"program, only this": {bench{benthos: "benthos", only: []string{"penstock"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.b.wants(benthosName); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestCheckVersions_findsEveryDifferenceFromWhatTheScriptWrites(t *testing.T) {
	need(t, "redis-server")
	ctx := t.Context()
	server, err := startRedis(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	w := workload{seed: 1, events: 200, customers: 10} // with late events
	var key string
	fill := func() {
		t.Helper()
		if err := server.empty(ctx); err != nil {
			t.Fatal(err)
		}
		var keys []string
		var args []any
		err := w.each(func(body []byte) error {
			var event struct {
				CustomerID           string
				EntitlementReference struct{ ID string }
				Usage                struct{ UsageUpdatedAt time.Time }
				Entitlements         []struct{ EntitlementUpdatedAt time.Time }
			}
			if err := json.Unmarshal(body, &event); err != nil {
				return err
			}
			key = prefix + ":c_" + event.CustomerID
			at := event.Usage.UsageUpdatedAt
			if event.EntitlementReference.ID != "" {
				key += ":f_" + event.EntitlementReference.ID
			} else {
				at = event.Entitlements[0].EntitlementUpdatedAt
			}
			keys, args = append(keys, key), append(args, at.UnixMilli(), "{}")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.client.Eval(ctx, benthosScript, keys, args...).Err(); err != nil {
			t.Fatal(err)
		}
		// Again, from the older half: nothing of it may win.
		if err := server.client.Eval(ctx, benthosScript, keys[:100], args[:200]...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if err := checkVersions(ctx, server.client, w); err != nil {
		t.Errorf("what the script wrote: %v", err)
	}
	for name, spoil := range map[string]func(){
		"value missing":   func() { server.client.Del(ctx, key) },
		"version changed": func() { server.client.Set(ctx, key+"#timestamp", "1", 0) },
		"version missing": func() { server.client.Del(ctx, key+"#timestamp") },
		"extra key":       func() { server.client.Set(ctx, key+"x", "{}", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			fill()
			spoil()
			if err := checkVersions(ctx, server.client, w); err == nil {
				t.Error("the difference was not found")
			}
		})
	}
}

func TestProgress_tellsStallsFromWork(t *testing.T) {
	start := time.Now()
	g := progress{changed: start}
	for _, at := range []struct {
		after time.Duration
		keys  int64
	}{
		{40 * time.Second, 0}, {41 * time.Second, 2}, {42 * time.Second, 20}, {60 * time.Second, 20}, {72 * time.Second, 22}, {73 * time.Second, 40},
		{90 * time.Second, 40},
	} {
		g.see(at.keys, start.Add(at.after))
	}
	if g.wall() != 32*time.Second || g.stalled != 30*time.Second || g.stalls != 1 {
		t.Errorf("got %s, of which %s in %d stalls; want 32s, 30s in 1", g.wall(), g.stalled, g.stalls)
	}
}

func TestProxy_countsAndDelaysRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte("echo "), body...))
	}))
	defer server.Close()
	p, err := startProxy(server.Listener.Addr().String(), 30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	started := time.Now()
	for i, action := range []string{"ReceiveMessage", "ReceiveMessage", "DeleteMessageBatch"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url(), strings.NewReader(strings.Repeat("x", 100_000*i)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Target", "AmazonSQS."+action)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || len(body) != len("echo ")+100_000*i {
			t.Fatalf("got %d bytes back, %v", len(body), err)
		}
	}
	if took := time.Since(started); took < 90*time.Millisecond {
		t.Errorf("three requests took %s, want at least 90ms", took)
	}
	if got := p.counts(); got["ReceiveMessage"] != 2 || got["DeleteMessageBatch"] != 1 || p.requests() != 3 {
		t.Errorf("got %v", got)
	}
}

func TestReplaceSection_leavesTheRestOfThePage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	text := "before\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nbetween\n<!-- bench:b -->\n<!-- /bench:b -->\nafter\n"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceSection(page, "a", "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(text, "old", "new", 1); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := replaceSection(page, "c", "new\n"); err == nil {
		t.Error("a part without a place on the page was accepted")
	}
}

func TestStageOf_isTheInnermostFunctionThatIsOurs(t *testing.T) {
	for name, c := range map[string]struct {
		stack []string
		want  string
	}{
		"decoder":           {[]string{"github.com/penstock-dev/penstock/entitlement.(*lexer).peek", "github.com/penstock-dev/penstock/pipeline.(*runner).process"}, "decode"},
		"memory of decoder": {[]string{"runtime.mallocgc", "github.com/penstock-dev/penstock/entitlement.(*lexer).peek"}, "decode"},
		"redis client":      {[]string{"syscall.write", "github.com/redis/go-redis/v9.(*Client).Process", "github.com/penstock-dev/penstock/sinks/redis.(*writer).call"}, "commit"},
		"router":            {[]string{"github.com/ThreeDotsLabs/watermill/message.(*handler).run"}, "engine and router"},
		"scheduler":         {[]string{"runtime.schedule", "runtime.mcall"}, ""},
		"collector":         {[]string{"runtime.scanobject", "runtime.gcDrain", "runtime.gcBgMarkWorker"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if i := stageOf(c.stack); i < len(stages) {
				got = stages[i].name
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestProcess_memoryIsTheChildsOwn(t *testing.T) {
	ballast := bytes.Repeat([]byte("x"), 200<<20) // a child's maxrss would begin with its parent's memory
	took, err := run(t.Context(), exec.Command("sleep", "0.2"), false)
	if err != nil {
		t.Fatal(err)
	}
	if took.RSS > 50e6 {
		t.Errorf("sleep has taken %d MB", took.RSS/1e6)
	}
	if took.Wall < 200*time.Millisecond {
		t.Errorf("sleep 0.2 took %s", took.Wall)
	}
	if len(ballast) == 0 {
		t.Error("the ballast must live until here")
	}
}

func TestProcess_failureTellsWhatTheProcessSaid(t *testing.T) {
	_, err := run(t.Context(), exec.Command("sh", "-c", "echo it is broken >&2; exit 3"), false)
	if err == nil || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, exec.Command("sleep", "60"), false); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestProcess_ledgerMustAddUp(t *testing.T) {
	for said, want := range map[string]bool{
		`{"msg":"done","received":3,"written":1,"filtered":1,"poisoned":1,"released":0}`: true,
		`{"msg":"done","received":3,"written":1,"filtered":1,"poisoned":0,"released":0}`: false,
		`received: not a ledger`: true,
	} {
		_, err := run(t.Context(), exec.Command("sh", "-c", "echo '"+said+"' >&2"), false)
		if (err == nil) != want {
			t.Errorf("%s: %v", said, err)
		}
	}
}

func TestSample_spread(t *testing.T) {
	for name, c := range map[string]struct {
		s    sample
		want string
	}{
		"none": {sample{}, "–"},
		"one":  {sample{1234567}, "1,234,567"},
		"odd":  {sample{3, 1, 2}, "2 (1–3)"},
		"even": {sample{4, 1, 2, 3}, "2 (1–4)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.s.spread(0); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
