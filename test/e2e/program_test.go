package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// writeFile writes a pipeline file and returns its path.
func writeFile(t testing.TB, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddress returns a loopback address on which nothing listens at the moment.
func freeAddress(t testing.TB) string {
	t.Helper()
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// web asks a running program over HTTP.
type web struct {
	p       *process
	client  *http.Client
	address string
}

func newWeb(p *process, address string) *web {
	w := &web{p: p, address: address, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}}
	p.t.Cleanup(w.client.CloseIdleConnections)
	return w
}

// get returns "status body", or the error.
func (w *web) get(path string) string {
	res, err := w.client.Get("http://" + w.address + path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return strconv.Itoa(res.StatusCode) + " " + strings.TrimSpace(string(body))
}

func (w *web) eventually(path, want string) {
	w.p.t.Helper()
	w.p.eventually(func() string {
		if got := w.get(path); got != want {
			return fmt.Sprintf("%s answers %q, want %q", path, got, want)
		}
		return ""
	})
}

// summary is the ledger that a program logs at its end.
type summary struct {
	Msg                                             string
	Received, Written, Filtered, Poisoned, Released int64
	Unresolved                                      int64
	UnresolvedAt                                    []string `json:"unresolved_at"`
}

// summary returns the ledger that the program has logged under the word, and fails when it doesn't add up.
func (p *process) summary(word string) summary {
	p.t.Helper()
	for line := range strings.Lines(p.errors()) {
		var s summary
		if json.Unmarshal([]byte(line), &s) != nil || s.Msg != word || !strings.Contains(line, `"received"`) {
			continue
		}
		if s.Received != s.Written+s.Filtered+s.Poisoned+s.Released {
			p.t.Errorf("the ledger doesn't add up: %s", line)
		}
		return s
	}
	p.t.Fatalf("no ledger was logged as %q:\n%s", word, p.errors())
	return summary{}
}

func (p *process) logged(part string) {
	p.t.Helper()
	p.eventually(func() string {
		if log := p.errors(); !strings.Contains(log, part) {
			return fmt.Sprintf("%q is not in the log:\n%s", part, log)
		}
		return ""
	})
}

const (
	ready = `200 {"status":"UP","consumers":10,"redis":"CONNECTED"}`
	// ready1 is that of a source with one loop.
	ready1       = `200 {"status":"UP","consumers":1,"redis":"CONNECTED"}`
	disconnected = `503 {"status":"DOWN","consumers":0,"redis":"DISCONNECTED"}`
)

func TestOutage_storeAwayAtStartAndGoneMidRunLosesAndPoisonsNothing(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	store := testserver.StartRedis(t, "--appendonly", "yes")
	store.Stop()

	h := newHistory(t, 99, 200)
	var events []event
	for range 2000 {
		events = append(events, h.next(false)...)
	}
	rand.New(rand.NewPCG(99, 1)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })

	address := freeAddress(t)
	env := q.env(t, store.Addr())
	// An outage that counted as attempts would soon be poison.
	p := launch(t, penstockProgram(t, env, "run", writeFile(t, fromQueue+"retry: {max_attempts: 2, initial_interval: 1ms, on_exhausted: poison}\n"+
		"service:\n  http: {address: \""+address+"\"}\n")))
	w := newWeb(p, address)

	// Away at the start.
	q.send(events[:500]...)
	w.eventually("/readyz", disconnected)
	w.eventually("/livez", `200 {"status":"UP"}`)
	store.Restart()
	w.eventually("/readyz", ready)
	p.eventually(func() string {
		if said := strings.Index(p.errors(), `"msg":"ready"`); said < 0 || said < strings.Index(p.errors(), "outage ends") {
			return "the log must say that it is ready when the outage has ended: " + p.errors()
		}
		return ""
	})
	p.eventually(q.notEmpty)

	// Gone in the middle of the work, and back.
	q.send(events[500:1200]...)
	store.Stop()
	q.send(events[1200:]...)
	w.eventually("/readyz", disconnected)
	w.eventually("/livez", `200 {"status":"UP"}`)
	store.Restart()
	w.eventually("/readyz", ready)
	p.eventually(q.notEmpty)

	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
	s := p.summary("stopped")
	if s.Poisoned != 0 || s.Released != 0 || s.Written+s.Filtered != int64(len(events)) {
		t.Errorf("%d events were sent, and nothing was poison: %+v", len(events), s)
	}
	if found := poisoned(t, env["POISON"]); len(found) > 0 {
		t.Errorf("%d bodies are in the poison queue", len(found))
	}
	h.check(dial(t, store.Addr(), 0), "production")
}

// notEmpty says what the queue still has, or "".
func (q *queue) notEmpty() string {
	if visible, held := q.left(); visible+held > 0 {
		return fmt.Sprintf("the queue has %d messages, %d held", visible, held)
	}
	return ""
}

const generated = `
name: generated
source:
  generate: {customers: 10, rate: 500/s}
transforms:
  - unwrap: {}
  - decode_entitlements: {layout: dual}
sink:
  redis: {host: "${REDIS}"}
poison_queue:
  file: {dir: poison}
shutdown_timeout: 60s
`

func TestExit_firstSignalDrainsAndEndsWith0(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := testserver.Redis(t)
			p := launch(t, penstockProgram(t, map[string]string{"REDIS": store}, "run", writeFile(t, generated)))
			c := dial(t, store, 0)
			p.eventually(func() string {
				if n := len(dump(t, c)); n < 20 {
					return fmt.Sprintf("%d keys", n)
				}
				return ""
			})
			p.signal(s)
			if code := p.code(); code != 0 {
				t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
			}
			if sum := p.summary("stopped"); sum.Written == 0 || sum.Released != 0 {
				t.Errorf("want all that was received to be finished: %+v", sum)
			}
		})
	}
}

