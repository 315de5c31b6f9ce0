package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/pipetest"
	"github.com/penstock-dev/penstock/pipeline"
)

func (p *Program) validateCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "validate FILE...",
		Short: "checks pipeline files without touching a network",
		Long: `Checks pipeline files as run does, environment variables included, and touches no network.

Everything that is wrong is told at once, one line each: file:line:column: path: what is wrong [code]. On a terminal
the line itself stands below it. penstock explain CODE tells more.

FILE may also be the name of a ready pipeline, or a file of tests (NAME_test.yaml beside NAME.yaml); that of a pipeline
file is checked with it.

--format json prints an array of {code, severity, file, line, column, path, message, hint} on stdout, [] when there is
nothing to say; severity is error, warning or note. --format github prints workflow commands, which GitHub shows at
the lines of a change. The exit code is the same in every format: 2 when there is an error.`,
		Example: p.examples(`
			penstock validate my-pipeline.yaml
			penstock validate --format json pipelines/*.yaml`),
		Args: atLeast("FILE"),
		RunE: func(_ *cobra.Command, files []string) error {
			write, ok := map[string]func(io.Writer, []remark) error{"text": nil, "json": writeJSON, "github": writeGitHub}[format]
			if !ok {
				return usagef("--format: want text, json or github, got %q", format)
			}
			l := p.newLoader()
			for _, file := range files {
				if pipetest.IsTests(file) {
					p.validateTests(l, file, format == "text")
					continue
				}
				if tests := pipetest.Beside(file); !slices.Contains(files, tests) && pipetest.IsTests(tests) {
					p.validateTests(l, tests, format == "text")
				}
				n := len(l.configs)
				l.load(file)
				for _, cfg := range l.configs[n:] {
					if format == "text" {
						_, _ = fmt.Fprintf(p.text(), "%s: ok: %s: %s\n", file, cfg.Name, flow(cfg))
					}
				}
			}
			if write != nil {
				if err := write(p.Stdout, l.remarks()); err != nil {
					return err
				}
				if l.done() != nil {
					return exitError(exitUsage)
				}
				return nil
			}
			for _, w := range l.warned {
				_, _ = io.WriteString(p.Stderr, p.problemText(w, severityWarning))
			}
			for _, text := range append(l.warnings, l.notes...) {
				_, _ = fmt.Fprintln(p.Stderr, text)
			}
			return l.done()
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, json or github")
	return c
}

// validateTests checks a file of tests, and tells of one that is right, if that is asked for.
func (p *Program) validateTests(l *loader, file string, tell bool) {
	data, err := p.ReadFile(file)
	if err != nil {
		l.problem(code.FileUnreadable, file, describeReadError(err))
		return
	}
	l.keep(file, data)
	n, err := pipetest.Check(file, data)
	if problems, ok := errors.AsType[*pipeline.ConfigError](err); ok {
		l.problems = append(l.problems, problems.Problems...)
		return
	}
	if tell {
		_, _ = fmt.Fprintf(p.text(), "%s: ok: tests: %d\n", file, n)
	}
}
