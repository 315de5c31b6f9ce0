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
	// A machine without redis-server, and a user who is not root.
	bin := t.TempDir()
	for _, tool := range []string{"sh", "dirname", "go", "gcc", "node", "npm"} {
		if path, err := exec.LookPath(tool); err == nil {
			if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "id"), []byte("#!/bin/sh\necho 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), ".ci/setup")
	cmd.Env = []string{"PATH=" + bin}
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server"; !strings.Contains(string(out), want) {
		t.Errorf("no %q in\n%s", want, out)
	}
}
