package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// exactly wants an argument for each name, and no more.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		return checkArguments(c, args, names, len(names), len(names))
	}
}

// atLeast wants an argument for each name; there may be more of the last.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		return checkArguments(c, args, names, len(names), -1)
	}
}

// atMost takes an argument for each name, or fewer.
func atMost(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		return checkArguments(c, args, names, 0, len(names))
	}
}

// checkArguments reports arguments that are missing by their names, and those that are too many; most -1 means that
// there may be any number.
func checkArguments(c *cobra.Command, args, names []string, least, most int) error {
	switch {
	case len(args) < least:
		missing, verb := names[len(args):], "is"
		if len(missing) > 1 {
			verb = "are"
		}
		return fmt.Errorf("%s: %s %s missing: %s", c.Name(), strings.Join(missing, " and "), verb, c.UseLine())
	case most >= 0 && len(args) > most:
		if most == 0 {
			return fmt.Errorf("%s takes no argument, got %q", c.Name(), args[0])
		}
		return fmt.Errorf("%s takes %s and no more, got %q, too", c.Name(), strings.Join(names, " and "), args[most])
	}
	return nil
}
