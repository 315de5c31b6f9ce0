package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rivo/uniseg"

	"github.com/penstock-dev/penstock/internal/recording"
)

// terminal is what a person sees of a program that runs in a pseudo-terminal.
type terminal struct {
	t      *testing.T
	cols   int
	cmd    *exec.Cmd
	file   *os.File
	closed chan struct{}

	mu      sync.Mutex
	raw     strings.Builder
	rows    [][]string // of grapheme clusters; what takes two columns is followed by an empty one
	column  int
	wrapped []string // rows that the terminal had to break
	strange []string // what steers the terminal in a way that this one doesn't know
}

// onTerminal starts a command in a terminal of so many columns.
func onTerminal(t *testing.T, cols int, cmd *exec.Cmd) *terminal {
	t.Helper()
	cmd.Env = append(cmd.Env, "TERM=xterm")
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: uint16(cols)})
	if err != nil {
		t.Fatal(err)
	}
	s := &terminal{t: t, cols: cols, cmd: cmd, file: file, closed: make(chan struct{}), rows: [][]string{nil}}
	go func() {
		defer close(s.closed)
		buffer := make([]byte, 32<<10)
		rest := ""
		for {
			n, err := file.Read(buffer)
			rest = s.show(rest + string(buffer[:n]))
			if err != nil { // the program has ended
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.closed
		_ = file.Close()
	})
	return s
}

var control = regexp.MustCompile(`^\x1b\[[0-9;]*[@-~]`)

// show draws text, and returns the end of it that may be the begin of a character.
func (s *terminal) show(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for text != "" {
		row := len(s.rows) - 1
		switch sequence := control.FindString(text); {
		case sequence == "\x1b[K":
			s.rows[row] = s.rows[row][:min(s.column, len(s.rows[row]))]
			text = text[len(sequence):]
			continue
		case sequence != "" && sequence[len(sequence)-1] == 'm':
			text = text[len(sequence):]
			continue
		case sequence == "" && text[0] == '\x1b' && len(text) < 12:
			return text
		case text[0] == '\x1b':
			s.strange = append(s.strange, fmt.Sprintf("%q", text[:min(len(text), 12)]))
			text = text[1:]
			continue
		}
		cluster, rest, width, _ := uniseg.FirstGraphemeClusterInString(text, -1)
		if rest == "" && len(text) < 4 && text[0] >= 0x80 && !validEnd(text) {
			return text
		}
		text = rest
		switch cluster {
		case "\r":
			s.column = 0
		case "\n", "\r\n":
			s.rows, s.column = append(s.rows, nil), 0
		case "\t":
			for s.put(" ", 1); s.column%8 != 0; s.put(" ", 1) {
			}
		default:
			s.put(cluster, width)
		}
		s.raw.WriteString(cluster)
	}
	return ""
}

func validEnd(text string) bool { return strings.ToValidUTF8(text, "") == text }

func (s *terminal) put(cluster string, width int) {
	row := len(s.rows) - 1
	if s.column+width > s.cols {
		s.wrapped = append(s.wrapped, strings.Join(s.rows[row], ""))
		s.rows, s.column = append(s.rows, nil), 0
		row++
	}
	for len(s.rows[row]) < s.column+width {
		s.rows[row] = append(s.rows[row], " ")
	}
	s.rows[row][s.column] = cluster
	if width == 2 {
		s.rows[row][s.column+1] = ""
	}
	s.column += width
}

// screen is everything that a person could scroll back to.
func (s *terminal) screen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, row := range s.rows {
		all = append(all, strings.TrimRight(strings.Join(row, ""), " "))
	}
	return all
}

// until waits for a row.
func (s *terminal) until(what *regexp.Regexp) {
	s.t.Helper()
	eventually(s.t, func() string {
		for _, row := range s.screen() {
			if what.MatchString(row) {
				return ""
			}
		}
		return "no " + what.String() + " on\n" + strings.Join(s.screen(), "\n")
	})
}

// end waits for the end of the program, and returns the screen. No row may be longer than the terminal is wide, but for
// words that are longer themselves.
func (s *terminal) end(code int) []string {
	s.t.Helper()
	select {
	case <-s.closed:
	case <-time.After(patience):
		s.t.Fatalf("%s does not end:\n%s", s.cmd, strings.Join(s.screen(), "\n"))
	}
	err := s.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		s.t.Fatal(err)
	} else if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%s: exit %d, want %d (%v):\n%s", s.cmd, got, code, exit, strings.Join(s.screen(), "\n"))
	}
	for _, row := range s.wrapped {
		if strings.Contains(strings.TrimSpace(row), " ") {
			s.t.Errorf("%s: a row was too long for %d columns: %s", s.cmd, s.cols, row)
		}
	}
	for _, what := range s.strange {
		s.t.Errorf("%s: steers the terminal: %s", s.cmd, what)
	}
	return s.screen()
}

