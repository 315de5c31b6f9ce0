package penstock_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CI must fail on a finding and on a check that didn't run, but not because a database of others is away.
func TestVulncheck(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		fails  bool
		says   string
	}{
		"nothing found":           {"echo 'No vulnerabilities found.'", false, "No vulnerabilities found."},
		"a finding":               {"echo 'Vulnerability #1: GO-2026-0001'; exit 3", true, "GO-2026-0001"},
		"the database is away":    {"echo 'govulncheck: fetching vulnerabilities: no such host' >&2; exit 1", false, "NOT CHECKED"},
		"the code doesn't build":  {"echo 'govulncheck: loading packages: syntax error' >&2; exit 1", true, "syntax error"},
		"the command isn't there": {"exit 127", true, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := filepath.Join(t.TempDir(), "govulncheck")
			if err := os.WriteFile(fake, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(".ci/vulncheck")
			cmd.Env = append(os.Environ(), "GOVULNCHECK="+fake)
			out, err := cmd.CombinedOutput()
			if (err != nil) != test.fails {
				t.Errorf("ended with %v, want a failure: %v\n%s", err, test.fails, out)
			}
			if !strings.Contains(string(out), test.says) {
				t.Errorf("says nothing of %q:\n%s", test.says, out)
			}
		})
	}
}
