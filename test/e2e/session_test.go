package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// step is a command of a session in the documents, and what the terminal shows of it.
type step struct {
	line    int
	command string
	shows   []string
}

// sessionOf reads what stands below a heading of a page: its YAML, by the order, and its sessions, in which commands
// begin with "$ ".
func sessionOf(t *testing.T, page, heading string) (yaml []string, steps []step) {
	t.Helper()
	text, err := os.ReadFile(root(t, filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	inside, language, fenced := false, "", false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced, language = !fenced, strings.TrimPrefix(line, "```")
			if inside && fenced && language == "yaml" {
				yaml = append(yaml, "")
			}
		case !fenced && strings.HasPrefix(line, "#"):
			inside = strings.TrimLeft(line, "# ") == heading
		case !inside || !fenced:
		case language == "yaml":
			yaml[len(yaml)-1] += line + "\n"
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, command: strings.TrimPrefix(line, "$ ")})
		case len(steps) > 0 && language == "":
			steps[len(steps)-1].shows = append(steps[len(steps)-1].shows, line)
		}
	}
	if len(steps) == 0 {
		t.Fatalf("%s has no session below %q", page, heading)
	}
	return yaml, steps
}

// unsteady is what another run shows otherwise.
var unsteady = []struct {
	what *regexp.Regexp
	mark string
}{
	{regexp.MustCompile(`\b[\d.]+ (ms|s)\b`), "TIME"},
	{regexp.MustCompile(`\b(\d+[dhms] ?)+ ago`), "AGO"},
	{regexp.MustCompile(`\b[\d,]+( messages)?/s`), "RATE"},
	{regexp.MustCompile(`\b\d+(\.\d+)? k?B of \d+(\.\d+)? k?B`), "BYTES"},
	{regexp.MustCompile(`^\d\d:\d\d:\d\d\s+`), "CLOCK "},
	{regexp.MustCompile(`(TTL +|  )(6d 23h|7d)\b`), "${1}TTL"},
	{regexp.MustCompile(`^penstock \d\S*`), "penstock VERSION"},
	{regexp.MustCompile(`\s+`), " "},
}

func steady(rows []string) string {
	var out []string
	for _, row := range rows {
		for _, u := range unsteady {
			row = u.what.ReplaceAllString(row, u.mark)
		}
		out = append(out, strings.TrimRight(row, " "))
	}
	return strings.TrimRight(strings.Join(out, "\n"), "\n")
}

// TestDocs_aWipedRedisIsBroughtBackAsOperationsShows runs the pipeline of the page until it has recorded what came,
// empties its Redis, and types what the page types.
func TestDocs_aWipedRedisIsBroughtBackAsOperationsShows(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("sessions are lines for bash, which is not installed")
	}
	yaml, steps := sessionOf(t, "docs/operations.md", "Bring a cold or wiped Redis back from recordings")
	if len(yaml) != 1 || len(steps) < 5 {
		t.Fatalf("%d YAML blocks and %d steps", len(yaml), len(steps))
	}
	store := testserver.StartRedis(t)
	host, port, err := net.SplitHostPort(store.Addr())
	if err != nil {
		t.Fatal(err)
	}
	q := startQueue(t)
	dir := t.TempDir()
	text := yaml[0]
	for from, to := range map[string]string{
		`queue_url: "https://sqs.eu-west-1.amazonaws.com/123456789012/events"`: fmt.Sprintf("queue_url: %q, endpoint: %q", q.url, q.endpoint),
		"host: redis.internal": "host: " + host + ", port: " + port,
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("the page's pipeline has no %s", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	if err := os.WriteFile(filepath.Join(dir, "my-pipeline.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var events []event
	for i := range 40 {
		events = append(events, event{body: strings.Replace(sample(t, "02"), `"customerId": "customer-acorn"`, fmt.Sprintf(`"customerId": "customer-%d"`, i+1), 1)})
	}
	bin := filepath.Dir(penstockProgram(t, nil).Path)
	command := func(line string) *exec.Cmd {
		cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any"}
		return cmd
	}
	service := launch(t, command("exec penstock run my-pipeline.yaml"))
	q.send(events...)
	service.eventually(q.notEmpty)
	q.send(event{body: "<html>no event</html>"}) // alone, so that it is the last one in the recordings
	service.eventually(q.notEmpty)
	service.signal(syscall.SIGTERM)
	if code := service.code(); code != 0 {
		t.Fatalf("exit %d: %s", code, service.errors())
	}
	store.Restart() // keeps nothing: it is cold

	shown := strings.NewReplacer(store.Addr(), "redis.internal:6379", fmt.Sprintf("host: '%s', port: %s", host, port), "host: 'redis.internal', port: 6379")
	for _, s := range steps {
		line, code := s.command, 0
		if before, comment, ok := strings.Cut(line, "   # exit code "); ok {
			line = before
			if _, err := fmt.Sscan(comment, &code); err != nil {
				t.Fatal(err)
			}
		}
		terminal := onTerminal(t, 250, command(line))
		screen := terminal.end(code)
		for i := range screen {
			screen[i] = shown.Replace(screen[i])
		}
		if got, want := steady(screen), steady(s.shows); got != want {
			t.Errorf("docs/operations.md:%d: $ %s\nshows\n%s\nthe page has\n%s", s.line, s.command, strings.Join(screen, "\n"), strings.Join(s.shows, "\n"))
		}
	}
	// In the end everything is there.
	c := dial(t, store.Addr(), 0)
	for i := range 40 {
		key := fmt.Sprintf("production:c_customer-%d", i+1)
		if n, err := c.Exists(t.Context(), key).Result(); err != nil || n != 1 {
			t.Errorf("%s: %d, %v", key, n, err)
		}
	}
}
