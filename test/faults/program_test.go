package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builder builds the program once.
type builder struct {
	once sync.Once
	dir  string
	err  error
}

var program builder

func (b *builder) build(t testing.TB) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "penstock-faults-"); b.err == nil {
			b.err = build(filepath.Join(b.dir, "penstock"))
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, "penstock")
}

func (b *builder) remove() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// build compiles the program as it is released.
func build(to string, args ...string) error {
	cmd := exec.Command("go", append(append([]string{"build"}, args...), "-o", to, "./cmd/penstock")...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

// penstock is a running program.
type penstock struct {
	cmd    *exec.Cmd
	exited chan struct{}
	client *http.Client

	mu      sync.Mutex
	log     bytes.Buffer
	address string // where it serves probes and metrics
	peak    int    // of its memory, KiB
}

var servedAt = regexp.MustCompile(`"http":\["([^"]+)"`)

func start(t testing.TB, binary, dir string, env []string, args ...string) *penstock {
	t.Helper()
	p := &penstock{cmd: exec.Command(binary, args...), exited: make(chan struct{}),
		client: &http.Client{Timeout: time.Second, Transport: &http.Transport{}}}
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	p.cmd.Stderr = p
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
		p.client.CloseIdleConnections()
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *penstock) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := p.log.Write(b)
	if p.address == "" {
		if match := servedAt.FindSubmatch(p.log.Bytes()); match != nil {
			p.address = string(match[1])
		}
	}
	return n, err
}

// started is whether it serves probes.
func (p *penstock) started() bool { return p.at() != "" }

func (p *penstock) at() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

func (p *penstock) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// tail is the end of its log.
func (p *penstock) tail() string {
	said := p.said()
	return said[max(0, len(said)-3000):]
}

func (p *penstock) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *penstock) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill is a crash.
func (p *penstock) kill() {
	p.measure()
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// wait returns the exit code, or -1 when a signal ended it. It ends what doesn't.
func (p *penstock) wait() int {
	p.measure()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.kill()
	}
	return p.cmd.ProcessState.ExitCode()
}

// get returns the status and the body of a page: 0, when it doesn't answer.
func (p *penstock) get(path string) (int, string) {
	at := p.at()
	if at == "" {
		return 0, ""
	}
	res, err := p.client.Get("http://" + at + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(body)
}

// metrics are the values of a scrape, by the series as it is written, and summed up by its name.
func (p *penstock) metrics() map[string]float64 {
	_, body := p.get("/metrics")
	values := map[string]float64{}
	for line := range strings.Lines(body) {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		if err != nil {
			continue
		}
		name, _, labelled := strings.Cut(line[:i], "{")
		values[name] += value
		if labelled {
			values[line[:i]] = value
		}
	}
	return values
}

// inFlight is how many messages it has received and not settled, or settled and not yet deleted from the queue.
func (p *penstock) inFlight() int {
	values := p.metrics()
	return int(max(values["penstock_in_flight"], values["penstock_sqs_held_messages"]))
}

// measure looks at the most memory that it ever had, and returns that in KiB.
func (p *penstock) measure() int {
	n := p.status("VmHWM")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = max(p.peak, n)
	return p.peak
}

// status returns a number of /proc/PID/status, 0 where there is none.
func (p *penstock) status(name string) int {
	file, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == name+":" {
			n, _ := strconv.Atoi(fields[1])
			return n
		}
	}
	return 0
}

// files is how many file handles it has.
func (p *penstock) files() int {
	entries, _ := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd"))
	return len(entries)
}

// ledger is what a program has done with the messages that it has received.
type ledger struct {
	Msg                                                       string
	Received, Written, Filtered, Poisoned, Released, InFlight int64
	Pipeline                                                  string
}

func (l ledger) balanced() bool {
	return l.Received == l.Written+l.Filtered+l.Poisoned+l.Released+l.InFlight
}

func (l *ledger) add(more ledger) {
	l.Received += more.Received
	l.Written += more.Written
	l.Filtered += more.Filtered
	l.Poisoned += more.Poisoned
	l.Released += more.Released
}

// ledger sums up what the program has logged at its end, of all its pipelines.
func (p *penstock) ledger(s *scene) ledger {
	var sum ledger
	found := false
	for line := range strings.Lines(p.said()) {
		var l ledger
		if json.Unmarshal([]byte(line), &l) != nil || !slices.Contains([]string{"stopped", "done", "failed"}, l.Msg) || !strings.Contains(line, `"received"`) {
			continue
		}
		if !l.balanced() {
			s.wrong("the ledger doesn't add up: %s", line)
		}
		found = true
		sum.add(l)
	}
	if !found && p.started() {
		s.wrong("no ledger was logged: %s", p.tail())
	}
	return sum
}
