package cli

import (
	"bytes"
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

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/poison"
	"github.com/penstock-dev/penstock/sinks"
)

// notForPoison are the keys of a pipeline that looking at its poison queue has no use for.
var notForPoison = []string{"source", "transforms", "sink", "record", "service"}

func (p *Program) poisonCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "poison",
		Short: "looks at the messages in a poison queue",
		Long:  "Looks at the messages that a pipeline gave up and stored in its poison queue, when that is a file.",
		Example: p.examples(`
			penstock poison list -f my-pipeline.yaml
			penstock poison show -f my-pipeline.yaml`),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.poisonListCommand(), p.poisonShowCommand())
	return c
}

const poisonHelp = `

It reads only, and may be run beside the pipeline. The poison queue must be a file: one in SQS is not read. --filter is
a jq expression over .metadata, .payload, .poison (reason, stage, attempts, at, received_at, pipeline) and .id.

A damaged place is told on stderr by file and line, and the rest is shown. The exit code is then 1, as it is when the
directory can't be read; 2 for a wrong pipeline file or expression. Without -f it is the built-in cache service.`

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
			return l.each(c.Context(), ids, l.listed)
		},
	}
	l.flags(c)
	c.Flags().StringVar(&by, "by", "", "count the messages by reason, stage or pipeline")
	return c
}

func (p *Program) poisonShowCommand() *cobra.Command {
	l := &poisonLook{Program: p}
	c := &cobra.Command{
		Use:   "show [ID...]",
		Short: "shows messages in a poison queue whole",
		Long:  "Shows messages in a poison queue whole: why, where and when they were given up, their metadata and their payload." + poisonHelp,
		Example: p.examples(`
			penstock poison show -f my-pipeline.yaml --limit 1
			penstock poison show -f my-pipeline.yaml --format json`),
		RunE: func(c *cobra.Command, ids []string) error { return l.each(c.Context(), ids, l.shown) },
	}
	l.flags(c)
	return c
}

// poisonLook is one look at a poison queue.
type poisonLook struct {
	*Program
	file, filter, format string
	limit                int
}

func (l *poisonLook) flags(c *cobra.Command) {
	c.Flags().StringVarP(&l.file, "file", "f", configs.PersistentCache, "pipeline file, or the name of a ready pipeline")
	c.Flags().StringVar(&l.filter, "filter", "", "only messages for which this jq expression is true")
	c.Flags().IntVar(&l.limit, "limit", 0, "at most so many messages; 0 for all")
	c.Flags().StringVar(&l.format, "format", "text", "text, or json for one object a line")
}

// dir is the directory of the poison queue.
func (l *poisonLook) dir() (string, error) {
	loader := l.newLoader(notForPoison...)
	loader.load(l.file)
	if err := loader.done(); err != nil {
		return "", err
	}
	queue := loader.configs[0].PoisonQueue
	if queue == nil {
		return "", usagef("%s has no poison_queue: what can't be processed is released to its source", l.file)
	}
	files, ok := queue.Config.(*sinks.FileConfig)
	if !ok {
		return "", usagef("%s: poison list and show read file poison queues only, and this one is %s", l.file, queue.Name)
	}
	return files.Dir, nil
}

// each hands on the messages that are asked for, and returns what the exit code is made of.
func (l *poisonLook) each(ctx context.Context, ids []string, show func(*poison.Entry) error) error {
	if l.format != "text" && l.format != "json" {
		return usagef("--format: want text or json, got %q", l.format)
	}
	if l.limit < 0 {
		return usagef("--limit: must not be negative, got %d", l.limit)
	}
	var filter *expression.Expression
	if l.filter != "" {
		var err error
		if filter, err = expression.Compile(l.filter); err != nil {
			return usagef("--filter: %w", err)
		}
	}
	dir, err := l.dir()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-l.Signals:
			stop()
		case <-ctx.Done():
		}
	}()
	problems, shown := 0, 0
	missing := map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	problem := func(err error) {
		problems++
		_, _ = fmt.Fprintf(l.Stderr, "penstock: %s\n", visible(err.Error()))
	}
	err = poison.Read(ctx, dir, func(e *poison.Entry) error {
		if len(ids) > 0 && !slices.Contains(ids, e.ID) {
			return nil
		}
		delete(missing, e.ID)
		if filter != nil {
			matches, err := filter.Matches(ctx, poisonValue(e))
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				problem(fmt.Errorf("%s:%d: --filter: %w", e.File, e.Line, err))
				return nil
			}
			if !matches {
				return nil
			}
		}
		if l.limit > 0 && shown == l.limit {
			return poison.ErrStop
		}
		shown++
		return show(e)
	}, problem)
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("poison queue: %w", err)
	}
	if shown < l.limit || l.limit == 0 {
		for _, id := range slices.Sorted(maps.Keys(missing)) {
			problem(fmt.Errorf("no message %q in %s", id, dir))
		}
	}
	if problems > 0 {
		return exitError(exitFailed)
	}
	return nil
}

