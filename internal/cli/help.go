package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpFacts are what the help of a command says below its flags. An empty one is what nearly all commands have in
// common.
type helpFacts struct{ exit, environment, files string }

const (
	commonExit        = "0 done, 1 it failed, 2 usage, pipeline file or environment."
	commonEnvironment = "What ${…} in a pipeline file names, and NO_COLOR."
	commonFiles       = "Reads pipeline files and the files that they name. FILE may be the name of a ready pipeline."
	onlyColor         = "NO_COLOR."
	noFiles           = "None."
	runsPipelines     = "What ${…} in a pipeline file names; LOG_LEVEL (debug, info, warn or error), NO_COLOR; what AWS's, " +
		"OpenTelemetry's and Sentry's libraries read (AWS_…, OTEL_…, SENTRY_DSN). docs/operations.md lists those of the built-in cache service."
)

// helpTable is by the path of the command, without the program's name.
var helpTable = map[string]helpFacts{
	"": {exit: "0 done, 1 a pipeline failed, 2 usage, pipeline file or environment, 128+n stopped at once by signal n.", environment: runsPipelines},
	"run": {
		exit: "0 done, 1 a pipeline failed or a message of a finite source is unresolved, 2 usage, pipeline file or environment, " +
			"128+n stopped at once by signal n.",
		environment: runsPipelines,
		files: "Reads pipeline files and the files that they name. Writes what file sinks, record: and poison_queue: of the pipeline " +
			"say, and a checkpoint: of a file source.",
	},
	"replay": {
		exit: "0 done, 1 a pipeline failed, a message is unresolved, or with --fail-on-poison one was poisoned, 2 usage, pipeline file or " +
			"environment, 128+n stopped at once by signal n.",
		environment: "What ${…} in a pipeline file names, but for its source; LOG_LEVEL, NO_COLOR; what AWS's libraries read (AWS_…).",
		files: "Reads the pipeline file and the recordings. Writes what file sinks and poison_queue: of the pipeline say, and the file of " +
			"--checkpoint.",
	},
	"validate":    {exit: "0 nothing worse than a warning, 2 there is an error."},
	"test":        {exit: "0 all passed, 1 a test failed, 2 usage or configuration, 128+n stopped by signal n.", environment: onlyColor + " Tests see the variables of their env: alone.", files: "Reads pipeline files, their tests and the recordings that these name. With --update it writes the files of the tests."},
	"doctor":      {exit: "0 nothing is worse than a warning, 1 something is broken, 2 usage, pipeline file or environment.", environment: runsPipelines},
	"inspect":     {exit: "0 something is cached, 1 nothing is cached for the customer or the store can't be read, 2 usage, pipeline file or environment."},
	"components":  {environment: onlyColor, files: noFiles},
	"explain":     {environment: onlyColor, files: noFiles},
	"schema":      {environment: onlyColor, files: noFiles},
	"version":     {environment: onlyColor, files: noFiles},
	"help":        {environment: onlyColor, files: noFiles},
	"completion":  {environment: onlyColor, files: noFiles},
	"init":        {exit: "0 done, 1 a file can't be written, 2 usage, or a file is there already.", environment: onlyColor, files: "Writes into DIR, and never over a file that is there."},
	"poison":      {exit: "0 done, 1 something is damaged or can't be read, 2 usage, pipeline file or environment."},
	"healthcheck": {exit: "0 the probe answers with 200, 1 it answers with something else, or not in time, 2 usage.", environment: "PORT, that of the probe (4000).", files: noFiles},
}

// factsOf returns what is said of a command, of the one that it belongs to, or what is common.
func factsOf(c *cobra.Command) helpFacts {
	var f helpFacts
	for ; c != nil; c = c.Parent() {
		_, path, _ := strings.Cut(c.CommandPath(), " ")
		if own, ok := helpTable[path]; ok && (path != "" || !c.HasParent()) {
			f = own
			break
		}
		if c.HasParent() && !c.Parent().HasParent() {
			break // a command without a line
		}
	}
	f.exit = cmp.Or(f.exit, commonExit)
	f.environment = cmp.Or(f.environment, commonEnvironment)
	f.files = cmp.Or(f.files, commonFiles)
	return f
}

// completeCommands gives cobra's own commands what ours have: examples, and errors for what is no command.
func (p *Program) completeCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { _, _ = io.WriteString(p.Stdout, p.helpText(c)) })
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Short, c.Long = "shows the help of a command", "Shows the help of a command, as COMMAND --help does."
			c.Use, c.Example = "help [COMMAND]", p.examples("penstock help replay\npenstock help poison list")
			c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return unknownCommand(cmp.Or(found, root), append(rest, args...)[0])
				}
				found.InitDefaultHelpFlag()
				return found.Help()
			}
		case "completion":
			c.Example = cmp.Or(c.Example, p.examples("penstock completion bash > penstock.bash\npenstock completion zsh > _penstock"))
			for _, shell := range c.Commands() {
				shell.Example = cmp.Or(shell.Example, p.examples(fmt.Sprintf(
					"penstock completion %[1]s > penstock.%[1]s\npenstock completion %[1]s --no-descriptions > penstock.%[1]s", shell.Name())))
			}
		}
	}
	refuseUnknownCommands(root)
}

