package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// offered is what the shell is offered behind a command line, without descriptions.
func offered(t *testing.T, line ...string) []string {
	t.Helper()
	code, stdout, stderr := shipped(append([]string{"__complete"}, line...)...)
	if code != 0 {
		t.Fatalf("%q: exit %d: %s", line, code, stderr)
	}
	var words []string
	for text := range strings.Lines(stdout) {
		if strings.HasPrefix(text, ":") {
			break
		}
		word, _, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\t")
		words = append(words, word)
	}
	return words
}

func TestCompletion_knowsWhatMayStandThere(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"mine.yaml", "mine.yml", "mine.txt", "recordings/a.ndjson", "recordings/b.ndjson.zst", "recordings/c.txt", "pipelines/p.yaml"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		line []string
		has  []string
		not  []string
	}{
		"commands":              {[]string{""}, []string{"run", "explain", "doctor"}, nil},
		"kinds":                 {[]string{"explain", "si"}, []string{"sinks."}, []string{"sources."}},
		"components":            {[]string{"explain", "sinks."}, []string{"sinks.redis", "sinks.file"}, []string{"sinks.redis.ttl", "sources.sqs"}},
		"fields":                {[]string{"explain", "sinks.redis."}, []string{"sinks.redis.ttl", "sinks.redis.tls.enabled"}, []string{"sinks.file", "sinks.redis"}},
		"fields that are begun": {[]string{"explain", "sinks.redis.tt"}, []string{"sinks.redis.ttl"}, []string{"sinks.redis.host"}},
		"keys of a pipeline":    {[]string{"explain", "retry.max_a"}, []string{"retry.max_attempts"}, []string{"name"}},
		"codes":                 {[]string{"explain", "PS31"}, []string{"PS311", "PS314"}, []string{"PS012"}},
		"one is enough":         {[]string{"explain", "PS012", ""}, nil, []string{"PS012"}},
		"names of components":   {[]string{"components", "re"}, []string{"redis", "refresh_entitlements"}, []string{"sqs"}},
		"pipelines":             {[]string{"run", ""}, []string{"quickstart", "mine.yaml", "mine.yml", "pipelines/"}, []string{"mine.txt", "fan-out_test"}},
		"pipelines in a folder": {[]string{"validate", "pipelines/"}, []string{"pipelines/p.yaml"}, []string{"quickstart"}},
		"pipelines elsewhere":   {[]string{"test", dir + "/mi"}, []string{dir + "/mine.yaml"}, nil},
		"a second pipeline":     {[]string{"doctor", "mine.yaml", ""}, []string{"mine.yml"}, nil},
		"-f":                    {[]string{"inspect", "c-1", "-f", "mi"}, []string{"mine.yaml"}, []string{"mine.txt"}},
		"-f of poison":          {[]string{"poison", "list", "-f", "qu"}, []string{"quickstart"}, nil},
		"recordings":            {[]string{"replay", "mine.yaml", "recordings/"}, []string{"recordings/a.ndjson", "recordings/b.ndjson.zst"}, []string{"recordings/c.txt"}},
		"templates":             {[]string{"init", ""}, []string{"own-json", "custom-program"}, nil},
		"--format":              {[]string{"validate", "--format", ""}, []string{"text", "json", "github"}, []string{"mine.yaml"}},
		"--format of test":      {[]string{"test", "--format", ""}, []string{"junit"}, []string{"github"}},
		"--format of replay":    {[]string{"replay", "--format", ""}, []string{"recording", "lines"}, []string{"json"}},
		"--format of doctor":    {[]string{"doctor", "--format", ""}, []string{"text", "json"}, nil},
		"--color":               {[]string{"run", "--color", ""}, []string{"auto", "always", "never"}, nil},
		"--by":                  {[]string{"poison", "list", "--by", ""}, []string{"reason", "stage", "pipeline"}, nil},
		"anything":              {[]string{"inspect", "--resource", ""}, nil, []string{"mine.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := offered(t, c.line...)
			for _, want := range c.has {
				if !slices.Contains(got, want) {
					t.Errorf("%q is not offered: %q", want, got)
				}
			}
			for _, word := range c.not {
				if slices.Contains(got, word) {
					t.Errorf("%q is offered", word)
				}
			}
		})
	}
}

// What is offered for a setting must be one that explain knows.
func TestCompletion_offersOnlyWhatExplainKnows(t *testing.T) {
	words := offered(t, "explain", "sinks.file.")
	words = append(append(words, offered(t, "explain", "PS")...), offered(t, "explain", "retry.")...)
	if len(words) < 50 {
		t.Fatalf("only %q", words)
	}
	for _, word := range words {
		if code, _, stderr := shipped("explain", word); code != 0 {
			t.Errorf("%s: exit %d: %s", word, code, stderr)
		}
	}
}

// Each shell must be able to read its script.
func TestCompletion_scriptsAreOfTheirShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, script, stderr := shipped("completion", shell)
		if code != 0 || !strings.Contains(script, "penstock") {
			t.Fatalf("%s: exit %d: %s", shell, code, stderr)
		}
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is not installed: its script is not read", shell)
			continue
		}
		cmd := exec.CommandContext(t.Context(), shell, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}

// completionMain is set when the test's own binary stands in for the program.
const completionMain = "PENSTOCK_COMPLETION_TEST"

// Bash itself takes its words from the script, which asks the program.
func TestCompletion_worksInBash(t *testing.T) {
	if args, ok := os.LookupEnv(completionMain); ok && args != "" {
		code, stdout, stderr := shipped(strings.Split(args, "\n")...)
		_, _ = os.Stdout.WriteString(stdout)
		_, _ = os.Stderr.WriteString(stderr)
		os.Exit(code)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := shipped("completion", "bash")
	for line, want := range map[string]string{
		"explain sinks.redis.tt":   "sinks.redis.ttl",
		"validate --format gi":     "github",
		"init own":                 "own-json",
		"components refresh":       "refresh_entitlements",
		"run --color al":           "always",
		"explain retry.max_attemp": "retry.max_attempts",
	} {
		words := strings.Fields("penstock " + line)
		// What the package bash-completion and readline do around it.
		cmd := exec.CommandContext(t.Context(), bash, "-c", script+`
penstock() { local IFS=$'\n'; `+completionMain+`="$*" "$SELF" -test.run '^TestCompletion_worksInBash$'; }
compopt() { :; }
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; }
COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
__start_penstock
printf '%s\n' "${COMPREPLY[@]}"`, "bash")
		cmd.Args = append(cmd.Args, words...)
		cmd.Env = append(os.Environ(), "SELF="+self)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s<TAB>: %v, %q, want %q", line, err, out, want)
		}
	}
}
