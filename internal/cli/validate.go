package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/pipetest"
	"github.com/penstock-dev/penstock/pipeline"
)

func (p *Program) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "checks pipeline files without touching a network",
		Long: `Checks pipeline files as run does, environment included, and touches no network.

Everything that is wrong is told at once, one line each: file:line:column: path: what is wrong.
FILE may also be the name of a ready pipeline, or a file of tests (NAME_test.yaml beside NAME.yaml); that of a pipeline
file is checked with it.`,
		Example: p.examples(`
			penstock validate my-pipeline.yaml
			penstock validate pipelines/*.yaml`),
		Args: atLeast("FILE"),
		RunE: func(_ *cobra.Command, files []string) error {
			l := p.newLoader()
			for _, file := range files {
				if pipetest.IsTests(file) {
					p.validateTests(l, file)
					continue
				}
				if tests := pipetest.Beside(file); !slices.Contains(files, tests) && pipetest.IsTests(tests) {
					p.validateTests(l, tests)
				}
				n := len(l.configs)
				l.load(file)
				for _, cfg := range l.configs[n:] {
					_, _ = fmt.Fprintf(p.Stdout, "%s: ok: %s: %s\n", file, cfg.Name, flow(cfg))
				}
			}
			for _, w := range append(l.warnings, l.notes...) {
				_, _ = fmt.Fprintln(p.Stderr, w)
			}
			return l.done()
		},
	}
}

// validateTests checks a file of tests.
func (p *Program) validateTests(l *loader, file string) {
	data, err := p.ReadFile(file)
	if err != nil {
		l.problem(file, describeReadError(err))
		return
	}
	n, err := pipetest.Check(file, data)
	if problems, ok := errors.AsType[*pipeline.ConfigError](err); ok {
		l.problems = append(l.problems, problems.Problems...)
		return
	}
	_, _ = fmt.Fprintf(p.Stdout, "%s: ok: tests: %d\n", file, n)
}
