// Package monitoring proves that the alert rules and the dashboard of deploy/ are about the metrics that penstock
// exports: each alert is fired by a fault that really happens, in a process that is really scraped.
package monitoring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
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

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// patience is how long a test waits for what must happen. It is long because CI machines are slow.
const patience = 60 * time.Second

// childVariable makes this test binary a penstock.
const childVariable = "PENSTOCK_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	go func() { // it ends with the test, however that ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	registry := penstock.Builtins()
	pipeline.AddSource[tickingConfig](registry, "ticking")
	pipeline.AddSink[faultyConfig](registry, "faulty")
	penstock.Main(registry)
}

// tickingConfig is a source that emits one body, every 50 ms, and another one once a file exists.
type tickingConfig struct {
	// The body.
	Body string `yaml:"body" required:"true"`
	// The other body.
	Then string `yaml:"then" required:"true"`
	// The file.
	When string `yaml:"when" required:"true"`
}

func (c *tickingConfig) NewSource(pipeline.Env) (pipeline.Source, error) {
	return pipeline.FromSubscriber(&ticking{config: *c, closed: make(chan struct{})}, "ticking"), nil
}

type ticking struct {
	config tickingConfig
	closed chan struct{}
	once   sync.Once
}

func (s *ticking) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for n := 0; ; n++ {
			body := s.config.Body
			if exists(s.config.When) {
				body = s.config.Then
			}
			select {
			case out <- message.NewMessage(strconv.Itoa(n), []byte(body)):
			case <-ctx.Done():
				return
			case <-s.closed:
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return out, nil
}

func (s *ticking) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// faultyConfig is a sink that takes time for each message, once a file exists.
type faultyConfig struct {
	// How long.
	Takes time.Duration `yaml:"takes" required:"true"`
	// The file.
	When string `yaml:"when" required:"true"`
}

func (c *faultyConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(context.Context, *message.Message) error {
		if exists(c.When) {
			time.Sleep(c.Takes) // whatever the context says: some clients are like that
		}
		return nil
	}), nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// eventually polls until ok returns "", or fails with what it returned last.
func eventually(t testing.TB, ok func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		problem := ok()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, problem)
		}
	}
}

// process is a penstock process.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	exited  chan struct{}
	address string

	mu     sync.Mutex
	stderr bytes.Buffer
}

var servedAt = regexp.MustCompile(`"http":\["([^"]+)"`)

// start runs a pipeline, which serves its metrics on a free port, and waits until it is up.
func start(t testing.TB, yaml string, env ...string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "pipeline.yaml")
	if err := os.WriteFile(file, []byte("name: it\n"+yaml+"service: {http: {address: \"127.0.0.1:0\"}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(program, "run", file), exited: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{childVariable + "=1", "HOME=" + dir}, env...)
	p.cmd.Stderr = p
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		_ = stdin.Close()
	})
	eventually(t, func() string {
		p.mu.Lock()
		match := servedAt.FindStringSubmatch(p.stderr.String())
		p.mu.Unlock()
		if match == nil {
			return "not started: " + p.said()
		}
		p.address = match[1]
		if s := p.scrape(); s.values[`penstock_up{pipeline="it"}`] != 1 {
			return "not up: " + p.said()
		}
		return ""
	})
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// kill is a crash.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop is a signal, as an orchestrator sends it.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("it did not stop: %s", p.said())
	}
}

// scrape is what Prometheus sees at a moment: nothing, when the process doesn't answer.
type scrape struct {
	at     time.Time
	values map[string]float64 // by the series as the process writes it
}

func (p *process) scrape() scrape {
	p.t.Helper()
	s := scrape{at: time.Now()}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + p.address + "/metrics")
	if err != nil {
		return s
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("GET /metrics: %s %v", res.Status, err)
	}
	s.values = map[string]float64{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			p.t.Fatalf("GET /metrics: %q", line)
		}
		s.values[line[:i]] = value
	}
	return s
}

// watch scrapes twice, for the pace of things.
func (p *process) watch() []scrape {
	first := p.scrape()
	time.Sleep(time.Second)
	return []scrape{first, p.scrape()}
}

// is waits until a series has a value that ok likes.
func (p *process) is(series string, ok func(float64) bool) {
	p.t.Helper()
	eventually(p.t, func() string {
		if value, found := p.scrape().values[series]; !found || !ok(value) {
			return fmt.Sprintf("%s is %v; stderr:\n%s", series, value, p.said())
		}
		return ""
	})
}

