// Package testserver starts the real servers that tests talk to: redis-server and an SQS server. Each one listens on a
// free loopback port, belongs to the test that started it, and is killed when the test ends.
//
// Where a server is not installed, the test is skipped with the command that installs it; with CI=true in the
// environment it fails, so that a proof never goes missing unnoticed.
package testserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout is long because CI machines start many servers at once.
const startTimeout = 30 * time.Second

// Port stands for the server's port in the arguments of [Redis] and [StartRedis], as in "--port", "0", "--tls-port",
// testserver.Port.
const Port = "{port}"

// Redis starts an empty redis-server and returns its address, "127.0.0.1:port". args are added to its command line and
// win over the defaults, such as "--requirepass", "x".
func Redis(t testing.TB, args ...string) string {
	t.Helper()
	return StartRedis(t, args...).Addr()
}

// RedisServer is a running redis-server, for tests that take it away and bring it back. It keeps nothing on disk unless
// its arguments say so ("--appendonly", "yes"); what it keeps survives Stop and Restart. Its methods are for one
// goroutine at a time.
type RedisServer struct {
	t     testing.TB
	dir   string
	port  int
	args  []string
	ready string // what it says when it is ready
	proc  *process
}

// StartRedis starts a redis-server as [Redis] does and returns a handle on it.
func StartRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	return startRedis(t, &RedisServer{dir: t.TempDir(), args: args, ready: "Ready to accept connections"})
}

// StartSentinel starts a Redis Sentinel that watches the master at that address, 127.0.0.1:port, under a name, and
// fails over when quorum Sentinels have not heard from it for half a second.
func StartSentinel(t testing.TB, name, master string, quorum int) *RedisServer {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("sentinel monitor %[1]s %s %s %d\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 3000\n",
		name, host, port, quorum)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil { // Sentinels keep what they learn in it
		t.Fatal(err)
	}
	return startRedis(t, &RedisServer{dir: dir, args: []string{file, "--sentinel"}, ready: "Sentinel ID is"})
}

func startRedis(t testing.TB, s *RedisServer) *RedisServer {
	t.Helper()
	s.t = t
	Require(t, "redis-server")
	t.Cleanup(s.Stop)
	var err error
	// Between choosing a port and binding it another process may take it.
	for range 5 {
		if s.port, err = FreePort(); err != nil {
			continue
		}
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatalf("start redis-server: %v", err)
	return nil
}

// Addr returns "127.0.0.1:port"; the port stays the same over a Restart.
func (s *RedisServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port returns the port of Addr.
func (s *RedisServer) Port() int { return s.port }

// Dir returns the server's working directory, which is removed when the test ends.
func (s *RedisServer) Dir() string { return s.dir }

// Stop kills the server, as a crash would. It does nothing when the server is not running.
func (s *RedisServer) Stop() {
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
}

// Restart stops the server if it runs and starts it again on the same port.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.Stop()
	var err error
	for range 5 {
		if err = s.start(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // the port may be in use for a moment by a connection of another test
	}
	s.t.Fatalf("restart redis-server: %v", err)
}

// Pause freezes the server: connections stay open and nothing answers.
func (s *RedisServer) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *RedisServer) Resume() { s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.proc == nil {
		s.t.Fatalf("signal redis-server: not running")
	}
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal redis-server: %v", err)
	}
}

func (s *RedisServer) start() error {
	args := []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", "", "--loglevel", "notice",
	}
	if len(s.args) > 0 && filepath.IsAbs(s.args[0]) { // a configuration file comes first
		args = append([]string{s.args[0], "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir}, s.args[1:]...)
	} else {
		args = append(args, s.args...)
	}
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, Port, strconv.Itoa(s.port))
	}
	ready := make(chan struct{})
	var once sync.Once
	p, err := startProcess(exec.Command("redis-server", args...), func(line string) {
		if strings.Contains(line, s.ready) {
			once.Do(func() { close(ready) })
		}
	})
	if err != nil {
		return err
	}
	// The log line, not a PING, tells that it is ready: it works with TLS and passwords, and no other server on a
	// port that was lost in the race can answer for this one.
	select {
	case <-ready:
		s.proc = p
		return nil
	case <-p.done:
		return fmt.Errorf("exited: %s", p.tail())
	case <-time.After(startTimeout):
		p.kill()
		return fmt.Errorf("not ready after %s: %s", startTimeout, p.tail())
	}
}

