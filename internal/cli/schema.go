package cli

import (
	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/reference"
)

func (p *Program) schemaCommand() *cobra.Command {
	var tests bool
	c := &cobra.Command{
		Use:   "schema",
		Short: "prints the JSON Schema of pipeline files, for editors",
		Long: `Prints the JSON Schema (2020-12) of pipeline files with all components that this program knows, your own included.

An editor that speaks to yaml-language-server takes it from the first line of a pipeline file:

  # yaml-language-server: $schema=pipeline.schema.json

It then completes keys, shows what they mean, and marks what is wrong with names, types and values. What depends on the
environment variables or on several keys at once, validate tells.`,
		Example: p.examples(`
			penstock schema > pipeline.schema.json
			penstock schema --tests > tests.schema.json
			penstock schema | less`),
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if tests {
				return reference.WriteTestsSchema(p.Stdout, p.Registry)
			}
			return reference.WriteSchema(p.Stdout, p.Registry)
		},
	}
	c.Flags().BoolVar(&tests, "tests", false, "the schema of files of tests, NAME_test.yaml")
	return c
}