func TestExit_secondSignalStopsAtOnceWith128AndItsNumber(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := testserver.StartRedis(t)
			address := freeAddress(t)
			yaml := generated + "service:\n  http: {address: \"" + address + "\"}\n"
			p := launch(t, penstockProgram(t, map[string]string{"REDIS": store.Addr(), "LOG_LEVEL": "debug"}, "run", writeFile(t, yaml)))
			w := newWeb(p, address)
			w.eventually("/readyz", ready1)
			// With a store that hangs, what is in flight stays there, and the drain can't end.
			store.Pause()
			defer store.Resume()
			p.eventually(func() string {
				metrics := w.get("/metrics")
				if n := regexp.MustCompile(`(?m)^penstock_in_flight\{.*\} (\d+)$`).FindStringSubmatch(metrics); n == nil || n[1] == "0" {
					return fmt.Sprintf("nothing is in flight: %q", n)
				}
				return ""
			})
			p.signal(s)
			p.logged("a second signal stops at once")
			began := time.Now()
			p.signal(s)
			if code := p.code(); code != 128+int(s) {
				t.Errorf("exit code %d, want %d; stderr:\n%s", code, 128+int(s), p.errors())
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("stopping at once took %s", took)
			}
		})
	}
}

func TestExit_endOfAFile(t *testing.T) {
	store := testserver.Redis(t)
	good := samplesAt(t, sampleTime, "01", "03", "19")
	bad := event{"certainly not JSON", sampleTime}
	const withPoisonQueue = "poison_queue:\n  file: {dir: poison}\n"
	for name, c := range map[string]struct {
		events []event
		extra  string
		args   []string
		code   int
		check  func(*testing.T, summary)
	}{
		"everything written or filtered": {good, "", nil, 0, func(t *testing.T, s summary) {
			if s.Written != 2 || s.Filtered != 1 {
				t.Errorf("want 2 written and 1 filtered: %+v", s)
			}
		}},
		"poison in the poison queue": {append(good, bad), withPoisonQueue, nil, 0, func(t *testing.T, s summary) {
			if s.Poisoned != 1 {
				t.Errorf("want 1 poisoned: %+v", s)
			}
		}},
		"poison in the poison queue, but told to fail": {append(good, bad), withPoisonQueue, []string{"--fail-on-poison"}, 1, func(*testing.T, summary) {}},
		"poison without a poison queue is unresolved": {append(good, bad), "retry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 2}\n", nil, 1, func(t *testing.T, s summary) {
			if s.Unresolved != 1 || len(s.UnresolvedAt) != 1 || !strings.Contains(s.UnresolvedAt[0], "events.ndjson:4") || s.Written != 2 {
				t.Errorf("want line 4 unresolved and the others done: %+v", s)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"REDIS": store, "FILES": recordingOf(t, c.events...)}
			p := launch(t, penstockProgram(t, env, append([]string{"run", writeFile(t, fromFile+c.extra)}, c.args...)...))
			if code := p.code(); code != c.code {
				t.Errorf("exit code %d, want %d; stderr:\n%s", code, c.code, p.errors())
			}
			c.check(t, p.summary("done"))
		})
	}
}

