package penstock_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
)

func TestSetup_namesTheCommandsWhereItMayNotInstall(t *testing.T) {
	for missing, want := range map[string]string{
		"redis-server": "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server\nelsewhere, install these with your package manager (macOS: brew install redis node).\n",
		"promtool":     "apt-get download prometheus && dpkg-deb -x prometheus_*.deb prometheus && sudo install prometheus/usr/bin/promtool /usr/local/bin/",
	} {
		t.Run(missing, func(t *testing.T) {
			bin := machine(t, map[string]string{"go": "", "gcc": "", "node": "", "npm": "", "redis-server": "", "promtool": ""}, missing)
			cmd := exec.CommandContext(t.Context(), ".ci/setup")
			cmd.Env = []string{"PATH=" + bin}
			out, err := cmd.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != 1 {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		})
	}
}

// machine is a PATH with these commands and their scripts but for one, and a user who is not root.
func machine(t *testing.T, tools map[string]string, missing string) string {
	t.Helper()
	bin := t.TempDir()
	for _, tool := range []string{"sh", "dirname", "touch"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	tools["id"] = "echo 1000"
	for tool, script := range tools {
		if tool == missing {
			continue
		}
		if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// Who only wants to run the reader gets the provider's SDK and nothing else.
func TestSetup_forTheReaderNeedsNodeAlone(t *testing.T) {
	folder := t.TempDir()
	for _, file := range []string{".ci/setup", "examples/node-reader/package-lock.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, file), text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	npm := `for d in node_modules; do "$MKDIR" -p $d; : > $d/.package-lock.json; done; echo "npm $* in $PWD"`
	mkdir, err := exec.LookPath("mkdir")
	if err != nil {
		t.Fatal(err)
	}
	run := func(missing string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(folder, ".ci/setup"), "reader")
		cmd.Env = []string{"PATH=" + machine(t, map[string]string{"node": "", "npm": npm}, missing), "MKDIR=" + mkdir}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("npm"); err == nil || !strings.Contains(out, "install -y --no-install-recommends nodejs npm\nelsewhere, install these with your package manager (macOS: brew install node).\n") {
		t.Errorf("without npm: %v\n%s", err, out)
	}
	if out, err := run(""); err != nil || !strings.Contains(out, "npm ci --no-audit --no-fund in ") || !strings.Contains(out, "examples/node-reader\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(""); err != nil || out != "" {
		t.Errorf("a second time: %v\n%s", err, out)
	}
}

// A make that gets the ^C of a terminal would end by it, with 130, however its program ended.
func TestMakeRun_endsWith0AfterAnInterruptAndOtherwiseAsItsProgram(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is not installed")
	}
	for name, c := range map[string]struct {
		program   string // in place of go run, which ends with 1 after ^C
		interrupt bool
		code      int
	}{
		"^C":       {`trap 'echo stopped; exit 1' INT; echo started; while :; do read -r _ < /dev/tty || :; done`, true, 0},
		"it fails": {`echo started; exit 1`, false, 2}, // that of make
		"it ends":  {`echo started`, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\n"+c.program+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "make", "run")
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "MAKEFLAGS=")
			terminal, err := pty.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = terminal.Close() }()
			out := bufio.NewReader(terminal)
			var seen strings.Builder
			for {
				line, err := out.ReadString('\n')
				seen.WriteString(line)
				if err != nil {
					break
				}
				if c.interrupt && strings.Contains(line, "started") {
					if _, err := terminal.Write([]byte{3}); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.code || c.interrupt && !strings.Contains(seen.String(), "stopped") {
				t.Errorf("exit %d, want %d:\n%s", got, c.code, seen.String())
			}
		})
	}
}
