package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listConfig is a source of the given bodies. Finite, it ends when all are settled; messages that come back are given
// up.
type listConfig struct {
	Bodies []string `yaml:"bodies"`
	Finite bool     `yaml:"finite"`
	// Lost is what the source reports as unresolved at its end.
	Lost []string `yaml:"lost"`
}

func (c *listConfig) NewSource(pipeline.Env) (pipeline.Source, error) {
	q := pipelinetest.NewQueue(c.Finite, c.Bodies...)
	return pipeline.FromSubscriber(&list{Queue: q, lost: c.Lost}, "list"), nil
}

func (c *listConfig) Summary() string { return fmt.Sprintf("%d bodies", len(c.Bodies)) }

type list struct {
	*pipelinetest.Queue
	lost []string
}

func (l *list) Unresolved() (int64, []string) { return int64(len(l.lost)), l.lost }

// actConfig is a sink that does what the body says: "permanent", "fatal", "block" (until its context ends), "slow" (a
// moment), else it stores. It logs "storing" before it blocks or is slow.
type actConfig struct {
	// Always is what it does whatever the body says.
	Always string `yaml:"always" default:"nothing"`
}

func (c *actConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(ctx context.Context, msg *message.Message) error {
		if c.Always == "store" {
			return nil
		}
		switch string(msg.Payload) {
		case "permanent":
			return pipeline.Permanent(errors.New("never"))
		case "fatal":
			return pipeline.Fatal(errors.New("wrong credentials"))
		case "block":
			env.Logger.Info("storing")
			<-ctx.Done()
			return ctx.Err()
		case "slow":
			env.Logger.Info("storing")
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}), nil
}

// output is a writer that can be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// invoke is one run of the command line.
type invoke struct {
	args     []string
	env      map[string]string
	files    map[string]string
	terminal bool
	width    int // of the terminal; 0: unknown
}

type running struct {
	stdout, stderr output
	signals        chan os.Signal
	code           chan int
}

// start runs the command line in the background.
func (i invoke) start(t *testing.T) *running {
	t.Helper()
	r := &running{signals: make(chan os.Signal, 2), code: make(chan int, 1)}
	registry := pipeline.NewRegistry()
	pipeline.AddSource[listConfig](registry, "list")
	pipeline.AddSink[actConfig](registry, "act")
	p := &Program{
		Registry: registry, Args: i.args, Invocation: "penstock", Stdout: &r.stdout, Stderr: &r.stderr,
		Terminal: i.terminal, Width: func() int { return i.width }, LookupEnv: fromMap(i.env), Signals: r.signals,
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := i.files[name]; ok {
				return []byte(text), nil
			}
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		},
	}
	go func() { r.code <- p.Run(context.Background()) }()
	return r
}

func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("does not end\nstderr: %s", r.stderr.String())
		return -1
	}
}

// until waits for text on stderr.
func (r *running) until(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(r.stderr.String(), text) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q on stderr:\n%s", text, r.stderr.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// run runs the command line to its end.
func (i invoke) run(t *testing.T) (code int, stdout, stderr string) {
	t.Helper()
	r := i.start(t)
	code = r.wait(t)
	return code, r.stdout.String(), r.stderr.String()
}

// file makes a pipeline file that reads bodies.
func file(source string, more ...string) map[string]string {
	return map[string]string{"p.yaml": "name: p\nsource:\n  list: " + source + "\nsink:\n  act: {}\n" + strings.Join(more, "\n")}
}

func TestRun_exitCodes(t *testing.T) {
	poison := "poison_queue:\n  act: {always: store}\n"
	for name, c := range map[string]struct {
		args   []string
		files  map[string]string
		code   int
		stderr string // what must be in it
	}{
		"a finite source ended":       {nil, file(`{finite: true, bodies: [a, b]}`), 0, `"received":2,"written":2,`},
		"something was poisoned":      {nil, file(`{finite: true, bodies: [a, permanent]}`, poison), 0, `"written":1,"filtered":0,"poisoned":1,`},
		"... and that must not be":    {[]string{"--fail-on-poison"}, file(`{finite: true, bodies: [a, permanent]}`, poison), 1, `"poisoned":1,`},
		"nothing was":                 {[]string{"--fail-on-poison"}, file(`{finite: true, bodies: [a]}`, poison), 0, `"poisoned":0,`},
		"something is unresolved":     {nil, file(`{finite: true, bodies: [a], lost: ["f:17"]}`), 1, `"unresolved":1,"unresolved_at":["f:17"]`},
		"a component is fatal":        {nil, file(`{bodies: [a, fatal]}`), 1, `"msg":"a pipeline failed","error":"pipeline p: sink.act: wrong credentials"`},
		"not YAML":                    {nil, map[string]string{"p.yaml": "name: [p"}, 2, "p.yaml:1:1: not YAML: "},
		"a wrong key":                 {nil, file(`{bodys: [a]}`), 2, "p.yaml:3:10: source.list.bodys: unknown key (known: bodies, finite, lost)"},
		"a missing variable":          {nil, file(`{bodies: ["${NONE}"]}`), 2, "p.yaml:3:19: source.list.bodies[0]: environment variable NONE is not set"},
		"no such file":                {[]string{"none.yaml"}, file(`{finite: true}`), 2, "none.yaml: file does not exist"},
		"the same pipeline twice":     {[]string{"p.yaml"}, file(`{finite: true}`), 2, `p.yaml:1:7: name: "p" is the name of the pipeline in p.yaml already`},
		"address in use":              {nil, file(`{finite: true}`, "service: {http: {address: \"256.0.0.1:1\"}}\n"), 1, "penstock: serve HTTP: "},
		"admin for strangers":         {nil, file(`{finite: true}`, "service: {admin: {address: \":4001\"}}\n"), 2, "p.yaml:6:28: service.admin.address: is not a loopback address"},
		"wrong log level":             {nil, file(`{finite: true}`), 0, ""},
		"an unknown flag":             {[]string{"--fail-on-posion"}, file(`{finite: true}`), 2, "unknown flag: --fail-on-posion (did you mean --fail-on-poison?)\nsee: penstock run --help"},
		"every problem of every file": {[]string{"q.yaml"}, map[string]string{"p.yaml": "name: P\n", "q.yaml": "nome: q\n"}, 2, "q.yaml:1:1: nome: unknown key (did you mean name?)"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := invoke{args: append([]string{"run", "p.yaml"}, c.args...), files: c.files}.run(t)
			if code != c.code || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d; stderr:\n%s\nwant in it: %s", code, c.code, stderr, c.stderr)
			}
			if stdout != "" {
				t.Errorf("stdout: %s", stdout)
			}
		})
	}
}

// Who filters a log by its level finds a failure with what became of its messages.
func TestRun_aFailureIsLoggedAsAnErrorAndASuccessIsNot(t *testing.T) {
	for bodies, c := range map[string]struct{ word, level string }{
		"[a, fatal]": {"failed", "error"}, "[a, b], finite: true": {"done", "info"},
	} {
		_, _, stderr := invoke{args: []string{"run", "p.yaml"}, files: file("{bodies: " + bodies + "}")}.run(t)
		found := false
		for line := range strings.Lines(stderr) {
			if strings.Contains(line, `"msg":"`+c.word+`"`) {
				found = true
				if !strings.HasPrefix(line, `{"level":"`+c.level+`"`) {
					t.Errorf("want level %s: %s", c.level, line)
				}
			}
		}
		if !found {
			t.Errorf("no %s in\n%s", c.word, stderr)
		}
	}
}

func TestRun_wrongLogLevelIsTold(t *testing.T) {
	code, _, stderr := invoke{args: []string{"run", "p.yaml"}, files: file(`{finite: true}`), env: map[string]string{"LOG_LEVEL": "loud"}}.run(t)
	if code != 2 || stderr != "penstock: LOG_LEVEL: want debug, info, warn or error, got \"loud\"\n" {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestRun_firstSignalDrains(t *testing.T) {
	r := invoke{args: []string{"run", "p.yaml"}, files: file(`{bodies: [slow]}`)}.start(t)
	r.until(t, `"msg":"storing"`)
	r.signals <- syscall.SIGTERM
	if code := r.wait(t); code != 0 || !strings.Contains(r.stderr.String(), `"msg":"stopped","pipeline":"p","received":1,"written":1,`) {
		t.Errorf("exit %d: %s", code, r.stderr.String())
	}
}

func TestRun_secondSignalStopsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		code   int
	}{
		"SIGINT":  {syscall.SIGINT, 130},
		"SIGTERM": {syscall.SIGTERM, 143},
	} {
		t.Run(name, func(t *testing.T) {
			files := file(`{bodies: [block]}`, "shutdown_timeout: 1h\nmessage_timeout: 1h\n")
			r := invoke{args: []string{"run", "p.yaml"}, files: files}.start(t)
			r.until(t, `"msg":"storing"`)
			r.signals <- c.signal
			select {
			case code := <-r.code:
				t.Fatalf("the first signal ended it with %d although a message is in flight", code)
			case <-time.After(100 * time.Millisecond):
			}
			r.signals <- c.signal
			if code := r.wait(t); code != c.code || !strings.Contains(r.stderr.String(), `"released":1,`) {
				t.Errorf("exit %d, want %d: %s", code, c.code, r.stderr.String())
			}
		})
	}
}

func TestRun_onATerminalSpeaksToPeople(t *testing.T) {
	poison := "poison_queue:\n  act: {always: store}\nmax_in_flight: 7\nservice: {http: {address: \"127.0.0.1:0\"}}\n"
	code, _, stderr := invoke{
		args: []string{"run", "p.yaml"}, files: file(`{finite: true, bodies: [a, b, permanent], lost: ["f:1", "f:2"]}`, poison), terminal: true,
	}.run(t)
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		"penstock " + Version + "  p: 3 bodies → act\n",
		"  bounds   7 messages and 64MiB in flight\n",
		"  ready    http://127.0.0.1:",
		"/readyz\n",
		"ready in ",
		"done: received 3 = written 2 + filtered 0 + poisoned 1 + released 0\n",
		"  last poisoned: ",
		"  unresolved: 2, given up after their last attempt:\n    f:1\n    f:2\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, `{"level"`) {
		t.Errorf("JSON on a terminal:\n%s", stderr)
	}
}

func TestRun_severalPipelinesEachHaveALedger(t *testing.T) {
	files := map[string]string{
		"a.yaml": "name: a\nsource: {list: {finite: true, bodies: [x]}}\nsink: {act: {}}\n",
		"b.yaml": "name: b\nsource: {list: {finite: true, bodies: [x, y]}}\nsink: {act: {}}\n",
	}
	_, _, stderr := invoke{args: []string{"run", "a.yaml", "b.yaml"}, files: files, terminal: true}.run(t)
	for _, want := range []string{"done: a: received 1 = written 1 ", "done: b: received 2 = written 2 "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestValidate(t *testing.T) {
	files := file(`{bodies: [a]}`)
	files["bad.yaml"] = "name: bad\nsource: {list: {}}\nsink: {akt: {}}\n"
	code, stdout, stderr := invoke{args: []string{"validate", "p.yaml", "bad.yaml"}, files: files}.run(t)
	if code != 2 || stdout != "p.yaml: ok: p: 1 bodies → act\n" || !strings.HasPrefix(stderr, "bad.yaml:3:8: sink.akt: unknown sink (did you mean act?)") {
		t.Errorf("exit %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	if code, _, stderr := (invoke{args: []string{"validate"}}).run(t); code != 2 || !strings.Contains(stderr, "see: penstock validate --help") {
		t.Errorf("without FILE: exit %d: %s", code, stderr)
	}
}

func TestDropIn_allProblemsInOneMessage(t *testing.T) {
	code, stdout, stderr := invoke{args: []string{"run"}, env: map[string]string{"REDIS_TLS": "x"}}.run(t)
	want := `penstock: the environment variables don't configure the cache service [PS070]:
  not set: QUEUE_URL (the URL of the queue to consume), REDIS_HOST (the host of the Redis to fill)
  REDIS_TLS: want true or false (or 1, 0, yes, no), got "x"
to see it at work without a queue and a Redis: penstock run quickstart
`
	if code != 2 || stdout != "" || stderr != want {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

func TestCommands(t *testing.T) {
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string // what must be in it
	}{
		"nothing":                  {nil, 0, "\nCommands:\n", ""},
		"help":                     {[]string{"--help"}, 0, "Examples:\n  penstock run quickstart", ""},
		"unknown command":          {[]string{"rnu"}, 2, "", "penstock: unknown command \"rnu\" (did you mean run?)\nsee: penstock --help\n"},
		"version":                  {[]string{"version"}, 0, "penstock " + Version + " (go1.", ""},
		"version of something":     {[]string{"version", "x"}, 2, "", "see: penstock version --help"},
		"components":               {[]string{"components"}, 0, "sources\n  list", ""},
		"one component":            {[]string{"components", "act"}, 0, "sink act\n", ""},
		"no such component":        {[]string{"components", "akt"}, 2, "", `penstock: no component is called "akt" (did you mean act?)`},
		"one as markdown":          {[]string{"components", "act", "--markdown"}, 2, "", "leave act out"},
		"all as markdown":          {[]string{"components", "--markdown"}, 0, "### sink `act`\n", ""},
		"inspect without customer": {[]string{"inspect"}, 2, "", "see: penstock inspect --help"},
		"inspect what the environment doesn't name": {[]string{"inspect", "x"}, 2, "",
			"penstock: the environment variables don't configure the cache service [PS070]:\n  not set: REDIS_HOST (the host of the Redis to fill)\n"},
		"replay of nothing":       {[]string{"replay", "quickstart"}, 2, "", "see: penstock replay --help"},
		"replay at no known rate": {[]string{"replay", "quickstart", "x", "--rate", "fast"}, 2, "", `want a rate such as "500/s", "30/m" or "max", got "fast"`},
		"replay of plain lines":   {[]string{"replay", "x", "y", "--format", "line"}, 2, "", `penstock: --format: want recording or lines, got "line"`},
		"neither file nor name": {[]string{"run", "qickstart"}, 2, "",
			"qickstart: neither a file nor a ready pipeline (did you mean quickstart?); ready are "},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := invoke{args: c.args}.run(t)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nwant in it: %s\nstderr: %s\nwant in it: %s", code, c.code, stdout, c.stdout, stderr, c.stderr)
			}
			if c.stdout == "" && stdout != "" || c.stderr == "" && stderr != "" {
				t.Errorf("unexpected output\nstdout: %s\nstderr: %s", stdout, stderr)
			}
		})
	}
}

func TestInspect_saysWhenThereIsNothingToRead(t *testing.T) {
	// Only the sink is looked at: the source lacks its variable.
	code, _, stderr := invoke{args: []string{"inspect", "x", "-f", "p.yaml"}, files: file(`{bodies: ["${NONE}"]}`)}.run(t)
	if code != 2 || stderr != "penstock: p.yaml: sink: act keeps nothing that can be read back: inspect needs a redis\n" {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestReplay_runsOnFilesInPlaceOfTheSource(t *testing.T) {
	lines := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(lines, []byte("a\npermanent\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Neither the source's variable nor record and service are asked for.
	files := file(`{bodies: ["${NONE}"]}`, "poison_queue:\n  act: {always: store}\nrecord:\n  act: {always: \"${NONE}\"}\nservice: {http: {address: \"${NONE}\"}}\n")
	for name, c := range map[string]struct {
		more     []string
		terminal bool
		code     int
	}{
		"summary":              {nil, false, 0},
		"poison is a failure":  {[]string{"--fail-on-poison"}, false, 1},
		"on a terminal":        {nil, true, 0},
		"and quiet":            {[]string{"--quiet"}, true, 0},
		"a record is asked":    {[]string{"--record"}, false, 2},
		"a service is asked":   {[]string{"--service"}, false, 2},
		"slowly, with a bound": {[]string{"--rate", "1000/s"}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"replay", "p.yaml", lines, "--format", "lines"}, c.more...)
			code, stdout, stderr := invoke{args: args, files: files, terminal: c.terminal}.run(t)
			if code != c.code {
				t.Fatalf("exit %d, want %d: %s", code, c.code, stderr)
			}
			if code == 2 {
				return
			}
			for _, want := range []string{"replayed 3 messages in ", "     written  2\n    filtered  0\n    poisoned  1\n    released  0\n", "\nlast poisoned: sink.act: never\n"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			if !strings.Contains(stdout, "\n         1  poisoned: sink.act: never\n") {
				t.Errorf("no reasons in\n%s", stdout)
			}
			if quiet := slices.Contains(c.more, "--quiet"); quiet && strings.Contains(stderr, "[==") {
				t.Errorf("a bar in\n%s", stderr)
			} else if quiet {
				return
			}
			if c.terminal && (!strings.Contains(stderr, "100% [====") || !strings.Contains(stderr, "]  3 messages  ") || !strings.Contains(stderr, " messages/s  14 B of 14 B")) {
				t.Errorf("no bar in\n%s", stderr)
			}
		})
	}
}

func TestReplay_aFilterChoosesAndTheSummaryCounts(t *testing.T) {
	lines := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(lines, []byte("1\n2\n\"x\"\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		more       []string
		code       int
		out, wrong string
	}{
		"counted":            {[]string{"--filter", ".payload != 2"}, 0, "replayed 3 messages in ", ""},
		"passed over":        {[]string{"--filter", ".payload != 2"}, 0, "\npassed over: 1 by --filter\n", ""},
		"in a dry run":       {[]string{"--filter", ".payload != 2", "--dry-run"}, 0, "would write  3\ndry run of 3 messages, nothing was stored: 3 would be written, 0 filtered, 0 poisoned, 0 released\npassed over: 1 by --filter\n", ""},
		"it fails on one":    {[]string{"--filter", ".payload + 1 < 3"}, 1, "\nunresolved: " + lines + ":3\n", "filter: "},
		"nothing is left":    {[]string{"--filter", "false"}, 0, "\npassed over: 4 by --filter\n", ""},
		"with a limit":       {[]string{"--filter", ".payload != 1", "--limit", "1"}, 0, "replayed 1 message in ", ""},
		"it can't be parsed": {[]string{"--filter", ".payload ="}, 2, "", "penstock: --filter: line 1, column 11: the expression ends too early\n"},
		"it is not defined":  {[]string{"--filter", ".payload | size"}, 2, "", "penstock: --filter: line 1, column 12: function not defined: size/0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"replay", "p.yaml", lines, "--format", "lines"}, c.more...)
			code, stdout, stderr := invoke{args: args, files: file("{bodies: []}")}.run(t)
			if code != c.code || !strings.Contains(stdout, c.out) || !strings.Contains(stderr, c.wrong) {
				t.Errorf("exit %d, want %d with %q and %q:\n%s%s", code, c.code, c.out, c.wrong, stdout, stderr)
			}
		})
	}
}

func TestFlow_tellsWhatRuns(t *testing.T) {
	registry := pipeline.NewRegistry()
	sources.Register(registry)
	transforms.Register(registry)
	sinks.Register(registry)
	env := fromMap(map[string]string{
		"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/events", "REDIS_HOST": "one", "SECOND_REDIS_HOST": "two",
	})
	for name, want := range map[string]struct {
		flow string
		sdk  []sdkUse
	}{
		"quickstart":  {"40 made-up customers → decode → Redis (embedded, 127.0.0.1:6380)", []sdkUse{{"127.0.0.1", 6380, 0, "production"}}},
		"fan-out":     {"SQS events → decode → Redis (one:6379) + Redis (two:6379)", []sdkUse{{"one", 6379, 0, "production"}, {"two", 6379, 0, "production"}}},
		"replay":      {"files recordings/*.ndjson* → decode → Redis (one:6379)", []sdkUse{{"one", 6379, 0, "production"}}},
		"sqs-to-file": {"SQS events → files in recordings", nil},
	} {
		t.Run(name, func(t *testing.T) {
			text, _ := configs.Read(name)
			cfg, _, err := pipeline.LoadBytes(registry, name, text, pipeline.LoadOptions{Env: env})
			if err != nil {
				t.Fatal(err)
			}
			if got := flow(cfg); got != want.flow {
				t.Errorf("got  %s\nwant %s", got, want.flow)
			}
			if got := sdkUses(cfg.Sink); !slices.Equal(got, want.sdk) {
				t.Errorf("got  %v\nwant %v", got, want.sdk)
			}
		})
	}
}

func TestSDKUses_leavesOutWhatIsNotOneServer(t *testing.T) {
	sentinels := &sinks.RedisConfig{}
	sentinels.Sentinel.Master, sentinels.Sentinel.Addresses = "cache", []string{"one:26379"}
	cluster := &sinks.RedisConfig{}
	cluster.Cluster.Addresses = []string{"one:6379"}
	for name, config := range map[string]*sinks.RedisConfig{
		"Sentinels": sentinels, "cluster": cluster, "unix socket": {Host: "/run/redis.sock"}, "URL of a socket": {URL: pipeline.NewSecret("unix:///run/redis.sock")},
	} {
		spec := pipeline.SinkSpec{Component: pipeline.Component{Name: "redis", Config: config}}
		if got := sdkUses(spec); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	url := &sinks.RedisConfig{URL: pipeline.NewSecret("rediss://me:pw@cache.internal:7000/3"), Prefix: "p"}
	got := sdkUses(pipeline.SinkSpec{Component: pipeline.Component{Name: "redis", Config: url}})
	if want := []sdkUse{{Host: "cache.internal", Port: 7000, DB: 3, EnvironmentPrefix: "p"}}; !slices.Equal(got, want) {
		t.Errorf("URL: %v, want %v", got, want)
	}
}

func TestCommands_everyOneHasHelpWithExamples(t *testing.T) {
	for _, c := range (&Program{Registry: pipeline.NewRegistry(), Invocation: "penstock"}).root().Commands() {
		if c.Short == "" || c.Long == "" && c.Name() != "version" || c.Example == "" {
			t.Errorf("%s: short %q, long %q, example %q", c.Name(), c.Short, c.Long, c.Example)
		}
	}
}

func TestInvocation_isWhatThePersonTyped(t *testing.T) {
	defer func(args []string) { os.Args = args }(os.Args)
	os.Args = []string{filepath.Join("usr", "bin", "penstock")}
	if got := invocation(); got != "penstock" {
		t.Errorf("got %q", got)
	}
}
