package penstock_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/code"
)

// beside are the files that the examples which are commands name.
var beside = map[string]string{
	"pipeline.yaml":    "name: example\nsource: {generate: {}}\nsink: {drop: {}}\n",
	"another.yaml":     "name: another\nsource: {generate: {}}\nsink: {drop: {}}\n",
	"serving.yaml":     "name: serving\nsource: {generate: {}}\nsink: {drop: {}}\nservice: {http: {address: \"127.0.0.1:0\"}}\n",
	"serving-too.yaml": "name: serving-too\nsource: {generate: {}}\nsink: {drop: {}}\nservice: {http: {address: \"127.0.0.1:0\"}}\n",
	"required.yaml":    "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {host: \"${REDIS_HOST:?the server}\"}}\n",
}

var (
	codeShown = regexp.MustCompile(`\[(PS\d{3})\]`)
	variable  = regexp.MustCompile(`^([A-Z_]+)=(\$'[^']*'|\S*) `)
)

// tryExample runs an example of the table as its reader would and returns the codes that it is told, each once.
func tryExample(t *testing.T, e code.Entry, example string) (exit int, codes []string, told string) {
	t.Helper()
	args, env := []string{"validate", "example.yaml"}, map[string]string{}
	if line, ok := strings.CutPrefix(example, "$ "); ok {
		line = strings.TrimSpace(line)
		for m := variable.FindStringSubmatch(line); m != nil; m = variable.FindStringSubmatch(line) {
			value, ansi := strings.CutPrefix(m[2], "$'")
			if ansi {
				value = strings.ReplaceAll(strings.TrimSuffix(value, "'"), `\n`, "\n")
			}
			env[m[1]], line = value, line[len(m[0]):]
		}
		args = strings.Fields(line)[1:]
	}
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // an example that is wrongly accepted by run ends at once
	exit = (&cli.Program{
		Registry: penstock.Builtins(), Args: args, Invocation: "penstock", Stdout: &stdout, Stderr: &stderr,
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			switch text, ok := beside[name]; {
			case name == "example.yaml":
				return []byte(example), nil
			case name == e.Secret[0] && name != "":
				return []byte(e.Secret[1]), nil
			case ok:
				return []byte(text), nil
			}
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		},
	}).Run(ctx)
	seen := map[string]bool{}
	for _, m := range codeShown.FindAllStringSubmatch(stderr.String(), -1) {
		if !seen[m[1]] {
			codes, seen[m[1]] = append(codes, m[1]), true
		}
	}
	return exit, codes, stdout.String() + stderr.String()
}

func TestExplain_wrongExamplesHaveTheirMistakeAndRightOnesNone(t *testing.T) {
	tried := 0
	for _, e := range code.All() {
		t.Run(string(e.Code), func(t *testing.T) {
			if e.Title == "" || e.Means == "" && e.Kind != code.Finding || (e.Wrong == "") != (e.Right == "") {
				t.Error("want a title, a meaning, and both examples or none")
			}
			if e.Wrong == "" {
				return
			}
			tried++
			exit, codes, told := tryExample(t, e, e.Wrong)
			want := 2
			if e.Kind == code.Warning {
				want = 0
			}
			if exit != want || strings.Join(codes, " ") != string(e.Code) {
				t.Errorf("wrong: exit %d with %v, want %d with %s:\n%s", exit, codes, want, e.Code, told)
			}
			if exit, codes, told := tryExample(t, e, e.Right); exit != 0 || len(codes) > 0 {
				t.Errorf("right: exit %d with %v, want 0 and none:\n%s", exit, codes, told)
			}
		})
	}
	if tried < 50 {
		t.Errorf("tried %d", tried)
	}
}

// A code means the same for ever: what testdata lists is not taken away and not given to something else.
func TestExplain_codesAreStable(t *testing.T) {
	var b strings.Builder
	before := code.Code("")
	for _, e := range code.All() {
		if e.Code <= before || !regexp.MustCompile(`^PS\d{3}$`).MatchString(string(e.Code)) {
			t.Errorf("%s after %s", e.Code, before)
		}
		before = e.Code
		b.WriteString(string(e.Code) + " " + string(e.Kind) + ": " + e.Title + "\n")
	}
	file := filepath.Join("testdata", "codes.txt")
	if *updateAPI {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the codes have changed; new ones only, then go test -run TestExplain . -update-api:\n%s", changedLines(string(want), b.String()))
	}
}

func TestExplain_thePageIsFresh(t *testing.T) {
	var stdout, stderr bytes.Buffer
	p := &cli.Program{Registry: penstock.Builtins(), Args: []string{"explain", "--markdown"}, Stdout: &stdout, Stderr: &stderr}
	if exit := p.Run(context.Background()); exit != 0 {
		t.Fatal(stderr.String())
	}
	got, err := os.ReadFile("docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, stdout.Bytes()) {
		t.Error("docs/codes.md is stale: make docs")
	}
}

// Every incident that the source declares has a code, and every code of an incident is of one.
func TestExplain_everyIncidentHasACode(t *testing.T) {
	declared := regexp.MustCompile(`(?:complaint\.(?:Warn|Error)\([a-zA-Z.]+, |NewTitle\()"([^"]*)"`)
	used := map[code.Code]bool{}
	for _, folder := range []string{"internal", "pipeline", "sources", "transforms", "sinks"} {
		err := filepath.WalkDir(folder, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			text, err := os.ReadFile(file)
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				c := code.OfTitle(m[1])
				if c == "" {
					t.Errorf("%s: %q has no code: add it to internal/code/incidents.go", file, m[1])
				}
				used[c] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range code.All() {
		if e.Kind == code.Incident && !used[e.Code] {
			t.Errorf("nothing logs %s: %s", e.Code, e.Title)
		}
	}
}