func TestExit_replayEndsWith0AndASummary(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	store := testserver.Redis(t)
	env := map[string]string{"REDIS": store, "FILES": "unused"}
	file := recordingOf(t, samplesAt(t, sampleTime, "01", "03", "19")...)
	p := launch(t, penstockProgram(t, env, "replay", writeFile(t, fromFile), file))
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
	want := map[string]string{"REDIS": store, "DB": "1"}
	fill(t, want, samplesAt(t, sampleTime, "01", "03", "19")...)
	compare(t, dump(t, dial(t, store, 0)), dump(t, dial(t, store, 1)), begun)
}

func TestExit_mistakesOfTheUserEndWith2(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		says []string
	}{
		"bad YAML":             {[]string{"run", writeFile(t, "name: [broken")}, nil, []string{"pipeline.yaml:1"}},
		"an unknown key":       {[]string{"run", writeFile(t, strings.Replace(fromFile, "sink:", "sinc:", 1))}, map[string]string{"FILES": "x", "REDIS": "x"}, []string{"sinc", "sink"}},
		"a variable not set":   {[]string{"run", writeFile(t, fromFile)}, map[string]string{"FILES": "x"}, []string{"REDIS"}},
		"no such file":         {[]string{"run", "nowhere.yaml"}, nil, []string{"nowhere.yaml"}},
		"no such command":      {[]string{"fly"}, nil, []string{"fly"}},
		"no such flag":         {[]string{"run", "--fast"}, nil, []string{"--fast"}},
		"validate, bad YAML":   {[]string{"validate", writeFile(t, "name: [broken")}, nil, []string{"pipeline.yaml:1"}},
		"drop-in, nothing set": {[]string{"run"}, nil, []string{"QUEUE_URL", "REDIS_HOST", "quickstart"}},
		"drop-in, bad values": {[]string{"run"}, map[string]string{"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/q", "REDIS_HOST": "localhost",
			"REDIS_PORT": "many", "KEYS_TTL_IN_SECS": "0", "ENVIRONMENT_PREFIX": "a", "REDIS_ENVIRONMENT_PREFIX": "b"}, []string{"REDIS_PORT", "KEYS_TTL_IN_SECS", "REDIS_ENVIRONMENT_PREFIX"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, penstockProgram(t, c.env, c.args...))
			if code := p.code(); code != 2 {
				t.Errorf("exit code %d, want 2; stderr:\n%s", code, p.errors())
			}
			for _, part := range c.says {
				if !strings.Contains(p.errors(), part) {
					t.Errorf("%q is not mentioned:\n%s", part, p.errors())
				}
			}
		})
	}
}

func TestExit_brokenCredentialsEndWith1(t *testing.T) {
	t.Parallel()
	store := testserver.Redis(t, "--requirepass", "open sesame")
	p := launch(t, penstockProgram(t, map[string]string{"REDIS": store}, "run", writeFile(t, generated)))
	if code := p.code(); code != 1 {
		t.Errorf("exit code %d, want 1; stderr:\n%s", code, p.errors())
	}
	if strings.Contains(p.errors(), "outage") {
		t.Errorf("called an outage, as if it could end by itself:\n%s", p.errors())
	}
}