func positive(v float64) bool { return v > 0 }

const (
	step    = 15 * time.Second // between scrapes, as Prometheus is told
	healthy = 30 * time.Minute // how long all was well
	faulty  = 40 * time.Minute // how long the fault has lasted by now
)

var counter = regexp.MustCompile(`^(.*_(total|bucket|count|sum))(\{|$)`)

// story is what was scraped, before a fault and while it lasted, told to promtool as if the one had gone on for half
// an hour and the other for 40 minutes: counters go on at the pace that was seen last, and so do the gauges named in
// grows; the others stay as they were.
func story(before, after []scrape, grows []string) string {
	names := map[string]bool{}
	for _, s := range slices.Concat(before, after) {
		for series := range s.values {
			names[series] = true
		}
	}
	var out strings.Builder
	for _, series := range slices.Sorted(maps.Keys(names)) {
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		counts := counter.MatchString(series)
		goesOn := counts || slices.Contains(grows, name)
		values := track(before, series, goesOn, int(healthy/step))
		rest := track(after, series, goesOn, int(faulty/step))
		if counts && sameProcess(before, after) {
			last := before[len(before)-1].values[series]
			for i := range rest {
				rest[i] += values[len(values)-1] - last // from where it has got to by now
			}
		}
		if labels != "" {
			labels = "," + labels
		}
		tell(&out, name+`{job="penstock",instance="a"`+labels+"}", append(values, rest...))
	}
	tell(&out, `up{job="penstock",instance="a"}`, append(upTrack(before, int(healthy/step)), upTrack(after, int(faulty/step))...))
	return out.String()
}

// track returns n values of a series, of which the first ones were scraped; NaN where there is none.
func track(scrapes []scrape, series string, goesOn bool, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		k := min(i, len(scrapes)-1)
		value, ok := scrapes[k].values[series]
		if !ok {
			value = math.NaN()
		}
		if past := i - k; past > 0 && goesOn && k > 0 {
			if earlier, ok := scrapes[k-1].values[series]; ok {
				pace := (value - earlier) / scrapes[k].at.Sub(scrapes[k-1].at).Seconds()
				value += pace * step.Seconds() * float64(past)
			}
		}
		values[i] = value
	}
	return values
}

func upTrack(scrapes []scrape, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		if scrapes[min(i, len(scrapes)-1)].values != nil {
			values[i] = 1
		}
	}
	return values
}

func sameProcess(before, after []scrape) bool {
	const start = "process_start_time_seconds"
	return before[len(before)-1].values[start] == after[0].values[start]
}

// tell writes a series as promtool wants it.
func tell(out *strings.Builder, series string, values []float64) {
	fmt.Fprintf(out, "      - series: '%s'\n        values: '", series)
	for i, v := range values {
		switch {
		case !math.IsNaN(v):
			out.WriteString(strconv.FormatFloat(v, 'f', -1, 64) + " ")
		case i > 0 && !math.IsNaN(values[i-1]):
			out.WriteString("stale ")
		default:
			out.WriteString("_ ")
		}
	}
	out.WriteString("'\n")
}

// promtool returns what it says, and whether it is content.
func promtool(t testing.TB, args ...string) (string, bool) {
	t.Helper()
	testserver.Require(t, "promtool")
	out, err := exec.Command("promtool", args...).CombinedOutput()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
		t.Fatal(err)
	}
	return string(out), err == nil
}

const rulesFile = "../../deploy/prometheus/alerts.yaml"

// fires asserts that no alert fires at the end of the time in which all was well, and exactly these at the end of the
// fault.
func fires(t testing.TB, series string, want ...string) {
	t.Helper()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "rule_files: ['%s']\nevaluation_interval: %s\ntests:\n  - interval: %s\n    input_series:\n%s    promql_expr_test:\n", rules, step, step, series)
	expect := func(at time.Duration, alerts []string) {
		fmt.Fprintf(&out, "      - expr: group by (alertname) (ALERTS{alertstate=\"firing\"})\n        eval_time: %s\n        exp_samples:\n", at)
		for _, alert := range alerts {
			fmt.Fprintf(&out, "          - {labels: '{alertname=\"%s\"}', value: 1}\n", alert)
		}
	}
	expect(healthy-step, nil)
	expect(healthy+faulty-step, want)
	file := filepath.Join(t.TempDir(), "story.yaml")
	if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, ok := promtool(t, "test", "rules", file); !ok {
		t.Errorf("want %v, and nothing before the fault:\n%s", want, said)
	}
}