// rowsWith returns the rows that match.
func rowsWith(screen []string, what *regexp.Regexp) []string {
	var all []string
	for _, row := range screen {
		if what.MatchString(row) {
			all = append(all, row)
		}
	}
	return all
}

var (
	liveRow = regexp.MustCompile(`^(received|written|poisoned) [\d,]+(  [a-z]+ |$)`)
	logRow  = regexp.MustCompile(`^\d\d:\d\d:\d\d +(WARN|ERROR|INFO)`)
)

// both runs f on a wide terminal and on a narrow one.
func both(t *testing.T, f func(t *testing.T, cols int)) {
	for _, cols := range []int{80, 40} {
		t.Run(fmt.Sprintf("%d columns", cols), func(t *testing.T) {
			t.Parallel()
			f(t, cols)
		})
	}
}

func TestTerminal_theLiveLineOfARunStaysBelowItsLog(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cols int) {
		text, err := os.ReadFile(root(t, "configs", "quickstart.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		http := freeAddress(t)
		file := writeFile(t, strings.NewReplacer("127.0.0.1:6380", freeAddress(t), "${QUICKSTART_HTTP:-127.0.0.1:4000}", http,
			"${QUICKSTART_ADMIN:-127.0.0.1:4000}", http, "50/s", "1000/s").Replace(string(text)))
		s := onTerminal(t, cols, penstockProgram(t, nil, "run", file))
		s.until(logRow)
		s.until(regexp.MustCompile(`^(received|written) .*poisoned [1-9]`))
		if _, err := s.file.Write([]byte{3}); err != nil { // ^C
			t.Fatal(err)
		}
		screen := s.end(0)
		if live := rowsWith(screen, liveRow); len(live) != 1 || !strings.HasSuffix(live[0], "^C") {
			t.Errorf("want one live line, with the ^C of the terminal behind it, got %q on\n%s", live, strings.Join(screen, "\n"))
		}
		if torn := rowsWith(screen, regexp.MustCompile(`(WARN|ERROR).*(received|written) [\d,]+  |(received|written) [\d,]+  .*(WARN|ERROR)`)); len(torn) > 0 {
			t.Errorf("torn: %q", torn)
		}
		readme, err := os.ReadFile(root(t, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		warning := regexp.MustCompile(`WARN\s+message\s+poisoned\s+\{"pipeline":\s+"quickstart",\s+"error":\s+"transforms\[1\]\.decode_entitlements:[^}]*"code":\s+"PS401"\}`)
		for what, text := range map[string]string{"README.md": string(readme), "the screen": strings.Join(screen, "\n")} {
			if !warning.MatchString(text) {
				t.Errorf("%s doesn't show the warning about a poisoned message:\n%s", what, text)
			}
		}
		if end := rowsWith(screen, regexp.MustCompile(`^stopped: received `)); len(end) != 1 {
			t.Errorf("no last line on\n%s", strings.Join(screen, "\n"))
		}
	})
}

// replayable writes a recording with messages that are poisoned among it, and a pipeline that takes it.
func replayable(t *testing.T, messages int) (yaml, recordings string) {
	t.Helper()
	var lines []byte
	for i := range messages {
		body := sample(t, "01")
		if i%100 == 99 {
			body = "this is no event, and its reason is a long one"
		}
		lines = recording.Append(lines, &recording.Entry{ID: fmt.Sprint("m", i), Payload: []byte(body)})
	}
	recordings = filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(recordings, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "name: p\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {drop: {}}\n"+
		"poison_queue: {file: {dir: "+filepath.Join(t.TempDir(), "poison")+"}}\n"), recordings
}

func TestTerminal_theBarOfAReplayStaysInItsLine(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cols int) {
		yaml, recordings := replayable(t, 400)
		s := onTerminal(t, cols, penstockProgram(t, nil, "replay", yaml, recordings, "--rate", "200/s"))
		s.until(regexp.MustCompile(`^ *[1-9]\d?% \[=*>? *\]  [\d,]+ messages`))
		screen := s.end(0)
		bars := rowsWith(screen, regexp.MustCompile(`\[=`))
		if len(bars) != 1 || !strings.HasPrefix(bars[0], "100% [=") || !strings.Contains(bars[0], "]  400 messages") {
			t.Errorf("want one bar, and it full, got %q on\n%s", bars, strings.Join(screen, "\n"))
		}
		if cols == 80 && !strings.Contains(bars[0], " messages/s") {
			t.Errorf("no messages a second: %s", bars[0])
		}
		if len(rowsWith(screen, logRow)) == 0 || len(rowsWith(screen, regexp.MustCompile(`^ +written +396$`))) != 1 {
			t.Errorf("no log or no summary on\n%s", strings.Join(screen, "\n"))
		}
	})
}

