// Package cli is the command line of penstock, for the shipped binary and for users' own programs.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/pipeline"
)

// Exit codes: done, a pipeline failed, usage or configuration.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Program is a command line with everything it touches, so that tests can run it in their own process.
type Program struct {
	// Registry holds the components that pipeline files may name.
	Registry *pipeline.Registry
	// Args are the arguments without the program's name.
	Args []string
	// Invocation is how the person called the program, for the commands that messages suggest.
	Invocation string
	// Stdout receives results, Stderr everything else.
	Stdout, Stderr io.Writer
	// Terminal tells that a person watches Stderr; Width is its width in columns, 0 when unknown.
	Terminal bool
	Width    func() int
	// StdoutWidth is the width of the terminal that Stdout is, in columns; nil or 0: it is no terminal.
	StdoutWidth func() int
	// Ask asks the person a question with the answers yes and no; nil: nobody can be asked.
	Ask func(question string) bool
	// LookupEnv and ReadFile are the environment variables and the file system that configuration comes from.
	LookupEnv func(string) (string, bool)
	ReadFile  func(string) ([]byte, error)
	// VariableNotes and VariableError are what [tidyVariables] found in the process's variables; commands
	// that run pipelines tell them.
	VariableNotes []string
	VariableError error
	// KeepOnBrokenPipe lets the process outlive a reader of its output that goes away; nil: nothing is to be done.
	// Commands that run pipelines call it: a log that nobody reads is no reason to lose an ack. The others end quietly,
	// as "| head" expects.
	KeepOnBrokenPipe func()
	// Signals asks a running pipeline to stop: gracefully the first time, at once the second.
	Signals <-chan os.Signal

	color   string            // --color
	sources map[string][]byte // the pipeline files that have been read, by the names that problems call them
}

// stopSignals ask for a graceful stop: ^C, whoever supervises the process, and a terminal that goes away.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// Main runs the command line of this process and returns its exit code.
func Main(registry *pipeline.Registry) int {
	signals := make(chan os.Signal, 2)
	for _, s := range stopSignals {
		if !signal.Ignored(s) { // nohup has SIGHUP ignored, a shell that runs a script in the background SIGINT: that stays so
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	notes, problems := tidyVariables(os.Environ(), os.Setenv)
	var ask func(string) bool
	if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())) {
		ask = askTerminal
	}
	return (&Program{
		Ask:              ask,
		Registry:         registry,
		Args:             os.Args[1:],
		Invocation:       invocation(),
		Stdout:           os.Stdout,
		Stderr:           os.Stderr,
		Terminal:         term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb",
		Width:            func() int { return columns(os.Stderr) },
		StdoutWidth:      func() int { return columns(os.Stdout) },
		KeepOnBrokenPipe: func() { signal.Ignore(syscall.SIGPIPE) },

		LookupEnv: os.LookupEnv,
		ReadFile:  os.ReadFile,
		Signals:   signals,

		VariableNotes: notes,
		VariableError: problems,
	}).Run(context.Background())
}

// columns is the width of a terminal; 0 for what is none.
func columns(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// invocation tells "go run", which builds into a temporary directory, from an installed program.
func invocation() string {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	if !strings.Contains(os.Args[0], "go-build") {
		return name
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Path != "" {
		if pkg, ok := strings.CutPrefix(info.Path, info.Main.Path); ok {
			return "go run ." + pkg
		}
	}
	return "go run ."
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exitError ends the program with a code of its own and nothing more to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Run runs the command line and returns the exit code.
func (p *Program) Run(ctx context.Context) int {
	out := &checkedWriter{w: p.Stdout}
	p.Stdout = out
	code := p.dispatch(ctx)
	if err := out.failed(); err != nil && code == exitDone {
		_, _ = fmt.Fprintf(p.Stderr, "penstock: write the result: %v\n", err)
		return exitFailed
	}
	return code
}

// checkedWriter remembers the first error: a result that could not be written is no success.
type checkedWriter struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (c *checkedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	return n, err
}

func (c *checkedWriter) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (p *Program) dispatch(ctx context.Context) int {
	if p.Terminal && p.Width != nil {
		p.Stderr = &folding{w: p.Stderr, width: p.Width}
	}
	root := p.root()
	p.completeCommands(root)
	root.SetArgs(singleDashRun(p.Args))
	root.SetContext(ctx)
	ran := false
	var watch func(*cobra.Command)
	watch = func(parent *cobra.Command) {
		for _, c := range parent.Commands() {
			if run := c.RunE; run != nil {
				c.RunE = func(c *cobra.Command, args []string) error {
					ran = true
					if err := p.checkColor(); err != nil {
						return err
					}
					return run(c, args)
				}
			}
			watch(c)
		}
	}
	watch(root)
	command, err := root.ExecuteC()
	var exit exitError
	var usage *usageError
	var config *pipeline.ConfigError
	var variables *variablesError
	var words *commandError
	if errors.As(err, &words) {
		command, ran = words.command, false
	}
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &config), errors.As(err, &variables):
		// One problem a line, each with its place: a prefix would be in the way of editors that jump there.
		p.printConfigErrors(err)
		return exitUsage
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(p.Stderr, "penstock: %v\n", err)
		return exitUsage
	case !ran:
		// Cobra's own: unknown commands and flags, wrong numbers of arguments.
		_, _ = fmt.Fprintf(p.Stderr, "penstock: %v\nsee: %s --help\n", err, p.called(command))
		return exitUsage
	default:
		_, _ = fmt.Fprintf(p.Stderr, "penstock: %v%s\n", err, bracketed(code.Of(err)))
		return exitFailed
	}
}

// bracketed is a code as it stands behind a message.
func bracketed(c code.Code) string {
	if c == "" {
		return ""
	}
	return fmt.Sprintf(" [%s]", c)
}

// called is how the person calls a command.
func (p *Program) called(c *cobra.Command) string {
	return strings.Replace(c.CommandPath(), c.Root().Name(), p.Invocation, 1)
}

func (p *Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "penstock",
		Short: "runs pipelines declared in YAML: source → transforms → sink",
		Long: `penstock runs pipelines declared in YAML: source → transforms → sink.

Its built-in pipeline keeps a Redis up to date with the entitlement events on an SQS queue, so that application SDKs
answer "may this customer use this feature?" from Redis.`,
		Example: p.examples(`
			penstock run quickstart                # made-up events into a built-in Redis: needs nothing
			penstock inspect customer-3 -f quickstart
			penstock validate my-pipeline.yaml
			penstock components redis`),
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       Version,
		Args:          cobra.NoArgs,
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.PersistentFlags().StringVar(&p.color, "color", "auto", "colors on a terminal: auto (NO_COLOR is honored), always or never")
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return suggestFlag(c, err) })
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	root.AddCommand(p.runCommand(), p.replayCommand(), p.validateCommand(), p.testCommand(), p.doctorCommand(), p.componentsCommand(), p.schemaCommand(), p.initCommand(), p.explainCommand(), p.inspectCommand(), p.poisonCommand(), p.healthcheckCommand(),
		p.versionCommand())
	p.addCompletions(root)
	return root
}

// examples indents lines for help.
func (p *Program) examples(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		b.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// suggestFlag adds the nearest flag to pflag's complaint about an unknown one.
func suggestFlag(c *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("%w (did you mean --%s?)", err, near)
	}
	return err
}

// nearest returns the name that a typing mistake or two away could have been meant, or "".
func nearest(name string, names []string) string {
	best, bestDistance := "", 3
	for _, candidate := range names {
		if d := distance(name, candidate); d < bestDistance && d < len(candidate) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
