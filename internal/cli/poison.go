package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/poison"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// notForPoison are the keys of a pipeline that looking at its poison queue has no use for.
var notForPoison = []string{"source", "transforms", "sink", "record", "service"}

func (p *Program) poisonCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "poison",
		Short: "looks at the messages in a poison queue, puts them back, or drops them",
		Long: "Looks at the messages that a pipeline gave up and stored in its poison queue, sends them through the pipeline again, or drops them.\n\n" +
			"A poison queue can be files, an SQS queue, or a sink of your own whose config is a pipeline.PoisonKeeper.",
		Example: p.examples(`
			penstock poison list -f my-pipeline.yaml
			penstock poison show -f my-pipeline.yaml --limit 1
			penstock poison redrive -f my-pipeline.yaml --dry-run
			penstock poison redrive -f my-pipeline.yaml
			penstock poison drop -f my-pipeline.yaml --filter '.poison.reason | contains("not JSON")'`),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.poisonListCommand(), p.poisonShowCommand(), p.poisonRedriveCommand(), p.poisonDropCommand())
	return c
}

const poisonSelectHelp = `

--filter is a jq expression over .metadata, .payload, .poison (reason, stage, attempts, at, received_at, pipeline) and
.id. Without IDs, --filter and --limit it is all messages. Without -f it is the built-in cache service.

A damaged place is told on stderr, as file and line, and stays as it is.`

const poisonHelp = `

It changes nothing for good, and may be run beside the pipeline. An SQS queue can't be read without receiving: while the
command runs its messages are hidden from others, then they are given back, and their receive count has grown by one.` + poisonSelectHelp + `

The exit code is 1 when a place is damaged, an ID is not there, or the queue can't be read; 2 for a wrong pipeline file or
expression.`

func (p *Program) poisonListCommand() *cobra.Command {
	l := &poisonLook{Program: p}
	var by string
	c := &cobra.Command{
		Use:   "list [ID...]",
		Short: "lists the messages in a poison queue, or counts them",
		Long:  "Lists the messages in a poison queue: id, age, stage, attempts, reason; or, with --by, how many there are of each." + poisonHelp,
		Example: p.examples(`
			penstock poison list -f my-pipeline.yaml --by reason
			penstock poison list -f my-pipeline.yaml --filter '.poison.stage | startswith("sink")'`),
		RunE: func(c *cobra.Command, ids []string) error {
			if by != "" && !slices.Contains([]string{"reason", "stage", "pipeline"}, by) {
				return usagef("--by: want reason, stage or pipeline, got %q", by)
			}
			if by != "" {
				return l.count(c.Context(), ids, by)
			}
			return l.look(c.Context(), ids, notForPoison, l.listed)
		},
	}
	l.flags(c)
	c.Flags().StringVar(&by, "by", "", "count the messages by reason, stage or pipeline")
	return c
}

// poisonLook is one look at a poison queue.
type poisonLook struct {
	*Program
	file, filter, format string
	limit                int

	config   *pipeline.Config // of the pipeline
	problems int              // told so far
}

func (l *poisonLook) flags(c *cobra.Command) {
	c.Flags().StringVarP(&l.file, "file", "f", configs.PersistentCache, "pipeline file, or the name of a ready pipeline")
	c.Flags().StringVar(&l.filter, "filter", "", "only messages for which this jq expression is true")
	decimalVar(c.Flags(), &l.limit, "limit", "at most so many messages; 0 for all")
	c.Flags().StringVar(&l.format, "format", "text", "text, or json for one object a line")
}

// poisonSelection is which messages are asked for.
type poisonSelection struct {
	ids    []string
	filter *expression.Expression // nil: every one
	limit  int
}

func (l *poisonLook) selection(ids []string) (s poisonSelection, err error) {
	if l.format != "text" && l.format != "json" {
		return s, usagef("--format: want text or json, got %q", l.format)
	}
	if l.limit < 0 {
		return s, usagef("--limit: must not be negative, got %d", l.limit)
	}
	s.ids, s.limit = ids, l.limit
	if l.filter != "" {
		if s.filter, err = expression.Compile(l.filter); err != nil {
			return s, usagef("--filter: %w", err)
		}
	}
	return s, nil
}

// keeper is the config of the poison queue of a loaded pipeline.
func (l *poisonLook) keeper(loader *loader) (pipeline.PoisonKeeper, error) {
	l.config = loader.configs[0]
	queue := l.config.PoisonQueue
	if queue == nil {
		return nil, usagef("%s has no poison_queue: what can't be processed is released to its source", l.file)
	}
	keeper, ok := queue.Config.(pipeline.PoisonKeeper)
	if !ok {
		return nil, usagef("%s: the poison queue %s can't be read again: that of file and sqs can, and of sinks of your own whose config is a pipeline.PoisonKeeper", l.file, queue.Name)
	}
	return keeper, nil
}

// open opens the poison queue.
func (l *poisonLook) open(ctx context.Context, keeper pipeline.PoisonKeeper, change bool) (pipeline.PoisonQueue, error) {
	component := l.config.PoisonQueue.Component
	queue, err := keeper.OpenPoison(ctx, pipeline.Env{
		Pipeline: l.config.Name, Role: pipeline.RolePoisonQueue, Path: component.Path, Logger: zap.NewNop(), Metrics: prometheus.NewRegistry(),
	}, change)
	if err != nil {
		return nil, fmt.Errorf("poison queue: %w", err)
	}
	return queue, nil
}

// problem tells what is wrong with one place.
func (l *poisonLook) problem(err error) {
	l.problems++
	_, _ = fmt.Fprintf(l.Stderr, "penstock: %s\n", visible(err.Error()))
}

