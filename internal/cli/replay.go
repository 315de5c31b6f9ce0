package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources"
)

func (p *Program) replayCommand() *cobra.Command {
	var record, service, failOnPoison, dry, compare bool
	source := &sources.FileConfig{}
	pipeline.SetDefaults(source)
	c := &cobra.Command{
		Use:   "replay FILE RECORDING...",
		Short: "runs a pipeline on recordings in place of its source",
		Long: `Runs the pipeline of FILE on recordings in place of its source, and ends with a summary on stdout.

A RECORDING is a file, a directory or a glob; gzip and zstd are understood. What "record" and poison queues write can
be replayed, and newer writes that are in the store already stay. The file's source is not looked at; its record and
service are left out unless asked for.

With --dry-run nothing is stored: every write that would reach the sink is printed, and poison with its reason. --compare
prints those that would change what the Redis of the file has.`,
		Example: p.examples(`
			penstock replay my-pipeline.yaml recordings/
			penstock replay my-pipeline.yaml 'recordings/2026-11-2*' --rate 500/s
			REDIS_HOST=redis penstock replay persistent-cache recordings/ --dry-run --compare
			penstock replay my-pipeline.yaml recordings/ --checkpoint replay.checkpoint
			REDIS_HOST=redis penstock replay persistent-cache recordings/ --speed 10x --fail-on-poison`),
		Args: atLeast("FILE", "RECORDING"),
		RunE: func(c *cobra.Command, args []string) error {
			if source.Format != "recording" && source.Format != "lines" {
				return usagef("--format: want recording or lines, got %q", source.Format)
			}
			if err := checkDryReplay(dry, compare, record, source.Checkpoint != ""); err != nil {
				return err
			}
			skip := []string{"source"}
			if dry && !compare {
				skip = append(skip, "sink") // it needs no settings
			}
			if !record {
				skip = append(skip, "record")
			}
			if !service {
				skip = append(skip, "service")
			}
			l := p.newRunLoader(skip...)
			l.load(args[0])
			if err := l.done(); err != nil {
				return err
			}
			source.Paths = args[1:]
			if err := source.Validate(); err != nil {
				return &usageError{err}
			}
			cfg := l.configs[0]
			cfg.Source = pipeline.SourceSpec{Component: pipeline.Component{Name: "file", Config: source, Path: "source.file"}}
			s := &session{Program: p, configs: l.configs, refs: l.refs, warnings: l.told(), notes: l.notes, replay: true}
			started := time.Now()
			if dry {
				var err error
				if s.dry, err = newDryRun(c.Context(), p.Stdout, l.configs, compare); err != nil {
					return err
				}
				defer s.dry.close()
			}
			ledgers, err := s.execute(c.Context())
			if err == nil || len(ledgers) == 1 && ledgers[0].Received > 0 {
				s.sayReplayed(ledgers, time.Since(started))
			}
			if err != nil {
				return err
			}
			return verdict(ledgers, failOnPoison)
		},
	}
	c.Flags().Var(&textFlag{&source.Rate, "rate"}, "rate", `most messages in a unit of time, such as 500/s or 30/m`)
	c.Flags().Var(&textFlag{&source.Speed, "speed"}, "speed", `how fast recorded time passes: 1x, 10x or max`)
	c.Flags().StringVar(&source.Format, "format", source.Format, `how to read files: "recording", or "lines" for one body a line`)
	c.Flags().StringVar(&source.Checkpoint, "checkpoint", "", "file in which to remember how far it is, to go on there when it was interrupted")
	c.Flags().BoolVar(&record, "record", false, "record deliveries, as the file says")
	c.Flags().BoolVar(&service, "service", false, "serve HTTP, as the file says")
	c.Flags().BoolVar(&failOnPoison, "fail-on-poison", false, "exit with 1 when a message was poisoned")
	c.Flags().BoolVar(&dry, "dry-run", false, "store nothing and show what would be written")
	c.Flags().BoolVar(&compare, "compare", false, "with --dry-run and a redis sink: show what of it would change what Redis has, by reading only")
	return c
}

// sayReplayed ends a replay with its summary.
func (s *session) sayReplayed(ledgers []pipeline.Ledger, took time.Duration) {
	if s.dry != nil {
		s.dry.summary(ledgers)
		return
	}
	writeSummary(s.Stdout, ledgers[0], took)
}

// textFlag is a flag of a type that reads itself from text.
type textFlag struct {
	value interface {
		fmt.Stringer
		UnmarshalText([]byte) error
	}
	kind string
}

func (f *textFlag) String() string {
	if f.value == nil { // pflag asks a zero flag for its text
		return ""
	}
	return f.value.String()
}
func (f *textFlag) Set(s string) error { return f.value.UnmarshalText([]byte(s)) }
func (f *textFlag) Type() string       { return f.kind }

// writeSummary tells what became of the messages, one line each.
func writeSummary(w io.Writer, l pipeline.Ledger, took time.Duration) {
	_, _ = fmt.Fprintf(w, "replayed %s messages in %s", grouped(l.Received), shortDuration(took))
	if rate := float64(l.Received) / took.Seconds(); l.Received > 0 {
		_, _ = fmt.Fprintf(w, " (%s/s)", grouped(int64(rate)))
	}
	_, _ = fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range []struct {
		name string
		n    int64
	}{{"written", l.Written}, {"filtered", l.Filtered}, {"poisoned", l.Poisoned}, {"released", l.Released}, {"retries", l.Retries}, {"unresolved", l.Unresolved}} {
		_, _ = fmt.Fprintf(t, "%s\t%s\t\n", line.name, grouped(line.n))
	}
	_ = t.Flush()
	if l.Poisoned > 0 {
		_, _ = fmt.Fprintf(w, "last poisoned: %s\n", l.LastPoison)
	}
	for _, at := range l.UnresolvedAt {
		_, _ = fmt.Fprintf(w, "unresolved: %s\n", at)
	}
}

// bar is the progress of a source that knows how far it is, in one line.
type bar struct {
	source sources.Progress
	bar    *progressbar.ProgressBar
}

const barPeriod = 200 * time.Millisecond

func newBar(source sources.Progress) *bar {
	return &bar{source: source}
}

// line returns the bar as it is now, or "" as long as there is nothing to go by. Before the end it is never full:
// what was read last is still on its way.
func (b *bar) line(ended bool) string {
	read, total, messages := b.source.Progress()
	if total <= 0 {
		return ""
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(io.Discard), progressbar.OptionUseANSICodes(true),
			progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true), progressbar.OptionSetWidth(30),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}))
	}
	b.bar.Describe(grouped(messages) + " messages")
	if !ended {
		read = min(read, total-1)
	}
	_ = b.bar.Set64(min(read, total))
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, b.bar.String())
}
