package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

// keep is a sink that keeps what it is given. What it is told to refuse it refuses, for good or for now.
type keep struct {
	mu      sync.Mutex
	seen    map[string]message.Metadata
	refuses map[string]func(error) error
}

// keeps are the sinks of the tests, by the names that their files give them.
var keeps sync.Map

type keepConfig struct {
	Name string `yaml:"name"`
}

func (k *keepConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	found, _ := keeps.Load(k.Name)
	c := found.(*keep)
	return pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if refuse := c.refuses[msg.UUID]; refuse != nil {
			return refuse(fmt.Errorf("no room for %s", msg.UUID))
		}
		if _, twice := c.seen[msg.UUID]; twice {
			return pipeline.Permanent(fmt.Errorf("%s comes twice", msg.UUID))
		}
		c.seen[msg.UUID] = message.Metadata(maps.Clone(msg.Metadata))
		return nil
	}), nil
}

// poisonBench is a pipeline with a poison queue of five entries, in two files.
type poisonBench struct {
	t         *testing.T
	dir, file string
	kept      *keep
	ask       func(string) bool
	signals   chan os.Signal
	registry  *pipeline.Registry
}

func newPoisonBench(t *testing.T, yaml string) *poisonBench {
	t.Helper()
	b := &poisonBench{t: t, dir: filepath.Join(t.TempDir(), "poison"), kept: &keep{seen: map[string]message.Metadata{}, refuses: map[string]func(error) error{}}}
	b.registry = sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry())))
	pipeline.AddSink[keepConfig](b.registry, "keep")
	keeps.Store(b.dir, b.kept)
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.write("p-1.ndjson", "m1", "m2", "m3")
	b.write("p-2.ndjson", "m4", "m5")
	b.file = filepath.Join(filepath.Dir(b.dir), "p.yaml")
	if yaml == "" {
		yaml = "sink: {keep: {name: KEEP}}\n"
	}
	text := "name: p\nsource: {file: {paths: [in.ndjson]}}\npoison_queue: {file: {dir: " + b.dir + "}}\nretry: {max_attempts: 2, initial_interval: 1ms, max_elapsed_time: 2h}\n" + strings.ReplaceAll(yaml, "KEEP", b.dir)
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *poisonBench) write(file string, ids ...string) {
	b.t.Helper()
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&text, `{"id":%q,"time":"2026-11-22T10:15:30.250000000Z","metadata":{"source":"unit"},"poison":{"reason":"because of %s","stage":"sink.keep","attempts":1},"payload":"{\"n\":\"%s\"}"}`+"\n", id, id, id)
	}
	if err := os.WriteFile(filepath.Join(b.dir, file), []byte(text.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// run runs "penstock poison".
func (b *poisonBench) run(args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = (&Program{
		Registry: b.registry, Invocation: "penstock", Args: append(append([]string{"poison"}, args...), "-f", b.file),
		Stdout: &stdout, Stderr: &stderr, Ask: b.ask, Signals: b.signals,
		LookupEnv: func(string) (string, bool) { return "", false }, ReadFile: os.ReadFile,
	}).Run(b.t.Context())
	return code, stdout.String(), stderr.String()
}

// left are the ids that the queue still has.
func (b *poisonBench) left() string {
	b.t.Helper()
	code, out, errs := b.run("list", "--format", "json")
	if code != 0 {
		b.t.Fatalf("list: code %d, %s", code, errs)
	}
	var ids []string
	for line := range strings.Lines(out) {
		var entry struct{ ID string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, entry.ID)
	}
	return strings.Join(ids, " ")
}

func (b *poisonBench) wrote() string {
	b.kept.mu.Lock()
	defer b.kept.mu.Unlock()
	var ids []string
	for _, id := range []string{"m1", "m2", "m3", "m4", "m5"} {
		if b.kept.seen[id] != nil {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, " ")
}

func TestPoisonRedrive_putsBackWhatIsAskedFor(t *testing.T) {
	for args, want := range map[string]struct{ wrote, left string }{
		"redrive":                         {"m1 m2 m3 m4 m5", ""},
		"redrive|m2|m5":                   {"m2 m5", "m1 m3 m4"},
		"redrive|--limit|2":               {"m1 m2", "m3 m4 m5"},
		`redrive|--filter|.id > "m3"`:     {"m4 m5", "m1 m2 m3"},
		"redrive|--rate|1000/s|m1":        {"m1", "m2 m3 m4 m5"},
		"redrive|--dry-run":               {"", "m1 m2 m3 m4 m5"},
		"redrive|--dry-run|--format|json": {"", "m1 m2 m3 m4 m5"},
	} {
		t.Run(args, func(t *testing.T) {
			b := newPoisonBench(t, "")
			code, out, errs := b.run(strings.Split(args, "|")...)
			if code != 0 {
				t.Fatalf("code %d, %s%s", code, out, errs)
			}
			if b.wrote() != want.wrote || b.left() != want.left {
				t.Errorf("wrote %q, left %q; want %+v", b.wrote(), b.left(), want)
			}
		})
	}
}

func TestPoisonRedrive_sendsTheOriginalWithItsTimes(t *testing.T) {
	b := newPoisonBench(t, "")
	if code, out, errs := b.run("redrive", "m3"); code != 0 || out != "put back 1 of 1 messages: 1 written, 0 filtered, 0 poisoned again, 0 not stored\n" {
		t.Fatalf("code %d, %q, %s", code, out, errs)
	}
	want := message.Metadata{"source": "unit", "recorded_at": "2026-11-22T10:15:30.250000000Z"}
	if got := b.kept.seen["m3"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("metadata %v, want %v", got, want)
	}
}

func TestPoisonRedrive_whatIsNotStoredStaysAsOneEntry(t *testing.T) {
	b := newPoisonBench(t, "")
	b.kept.refuses["m2"], b.kept.refuses["m4"] = pipeline.Permanent, func(err error) error { return err }
	files := map[string]string{}
	for range 2 {
		code, out, errs := b.run("redrive")
		if code != 1 || b.left() != "m2 m4" {
			t.Fatalf("code %d, left %q, %s%s", code, b.left(), out, errs)
		}
		for _, want := range []string{"m2  stays, poisoned again: sink.keep: no room for m2\n", "m4  stays, not stored: sink.keep: no room for m4\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in %s", want, out)
			}
		}
		found, err := filepath.Glob(filepath.Join(b.dir, "p-*"))
		if err != nil || len(found) != 2 {
			t.Fatalf("files %q, %v", found, err)
		}
		for _, name := range found {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if before := files[name]; before != "" && before != string(text) {
				t.Errorf("%s was %s and is %s", name, before, text)
			}
			files[name] = string(text)
		}
	}
	delete(b.kept.refuses, "m2")
	delete(b.kept.refuses, "m4")
	code, out, _ := b.run("redrive", "--format", "json")
	for _, want := range []string{`"id":"m2","outcome":"written"`, `"id":"m4","outcome":"written"`, `{"summary":{"dry_run":false,"filtered":0,"messages":2,"poisoned":0,"released":0,"written":2}}`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if code != 0 || b.left() != "" || b.wrote() != "m1 m2 m3 m4 m5" {
		t.Errorf("code %d, left %q, wrote %q", code, b.left(), b.wrote())
	}
}

func TestPoisonRedrive_runsTheTransforms(t *testing.T) {
	b := newPoisonBench(t, "transforms: [{decode_entitlements: {}}]\nsink: {keep: {name: KEEP}}\n")
	code, out, _ := b.run("redrive", "m1")
	if code != 1 || !strings.Contains(out, "m1  stays, poisoned again: transforms[0].decode_entitlements: ") || b.wrote() != "" {
		t.Errorf("code %d, %s, wrote %q", code, out, b.wrote())
	}
}

func TestPoisonRedrive_dryRunShowsWhatWouldBeWritten(t *testing.T) {
	b := newPoisonBench(t, "")
	code, out, _ := b.run("redrive", "--dry-run", "--limit", "1")
	want := "m1  would be written\n  {\"n\":\"m1\"}\ndry run of 1 messages, nothing was stored or removed: 1 would be written, 0 filtered, 0 poisoned, 0 not stored\n"
	if code != 0 || out != want {
		t.Errorf("code %d\n%swant\n%s", code, out, want)
	}
}

func TestPoisonRedrive_aFatalErrorRemovesNothing(t *testing.T) {
	b := newPoisonBench(t, "")
	for _, id := range []string{"m1", "m2", "m3", "m4", "m5"} {
		b.kept.refuses[id] = pipeline.Fatal
	}
	if code, _, errs := b.run("redrive"); code != 1 || !strings.Contains(errs, "no room for") || b.left() != "m1 m2 m3 m4 m5" {
		t.Errorf("code %d, left %q, %s", code, b.left(), errs)
	}
}

func TestPoisonRedrive_damageIsToldAndStays(t *testing.T) {
	b := newPoisonBench(t, "")
	name := filepath.Join(b.dir, "p-1.ndjson")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append([]byte("{\"torn\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := b.run("redrive")
	if code != 1 || !strings.Contains(errs, "penstock: "+name+":1: torn or malformed entry") || b.wrote() != "m1 m2 m3 m4 m5" {
		t.Errorf("code %d, wrote %q, %s", code, b.wrote(), errs)
	}
	if left, err := os.ReadFile(name); err != nil || string(left) != "{\"torn\n" {
		t.Errorf("left %q, %v", left, err)
	}
}

func TestPoisonDrop_writesWhatItDropsFirst(t *testing.T) {
	for name, c := range map[string]struct {
		ask        func(string) bool
		args       []string
		code       int
		out, left  string
		kept       bool
		wantOnErrs string
	}{
		"yes by flag":     {args: []string{"--yes"}, out: "dropped 2 messages: they are in ", left: "m1 m3 m5", kept: true},
		"yes by answer":   {ask: func(string) bool { return true }, out: "dropped 2 messages: they are in ", left: "m1 m3 m5", kept: true},
		"no":              {ask: func(string) bool { return false }, code: 1, left: "m1 m2 m3 m4 m5", wantOnErrs: "nothing was dropped"},
		"nobody to ask":   {code: 2, left: "m1 m2 m3 m4 m5", wantOnErrs: "say --yes"},
		"as JSON":         {args: []string{"--yes", "--format", "json"}, out: `{"dropped":2,"file":`, left: "m1 m3 m5", kept: true},
		"nothing matches": {args: []string{"--yes", "--filter", "false"}, code: 0, out: "dropped 0 messages\n", left: "m1 m2 m3 m4 m5"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newPoisonBench(t, "")
			question, to := "", filepath.Join(t.TempDir(), "dropped.ndjson")
			if c.ask != nil {
				b.ask = func(q string) bool {
					question = q
					if text, err := os.ReadFile(to); err != nil || strings.Count(string(text), "\n") != 2 {
						t.Errorf("asked before they are in the file: %s %v", text, err)
					}
					return c.ask(q)
				}
			}
			ids := []string{"m2", "m4"}
			if name == "nothing matches" {
				ids = nil
			}
			code, out, errs := b.run(append(append([]string{"drop", "--to", to}, ids...), c.args...)...)
			if code != c.code || !strings.HasPrefix(out, c.out) || !strings.Contains(errs, c.wantOnErrs) || b.left() != c.left {
				t.Errorf("code %d, stdout %q, stderr %q, left %q", code, out, errs, b.left())
			}
			if c.ask != nil && question != "drop 2 messages from files in "+b.dir+"? They are in "+to+". [y/N] " {
				t.Errorf("asked %q", question)
			}
			text, err := os.ReadFile(to)
			if c.kept != (err == nil) {
				t.Fatalf("file: %v", err)
			}
			if c.kept && (strings.Count(string(text), "\n") != 2 || !strings.Contains(string(text), `"id":"m2","time":"2026-11-22T10:15:30.250000000Z","metadata":{"source":"unit"},"poison":{"reason":"because of m2"`)) {
				t.Errorf("kept %s", text)
			}
		})
	}
}

func TestPoisonDrop_overwritesNothing(t *testing.T) {
	b := newPoisonBench(t, "")
	to := filepath.Join(t.TempDir(), "there.ndjson")
	if err := os.WriteFile(to, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := b.run("drop", "--yes", "--to", to)
	if text, err := os.ReadFile(to); code != 1 || string(text) != "mine" || err != nil || b.left() != "m1 m2 m3 m4 m5" {
		t.Errorf("code %d, %s, file %q, left %q", code, errs, text, b.left())
	}
}

func TestPoison_queuesThatCanNotBeReadAgain(t *testing.T) {
	b := newPoisonBench(t, "")
	text := "name: p\nsource: {file: {paths: [in.ndjson]}}\nsink: {keep: {}}\npoison_queue: {keep: {}}\n"
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"list", "show", "redrive", "drop|--yes"} {
		if code, _, errs := b.run(strings.Split(args, "|")...); code != 2 || !strings.Contains(errs, "the poison queue keep can't be read again") {
			t.Errorf("%s: code %d, %s", args, code, errs)
		}
	}
}

// A signal ends a redrive: what was stored is removed, the rest stays.
func TestPoisonRedrive_aSignalLeavesTheRest(t *testing.T) {
	b := newPoisonBench(t, "max_in_flight: 1\nsink: {keep: {name: KEEP}}\n")
	signals := make(chan os.Signal, 1)
	b.signals = signals
	b.kept.refuses["m3"] = func(err error) error {
		select {
		case signals <- os.Interrupt:
		default:
		}
		return pipeline.RetryAfter(err, time.Hour)
	}
	code, _, errs := b.run("redrive")
	if code != 1 || !strings.Contains(errs, "interrupted: what was not put back is still in the poison queue") {
		t.Errorf("code %d, %s", code, errs)
	}
	b.signals = nil
	if b.wrote() != "m1 m2" || b.left() != "m3 m4 m5" {
		t.Errorf("wrote %q, left %q", b.wrote(), b.left())
	}
}
