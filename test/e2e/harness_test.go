// Package e2e proves that penstock does its main job: with a real Redis, a real SQS server, the provider's real SDK as
// the reader and as the reference writer, and the program as it is built.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

// patience is how long a test waits for what must happen. It is long because CI machines are slow, and costs nothing
// when all is well.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	removeBinary()
	removeImageRoot()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// root returns a path in the module.
func root(t testing.TB, elem ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", ".."}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually polls until ok returns "", or fails with what it returned last.
func eventually(t testing.TB, ok func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		problem := ok()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, problem)
		}
	}
}

// running is an engine with one pipeline.
type running struct {
	t      testing.TB
	engine *pipeline.Engine
	cancel context.CancelFunc
	done   chan error
}

// start runs a pipeline in this process, from its YAML and an environment that stands for the process's.
func start(t testing.TB, yaml string, env map[string]string) *running {
	t.Helper()
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cfg, _, err := pipeline.LoadBytes(penstock.Builtins(), "test.yaml", []byte(yaml), pipeline.LoadOptions{Env: lookup})
	if err != nil {
		t.Fatal(err)
	}
	settings := pipeline.Settings{}
	if testing.Verbose() {
		settings.Logger = zaptest.NewLogger(t)
	}
	p, err := cfg.Build(settings)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pipeline.New(settings, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, engine: engine, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- engine.Run(ctx) }()
	t.Cleanup(func() {
		if r.cancel != nil {
			r.engine.Kill()
			r.end(true)
		}
	})
	return r
}

func (r *running) ledger() pipeline.Ledger { return r.engine.Ledgers()[0] }

// stop asks for a graceful stop and returns the final ledger, which must add up.
func (r *running) stop() pipeline.Ledger {
	r.t.Helper()
	r.cancel()
	return r.end(false)
}

// wait waits until a finite source has ended and returns the final ledger, which must add up.
func (r *running) wait() pipeline.Ledger {
	r.t.Helper()
	return r.end(false)
}

func (r *running) end(killed bool) pipeline.Ledger {
	r.t.Helper()
	var err error
	select {
	case err = <-r.done:
	case <-time.After(patience):
		err = errors.New("the engine did not end")
	}
	r.cancel()
	r.cancel = nil
	if err != nil && !killed {
		r.t.Fatal(err)
	}
	l := r.ledger()
	if !killed {
		pipelinetest.CheckLedger(r.t, l)
	}
	return l
}

// event is one body on its way, with the time of its delivery, which counts where the body has none.
type event struct {
	body string
	at   time.Time
}

// recordingOf writes events to a new file in the recording format and returns its path.
func recordingOf(t testing.TB, events ...event) string {
	t.Helper()
	var lines []byte
	for i, e := range events {
		lines = recording.Append(lines, &recording.Entry{ID: "e" + strconv.Itoa(i), Time: e.at, Payload: []byte(e.body)})
	}
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fromFile is a pipeline from recordings to a Redis.
const fromFile = `
name: from-file
source:
  file: {paths: ["${FILES}"]}
transforms:
  - unwrap: {}
  - decode_entitlements: {layout: "${LAYOUT:-dual}"}
sink:
  redis:
    host: ${REDIS}
    db: ${DB:-0}
    prefix: ${PREFIX:-production}
`

// fill runs events through the pipeline fromFile. Every one must be written or filtered.
func fill(t testing.TB, env map[string]string, events ...event) pipeline.Ledger {
	t.Helper()
	env = maps.Clone(env)
	env["FILES"] = recordingOf(t, events...)
	l := start(t, fromFile, env).wait()
	if l.Received != int64(len(events)) || l.Written+l.Filtered != l.Received {
		t.Fatalf("want %d events written or filtered, got %+v", len(events), l)
	}
	return l
}

// sample returns a body of testdata/samples, which are examples of what the provider sends.
func sample(t testing.TB, number string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "samples", number+"-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("sample %s: found %v, %v", number, files, err)
	}
	body, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// samplesAt makes events of samples, delivered one second after the other.
func samplesAt(t testing.TB, from time.Time, numbers ...string) []event {
	t.Helper()
	events := make([]event, len(numbers))
	for i, n := range numbers {
		events[i] = event{body: sample(t, n), at: from.Add(time.Duration(i) * time.Second)}
	}
	return events
}

// changed returns a body with some of its members set; nil removes one.
func changed(t testing.TB, body string, members map[string]any) string {
	t.Helper()
	object := map[string]any{}
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		t.Fatal(err)
	}
	for name, value := range members {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = value
		}
	}
	return asJSON(t, object)
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dial returns a client for a database of a Redis.
func dial(t testing.TB, addr string, db int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, DB: db, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// entry is a key's value in Redis and how long it has to live; -1 ns means for ever.
type entry struct {
	value string
	ttl   time.Duration
}

// dump returns all keys of a database but penstock:contents, the name of its contents, which is another one in every
// database.
func dump(t testing.TB, c *redis.Client) map[string]entry {
	t.Helper()
	ctx := context.Background()
	var keys []string
	for i := c.Scan(ctx, 0, "*", 1000).Iterator(); ; {
		if !i.Next(ctx) {
			if err := i.Err(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if !strings.HasSuffix(i.Val(), ":penstock:contents") {
			keys = append(keys, i.Val())
		}
	}
	entries := make(map[string]entry, len(keys))
	for chunk := range slices.Chunk(keys, 500) {
		p := c.Pipeline()
		values, ttls := make([]*redis.StringCmd, len(chunk)), make([]*redis.DurationCmd, len(chunk))
		for i, key := range chunk {
			values[i], ttls[i] = p.Get(ctx, key), p.PTTL(ctx, key)
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		for i, key := range chunk {
			entries[key] = entry{values[i].Val(), ttls[i].Val()}
		}
	}
	return entries
}

// compare reports how two states differ: keys and values byte for byte, the time to live within the time since begun,
// which is before both were made.
func compare(t testing.TB, got, want map[string]entry, begun time.Time) {
	t.Helper()
	tolerance := time.Since(begun) + time.Second
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		w := want[key]
		switch g, ok := got[key]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("%q is missing", key))
		case g.value != w.value:
			lines = append(lines, fmt.Sprintf("%q\n   is %s\n want %s", key, g.value, w.value))
		case (g.ttl-w.ttl).Abs() > tolerance || (g.ttl < 0) != (w.ttl < 0):
			lines = append(lines, fmt.Sprintf("%q lives %s, want %s", key, g.ttl, w.ttl))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			lines = append(lines, fmt.Sprintf("%q should not be there: %s", key, got[key].value))
		}
	}
	if len(lines) > 0 {
		t.Errorf("%d of %d keys differ:\n%s", len(lines), len(want), strings.Join(lines[:min(len(lines), 10)], "\n"))
	}
}

// split returns host and port of an address.
func split(t testing.TB, addr string) (string, int) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return host, n
}