var errPoisonEnough = errors.New("enough")

// each hands on the messages that are asked for, and tells which are not there.
func (l *poisonLook) each(ctx context.Context, queue pipeline.PoisonQueue, s poisonSelection, do func(*pipeline.PoisonEntry) error) error {
	found := 0
	missing := map[string]bool{}
	for _, id := range s.ids {
		missing[id] = true
	}
	err := queue.Entries(ctx, func(e *pipeline.PoisonEntry) error {
		if s.limit > 0 && found == s.limit {
			return errPoisonEnough
		}
		if len(s.ids) > 0 && !slices.Contains(s.ids, e.Message.UUID) {
			return nil
		}
		delete(missing, e.Message.UUID)
		if s.filter != nil {
			matches, err := s.filter.Matches(ctx, poisonValue(e))
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				l.problem(fmt.Errorf("%s: --filter: %w", cmp.Or(e.Place, e.Message.UUID), err))
				return nil
			}
			if !matches {
				return nil
			}
		}
		found++
		return do(e)
	}, l.problem)
	switch {
	case errors.Is(err, errPoisonEnough):
		return nil
	case err != nil:
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		l.problem(fmt.Errorf("no message %q in %s", id, summary(l.config.PoisonQueue.Component)))
	}
	return nil
}

// look hands on the messages that are asked for, and returns what the exit code is made of.
func (l *poisonLook) look(ctx context.Context, ids []string, skip []string, show func(*pipeline.PoisonEntry) error) error {
	s, err := l.selection(ids)
	if err != nil {
		return err
	}
	loader := l.newLoader(skip...)
	loader.load(l.file)
	if err := loader.done(); err != nil {
		return err
	}
	keeper, err := l.keeper(loader)
	if err != nil {
		return err
	}
	ctx, stop := l.untilSignal(ctx)
	defer stop()
	queue, err := l.open(ctx, keeper, false)
	if err != nil {
		return err
	}
	err = l.each(ctx, queue, s, show)
	return l.ended(errors.Join(err, queue.Close()))
}

// untilSignal returns a context that ends with the first signal.
func (p *Program) untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-p.Signals:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// ended is what a command returns that ended with err.
func (l *poisonLook) ended(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("poison queue: %w", err)
	case l.problems > 0:
		return exitError(exitFailed)
	}
	return nil
}

// poisonValue is what --filter sees.
func poisonValue(e *pipeline.PoisonEntry) map[string]any {
	metadata, p := poisonParts(e)
	value := expression.Message(metadata, e.Message.Payload)
	value["id"] = e.Message.UUID
	value["poison"] = map[string]any{
		"reason": p.Reason, "stage": p.Stage, "attempts": p.Attempts, "at": p.At, "received_at": p.ReceivedAt, "pipeline": p.Pipeline,
	}
	return value
}

// poisonParts takes the metadata of an entry apart: the original's, and what the poison queue adds.
func poisonParts(e *pipeline.PoisonEntry) (map[string]string, *recording.Poison) {
	metadata := maps.Clone(map[string]string(e.Message.Metadata))
	return metadata, poison.Take(metadata)
}

// count prints how many messages there are of each value, the most first.
func (l *poisonLook) count(ctx context.Context, ids []string, by string) error {
	counts := map[string]int64{}
	key := map[string]string{"reason": pipeline.MetadataPoisonReason, "stage": pipeline.MetadataPoisonStage, "pipeline": pipeline.MetadataPoisonPipeline}[by]
	err := l.look(ctx, ids, notForPoison, func(e *pipeline.PoisonEntry) error {
		counts[e.Message.Metadata[key]]++
		return nil
	})
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for _, key := range keys {
		if l.format == "json" {
			if err := encodeLine(l.Stdout, map[string]any{by: key, "count": counts[key]}); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(l.Stdout, "%s  %s\n", grouped(counts[key]), visible(cmp.Or(key, "(none)"))); err != nil {
			return err
		}
	}
	return err
}

func (l *poisonLook) listed(e *pipeline.PoisonEntry) error {
	if l.format == "json" {
		return encodeLine(l.Stdout, poisonFacts(e))
	}
	return writePoisonHead(l.text(), e)
}

func encodeLine(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// poisonFacts are what JSON says of a message, without the message itself.
func poisonFacts(e *pipeline.PoisonEntry) map[string]any {
	_, p := poisonParts(e)
	facts := map[string]any{
		"id": e.Message.UUID, "reason": p.Reason, "stage": p.Stage, "attempts": p.Attempts, "at": p.At,
		"received_at": p.ReceivedAt, "pipeline": p.Pipeline, "place": e.Place,
	}
	if file, line := poison.Place(e); file != "" {
		facts["file"], facts["line"] = file, line
	}
	return facts
}

// writePoisonHead prints what a list says of a message. A narrow terminal breaks lines at blanks.
func writePoisonHead(w io.Writer, e *pipeline.PoisonEntry) error {
	_, p := poisonParts(e)
	age := "at an unknown time"
	if at, err := time.Parse(time.RFC3339Nano, p.At); err == nil {
		age = rough(max(time.Since(at), 0)) + " ago"
	}
	attempts := fmt.Sprintf("%d attempts", p.Attempts)
	if p.Attempts == 1 {
		attempts = "1 attempt"
	}
	_, err := fmt.Fprintf(w, "%s\n  %s, %s\n  %s\n  %s\n", visible(e.Message.UUID), age, attempts, visible(cmp.Or(p.Stage, "(no stage)")),
		visible(cmp.Or(p.Reason, "(no reason)")))
	return err
}

// visible replaces what would steer a terminal, but for line ends and tabs: messages come from outside.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return utf8.RuneError
		}
		return r
	}, s)
}
