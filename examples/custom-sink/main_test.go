package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// build builds this program into a folder of the test's and returns a function that runs it.
func build(t *testing.T) func(env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "custom-sink")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath") // as penstock is released
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return func(env []string, args ...string) (int, string, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = append(os.Environ(), env...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}
}

func TestProgram_isAPenstockWithOneMoreSink(t *testing.T) {
	penstock := build(t)
	var received atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if n := received.Add(1); n == 3 {
			w.WriteHeader(http.StatusServiceUnavailable) // tried again
		} else if n == 5 || len(body) == 0 {
			w.WriteHeader(http.StatusUnprocessableEntity) // poison
		}
	}))
	defer server.Close()
	poison := t.TempDir()
	env := []string{"WEBHOOK_URL=" + server.URL, "POISON_DIR=" + poison}

	for name, c := range map[string]struct {
		args   []string
		code   int
		stdout string // what must be in it
		stderr string
	}{
		"components":     {[]string{"components"}, 0, "webhook", ""},
		"its fields":     {[]string{"components", "webhook"}, 0, "Where to post to: an http or https URL.", ""},
		"built-in ones":  {[]string{"components", "redis"}, 0, "prefix", ""},
		"validate":       {[]string{"validate", "pipeline.yaml"}, 0, "pipeline.yaml: ok", ""},
		"a mistake":      {[]string{"validate", "testdata/mistake.yaml"}, 2, "", "testdata/mistake.yaml:7:5: sink.webhook.timout: "},
		"version":        {[]string{"version"}, 0, "penstock ", ""},
		"help":           {[]string{"run", "--help"}, 0, "penstock run quickstart", ""},
		"ready ones too": {[]string{"validate", "quickstart"}, 0, "quickstart: ok", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := penstock(env, c.args...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nwant: %s\nstderr: %s\nwant: %s", code, c.code, stdout, c.stdout, stderr, c.stderr)
			}
		})
	}

	t.Run("run", func(t *testing.T) {
		code, _, stderr := penstock(env, "run", "pipeline.yaml")
		// 20 messages, one of them tried twice.
		if n := received.Load(); code != 0 || n != 21 {
			t.Errorf("exit %d, %d requests\n%s", code, n, stderr)
		}
		for _, want := range []string{`"received":20`, `"written":19`, `"poisoned":1`, `"retries":1`} {
			if !strings.Contains(stderr, want) {
				t.Errorf("no %s in\n%s", want, stderr)
			}
		}
		if entries, err := os.ReadDir(poison); err != nil || len(entries) != 1 {
			t.Errorf("poison queue: %v %v", entries, err)
		}
	})
}

func TestSink_isShort(t *testing.T) {
	source, err := os.ReadFile("webhook.go")
	if err != nil {
		t.Fatal(err)
	}
	_, sink, ok := strings.Cut(string(source), "\n// NewSink makes the sink.\n")
	if lines := strings.Count(sink, "\n"); !ok || lines > 30 {
		t.Errorf("the sink has %d lines: its promise is 30", lines)
	}
}
