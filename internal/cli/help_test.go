package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyCommand returns the commands of the program with cobra's own, and how each is called.
func everyCommand() map[string]*cobra.Command {
	p := &Program{Invocation: "penstock"}
	root := p.root()
	p.completeCommands(root)
	all := map[string]*cobra.Command{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		_, path, _ := strings.Cut(c.CommandPath(), " ")
		all[path] = c
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return all
}

func TestHelp_unknownCommandsAreMistakesThatSayWhatMayBeMeant(t *testing.T) {
	n := 0
	for path, c := range everyCommand() {
		if path == "" || c.Hidden {
			continue
		}
		n++
		for _, words := range [][]string{strings.Fields(path), strings.Fields("help " + path)} {
			words[len(words)-1] += "x"
			code, stdout, stderr := invoke{args: words}.run(t)
			if code != exitUsage || stdout != "" || !strings.Contains(stderr, "unknown command \""+c.Name()+"x\"") ||
				!strings.Contains(stderr, "(did you mean "+c.Name()+"?)") || !strings.Contains(stderr, "--help") {
				t.Errorf("%v: exit %d, want 2 and whether %s was meant:\n%s%s", words, code, c.Name(), stdout, stderr)
			}
		}
	}
	if n < 15 {
		t.Errorf("%d commands: the walk misses them", n)
	}
}

func TestHelp_saysExitCodesEnvironmentAndFilesOfEveryCommand(t *testing.T) {
	commands := everyCommand()
	for path, c := range commands {
		if c.Hidden {
			continue
		}
		var out, errs bytes.Buffer
		code := (&Program{Args: append(strings.Fields(path), "--help"), Invocation: "penstock", Stdout: &out, Stderr: &errs}).Run(t.Context())
		if code != exitDone {
			t.Errorf("%s --help: exit %d: %s", path, code, errs.String())
		}
		for _, title := range []string{"Usage:\n", "Examples:\n", "Flags:\n", "Exit codes:", "Environment:", "Files:"} {
			if strings.Count(out.String(), "\n"+title) != 1 {
				t.Errorf("%s --help says %q %d times:\n%s", path, title, strings.Count(out.String(), "\n"+title), out.String())
			}
		}
		for line := range strings.Lines(out.String()) {
			if n := cellsOf(strings.TrimRight(line, "\n")); n > 140 {
				t.Errorf("%s --help has a line of %d columns: %s", path, n, line)
			}
		}
	}
	for path := range helpTable {
		if commands[path] == nil {
			t.Errorf("there is no command %q of which the help could say that", path)
		}
	}
}