// poisonValue is what --filter sees.
func poisonValue(e *poison.Entry) map[string]any {
	value := expression.Message(e.Metadata, e.Payload)
	value["id"] = e.ID
	value["poison"] = map[string]any{
		"reason": e.Poison.Reason, "stage": e.Poison.Stage, "attempts": e.Poison.Attempts, "at": e.Poison.At,
		"received_at": e.Poison.ReceivedAt, "pipeline": e.Poison.Pipeline,
	}
	return value
}

// count prints how many messages there are of each value, the most first.
func (l *poisonLook) count(ctx context.Context, ids []string, by string) error {
	counts := map[string]int64{}
	err := l.each(ctx, ids, func(e *poison.Entry) error {
		counts[map[string]string{"reason": e.Poison.Reason, "stage": e.Poison.Stage, "pipeline": e.Poison.Pipeline}[by]]++
		return nil
	})
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for _, key := range keys {
		if l.format == "json" {
			if err := l.encode(map[string]any{by: key, "count": counts[key]}); err != nil {
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

func (l *poisonLook) listed(e *poison.Entry) error {
	if l.format == "json" {
		return l.encode(poisonFacts(e))
	}
	return writePoisonHead(l.Stdout, e)
}

func (l *poisonLook) shown(e *poison.Entry) error {
	if l.format == "json" {
		facts := poisonFacts(e)
		facts["metadata"] = e.Metadata
		if utf8.Valid(e.Payload) {
			facts["payload"] = string(e.Payload)
		} else {
			facts["payload_base64"] = e.Payload
		}
		return l.encode(facts)
	}
	if err := writePoisonHead(l.Stdout, e); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  at %s:%d\n", visible(e.File), e.Line)
	for _, k := range slices.Sorted(maps.Keys(e.Metadata)) {
		fmt.Fprintf(&b, "  %s: %s\n", visible(k), visible(e.Metadata[k]))
	}
	if e.Poison.Stack != "" {
		fmt.Fprintf(&b, "\n%s\n", visible(e.Poison.Stack))
	}
	body := e.Payload
	var pretty bytes.Buffer
	if json.Indent(&pretty, body, "", "  ") == nil {
		body = pretty.Bytes()
	}
	fmt.Fprintf(&b, "\n%s\n\n", visible(string(body)))
	_, err := io.WriteString(l.Stdout, b.String())
	return err
}

func (l *poisonLook) encode(v any) error {
	encoder := json.NewEncoder(l.Stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// poisonFacts are what JSON says of a message, without the message itself.
func poisonFacts(e *poison.Entry) map[string]any {
	return map[string]any{
		"id": e.ID, "reason": e.Poison.Reason, "stage": e.Poison.Stage, "attempts": e.Poison.Attempts, "at": e.Poison.At,
		"received_at": e.Poison.ReceivedAt, "pipeline": e.Poison.Pipeline, "file": e.File, "line": e.Line,
	}
}

// writePoisonHead prints what a list says of a message. Lines are never cut: a narrow terminal folds them.
func writePoisonHead(w io.Writer, e *poison.Entry) error {
	age := "at an unknown time"
	if at := e.At(); !at.IsZero() {
		age = rough(max(time.Since(at), 0)) + " ago"
	}
	attempts := fmt.Sprintf("%d attempts", e.Poison.Attempts)
	if e.Poison.Attempts == 1 {
		attempts = "1 attempt"
	}
	_, err := fmt.Fprintf(w, "%s\n  %s, %s\n  %s\n  %s\n", visible(e.ID), age, attempts, visible(cmp.Or(e.Poison.Stage, "(no stage)")),
		visible(cmp.Or(e.Poison.Reason, "(no reason)")))
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
