package penstock_test

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/cli"
)

// runWithoutVariables runs a command line in an environment without variables.
func runWithoutVariables(args ...string) (code int, stdout, stderr string) {
	var out, complaints bytes.Buffer
	p := &cli.Program{
		Registry: penstock.Builtins(), Args: args, Invocation: "penstock", Stdout: &out, Stderr: &complaints,
		LookupEnv: func(string) (string, bool) { return "", false }, ReadFile: os.ReadFile,
	}
	code = p.Run(context.Background())
	return code, out.String(), complaints.String()
}

func TestConfigs_everyOnePassesTestsOfItsOwn(t *testing.T) {
	for _, name := range configs.Names() {
		for _, ref := range []string{"configs/" + name + ".yaml", name} {
			code, stdout, stderr := runWithoutVariables("test", ref)
			if code != 0 {
				t.Errorf("test %s: exit %d\n%s%s", ref, code, stdout, stderr)
			}
		}
	}
}

var took = regexp.MustCompile(` in \d\S*s\n`)

// The page is a session: each block that is no command is what the tool prints.
func TestDocs_testingShowsWhatTheToolDoes(t *testing.T) {
	all := blocks(t)
	t.Chdir(t.TempDir())
	var outputs []string
	for _, b := range all {
		switch {
		case b.file != "docs/testing.md":
		case b.language == "yaml":
			writeTestFile(t, "orders.yaml", b.text)
		case b.language == "":
			outputs = append(outputs, b.text)
		}
	}
	if len(outputs) != 2 {
		t.Fatalf("%d outputs", len(outputs))
	}
	check := func(want string, wantCode int) {
		t.Helper()
		code, stdout, stderr := runWithoutVariables("test", "orders.yaml")
		if got := took.ReplaceAllString(stdout, "\n"); code != wantCode || got != took.ReplaceAllString(want, "\n") {
			t.Errorf("exit %d\n%s%s\nthe page shows:\n%s", code, stdout, stderr, want)
		}
	}
	check(outputs[0], 0)
	text, err := os.ReadFile("orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	right := string(text)
	i := strings.LastIndex(right, "Revoked")
	writeTestFile(t, "orders.yaml", right[:i]+"Revokd"+right[i+len("Revoked"):])
	check(outputs[1], 1)
	if code, stdout, stderr := runWithoutVariables("test", "orders.yaml", "--update"); code != 0 {
		t.Fatalf("--update: exit %d\n%s%s", code, stdout, stderr)
	}
	if text, _ := os.ReadFile("orders.yaml"); string(text) != right {
		t.Errorf("--update made of it:\n%s", text)
	}
}

func writeTestFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
