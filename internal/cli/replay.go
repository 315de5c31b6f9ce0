package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources"
)

func (p *Program) replayCommand() *cobra.Command {
	var more replayFlags
	var record, service, failOnPoison, dry, compare bool
	source := &sources.FileConfig{}
	pipeline.SetDefaults(source)
	c := &cobra.Command{
		Use:   "replay FILE RECORDING...",
		Short: "runs a pipeline on recordings in place of its source",
		Long: `Runs the pipeline of FILE on recordings in place of its source, and ends with a summary on stdout.

A RECORDING is a file, a directory, a glob, a pipe, or "-" for the standard input; gzip and zstd are understood. What
"record" and poison queues write can be replayed, and newer writes that are in the store already stay. The file's source
is not looked at; its record and service are left out unless asked for.

--from, --to and --filter choose messages, --limit ends after so many of those; a checkpoint is for one choice. --filter
is a jq expression over .metadata, .payload and .id. A message on which it fails is unresolved: it is named by file and
line, the others go on, and the exit code is 1; .payload.customerId? is nothing, and no failure, where the payload is
no object.

With --dry-run nothing is stored: every write that would reach the sink is printed, and poison with its reason. --compare
prints those that would change what the Redis of the file has.`,
		Example: p.examples(`
			penstock replay my-pipeline.yaml recordings/
			xzcat old.ndjson.xz | penstock replay my-pipeline.yaml -
			penstock replay my-pipeline.yaml 'recordings/2026-11-2*' --rate 500/s
			REDIS_HOST=redis penstock replay persistent-cache recordings/ --dry-run --compare
			penstock replay my-pipeline.yaml recordings/ --checkpoint replay.checkpoint
			penstock replay my-pipeline.yaml recordings/ --filter '.payload.customerId? == "acme"'
			penstock replay my-pipeline.yaml recordings/ --from 2026-11-21 --to 2026-11-22T12:00:00Z --limit 1000
			REDIS_HOST=redis penstock replay persistent-cache recordings/ --speed 10x --fail-on-poison`),
		Args: atLeast("FILE", "RECORDING"),
		RunE: func(c *cobra.Command, args []string) error {
			if source.Format != "recording" && source.Format != "lines" {
				return usagef("--format: want recording or lines, got %q", source.Format)
			}
			if err := checkDryReplay(dry, compare, record, source.Checkpoint != ""); err != nil {
				return err
			}
			l := p.newRunLoader(unused(dry && !compare, !record, !service)...)
			l.load(args[0])
			if err := l.done(); err != nil {
				return err
			}
			if err := more.choose(source); err != nil {
				return err
			}
			source.Paths = args[1:]
			if err := source.Validate(); err != nil {
				return &usageError{err}
			}
			cfg := l.configs[0]
			cfg.Source = pipeline.SourceSpec{Component: pipeline.Component{Name: "file", Config: source, Path: "source.file"}}
			s := &session{Program: p, configs: l.configs, refs: l.refs, warnings: l.told(), notes: l.notes, replay: true, quiet: more.quiet, reasons: &reasons{}}
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
	more.add(c, source)
	c.Flags().BoolVar(&record, "record", false, "record deliveries, as the file says")
	c.Flags().BoolVar(&service, "service", false, "serve HTTP, as the file says")
	c.Flags().BoolVar(&failOnPoison, "fail-on-poison", false, "exit with 1 when a message was poisoned")
	c.Flags().BoolVar(&dry, "dry-run", false, "store nothing and show what would be written")
	c.Flags().BoolVar(&compare, "compare", false, "with --dry-run and a redis sink: show what of it would change what Redis has, by reading only")
	return c
}

// unused lists the keys of a file that a replay has no use for: what they need is not asked for.
func unused(sink, record, service bool) []string {
	keys := []string{"source"}
	for _, k := range []struct {
		name   string
		unused bool
	}{{"sink", sink}, {"record", record}, {"service", service}} {
		if k.unused {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// replayFlags are those that choose messages, and how they go.
type replayFlags struct {
	from, to, filter string
	limit            int64
	quiet            bool
}

func (f *replayFlags) add(c *cobra.Command, source *sources.FileConfig) {
	c.Flags().Var(&textFlag{&source.Rate, "rate"}, "rate", `most messages in a unit of time, such as 500/s or 30/m`)
	c.Flags().Var(&textFlag{&source.Speed, "speed"}, "speed", `how fast recorded time passes: 1x, 10x or max`)
	c.Flags().StringVar(&source.Format, "format", source.Format, `how to read files: "recording", or "lines" for one body a line`)
	c.Flags().StringVar(&source.Checkpoint, "checkpoint", "", "file in which to remember how far it is, to go on there when it was interrupted")
	c.Flags().StringVar(&f.from, "from", "", "passes over what was recorded before this time: RFC 3339, or a date (UTC)")
	c.Flags().StringVar(&f.to, "to", "", "passes over what was recorded at this time or later")
	c.Flags().StringVar(&f.filter, "filter", "", "only messages for which this jq expression is true; the others are counted")
	decimalVar(c.Flags(), &f.limit, "limit", "most messages to replay; 0 for all")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "shows no progress, the summary only")
}

// sayReplayed ends a replay with its summary.
func (s *session) sayReplayed(ledgers []pipeline.Ledger, took time.Duration) {
	if s.dry != nil {
		s.dry.summary(ledgers)
		_, _ = io.WriteString(s.Stdout, s.passedOver())
		return
	}
	writeSummary(s.text(), ledgers[0], took, s.reasons, s.count(staleMetric), s.passedOver())
}

// passedOver tells how many messages were not replayed because of the flags that choose, or "".
func (s *session) passedOver() string {
	if s.bar == nil {
		return ""
	}
	source, ok := s.bar.source.(interface {
		PassedOver() (byTime, byFilter int64)
	})
	if !ok {
		return ""
	}
	var all []string
	byTime, byFilter := source.PassedOver()
	if byFilter > 0 {
		all = append(all, grouped(byFilter)+" by --filter")
	}
	if byTime > 0 {
		all = append(all, grouped(byTime)+" by --from and --to")
	}
	if len(all) == 0 {
		return ""
	}
	return "passed over: " + strings.Join(all, ", ") + "\n"
}

// staleMetric counts writes that the store has newer.
const staleMetric = "penstock_stale_writes_total"

// count returns the sum of a metric, or -1 when there is none.
func (s *session) count(name string) int64 {
	families, err := s.metrics.Gather()
	if err != nil {
		return -1
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		var sum float64
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
		return int64(sum)
	}
	return -1
}

// choose reads the flags that choose messages.
func (f *replayFlags) choose(source *sources.FileConfig) error {
	s := &source.Selection
	for _, bound := range []struct {
		flag, text string
		at         *time.Time
	}{{"--from", f.from, &s.From}, {"--to", f.to, &s.To}} {
		if bound.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, bound.text)
		if err != nil {
			t, err = time.Parse(time.DateOnly, bound.text)
		}
		if err != nil {
			return usagef("%s: want a time such as 2026-11-22T10:15:30Z, or a date, got %q", bound.flag, bound.text)
		}
		if source.Format == "lines" {
			return usagef("%s: plain lines have no recorded times", bound.flag)
		}
		*bound.at = t
	}
	switch {
	case !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To):
		return usagef("--from must be before --to")
	case f.limit < 0:
		return usagef("--limit must not be negative")
	}
	if f.filter != "" {
		if _, err := expression.Compile(f.filter); err != nil {
			return usagef("--filter: %w", err)
		}
	}
	s.Filter, s.Limit = f.filter, f.limit
	return nil
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
func writeSummary(w io.Writer, l pipeline.Ledger, took time.Duration, why *reasons, stale int64, passedOver string) {
	_, _ = fmt.Fprintf(w, "replayed %s in %s", counted(l.Received, "message"), shortDuration(took))
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
	_, _ = io.WriteString(w, passedOver)
	if stale > 0 {
		_, _ = fmt.Fprintf(w, "already newer in the store: %s\n", counted(stale, "write"))
	}
	why.write(w)
	if l.Poisoned > 0 {
		_, _ = fmt.Fprintf(w, "last poisoned: %s\n", l.LastPoison)
	}
	for _, at := range l.UnresolvedAt {
		_, _ = fmt.Fprintf(w, "unresolved: %s\n", at)
	}
}

// bar is the progress of a source that knows how far it is, in one line.
type bar struct {
	source  sources.Progress
	bar     *progressbar.ProgressBar
	width   int // of bar
	started time.Time
	before  int64 // bytes that were passed over at the start, as a checkpoint says
	seen    bool
	told    time.Time // when plain said something last
}

const barPeriod = 200 * time.Millisecond

func newBar(source sources.Progress) *bar {
	now := time.Now()
	return &bar{source: source, started: now, told: now}
}

// line returns the bar as it is now, in room columns (0: as many as it takes), or "" as long as there is nothing to go
// by. Before the end it is never full: what was read last is still on its way.
func (b *bar) line(ended bool, room int) string {
	read, total, messages := b.source.Progress()
	if total <= 0 {
		return ""
	}
	width := 30
	if room > 0 && room < widest {
		width = room / 4
	}
	if b.bar == nil || b.width != width {
		b.width = width
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(io.Discard), progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetWidth(width),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}))
	}
	shown := read
	if !ended {
		shown = min(read, total-1)
	}
	_ = b.bar.Set64(min(shown, total))
	drawn := strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, b.bar.String())
	return fitted(append([]part{{strings.TrimSpace(drawn), 5}}, b.facts(read, total, messages, ended)...), room)
}

// facts tells messages, messages a second, bytes, and the time that is left.
func (b *bar) facts(read, total, messages int64, ended bool) []part {
	if !b.seen {
		b.seen, b.before = true, read
	}
	took := time.Since(b.started)
	facts := []part{
		{counted(messages, "message"), 4},
		{grouped(int64(float64(messages)/took.Seconds())) + " messages/s", 2},
		{megabytes(min(read, total)) + " of " + megabytes(total), 1},
	}
	if done := read - b.before; done > 0 && took > time.Second && !ended {
		left := time.Duration(float64(took) * float64(max(total-read, 0)) / float64(done))
		facts = append(facts, part{shortDuration(left) + " left", 3})
	}
	return facts
}

// plainPeriod is how often progress is told where there is no terminal.
const plainPeriod = 10 * time.Second

// plain returns the progress as a line of its own every now and then, and otherwise "".
func (b *bar) plain() string {
	if time.Since(b.told) < plainPeriod {
		return ""
	}
	b.told = time.Now()
	read, total, messages := b.source.Progress()
	return fitted(b.facts(read, total, messages, false), 0)
}

func megabytes(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(n) >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
