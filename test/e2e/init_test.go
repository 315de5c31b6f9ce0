package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// starter is a folder that penstock init has written a template into, below the folder where it was called.
type starter struct {
	t    testing.TB
	dir  string
	next []string // the two commands that were printed
	env  []string
}

// initialize runs penstock init and keeps what it says is next.
func initialize(t testing.TB, template string, env map[string]string, args ...string) *starter {
	t.Helper()
	cmd := penstockProgram(t, env, append([]string{"init", template, "my-own"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("init %s: %v", template, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 || lines[0] != "next:" {
		t.Fatalf("init %s printed %q, want two commands", template, out)
	}
	s := &starter{t: t, dir: cmd.Dir, env: append(cmd.Env, "PATH="+filepath.Dir(cmd.Path)+":"+os.Getenv("PATH"))}
	for _, line := range lines[1:] {
		s.next = append(s.next, strings.TrimSpace(line))
	}
	return s
}

// command is one of the next commands as a shell runs it, from where it was printed; values stand in for its "…".
func (s *starter) command(n int, values map[string]string) *exec.Cmd {
	s.t.Helper()
	line := s.next[n]
	for name, value := range values {
		if !strings.Contains(line, name+"=… ") {
			s.t.Fatalf("%q doesn't ask for %s", line, name)
		}
		line = strings.Replace(line, name+"=…", name+"="+value, 1)
	}
	if strings.Contains(line, "…") {
		s.t.Fatalf("%q asks for more than %v", line, values)
	}
	// In place of the shell, so that a signal reaches it.
	cmd := exec.Command("sh", "-c", strings.Replace(line, "penstock ", "exec penstock ", 1))
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// test runs the first of the next commands, which runs the template's own tests.
func (s *starter) test() {
	s.t.Helper()
	out, err := s.command(0, nil).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " passed, 0 failed") {
		s.t.Fatalf("%s: %v\n%s", s.next[0], err, out)
	}
}

// file returns a file below the folder where init was called.
func (s *starter) file(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

const (
	initEvent = `{"__typename":"EntitlementsUpdated","customerId":"acme","entitlements":[{"isGranted":true,"entitlementUpdatedAt":"2026-11-20T10:15:30.250Z","feature":{"featureType":"BOOLEAN","meterType":"None","displayName":"SSO","refId":"feature-sso"}}]}`
	initKey   = "production:c_acme"
)

// The commands that init prints are what a newcomer types next: they must work as they are printed.
func TestInit_theNextCommandsOfPipelinesWork(t *testing.T) {
	q := startQueue(t)
	store := testserver.Redis(t)
	host, port := split(t, store)
	env := map[string]string{
		"AWS_ENDPOINT_URL_SQS": q.endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"REDIS_PORT": strconv.Itoa(port),
	}
	c := dial(t, store, 0)
	has := func(key string) func() string {
		return func() string {
			if n := c.Exists(t.Context(), key).Val(); n == 0 {
				return "Redis has no " + key
			}
			return ""
		}
	}
	ends := func(p *process) {
		t.Helper()
		p.signal(syscall.SIGTERM)
		if code := p.code(); code != 0 {
			t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
		}
	}

	t.Run("cache-service", func(t *testing.T) {
		_, env["PORT"], _ = strings.Cut(freeAddress(t), ":")
		s := initialize(t, "cache-service", env)
		s.test()
		q.send(event{body: initEvent}, event{body: "not an event"})
		p := launch(t, s.command(1, map[string]string{"QUEUE_URL": q.url, "REDIS_HOST": host}))
		p.eventually(has(initKey))
		p.eventually(func() string {
			if n := len(poisoned(t, s.file("poison"))); n != 1 {
				return fmt.Sprintf("%d messages are in the poison queue", n)
			}
			return ""
		})
		ends(p)
	})
	t.Run("queue-to-file", func(t *testing.T) {
		q := startQueue(t) // the other one may still hand a message to the program that has just ended
		env["AWS_ENDPOINT_URL_SQS"] = q.endpoint
		s := initialize(t, "queue-to-file", env)
		s.test()
		q.send(event{body: initEvent})
		p := launch(t, s.command(1, map[string]string{"QUEUE_URL": q.url}))
		p.eventually(q.notEmpty)
		ends(p)
		if files, err := os.ReadDir(s.file("recordings")); err != nil || len(files) == 0 {
			t.Errorf("recordings: %v, %v", files, err)
		}
	})
	t.Run("replay", func(t *testing.T) {
		s := initialize(t, "replay", env)
		s.test()
		c.FlushDB(t.Context())
		if err := os.Mkdir(s.file("recordings"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(recordingOf(t, event{body: initEvent, at: time.Now()}), s.file("recordings", "events.ndjson")); err != nil {
			t.Fatal(err)
		}
		p := launch(t, s.command(1, map[string]string{"REDIS_HOST": host}))
		if code := p.code(); code != 0 || has(initKey)() != "" {
			t.Errorf("exit code %d, %s; stderr:\n%s", code, has(initKey)(), p.errors())
		}
	})
	t.Run("own-json", func(t *testing.T) {
		s := initialize(t, "own-json", env)
		s.test()
		p := launch(t, s.command(1, map[string]string{"REDIS_HOST": host}))
		if code := p.code(); code != 0 || has("own:customer-1")() != "" || has("own:customer-2")() != "" {
			t.Errorf("exit code %d; %s; stderr:\n%s", code, c.Keys(t.Context(), "*").Val(), p.errors())
		}
	})
}

// The Go module that init writes is built, tested and run by its own Makefile.
func TestInit_theNextCommandsOfACustomProgramWork(t *testing.T) {
	t.Parallel()
	// The program of these tests is built without the machine's paths, as it is released: it can't know the checkout.
	s := initialize(t, "custom-program", nil, "--checkout", root(t))
	s.env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath", "MAKEFLAGS=") // what is compiled is there already
	s.test()
	out, err := s.command(1, nil).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"written":2`) {
		t.Fatalf("%s: %v\n%s", s.next[1], err, out)
	}
	rows, err := os.ReadFile(s.file("my-own", "output.csv"))
	if got := strings.Split(strings.TrimSpace(string(rows)), "\n"); err != nil || len(got) != 2 || !strings.Contains(string(rows), "customer-1,team,5\n") {
		t.Errorf("output.csv has %q, %v", rows, err)
	}
	schema, err := os.ReadFile(s.file("my-own", "pipeline.schema.json"))
	if err != nil || !strings.Contains(string(schema), "The file to append to; it is made when it isn't there.") {
		t.Errorf("the schema doesn't describe the sink: %v", err)
	}
	// Without --checkout there is nothing that its go.mod could name: it is told, and nothing is written.
	cmd := penstockProgram(t, nil, "init", "custom-program", "other")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "--checkout DIR") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(cmd.Dir, "other")); err == nil {
		t.Error("it made the directory although it can't write the template")
	}
}
