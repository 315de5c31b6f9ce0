package cli

import (
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/pipetest"
)

func (p *Program) testCommand() *cobra.Command {
	var run, format string
	var update bool
	c := &cobra.Command{
		Use:   "test FILE|DIR...",
		Short: "runs the tests beside pipelines, without touching a network",
		Long: `Runs the tests of pipelines: those under tests: in a pipeline file, and those in NAME_test.yaml beside NAME.yaml.

A test sends messages through the transforms and compares what reaches the sink. Source, sink, poison queue and record
are replaced, no network is touched, and the environment variables are those of the test. FILE is a pipeline file, a file of tests,
or the name of a ready pipeline; in a DIR (and below it) the pipeline files that have tests are found.

docs/testing.md shows how tests are written.`,
		Example: p.examples(`
			penstock test my-pipeline.yaml
			penstock test pipelines/ -run revoked --format junit
			penstock test my-pipeline.yaml --update`),
		Args: atLeast("FILE"),
		RunE: func(c *cobra.Command, refs []string) error {
			write, ok := map[string]func(io.Writer, []pipetest.Result) error{
				"text": pipetest.WriteText, "json": pipetest.WriteJSON, "junit": pipetest.WriteJUnit,
			}[format]
			if !ok {
				return usagef("--format: want text, json or junit, got %q%s", format, didYouMean(format, []string{"text", "json", "junit"}))
			}
			chosen, err := regexp.Compile(run)
			if err != nil {
				return usagef("-run: %w", err)
			}
			results, err := p.runTests(c.Context(), refs, chosen, update)
			if err != nil {
				return err
			}
			if len(results) == 0 {
				return usagef("no test has a name that matches -run %s", run)
			}
			out := p.Stdout
			if format == "text" {
				out = p.text()
			}
			if err := write(out, results); err != nil {
				return err
			}
			if slices.ContainsFunc(results, func(r pipetest.Result) bool { return !r.Passed() }) {
				return exitError(exitFailed)
			}
			return nil
		},
	}
	c.Flags().StringVar(&run, "run", "", "run only tests whose name matches this regular expression; -run works, too")
	c.Flags().StringVar(&format, "format", "text", "how to tell the results: text, json or junit")
	c.Flags().BoolVar(&update, "update", false, "write the outputs that were seen into the files; comments stay")
	return c
}

// runTests runs the chosen tests, until a signal.
func (p *Program) runTests(ctx context.Context, refs []string, chosen *regexp.Regexp, update bool) ([]pipetest.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var stoppedBy atomic.Int32
	go func() {
		select {
		case sig := <-p.Signals:
			if n, ok := sig.(syscall.Signal); ok {
				stoppedBy.Store(int32(n))
			}
			stop()
		case <-ctx.Done():
		}
	}()
	l := &pipetest.Loader{Registry: p.Registry, ReadFile: p.ReadFile, Ready: configs.ReadWithTests}
	suites, err := l.Load(refs)
	if err != nil {
		return nil, err
	}
	var all []pipetest.Result
	for _, s := range suites {
		var results []pipetest.Result
		for i, test := range s.Tests {
			if !chosen.MatchString(test.Name) {
				continue
			}
			if ctx.Err() != nil {
				break
			}
			results = append(results, l.Run(ctx, s, i))
		}
		if ctx.Err() != nil {
			return nil, exitError(128 + stoppedBy.Load())
		}
		if update {
			if results, err = l.Update(ctx, s, results); err != nil {
				return nil, err
			}
		}
		all = append(all, results...)
	}
	return all, nil
}

// singleDashRun makes --run of the -run that people know from go test: the library behind the flags takes it for
// three flags of one letter.
func singleDashRun(args []string) []string {
	if len(args) == 0 || args[0] != "test" {
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "-run" || strings.HasPrefix(arg, "-run=") {
			args[i] = "-" + arg
		}
	}
	return args
}
