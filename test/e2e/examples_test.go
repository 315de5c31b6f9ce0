package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/internal/testserver"
)

// helpCommand is a command as its own help shows it.
type helpCommand struct {
	path     string // "penstock poison list"
	examples []string
	children []string
	text     string
}

// helpOf asks a command, and all below it, for help: a new command is among them by itself.
func helpOf(t *testing.T, words ...string) []helpCommand {
	t.Helper()
	out, err := penstockProgram(t, nil, append(slices.Clone(words), "--help")...).Output()
	if err != nil {
		t.Fatalf("%v --help: %v", words, err)
	}
	c := helpCommand{path: strings.Join(append([]string{"penstock"}, words...), " "), text: string(out)}
	section := ""
	for line := range strings.Lines(c.text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line != "" && line[0] != ' ':
			section = line
		case line == "":
		case section == "Examples:":
			c.examples = append(c.examples, strings.TrimSpace(line))
		case section == "Commands:":
			c.children = append(c.children, strings.Fields(line)[0])
		}
	}
	all := []helpCommand{c}
	for _, child := range c.children {
		all = append(all, helpOf(t, append(slices.Clone(words), child)...)...)
	}
	return all
}

// substitutions stand in place of what an example can't have in a test, each with the reason. What is in braces is
// filled in by the test.
var substitutions = []struct{ text, instead, reason string }{
	{"QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/events", "QUEUE_URL={queue}", "a queue of the test's own SQS server"},
	{"REDIS_HOST=redis ", "REDIS_HOST=127.0.0.1 ", "the test's own Redis; its port is in the environment"},
	{"http://127.0.0.1:8080/livez", "http://{http}/livez", "a port that is free"},
	{"init custom-program my-program", "init custom-program my-program --checkout {root}", "a program that is built from a checkout has no version to download"},
	{"xzcat old.ndjson.xz", "cat recordings/2026-11-21.ndjson", "xz is not on every machine"},
	{`contains("not JSON")'`, `contains("not JSON")' --yes`, "nobody is there to be asked"},
	{"| less", "| cat", "less waits for a key"},
}

// endless are commands that end by a signal: the example gets one when it says that it is ready.
var endless = map[string]string{
	"penstock run": "a queue has no end",
}

// exitCodes are examples that don't end with 0, each with the reason.
var exitCodes = map[string]struct {
	code   int
	reason string
}{}

func TestExamples_everyCommandHasHelpWhoseExamplesRun(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("examples are lines for bash, which is not installed")
	}
	commands := helpOf(t)
	if len(commands) < 15 {
		t.Fatalf("found %d commands: the walk misses them", len(commands))
	}
	site := newExampleSite(t)
	seen := map[string]bool{}
	ran := 0
	for _, c := range commands {
		if len(c.examples) < 2 {
			t.Errorf("%s --help has %d examples, want two or more", c.path, len(c.examples))
		}
		for _, title := range []string{"Exit codes:", "Environment:", "Files:"} {
			if !strings.Contains(c.text, title) {
				t.Errorf("%s --help says nothing of %q", c.path, title)
			}
		}
		for _, line := range c.examples {
			if !strings.Contains(line, c.path) {
				t.Errorf("%s --help has an example of something else: %s", c.path, line)
			}
			if seen[line] {
				continue
			}
			seen[line] = true
			ran++
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				site.run(t, line)
			})
		}
	}
	for line := range exitCodes {
		if !seen[line] {
			t.Errorf("no help has the example %s", line)
		}
	}
	if ran < 40 {
		t.Errorf("%d examples ran: the search misses them", ran)
	}
}

// exampleSite is what the examples find: servers, a quick start that runs, and files.
type exampleSite struct {
	bin         string
	redis       string // port
	queue       *queue
	http, embed string // addresses of the quick start
}

func newExampleSite(t *testing.T) *exampleSite {
	_, port, _ := strings.Cut(testserver.Redis(t), ":")
	s := &exampleSite{redis: port, queue: startQueue(t), http: freeAddress(t), embed: freeAddress(t)}
	s.bin = filepath.Dir(penstockProgram(t, nil).Path)
	dir := t.TempDir()
	s.write(t, dir, s.http, s.embed)
	fill := s.command(t, dir, `penstock replay my-pipeline.yaml recordings/`)
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	quick := launch(t, s.command(t, dir, "exec penstock run quickstart"))
	quick.eventually(func() string {
		out, err := s.command(t, dir, "penstock inspect customer-3 -f quickstart").CombinedOutput()
		if err != nil {
			return string(out)
		}
		return ""
	})
	return s
}

// write puts into dir what examples name.
func (s *exampleSite) write(t *testing.T, dir, httpAddress, embedded string) {
	t.Helper()
	quickstart, err := os.ReadFile(root(t, "configs", "quickstart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	var lines []byte
	for i, resource := range []string{`null`, `"site-7"`} {
		body := strings.NewReplacer(`"customer-fir"`, `"customer-3"`, `"site-berlin"`, resource).Replace(sample(t, "09"))
		lines = recording.Append(lines, &recording.Entry{ID: fmt.Sprint("e", i), Time: at.Add(time.Duration(i) * time.Second), Payload: []byte(body)})
	}
	poisoned := recording.Append(nil, &recording.Entry{ID: "m-17", Time: at, Payload: []byte(sample(t, "01")), Poison: &recording.Poison{
		Reason: "redis: the value is too large", Stage: "sink.redis", Attempts: 3, At: at.Format(time.RFC3339Nano), ReceivedAt: at.Format(time.RFC3339Nano), Pipeline: "entitlements",
	}})
	tests := `tests:
  - name: a revoked entitlement is stored as denied
    input: {payload: '{"type":"ENTITLEMENTS_UPDATED","timestamp":"2026-11-20T10:15:30.000Z","customerId":"c","entitlements":[]}'}
    outcome: written
`
	for name, text := range map[string]string{
		"quickstart": strings.NewReplacer("127.0.0.1:6380", embedded, "${QUICKSTART_HTTP:-127.0.0.1:4000}", httpAddress,
			"${QUICKSTART_ADMIN:-127.0.0.1:4000}", httpAddress).Replace(string(quickstart)),
		"my-pipeline.yaml": fmt.Sprintf("name: entitlements\nsource: {sqs: {queue_url: %q, endpoint: %q}}\ntransforms: [{unwrap: {}}, {decode_entitlements: {}}]\n"+
			"sink: {redis: {host: 127.0.0.1, port: %s}}\npoison_queue: {file: {dir: poison}}\n", s.queue.url, s.queue.endpoint, s.redis) + tests,
		"another.yaml":                 "name: another\nsource: {generate: {customers: 3, rate: 10/s}}\ntransforms: [{decode_entitlements: {}}]\nsink: {drop: {}}\n",
		"from-a-file.yaml":             "name: from-a-file\nsource: {file: {paths: [recordings]}}\ntransforms: [{unwrap: {}}, {decode_entitlements: {}}]\nsink: {drop: {}}\n",
		"pipelines/one.yaml":           "name: one\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {drop: {}}\n" + tests,
		"recordings/2026-11-21.ndjson": string(lines),
		"poison/entitlements.ndjson":   string(poisoned),
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// command is a line of a shell in dir.
func (s *exampleSite) command(t *testing.T, dir, line string) *exec.Cmd {
	t.Helper()
	_, port, _ := strings.Cut(s.http, ":")
	cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + s.bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "PORT=" + port, "REDIS_PORT=" + s.redis,
		"AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any", "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_SQS=" + s.queue.endpoint,
		"GOFLAGS=" + os.Getenv("GOFLAGS"), "GOPROXY=" + os.Getenv("GOPROXY"),
	}
	return cmd
}

// run runs an example in a directory of its own.
func (s *exampleSite) run(t *testing.T, example string) {
	line := example
	for _, sub := range substitutions {
		line = strings.ReplaceAll(line, sub.text, sub.instead)
	}
	line = strings.NewReplacer("{queue}", s.queue.url, "{http}", s.http, "{root}", root(t)).Replace(line)
	endsBySignal := ""
	for path := range endless {
		if strings.Contains(line, path) && !strings.Contains(line, "--dry-run") {
			endsBySignal = path
		}
	}
	dir := t.TempDir()
	httpAddress, embedded := s.http, s.embed
	if endsBySignal != "" { // a second one beside the one that runs already
		httpAddress, embedded = freeAddress(t), freeAddress(t)
	}
	s.write(t, dir, httpAddress, embedded)
	cmd := s.command(t, dir, line)
	if endsBySignal != "" {
		_, port, _ := strings.Cut(httpAddress, ":")
		cmd.Env = append(cmd.Env, "PORT="+port)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a shell and what it runs get signals together
	p := launch(t, cmd)
	_ = p.stdin.Close()
	if endsBySignal != "" {
		p.eventually(func() string {
			if !strings.Contains(p.errors(), `"msg":"ready"`) {
				return "not ready: " + p.errors()
			}
			return ""
		})
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	if code, want := p.code(), exitCodes[example].code; code != want {
		t.Errorf("%s\nexit %d, want %d; stderr:\n%s", line, code, want, p.errors())
	}
}
