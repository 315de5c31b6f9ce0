package cli

import (
	"strings"
	"testing"
)

func TestArguments_mistakesAreToldInPlainWords(t *testing.T) {
	for line, want := range map[string]string{
		"validate":             "penstock: validate: FILE is missing: penstock validate FILE...",
		"inspect":              "penstock: inspect: CUSTOMER is missing: penstock inspect CUSTOMER",
		"inspect a b":          `penstock: inspect takes CUSTOMER and no more, got "b", too`,
		"replay":               "penstock: replay: FILE and RECORDING are missing",
		"replay p.yaml":        "penstock: replay: RECORDING is missing",
		"components a b":       `penstock: components takes NAME and no more, got "b", too`,
		"healthcheck / /x":     `penstock: healthcheck takes PATH and no more, got "/x", too`,
		"version now":          `penstock: version takes no argument, got "now"`,
		"ruin":                 `unknown command "ruin" (did you mean run?)`,
		"run --fail-on-posion": "--fail-on-poison",
	} {
		code, _, stderr := invoke{args: strings.Fields(line)}.run(t)
		if code != 2 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "--help") {
			t.Errorf("%s: code %d, %s, want 2 and %q", line, code, stderr, want)
		}
	}
}

func TestVersion_asAFlag(t *testing.T) {
	code, stdout, _ := invoke{args: []string{"--version"}}.run(t)
	_, command, _ := invoke{args: []string{"version"}}.run(t)
	if code != 0 || stdout != command || !strings.HasPrefix(stdout, "penstock ") {
		t.Errorf("code %d, %q, want what the command prints, %q", code, stdout, command)
	}
}

func TestHelp_showsCompletion(t *testing.T) {
	if code, stdout, _ := (invoke{args: []string{"--help"}}).run(t); code != 0 || !strings.Contains(stdout, "completion") {
		t.Errorf("code %d:\n%s", code, stdout)
	}
	if code, stdout, _ := (invoke{args: []string{"completion", "bash"}}).run(t); code != 0 || !strings.Contains(stdout, "penstock") {
		t.Errorf("code %d", code)
	}
}
