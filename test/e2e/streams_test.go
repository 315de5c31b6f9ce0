package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// shell runs a line of bash with the program as $P, and returns what it printed, on stdout and stderr, and the exit
// code.
func shell(t testing.TB, env map[string]string, line string) (out string, code int) {
	t.Helper()
	program := penstockProgram(t, env)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", line)
	cmd.Env = append(program.Env, "P="+program.Path)
	cmd.Dir = t.TempDir()
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

const toStdout = "name: x\norder: source\nsource: {file: {paths: [in], format: lines}}\nsink: {stdout: {}}\n"

func TestStreams_replayReadsPipes(t *testing.T) {
	file := writeFile(t, toStdout)
	lines := filepath.Join(t.TempDir(), "lines.txt")
	if err := os.WriteFile(lines, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ line, want string }{
		"standard input":       {"cat %[2]s | $P replay %[1]s - --format lines", ""},
		"by its name":          {"cat %[2]s | $P replay %[1]s /dev/stdin --format lines", ""},
		"redirected":           {"$P replay %[1]s - --format lines < %[2]s", ""},
		"process substitution": {"$P replay %[1]s <(cat %[2]s) --format lines", ""},
		"compressed":           {"$P replay %[1]s <(gzip -c %[2]s) --format lines", ""},
		"unpacked on the way":  {"gzip -c %[2]s | zcat | $P replay %[1]s - --format lines", ""},
		"FIFO":                 {"mkfifo p; cat %[2]s > p & $P replay %[1]s p --format lines", ""},
		"FIFO, slow writer": {"mkfifo p; (until grep -q waiting log; do sleep 0.05; done; cat %[2]s > p) 2>/dev/null & $P replay %[1]s p --format lines 2> log; code=$?; cat log; exit $code",
			"waiting for somebody to write to the pipe"},
		"two of them":           {"$P replay %[1]s <(head -1 %[2]s) <(tail -2 %[2]s) --format lines", ""},
		"padded with zeros":     {"(gzip -c %[2]s; head -c 1000 /dev/zero) > p.gz; $P replay %[1]s p.gz --format lines", ""},
		"members, padded apart": {"(head -1 %[2]s | gzip; head -c 512 /dev/zero; tail -2 %[2]s | gzip) > p.gz; $P replay %[1]s p.gz --format lines", ""},
		"byte order mark":       {"(printf '\\xef\\xbb\\xbf'; cat %[2]s) | $P replay %[1]s - --format lines", ""},
		"no line end at last":   {"printf 'one\\ntwo\\nthree' | $P replay %[1]s - --format lines", ""},
		"DOS line ends":         {"printf 'one\\r\\ntwo\\r\\nthree\\r\\n' | $P replay %[1]s - --format lines", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := shell(t, nil, fmt.Sprintf(c.line, file, lines))
			var printed []string
			for line := range strings.Lines(out) {
				if line = strings.TrimRight(line, "\r\n"); !strings.HasPrefix(line, "{") {
					printed = append(printed, line)
				}
			}
			if code != 0 || !strings.HasPrefix(strings.Join(printed, "\n"), "one\ntwo\nthree\n") || !strings.Contains(out, c.want) {
				t.Errorf("code %d, want 0 and the three lines, and %q:\n%s", code, c.want, out)
			}
		})
	}
}

func TestStreams_whatCantBeReadIsNamedWithWhatToDo(t *testing.T) {
	file := writeFile(t, toStdout)
	for name, c := range map[string]struct{ line, want string }{
		"garbage behind gzip": {"(echo one | gzip; echo garbage) > p.gz; $P replay %s p.gz --format lines", "garbage behind the end of the compressed data: it begins with \\\"ga\\\""},
		"torn gzip":           {"head -c 100000 /dev/urandom | base64 | gzip | head -c 20000 > p.gz; $P replay %s p.gz --format lines > /dev/null", "unexpected EOF"},
		"gzip that is none":   {"printf '\\x1f\\x8bnothing' > p.gz; $P replay %s p.gz --format lines", "gzip:"},
		"UTF-16":              {`printf '\xff\xfe{\x00"\x00' > p; $P replay %s p`, "the file is UTF-16 and must be UTF-8: iconv -f UTF-16 -t UTF-8"},
		"UTF-16, big endian":  {`printf '\xfe\xff\x00{\x00"' > p; $P replay %s p`, "the file is UTF-16"},
		"UTF-16 without mark": {`printf '{\x00"\x00i\x00d\x00' > p; $P replay %s p`, "the file is UTF-16"},
		"bzip2":               {"printf 'BZh91AY' > p; $P replay %s p", "it is bzip2, which is not read here: unpack it first, or pipe it in: bzcat FILE | penstock replay PIPELINE -"},
		"xz":                  {"printf '\\xfd7zXZ\\x00' > p; $P replay %s p", "it is xz"},
		"zip":                 {"printf 'PK\\x03\\x04' > p; $P replay %s p", "it is a zip archive"},
		"a link to nothing":   {"ln -s nowhere l; $P replay %s l", "l"},
		"a circle of links":   {"ln -s b a; ln -s a b; $P replay %s a", "too many levels of symbolic links"},
		"an empty directory":  {"mkdir d; $P replay %s d", "there is no file in directory"},
		"no file":             {"$P replay %s nowhere", "no file matches"},
		"a socket":            {"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")' 2>/dev/null || exit 1; $P replay %s s", "s"},
		"a pipe, to go on in": {"$P replay %s <(echo one) --format lines --checkpoint c", "is a pipe, which can be read once: there is no going on in it"},
		"nothing to print to": {"$P validate %s > /dev/full", "write the result"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := shell(t, nil, fmt.Sprintf(c.line, file))
			if code != 1 || !strings.Contains(out, c.want) || strings.Count(out, "UTF-16") > 2 {
				t.Errorf("code %d, want 1 and %q:\n%s", code, c.want, out)
			}
		})
	}
}

func TestStreams_aReaderThatGoesAwayEndsNoService(t *testing.T) {
	t.Parallel()
	const service = "name: x\nsource: {generate: {rate: 200/s, count: 600}}\nsink: {drop: {}}\npoison_queue: {drop: {}}\n"
	file := writeFile(t, service)
	for name, c := range map[string]struct {
		line string
		code int
		want string
	}{
		"of the log":            {"$P run %s 2>&1 | head -1 >/dev/null; echo code ${PIPESTATUS[0]}", 0, "code 0"},
		"of stderr":             {"{ $P run %s 2>&1 1>&3 | head -1 >/dev/null; echo code ${PIPESTATUS[0]}; } 3>/dev/null", 0, "code 0"},
		"closed from the start": {"$P run %s >&- 2>&-; echo code $?", 0, "code 0"},
		"stdout closed":         {"$P run %s >&-; echo code $?", 0, "code 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := shell(t, nil, fmt.Sprintf(c.line, file))
			if code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("code %d, want %d and %q:\n%s", code, c.code, c.want, out)
			}
		})
	}
	t.Run("of the stdout sink", func(t *testing.T) {
		t.Parallel()
		file := writeFile(t, "name: x\nsource: {generate: {rate: 500/s}}\nsink: {stdout: {}}\n")
		out, _ := shell(t, nil, fmt.Sprintf("{ $P run %s | head -3 >/dev/null; echo code ${PIPESTATUS[0]}; }", file))
		if !strings.Contains(out, "code 1") || !strings.Contains(out, "write to the standard output") {
			t.Errorf("want code 1 and the reason:\n%s", out)
		}
	})
	t.Run("of a list", func(t *testing.T) {
		t.Parallel()
		if out, code := shell(t, nil, "$P components | head -1"); code != 0 || strings.Contains(out, "penstock:") {
			t.Errorf("code %d, want it quiet:\n%s", code, out)
		}
	})
}

func TestExit_SIGHUPStopsGracefullyUnlessItIsIgnored(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "name: x\nsource: {generate: {rate: 100/s}}\nsink: {drop: {}}\npoison_queue: {drop: {}}\n")
	p := launch(t, penstockProgram(t, nil, "run", file))
	p.logged("ready")
	p.signal(syscall.SIGHUP)
	if code := p.code(); code != 0 {
		t.Errorf("code %d after SIGHUP, want 0:\n%s", code, p.errors())
	}
	if !strings.Contains(p.errors(), "released") {
		t.Errorf("no ledger line:\n%s", p.errors())
	}
	out, code := shell(t, nil, fmt.Sprintf("nohup $P run %s > log 2>&1 & pid=$!; until grep -q ready log 2>/dev/null; do sleep 0.05; done; kill -HUP $pid; sleep 0.3; kill -0 $pid && kill -TERM $pid && wait $pid", file))
	if code != 0 {
		t.Errorf("under nohup: code %d:\n%s", code, out)
	}
}

func TestStreams_aStopEndsTheWaitForAPipe(t *testing.T) {
	t.Parallel()
	file := writeFile(t, toStdout)
	for name, line := range map[string]string{
		"without a writer":  "mkfifo p; $P replay %s p --format lines 2> log & pid=$!; until grep -q waiting log; do sleep 0.05; done; kill -TERM $pid; wait $pid; code=$?; cat log; exit $code",
		"with a silent one": "mkfifo p; (exec 9> p; sleep 60) & w=$!; $P replay %s p --format lines 2> log & pid=$!; until grep -q ready log; do sleep 0.05; done; kill -TERM $pid; wait $pid; code=$?; kill $w; cat log; exit $code",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, code := shell(t, nil, fmt.Sprintf(line, file)); code != 0 {
				t.Errorf("code %d:\n%s", code, out)
			}
		})
	}
	p := launch(t, penstockProgram(t, nil, "replay", file, "-", "--format", "lines")) // its stdin stays open and silent
	p.logged("ready")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("code %d:\n%s", code, p.errors())
	}
}