// SQS starts an SQS server (fauxqs) without queues and returns its endpoint, "http://127.0.0.1:port". It takes any
// credentials, in any region. The URLs of its queues carry a host that doesn't resolve: clients must set the endpoint.
func SQS(t testing.TB) string {
	t.Helper()
	return StartSQS(t).Endpoint()
}

// SQSServer is a running SQS server, for tests that take it away. It keeps nothing: after Restart it has no queue. Its
// methods are for one goroutine at a time.
type SQSServer struct {
	t    testing.TB
	cli  string
	port int
	proc *process
}

// StartSQS starts an SQS server as [SQS] does and returns a handle on it.
func StartSQS(t testing.TB) *SQSServer {
	t.Helper()
	s := &SQSServer{t: t, cli: filepath.Join(NodeModules(t, "fauxqs"), "dist", "cli.js")}
	var err error
	for range 5 {
		if s.port, err = FreePort(); err != nil {
			continue
		}
		if s.proc, err = startSQS(s.cli, s.port); err == nil {
			t.Cleanup(func() { s.proc.kill() })
			return s
		}
	}
	t.Fatalf("start fauxqs: %v", err)
	return nil
}

// Endpoint is the server's base URL.
func (s *SQSServer) Endpoint() string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// Stop kills the server.
func (s *SQSServer) Stop() { s.proc.kill() }

// Restart starts the server again at the same address, empty.
func (s *SQSServer) Restart() {
	s.t.Helper()
	next, err := startSQS(s.cli, s.port)
	if err != nil {
		s.t.Fatalf("restart fauxqs: %v", err)
	}
	s.proc = next
}

// NodeModules returns the folder in which an npm package of the tests is installed, such as "@stigg/node-server-sdk",
// and sees to it that there is a node to run it.
func NodeModules(t testing.TB, pkg string) string {
	t.Helper()
	Require(t, "node")
	dir := filepath.Join(moduleRoot(t), "test", "node_modules", filepath.FromSlash(pkg))
	if _, err := os.Stat(dir); err != nil {
		missing(t, pkg+" (in test/node_modules)")
	}
	return dir
}

func startSQS(cli string, port int) (*process, error) {
	cmd := exec.Command("node", cli)
	cmd.Env = append(os.Environ(), "FAUXQS_PORT="+strconv.Itoa(port), "FAUXQS_HOST=127.0.0.1", "FAUXQS_LOGGER=false")
	p, err := startProcess(cmd, func(string) {})
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(startTimeout); ; {
		// Any answer at all will do; what counts is that this process is still there when it came.
		res, err := client.Get("http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) + "/")
		if err == nil {
			_ = res.Body.Close()
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("exited: %s", p.tail())
		case <-time.After(20 * time.Millisecond):
		}
		if err == nil {
			return p, nil
		}
		if time.Now().After(deadline) {
			p.kill()
			return nil, fmt.Errorf("not ready after %s: %w: %s", startTimeout, err, p.tail())
		}
	}
}

// process is a child process that ends with this one.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex
	lines []string
}

func startProcess(cmd *exec.Cmd, line func(string)) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	_ = w.Close()
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.keep(s.Text())
			line(s.Text())
		}
		_, _ = io.Copy(io.Discard, r) // a line too long for the scanner must not block the server
		_ = r.Close()
		_ = cmd.Wait()
	}()
	return p, nil
}

func (p *process) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lines = append(p.lines, line); len(p.lines) > 20 {
		p.lines = p.lines[1:]
	}
}

func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// FreePort returns a loopback port on which nothing listens at the moment. Another process may take it all the same:
// whoever starts a server tries again.
func FreePort() (int, error) {
	// Below the range from which systems take the ports of outgoing connections (32768 on Linux): one of those would
	// take the port before the server has it, or while the server restarts.
	var err error
	for range 100 {
		var l net.Listener
		port := 15000 + rand.IntN(17000)
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// Require sees to it that there is a command, such as "promtool", for what is no server.
func Require(t testing.TB, command string) {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		missing(t, command)
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: run make setup", what)
	}
	t.Skipf("%s is not installed: run make setup", what)
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		return filepath.Join(filepath.Dir(file), "..", "..")
	}
	// Built with -trimpath the source's place is not known: go test runs in the package's folder.
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "test", "package.json")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("the module's root folder was not found")
		}
		dir = parent
	}
}
