package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (p *Program) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "checks pipeline files without touching a network",
		Long: `Checks pipeline files as run does, environment included, and touches no network.

Everything that is wrong is told at once, one line each: file:line:column: path: what is wrong.
FILE may also be the name of a ready pipeline.`,
		Example: p.examples(`
			penstock validate my-pipeline.yaml
			penstock validate pipelines/*.yaml`),
		Args: atLeast("FILE"),
		RunE: func(_ *cobra.Command, files []string) error {
			l := p.newLoader()
			for _, file := range files {
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