func TestTerminal_resultsOnTheSameTerminalAreNotTornByALiveLine(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cols int) {
		yaml, recordings := replayable(t, 300)
		s := onTerminal(t, cols, penstockProgram(t, nil, "replay", yaml, recordings, "--rate", "400/s", "--dry-run"))
		select {
		case <-s.closed:
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
		if n := len(rowsWith(s.screen(), regexp.MustCompile(`^would (write|poison)  `))); n < 300 {
			t.Errorf("%d results of 300 begin a row", n)
		}
	})
}

func TestTerminal_theMarkOfAMistakeStandsBelowIt(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cols int) {
		file := writeFile(t, "name: p\nsource: {generate: {}}\ntransforms: [{unwrap: {}}, {decode_entitlements: {}},         {unwrapp: {}}]\nsink: {drop: {}}\n")
		screen := onTerminal(t, cols, penstockProgram(t, nil, "validate", file)).end(2)
		for i, row := range screen {
			if from := strings.Index(row, "^"); from >= 0 && i > 0 {
				above := []rune(screen[i-1])
				if got := string(above[from:min(len(above), from+len("unwrapp"))]); got != "unwrapp" || strings.Count(row, "^") != len("unwrapp") {
					t.Errorf("the mark stands below %q:\n%s", got, strings.Join(screen, "\n"))
				}
				return
			}
		}
		t.Errorf("no mark on\n%s", strings.Join(screen, "\n"))
	})
}

func TestTerminal_textFitsAndInAPipeItIsPlain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"p.yaml": "name: p\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {drop: {}}\npoison_queue: {file: {dir: poison}}\n",
		"t.yaml": "name: t\nsource: {generate: {}}\nsink: {drop: {}}\ntests:\n  - name: what comes in goes out, whatever it is and however long its name may be\n" +
			"    input: {payload: '{\"customer\": \"c\", \"words\": \"many words that are longer than a narrow terminal is wide\"}'}\n" +
			"    output: [{payload: {customer: d, words: \"other words that are longer than a narrow terminal is wide\"}}]\n",
		"poison/p.ndjson": string(recording.Append(nil, &recording.Entry{ID: "m1", Payload: []byte("x"), Poison: &recording.Poison{
			Reason: "the customer's id is missing, which nobody could have known when this was sent", Stage: "transforms[0].decode_entitlements", Attempts: 3,
			At: time.Now().Add(-time.Hour).Format(time.RFC3339)}})),
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for line, c := range map[string]struct {
		code int
		want string // begins a row, on every terminal
	}{
		"test t.yaml":               {1, "  FAIL  what comes in goes out,"},
		"poison list -f p.yaml":     {0, "  1h "},
		"explain PS012":             {0, "PS012 (mistake): "},
		"explain PS401":             {0, "PS401 (incident): "},
		"explain":                   {0, "PS012  mistake   "},
		"explain sinks.redis.ttl":   {0, "  type     duration"},
		"components":                {0, "sources"},
		"components redis":          {0, "sink redis"},
		"validate p.yaml":           {0, "p.yaml: ok: p: "},
		"validate nothing-of-this":  {2, "nothing-of-this: neither a file nor"},
		"replay --help":             {0, "Exit codes:"},
		"--help":                    {0, "Commands:"},
		"replay p.yaml nothing.txt": {1, "penstock: "},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			command := func() *exec.Cmd {
				cmd := penstockProgram(t, nil, strings.Fields(line)...)
				cmd.Dir = dir
				return cmd
			}
			both(t, func(t *testing.T, cols int) {
				screen := onTerminal(t, cols, command()).end(c.code)
				if len(rowsWith(screen, regexp.MustCompile("^"+regexp.QuoteMeta(c.want)))) == 0 {
					t.Errorf("no row begins with %q:\n%s", c.want, strings.Join(screen, "\n"))
				}
			})
			out, err := command().CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != c.code) {
				t.Errorf("in a pipe: %v, want exit %d", err, c.code)
			}
			if strings.ContainsAny(string(out), "\x1b\r") {
				t.Errorf("in a pipe it steers a terminal: %q", out)
			}
		})
	}
}

// What programs read is the same on a terminal, however narrow it is.
func TestTerminal_JSONIsNotBroken(t *testing.T) {
	t.Parallel()
	command := func() *exec.Cmd { return penstockProgram(t, nil, "components", "--format", "json", "redis") }
	want, err := command().Output()
	if err != nil {
		t.Fatal(err)
	}
	s := onTerminal(t, 40, command())
	<-s.closed
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.ReplaceAll(s.raw.String(), "\r", ""); got != string(want) {
		t.Errorf("on a terminal it is another:\n%s", got)
	}
}

// In a pipe a run logs JSON alone, one object a line.
func TestTerminal_aRunInAPipeLogsJSON(t *testing.T) {
	t.Parallel()
	yaml, recordings := replayable(t, 200)
	cmd := penstockProgram(t, nil, "replay", yaml, recordings)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(stderr)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") || strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("no JSON: %q", line)
		}
	}
	if n < 4 {
		t.Errorf("%d lines: %s", n, text)
	}
}
