package cli

import (
	"go/format"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestInit_customProgramRequiresThePenstockThatWroteIt(t *testing.T) {
	checkout, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "go.mod"), []byte("module "+modulePath+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours := func(version, sum string) debug.Module {
		return debug.Module{Path: modulePath, Version: version, Sum: sum}
	}
	dep := func(m debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "example.com/mine", Version: "v9.9.9", Sum: "h1:x"}, Deps: []*debug.Module{&m}}
	}
	for name, c := range map[string]struct {
		checkout, release string
		info              *debug.BuildInfo
		want              string // a line of go.mod
		wrong             string // or a part of the error
	}{
		"a release":                  {"", "1.2.3", &debug.BuildInfo{Main: ours("v0.0.0-2026+dirty", "")}, "require " + modulePath + " v1.2.3\n", ""},
		"a release named by its tag": {"", "v1.2.3", nil, "require " + modulePath + " v1.2.3\n", ""},
		"go install":                 {"", "", &debug.BuildInfo{Main: ours("v1.2.3", "h1:x")}, "require " + modulePath + " v1.2.3\n", ""},
		"a build in a checkout":      {"", "", &debug.BuildInfo{Main: ours("v0.0.0-20261126014242-5009fd9aaaaa+dirty", "")}, "replace " + modulePath + " => " + checkout + "\n", ""},
		"go run in a checkout":       {"", "", &debug.BuildInfo{Main: ours("(devel)", "")}, "replace " + modulePath + " => " + checkout + "\n", ""},
		"no build info":              {"", "", nil, "replace " + modulePath + " => " + checkout + "\n", ""},
		"a program of one's own":     {"", "", dep(ours("v1.2.3", "h1:x")), "require " + modulePath + " v1.2.3\n", ""},
		"... with another checkout":  {"", "", dep(debug.Module{Path: modulePath, Version: "v0.0.0", Replace: &debug.Module{Path: elsewhere}}), "replace " + modulePath + " => " + elsewhere + "\n", ""},
		"... with a fork":            {"", "", dep(debug.Module{Path: modulePath, Version: "v1.2.0", Replace: &debug.Module{Path: "github.com/me/fork", Version: "v1.2.1"}}), "replace " + modulePath + " => github.com/me/fork v1.2.1\n", ""},
		"a checkout that is named":   {elsewhere, "1.2.3", nil, "replace " + modulePath + " => " + elsewhere + "\n", ""},
		"a folder without penstock":  {t.TempDir(), "", nil, "", "has no go.mod of " + modulePath},
		"trimmed, in a checkout":     {"", "", &debug.BuildInfo{Main: ours("v0.0.0-2026+dirty", "")}, "", "name a checkout with --checkout DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			source := filepath.Join(checkout, "internal", "cli", "init_program.go")
			if strings.HasPrefix(name, "trimmed") {
				source = modulePath + "/internal/cli/init_program.go"
			}
			pin, err := pinOf(c.checkout, c.release, source, func() (*debug.BuildInfo, bool) { return c.info, c.info != nil })
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("got %+v, %v", pin, err)
				}
				return
			}
			if text := pin.goMod("x"); err != nil || !strings.Contains(text, "\n"+c.want) || strings.Contains(text, "replace ") != strings.HasPrefix(c.want, "replace ") {
				t.Errorf("got %s, %v\nwant %s", text, err, c.want)
			}
		})
	}
}

func TestInit_customProgramIsWrittenAsGoWritesIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My Program (1)")
	if code, stdout, stderr := shipped("init", "custom-program", dir, "--checkout", "../.."); code != 0 || !strings.Contains(stdout, "make -C '"+dir+"' test") {
		t.Fatal(code, stdout, stderr)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if formatted, err := format.Source(text); err != nil || string(formatted) != string(text) {
			t.Errorf("%s is not as gofmt has it: %v", filepath.Base(file), err)
		}
	}
	for file, want := range map[string]string{"go.mod": "module example.com/my-program-1\n", "Makefile": "PROGRAM := my-program-1\n", ".gitignore": "/my-program-1\n", "main.go": "// Command my-program-1 "} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, %q is missing in:\n%s", file, err, want, text)
		}
	}
	root, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil || !strings.Contains(string(root), "\ngo "+goVersion+"\n") {
		t.Errorf("penstock's go.mod has another go directive than %s: %v", goVersion, err)
	}
	if code, _, stderr := shipped("init", "--checkout", ".", "replay", t.TempDir()); code != 2 || !strings.Contains(stderr, "is for custom-program") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestInit_namesAreNames(t *testing.T) {
	for dir, want := range map[string]string{"x/My Sink": "my-sink", "ünï": "n", "/": "my-program", "a_b-1": "a_b-1", "/tmp/--": "my-program"} {
		if got := programName(dir); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
}
