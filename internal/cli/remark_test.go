package cli

import (
	"strings"
	"testing"
)

func TestValidate_formats(t *testing.T) {
	files := map[string]string{
		"bad.yaml":  "name: p, q\nsource: {list: {bodys: [a]}}\nsink: {act: {}}\n",
		"warn.yaml": "name: w\nsource: {list: {}}\nsink: {act: {always: \"\"}}\n",
		"good.yaml": "name: g\nsource: {list: {}}\nsink: {act: {}}\n",
	}
	for name, c := range map[string]struct {
		args   []string
		exit   int
		stdout string
	}{
		"json": {[]string{"--format", "json", "bad.yaml", "warn.yaml", "good.yaml", "gone.yaml"}, 2, `[
  {
    "code": "PS050",
    "severity": "error",
    "file": "bad.yaml",
    "line": 1,
    "column": 7,
    "path": "name",
    "message": "want 1 to 63 of a-z, 0-9 and -, got \"p, q\"",
    "hint": ""
  },
  {
    "code": "PS012",
    "severity": "error",
    "file": "bad.yaml",
    "line": 2,
    "column": 17,
    "path": "source.list.bodys",
    "message": "unknown key",
    "hint": "known: bodies, finite, lost"
  },
  {
    "code": "PS001",
    "severity": "error",
    "file": "gone.yaml",
    "line": 0,
    "column": 0,
    "path": "",
    "message": "file does not exist",
    "hint": ""
  },
  {
    "code": "PS081",
    "severity": "warning",
    "file": "warn.yaml",
    "line": 3,
    "column": 22,
    "path": "sink.act.always",
    "message": "an empty value counts as absent: the default \"nothing\" applies",
    "hint": ""
  }
]
`},
		"json with nothing to say": {[]string{"--format", "json", "good.yaml"}, 0, "[]\n"},
		"github": {[]string{"--format", "github", "bad.yaml", "warn.yaml"}, 2,
			"::error file=bad.yaml,line=1,col=7,title=penstock PS050::name: want 1 to 63 of a-z, 0-9 and -, got \"p, q\"\n" +
				"::error file=bad.yaml,line=2,col=17,title=penstock PS012::source.list.bodys: unknown key (known: bodies, finite, lost)\n" +
				"::warning file=warn.yaml,line=3,col=22,title=penstock PS081::sink.act.always: an empty value counts as absent: the default \"nothing\" applies\n"},
		"github with nothing to say": {[]string{"--format", "github", "good.yaml"}, 0, ""},
		"another format":             {[]string{"--format", "xml", "good.yaml"}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			exit, stdout, stderr := invoke{args: append([]string{"validate"}, c.args...), files: files}.run(t)
			if exit != c.exit || stdout != c.stdout {
				t.Errorf("exit %d\n%s\nwant %d\n%s\n%s", exit, stdout, c.exit, c.stdout, stderr)
			}
		})
	}
	exit, stdout, _ := invoke{args: []string{"validate", "--format", "json", "persistent-cache"}}.run(t)
	if exit != 2 || !strings.Contains(stdout, `"code": "PS070"`) || !strings.Contains(stdout, "not set: QUEUE_URL") {
		t.Errorf("the environment: exit %d: %s", exit, stdout)
	}
}