// refuseUnknownCommands has every command that only holds others say what may have been meant.
func refuseUnknownCommands(parent *cobra.Command) {
	for _, c := range parent.Commands() {
		refuseUnknownCommands(c)
	}
	if !parent.HasSubCommands() {
		return
	}
	parent.SuggestionsMinimumDistance = 2
	parent.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(c, args[0])
	}
	if parent.Run == nil && parent.RunE == nil {
		parent.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
}

func unknownCommand(parent *cobra.Command, name string) error {
	var near []string
	for _, c := range parent.Commands() { // hidden ones are for nobody to type
		if c.IsAvailableCommand() || c.Name() == "help" {
			near = append(near, c.Name())
		}
	}
	suggestion := didYouMean(name, near)
	if more := parent.SuggestionsFor(name); suggestion == "" && len(more) > 0 {
		suggestion = " (did you mean " + strings.Join(more, " or ") + "?)"
	}
	if _, path, _ := strings.Cut(parent.CommandPath(), " "); path != "" {
		return &commandError{parent, fmt.Errorf("unknown command %q of %s%s", name, path, suggestion)}
	}
	return &commandError{parent, fmt.Errorf("unknown command %q%s", name, suggestion)}
}

// commandError is a mistake in the words of a command line; the help of a command says what there is.
type commandError struct {
	command *cobra.Command
	err     error
}

func (e *commandError) Error() string { return e.err.Error() }

// helpText is the help of a command.
func (p *Program) helpText(c *cobra.Command) string {
	var b strings.Builder
	section := func(title, text string) {
		if text = strings.TrimRight(text, "\n"); text != "" {
			fmt.Fprintf(&b, "\n%s:\n%s\n", title, text)
		}
	}
	b.WriteString(p.folded(strings.TrimSpace(p.paragraphs(cmp.Or(c.Long, c.Short)))) + "\n")
	usage := "  " + c.UseLine()
	if c.HasAvailableSubCommands() {
		usage = "  " + c.CommandPath() + " [COMMAND]"
	}
	section("Usage", p.folded(usage))
	var examples strings.Builder
	for line := range strings.Lines(c.Example) {
		examples.WriteString(foldedCommand("  ", strings.TrimSpace(line), p.commandWidth()))
	}
	section("Examples", examples.String())
	var commands strings.Builder
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			fmt.Fprintf(&commands, "  %-11s  %s\n", sub.Name(), sub.Short)
		}
	}
	section("Commands", p.folded(commands.String()))
	section("Flags", p.flagUsages(c.LocalFlags()))
	section("Flags of every command", p.flagUsages(c.InheritedFlags()))
	f := factsOf(c)
	for _, fact := range []struct{ title, text string }{{"Exit codes", f.exit}, {"Environment", f.environment}, {"Files", f.files}} {
		if !strings.Contains(c.Long, fact.title+":") {
			section(fact.title, indented(wrapped(fact.text, p.textWidth()-2)))
		}
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(p.folded(fmt.Sprintf("\n%s COMMAND --help says more about a command.\n", c.CommandPath())))
	}
	return b.String()
}

func (p *Program) flagUsages(flags *pflag.FlagSet) string {
	width := p.textWidth()
	if width < narrow { // pflag's columns leave nothing for the text
		var b strings.Builder
		flags.VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				kind, usage := pflag.UnquoteUsage(f)
				b.WriteString(strings.TrimRight("  --"+f.Name+" "+kind, " ") + "\n" + indented(indented(wrapped(usage, width-4))) + "\n")
			}
		})
		return b.String()
	}
	return flags.FlagUsagesWrapped(width)
}

// paragraphs breaks the paragraphs of a help text anew where a terminal is narrower than they were written for. Lines
// that begin with a blank stay as they are.
func (p *Program) paragraphs(text string) string {
	if !p.stdoutTerminal() {
		return text
	}
	var b strings.Builder
	var paragraph []string
	end := func() {
		if len(paragraph) > 0 {
			b.WriteString(wrapped(strings.Join(paragraph, " "), p.textWidth()) + "\n")
			paragraph = nil
		}
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); line == "" || line[0] == ' ' || line[0] == '\t' {
			end()
			b.WriteString(line + "\n")
			continue
		}
		paragraph = append(paragraph, line)
	}
	end()
	return b.String()
}

func indented(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }
