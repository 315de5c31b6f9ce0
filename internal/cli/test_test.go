package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

const testedPipeline = `name: p
source: {sqs: {queue_url: "${QUEUE_URL:?where?}"}}
transforms: [{unwrap: {}}]
sink: {redis: {host: 127.0.0.1, port: 1}}
record: {file: {dir: never}}
tests:
  - name: passes
    input: {payload: a}
    output: [{payload: a}]
  - name: fails
    input: {payload: a}
    output:
      - payload: b
`

// testTests runs penstock in dir.
func testTests(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	code = (&Program{
		Registry: sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry()))), Args: args, Invocation: "penstock",
		Stdout: &out, Stderr: &complaints, ReadFile: os.ReadFile, LookupEnv: func(string) (string, bool) { return "", false },
	}).Run(context.Background())
	return code, out.String(), complaints.String()
}

func TestTest_exitCodesFormatsAndChoice(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "p.yaml", testedPipeline)
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"one fails":             {[]string{"p.yaml"}, 1, "  FAIL  fails\n    p.yaml:13:9: differs from output 1 of 1 that reached the sink\n        - b (no line end)\n        + a (no line end)\n2 tests: 1 passed, 1 failed\n", ""},
		"-run, as in go test":   {[]string{"-run", "^pass", "."}, 0, "1 test: 1 passed, 0 failed\n", ""},
		"-run=":                 {[]string{"p.yaml", "-run=^pass"}, 0, "1 test: 1 passed, 0 failed\n", ""},
		"--run":                 {[]string{"p.yaml", "--run", "^pass"}, 0, "1 test: 1 passed, 0 failed\n", ""},
		"no match":              {[]string{"p.yaml", "-run", "nothing"}, 2, "", "no test has a name that matches -run nothing\n"},
		"no regular expression": {[]string{"p.yaml", "-run", "("}, 2, "", "-run: error parsing regexp"},
		"JUnit":                 {[]string{"p.yaml", "--format", "junit"}, 1, `<testsuite name="p.yaml" tests="2" failures="1"`, ""},
		"a format mistyped":     {[]string{"p.yaml", "--format", "jsn"}, 2, "", `--format: want text, json or junit, got "jsn" (did you mean json?)`},
		"no file":               {[]string{}, 2, "", "FILE"},
		"no tests":              {[]string{"nowhere.yaml"}, 2, "", "nowhere.yaml: no such file or directory [PS001]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := testTests(t, append([]string{"test"}, c.args...)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || (c.stderr == "") != (stderr == "") {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", code, c.code, stdout, stderr)
			}
		})
	}
	_, stdout, _ := testTests(t, "test", "p.yaml", "--format", "json")
	var results []struct{ Name string }
	if err := json.Unmarshal([]byte(stdout), &results); err != nil || len(results) != 2 || results[1].Name != "fails" {
		t.Errorf("JSON: %v\n%s", err, stdout)
	}
	if _, err := os.Stat("never"); err == nil {
		t.Error("the record of the pipeline was made")
	}

	code, stdout, stderr := testTests(t, "test", "p.yaml", "--update")
	text, _ := os.ReadFile("p.yaml")
	if code != 0 || stderr != "" || string(text) != strings.Replace(testedPipeline, "payload: b", "payload: 'a'", 1) {
		t.Errorf("--update: exit %d\n%s%s\n%s", code, stdout, stderr, text)
	}
}

func TestValidate_checksTestsAndRunLeavesThemAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "name: p\nsource: {generate: {count: 1}}\nsink: {drop: {}}\n"
	writeFile(t, "p.yaml", text)
	writeFile(t, "p_test.yaml", "tests:\n  - name: a\n    input: {payload: x}\n    outptu: []\n")
	code, _, stderr := testTests(t, "validate", "p.yaml")
	if want := "p_test.yaml:4:5: tests[0].outptu: unknown key (did you mean output?) [PS012]\n"; code != 2 || stderr != want {
		t.Errorf("exit %d, %s", code, stderr)
	}
	writeFile(t, "p_test.yaml", "tests:\n  - name: a\n    input: {payload: x}\n    outcome: filtered\n")
	for _, files := range [][]string{{"p.yaml"}, {"p.yaml", "p_test.yaml"}} {
		code, stdout, stderr := testTests(t, append([]string{"validate"}, files...)...)
		if code != 0 || strings.Count(stdout, "p_test.yaml: ok: tests: 1\n") != 1 || stderr != "" {
			t.Errorf("validate %v: exit %d\n%s%s", files, code, stdout, stderr)
		}
	}
	code, _, stderr = testTests(t, "run", "p_test.yaml")
	if code != 2 || stderr != "p_test.yaml: these are the tests of p.yaml: run them with penstock test p_test.yaml [PS069]\n" {
		t.Errorf("run of tests: exit %d, %s", code, stderr)
	}
	writeFile(t, "in.yaml", text+"tests:\n  - name: would fail\n    input: {payload: x}\n    outcome: poisoned\n")
	code, _, stderr = testTests(t, "run", "in.yaml")
	if code != 0 {
		t.Errorf("run with tests: exit %d, %s", code, stderr)
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.FromSlash(file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTest_aSignalStopsIt(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "p.yaml", testedPipeline)
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	var out bytes.Buffer
	slow := pipeline.NewRegistry()
	pipeline.AddTransform[waitConfig](slow, "unwrap")
	code := (&Program{
		Registry: sinks.Register(sources.Register(slow)), Args: []string{"test", "p.yaml", "--update"}, Stdout: &out, Stderr: &out,
		ReadFile: os.ReadFile, LookupEnv: func(string) (string, bool) { return "", false }, Signals: signals,
	}).Run(context.Background())
	if code != 128+int(syscall.SIGTERM) || out.Len() > 0 {
		t.Errorf("exit %d\n%s", code, out.String())
	}
	if text, _ := os.ReadFile("p.yaml"); string(text) != testedPipeline {
		t.Errorf("a test that was stopped has updated its file:\n%s", text)
	}
}

// waitConfig is a transform that takes its time.
type waitConfig struct{}

func (*waitConfig) NewTransform(pipeline.Env) (pipeline.Transform, error) {
	return func(msg *message.Message) ([]*message.Message, error) {
		select {
		case <-msg.Context().Done():
		case <-time.After(time.Second):
		}
		return []*message.Message{msg}, nil
	}, nil
}