func TestGitHub_whatWouldEndACommandIsEscaped(t *testing.T) {
	var b strings.Builder
	if err := writeGitHub(&b, []remark{{Severity: severityNote, File: "a,b:c.yaml", Message: "100 %\n::error::x"}}); err != nil {
		t.Fatal(err)
	}
	if want := "::notice file=a%2Cb%3Ac.yaml,title=penstock::100 %25%0A::error::x\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestProblems_onATerminalTheirLineIsShown(t *testing.T) {
	long := "name: x\nsource: {list: {bodies: [" + strings.Repeat("a, ", 60) + "b]}}\nsink: {" + strings.Repeat(" ", 100) + "akt: {}}\n"
	for name, c := range map[string]struct {
		text, want string
		width      int
	}{
		"a key": {"name: x\nsource:\n\n  list:\n    bodys: [a]\nsink: {act: {}}\n",
			"bad.yaml:5:5: source.list.bodys: unknown key (known: bodies, finite, lost) [PS012]\n 5 |     bodys: [a]\n   |     ^^^^^\n", 0},
		"the begin of a file": {"nome: x\nname: x\nsource: {list: {}}\nsink: {act: {}}\n", "\n 1 | nome: x\n   | ^^^^\n", 80},
		"no password":         {"name: x\nsource: {list: {}}\nsink: {act: {password: hunter2}}\n", "\n 3 | sink: {act: {password: …\n   |              ^^^^^^^^\n", 80},
		"no quoted password":  {"name: x\nsource: {list: {}}\nsink: {act: {}}\nx-a: {\"api_key\": \"hunter2}\n", "\n 4 | x-a: {\"api_key\": …\n   | ^^^\n", 80},
		"no tagged password":  {"name: x\nsource: {list: {}}\nsink: {act: {always: !hunter2 x}}\n", "needs quotes [PS017]\nmore: ", 80},
		"a tab":               {"name: x\nsource:\n\tlist: {}\nsink: {act: {}}\n", "\n 3 |  list: {}\n   |  ^^^^\n", 80},
		"a long line, narrow": {long, "\n 3 | …" + strings.Repeat(" ", 14) + "akt: {}}\n   |  " + strings.Repeat(" ", 14) + "^^^\n", 40},
		"what can't be seen":  {"name: x\nsource: {list: {}}\nsink: {\u00a0act: {}}\n", "\n 3 | sink: {\\u00a0act: {}}\n   |        ^^^^^^^^^\n", 80},
		"wide characters":     {"name: x\nsource: {list: {}}\nsink: {日本語: {}, akt: {}}\n", "\n 3 | sink: {日本語: {}, akt: {}}\n   |        ^^^^^^\n", 80},
		"no place":            {strings.Repeat("# x\n", 1<<19), "\n  recording? [PS003]\nmore: ", 80},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, stderr := invoke{args: []string{"validate", "bad.yaml"}, files: map[string]string{"bad.yaml": c.text}, terminal: true, width: c.width}.run(t)
			if !strings.Contains(withoutStyle(stderr), c.want) || strings.Contains(stderr, "hunter2") {
				t.Errorf("got\n%s\nwant in it\n%s", withoutStyle(stderr), c.want)
			}
			if !strings.Contains(stderr, "more: penstock explain PS0") {
				t.Errorf("no way on from\n%s", stderr)
			}
			for line := range strings.Lines(stderr) {
				if plain := cellsOf(strings.TrimSuffix(line, "\n")); c.width > 0 && plain > c.width {
					t.Errorf("%d columns of %d: %s", plain, c.width, line)
				}
			}
		})
	}
}

func withoutStyle(text string) string {
	return strings.NewReplacer(styleBold, "", styleRed, "", styleYellow, "", styleFaint, "", styleReset, "").Replace(text)
}

func TestColor_onlyWhereAsked(t *testing.T) {
	for name, c := range map[string]struct {
		args     []string
		noColor  string
		terminal bool
		want     bool
	}{
		"a terminal":                  {nil, "", true, true},
		"a pipe":                      {nil, "", false, false},
		"NO_COLOR":                    {nil, "1", true, false},
		"never":                       {[]string{"--color", "never"}, "", true, false},
		"always":                      {[]string{"--color=always"}, "", false, true},
		"always in spite of NO_COLOR": {[]string{"--color=always"}, "1", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, stderr := invoke{
				args: append([]string{"validate", "bad.yaml"}, c.args...), files: map[string]string{"bad.yaml": "nome: x\n"},
				env: map[string]string{"NO_COLOR": c.noColor}, terminal: c.terminal,
			}.run(t)
			if got := strings.Contains(stderr, "\x1b["); got != c.want {
				t.Errorf("colors: %t, want %t: %q", got, c.want, stderr)
			}
			if !c.terminal && strings.Contains(stderr, " | ") {
				t.Errorf("lines are shown in a pipe: %q", stderr)
			}
		})
	}
	if exit, _, stderr := (invoke{args: []string{"version", "--color", "blue"}}).run(t); exit != 2 || !strings.Contains(stderr, "--color: want auto, always or never") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}

func TestExplain(t *testing.T) {
	exit, stdout, _ := invoke{args: []string{"explain", "ps012"}}.run(t)
	if exit != 0 || !strings.HasPrefix(stdout, "PS012 (mistake): unknown key\n\n") || !strings.Contains(stdout, "\nwrong:\n\n    name: example\n") {
		t.Errorf("exit %d: %s", exit, stdout)
	}
	if exit, _, stderr := (invoke{args: []string{"explain", "PS999"}}).run(t); exit != 2 || !strings.Contains(stderr, `no message has the code "PS999"`) {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if exit, stdout, _ := (invoke{args: []string{"explain"}}).run(t); exit != 0 || !strings.Contains(stdout, "PS012  mistake   unknown key\n") {
		t.Errorf("exit %d: %s", exit, stdout)
	}
}
