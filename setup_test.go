package penstock_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSetup_namesTheCommandsWhereItMayNotInstall(t *testing.T) {
	for missing, want := range map[string]string{
		"redis-server": "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server",
		"promtool":     "apt-get download prometheus && dpkg-deb -x prometheus_*.deb prometheus && sudo install prometheus/usr/bin/promtool /usr/local/bin/",
	} {
		t.Run(missing, func(t *testing.T) {
			// A machine without it, and a user who is not root.
			bin := t.TempDir()
			for _, tool := range []string{"sh", "dirname"} {
				path, err := exec.LookPath(tool)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			for tool, script := range map[string]string{"id": "echo 1000", "go": "", "gcc": "", "node": "", "npm": "", "redis-server": "", "promtool": ""} {
				if tool == missing {
					continue
				}
				if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
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
