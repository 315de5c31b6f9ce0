package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a child process with what it wrote to stderr. It dies with the test.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string // stdout, line by line
	exited chan struct{}

	mu     sync.Mutex
	stderr bytes.Buffer
}

func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, lines: make(chan string), exited: make(chan struct{})}
	cmd.Stderr = writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.stderr.Write(b)
	})
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		close(done)
		_ = cmd.Process.Kill()
		<-p.exited
		p.checkLedgers()
	})
	go func() {
		defer close(p.exited)
		lines := bufio.NewReader(stdout)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			select {
			case p.lines <- strings.TrimSuffix(line, "\n"):
			case <-done:
			}
		}
		_ = cmd.Wait()
	}()
	return p
}

// checkLedgers fails the test when a ledger that the program has logged doesn't add up. Every program is looked at when
// its test ends; one that was killed has logged none.
func (p *process) checkLedgers() {
	p.t.Helper()
	for line := range strings.Lines(p.errors()) {
		var l struct {
			Received, Written, Filtered, Poisoned, Released int64
		}
		if strings.Contains(line, `"received"`) && json.Unmarshal([]byte(line), &l) == nil && l.Received != l.Written+l.Filtered+l.Poisoned+l.Released {
			p.t.Errorf("the ledger doesn't add up: %s", line)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func (p *process) errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// eventually polls like the function, and fails at once when the process has ended.
func (p *process) eventually(ok func() string) {
	p.t.Helper()
	eventually(p.t, func() string {
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended with code %d; stderr:\n%s", p.cmd, p.cmd.ProcessState.ExitCode(), p.errors())
		default:
		}
		return ok()
	})
}

// code waits for the process's end and returns its exit code.
func (p *process) code() int {
	p.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case <-p.lines:
		case <-p.exited:
			return p.cmd.ProcessState.ExitCode()
		case <-deadline:
			p.t.Fatalf("%s did not end; stderr:\n%s", p.cmd, p.errors())
		}
	}
}

// line returns the next line of stdout.
func (p *process) line() string {
	p.t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-p.exited:
		p.t.Fatalf("%s ended; stderr:\n%s", p.cmd, p.errors())
	case <-time.After(patience):
		p.t.Fatalf("%s did not answer; stderr:\n%s", p.cmd, p.errors())
	}
	return ""
}

// ask writes a line of JSON and reads one.
func (p *process) ask(question, answer any) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, asJSON(p.t, question)+"\n"); err != nil {
		p.t.Fatalf("%v; stderr:\n%s", err, p.errors())
	}
	if err := json.Unmarshal([]byte(p.line()), answer); err != nil {
		p.t.Fatal(err)
	}
}

// node returns a command that runs a script of the module with Node, in which the provider's SDK is installed.
func node(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(root(t, "test", "node_modules", "@stigg", "node-server-sdk"))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("node or the provider's SDK is not installed (%v): run make setup", err)
		}
		t.Skipf("node or the provider's SDK is not installed (%v): run make setup", err)
	}
	cmd := exec.Command(program, append([]string{root(t, filepath.FromSlash(script))}, args...)...)
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*") // the SDK would ask a proxy for the loopback, too
	return cmd
}

// reader is a process with the provider's SDK, which reads the cache.
type reader struct{ *process }

func startReader(t testing.TB, redis, api string) reader {
	t.Helper()
	host, port := split(t, redis)
	return reader{launch(t, node(t, "test/node/reader.mjs", asJSON(t, map[string]any{"host": host, "port": port, "api": api})))}
}

// question is what test/node/reader.mjs is asked.
type question struct {
	Prefix     string         `json:"prefix"`
	Method     string         `json:"method"`
	CustomerID string         `json:"customerId"`
	ResourceID string         `json:"resourceId,omitempty"`
	FeatureID  string         `json:"featureId,omitempty"`
	Options    map[string]any `json:"options,omitempty"`
}

// reply is what it answers.
type reply struct {
	Answer   json.RawMessage `json:"answer"`
	Misses   int             `json:"misses"`
	Failures []string        `json:"failures"`
}

func (r reader) ask(q question) reply {
	r.t.Helper()
	var answer reply
	r.process.ask(q, &answer)
	return answer
}

// close ends the process.
func (r reader) close() {
	r.t.Helper()
	_ = r.stdin.Close()
	if code := r.code(); code != 0 {
		r.t.Fatalf("reader: exit code %d; stderr:\n%s", code, r.errors())
	}
}

// writer is a process with the provider's own writing code.
type writer struct{ *process }

func startWriter(t testing.TB, redis string) writer {
	t.Helper()
	host, port := split(t, redis)
	return writer{launch(t, node(t, "test/node/writer.mjs", asJSON(t, map[string]any{"host": host, "port": port})))}
}

// write applies events, one after the other, and returns what the code logged as errors.
func (w writer) write(prefix string, events ...event) (errors []string) {
	w.t.Helper()
	for _, e := range events {
		var answer struct{ Errors []string }
		w.ask(map[string]any{"prefix": prefix, "event": json.RawMessage(e.body)}, &answer)
		errors = append(errors, answer.Errors...)
	}
	return errors
}

var binary struct {
	once sync.Once
	dir  string
	err  error
}

// penstockProgram builds the program once and returns a command that runs it in a folder of its own.
func penstockProgram(t testing.TB, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "penstock-e2e-"); binary.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(binary.dir, "penstock"), "./cmd/penstock")
		build.Dir = root(t)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath") // as it is released
		if out, err := build.CombinedOutput(); err != nil {
			binary.err = errors.Join(err, errors.New(string(out)))
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	cmd := exec.Command(filepath.Join(binary.dir, "penstock"), args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

func removeBinary() {
	if binary.dir != "" {
		_ = os.RemoveAll(binary.dir)
	}
}
