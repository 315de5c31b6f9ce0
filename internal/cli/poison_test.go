package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

// poisoned is a pipeline with three entries in its poison queue, and a torn line between the second and the third.
func poisoned(t *testing.T) (run func(args ...string) (code int, out, errs string), dir string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "poison")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-3 * time.Hour).UTC().Format(time.RFC3339Nano)
	entry := func(id, reason, stage, payload string) string {
		line := fmt.Sprintf(`{"id":%q,"metadata":{"source":"unit"},"poison":{"reason":%q,"stage":%q,"attempts":1,"at":%q,"pipeline":"p"},"payload":%q}`+"\n",
			id, reason, stage, at, payload)
		return strings.ReplaceAll(line, `\x1b`, `\u001b`) // as JSON has it
	}
	lines := entry("m1", "customer id is missing", "transforms[0].decode_entitlements", `{"a":{"n":123456789012345678901}}`) +
		entry("m2", "not JSON", "transforms[0].decode_entitlements", "words \x1b[31m") +
		`{"id":"torn","payl` + "\n" + entry("m3", "not JSON", "sink.redis", `{"a":{"n":2}}`)
	if err := os.WriteFile(filepath.Join(dir, "p-1.ndjson"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "p.yaml")
	text := "name: p\nsource: {file: {paths: [in.ndjson]}}\nsink: {drop: {}}\npoison_queue: {file: {dir: " + dir + "}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := (&Program{
			Registry: sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry()))), Invocation: "penstock",
			Args: append(append([]string{"poison"}, args...), "-f", file), Stdout: &out, Stderr: &errs,
			LookupEnv: func(string) (string, bool) { return "", false }, ReadFile: os.ReadFile,
		}).Run(t.Context())
		return code, out.String(), errs.String()
	}, dir
}

func TestPoisonList_namesDamageAndGoesOn(t *testing.T) {
	run, dir := poisoned(t)
	code, out, errs := run("list")
	if code != 1 || !strings.Contains(errs, filepath.Join(dir, "p-1.ndjson")+":3: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("code %d, stderr %q", code, errs)
	}
	want := "m1\n  3h ago, 1 attempt\n  transforms[0].decode_entitlements\n  customer id is missing\n" +
		"m2\n  3h ago, 1 attempt\n  transforms[0].decode_entitlements\n  not JSON\n" +
		"m3\n  3h ago, 1 attempt\n  sink.redis\n  not JSON\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestPoisonList_selectsAndCounts(t *testing.T) {
	run, _ := poisoned(t)
	for args, want := range map[string]string{
		"list|--by|reason":                      "2  not JSON\n1  customer id is missing\n",
		"list|--by|stage|--format|json":         `{"count":2,"stage":"transforms[0].decode_entitlements"}` + "\n" + `{"count":1,"stage":"sink.redis"}` + "\n",
		`list|--by|reason|--limit|1`:            "1  customer id is missing\n",
		`list|m3|--by|pipeline`:                 "1  p\n",
		`list|--by|reason|--filter|.id == "m3"`: "1  not JSON\n",
		`list|--by|reason|--filter|.poison.stage | startswith("transforms")`: "1  customer id is missing\n1  not JSON\n",
		`list|--by|reason|--filter|.payload.a?.n? == 123456789012345678901`:  "1  customer id is missing\n",
		`list|--by|reason|--filter|.metadata.source == "other"`:              "",
	} {
		var list []string
		if before, expression, ok := strings.Cut(args, "--filter|"); ok {
			list = append(strings.Split(before+"--filter", "|"), expression)
		} else {
			list = strings.Split(args, "|")
		}
		if _, out, errs := run(list...); out != want {
			t.Errorf("%v:\n got %q\nwant %q\n%s", list, out, want, errs)
		}
	}
}

func TestPoisonShow_isWholeAndSteersNoTerminal(t *testing.T) {
	run, dir := poisoned(t)
	_, out, _ := run("show", "m1")
	for _, want := range []string{"customer id is missing", "at " + filepath.Join(dir, "p-1.ndjson") + ":1\n", "  source: unit\n", "    \"n\": 123456789012345678901\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	_, out, _ = run("show", "m2")
	if strings.Contains(out, "\x1b") || !strings.Contains(out, "words \ufffd[31m") {
		t.Errorf("show m2: %q", out)
	}
	if _, out, _ = run("show", "m2", "--format", "json"); !strings.Contains(out, `"payload":"words \u001b[31m"`) {
		t.Errorf("show m2 as JSON: %q", out)
	}
}

func TestPoison_mistakesAreOneClearError(t *testing.T) {
	run, dir := poisoned(t)
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"list|--by|colour":    {2, `--by: want reason, stage or pipeline, got "colour"`},
		"list|--format|xml":   {2, `--format: want text or json, got "xml"`},
		"list|--filter|.a ==": {2, "--filter: line 1, column 6: the expression ends too early"},
		"list|--limit|-1":     {2, "--limit: must not be negative, got -1"},
		"show|nobody":         {1, `no message "nobody" in files in ` + dir},
	} {
		code, out, errs := run(strings.Split(args, "|")...)
		if code != want.code || !strings.Contains(errs, want.text) || out != "" {
			t.Errorf("%s: code %d, %q, stdout %q; want %d, %q", args, code, errs, out, want.code, want.text)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	code, _, errs := run("list")
	if code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "poison queue: open "+dir) || strings.Contains(errs, "--help") {
		t.Errorf("without the directory: code %d, %q", code, errs)
	}
}