// TestDropIn runs the service as it stands in for the provider's: no file, only its environment.
func TestDropIn_environmentOfTheExistingServiceIsEnough(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	store := testserver.Redis(t)
	host, port := split(t, store)
	address := freeAddress(t)
	_, webPort := split(t, address)
	poisonDir := filepath.Join(t.TempDir(), "poison")
	// The host in the queue's URL doesn't resolve, and the existing service has no setting for another: a proxy has it.
	server, err := url.Parse(q.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := &http.Transport{}
	t.Cleanup(forward.CloseIdleConnections)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: forward, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(server) }})
	t.Cleanup(proxy.Close)
	p := launch(t, penstockProgram(t, map[string]string{
		"QUEUE_URL": q.url, "HTTP_PROXY": proxy.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"REDIS_HOST": host, "REDIS_PORT": strconv.Itoa(port), "ENVIRONMENT_PREFIX": "staging", "KEYS_TTL_IN_SECS": "3600",
		"POISON_DIR": poisonDir, "PORT": strconv.Itoa(webPort),
		"SERVER_API_KEY": "server-secret", "EDGE_API_URL": testserver.Edge(t, "server-secret").URL(),
	}, "run"))
	h := newHistory(t, 5, 20)
	var events []event
	for range 300 {
		events = append(events, h.next(false)...)
	}
	q.send(append(events, event{body: "certainly not JSON"})...)
	newWeb(p, address).eventually("/readyz", ready)
	p.eventually(q.notEmpty)
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
	c := dial(t, store, 0)
	h.check(c, "staging")
	for key, e := range dump(t, c) {
		if !strings.HasPrefix(key, "staging:penstock:") && (e.ttl <= 50*time.Minute || e.ttl > time.Hour) {
			t.Fatalf("%q lives %s, want an hour", key, e.ttl)
		}
	}
	if found := poisoned(t, poisonDir); len(found) != 1 || found["certainly not JSON"] == nil {
		t.Errorf("want one body in POISON_DIR, found %d", len(found))
	}
	if strings.Contains(p.errors(), "server-secret") {
		t.Error("a secret is in the log")
	}
}

// TestQuickstart_isReadByTheExampleReader is the README's first five minutes, on other ports.
func TestQuickstart_isReadByTheExampleReader(t *testing.T) {
	t.Parallel()
	quickstart, err := os.ReadFile(root(t, "configs", "quickstart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	redis, service := freeAddress(t), freeAddress(t)
	yaml := string(quickstart)
	for old, new := range map[string]string{"embedded: 127.0.0.1:6380": "embedded: " + redis, "127.0.0.1:4000": service, "rate: 50/s": "rate: 2000/s"} {
		if !strings.Contains(yaml, old) {
			t.Fatalf("configs/quickstart.yaml has no %q", old)
		}
		yaml = strings.ReplaceAll(yaml, old, new)
	}
	p := launch(t, penstockProgram(t, nil, "run", writeFile(t, yaml)))
	newWeb(p, service).eventually("/livez", `200 {"status":"UP"}`)

	_, n := split(t, redis)
	port := strconv.Itoa(n)
	read := func(port string, args ...string) (string, int) {
		cmd := node(t, "examples/node-reader/read.mjs", args...)
		cmd.Env = append(cmd.Env, "REDIS_PORT="+port, "REDIS_HOST=", "REDIS_DB=", "ENVIRONMENT_PREFIX=")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	p.eventually(func() string {
		out, code := read(port, "customer-3", "feature-api-calls")
		for _, part := range []string{"HIT ", "type: METERED", "hasAccess: ", "currentUsage: "} {
			if code != 0 || !strings.Contains(out, part) {
				return fmt.Sprintf("exit code %d, %q is missing in:\n%s", code, part, out)
			}
		}
		return ""
	})
	if out, code := read(port, "customer-nobody", "feature-api-calls"); code != 1 || !strings.HasPrefix(out, "MISS") {
		t.Errorf("want a miss and exit code 1, got %d and\n%s", code, out)
	}
	// By itself it looks where configs/quickstart.yaml has its Redis, be there one now or not.
	if out, _ := read("", "customer-nobody", "feature-api-calls"); !strings.Contains(out, `(127.0.0.1:6380, prefix "production")`) {
		t.Errorf("the reader's defaults are not those of the quick start: %s", out)
	}
	if out, code := read(port, "customer-3"); code != 2 || !strings.Contains(out, "usage:") {
		t.Errorf("want the usage and exit code 2, got %d and\n%s", code, out)
	}
	p.signal(syscall.SIGINT)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
}
