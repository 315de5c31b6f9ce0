package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/poison"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

func (p *Program) poisonDropCommand() *cobra.Command {
	l := &poisonLook{Program: p}
	var yes bool
	var to string
	c := &cobra.Command{
		Use:   "drop [ID...]",
		Short: "removes messages from a poison queue, and keeps them in a file",
		Long: `Removes messages from a poison queue for good. It writes them to a file first, in the recording format, which penstock replay
reads; then it asks on a terminal, or takes --yes; then it removes them. When the answer is no, the file is removed again.

It may be run beside the pipeline, which goes on storing.` + poisonSelectHelp + `

The exit code is 0 when everything that was asked for is dropped; 1 when the answer is no, a place is damaged, an ID is not
there, or the queue or the file can't be written; 2 for a wrong pipeline file or expression, or without a terminal and --yes.`,
		Example: p.examples(`
			penstock poison drop -f my-pipeline.yaml --filter '.metadata.source == "load-test"' --yes
			penstock poison drop -f my-pipeline.yaml m-17 --yes --to dropped.ndjson`),
		RunE: func(c *cobra.Command, ids []string) error {
			s, err := l.selection(ids)
			if err != nil {
				return err
			}
			if !yes && p.Ask == nil {
				return usagef("drop removes messages for good: say --yes where nobody can be asked")
			}
			if to == "" {
				to = "dropped-" + time.Now().UTC().Format("20060102T150405Z") + ".ndjson"
			}
			loader := p.newLoader(notForPoison...)
			loader.load(l.file)
			if err := loader.done(); err != nil {
				return err
			}
			return l.drop(c.Context(), loader, s, to, yes)
		},
	}
	l.flags(c)
	c.Flags().BoolVar(&yes, "yes", false, "ask nothing")
	c.Flags().StringVar(&to, "to", "", "file to write them to, which must not be there yet (default: dropped-TIME.ndjson here)")
	return c
}

func (l *poisonLook) drop(ctx context.Context, loader *loader, s poisonSelection, to string, yes bool) (err error) {
	keeper, err := l.keeper(loader)
	if err != nil {
		return err
	}
	ctx, stop := l.untilSignal(ctx)
	defer stop()
	queue, err := l.open(ctx, keeper, true)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := queue.Close(); cerr != nil {
			l.problem(fmt.Errorf("poison queue: %w", cerr))
			if err == nil {
				err = exitError(exitFailed)
			}
		}
	}()
	entries, err := l.keep(ctx, queue, s, to)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return errors.Join(os.Remove(to), l.sayDropped(0, ""), l.ended(nil))
	}
	question := fmt.Sprintf("drop %s from %s? They are in %s. [y/N] ", messages(len(entries)), summary(l.config.PoisonQueue.Component), to)
	if !yes && !l.Ask(question) {
		return errors.Join(errors.New("nothing was dropped"), os.Remove(to))
	}
	for at := 0; at < len(entries); at += mostRemoved {
		if err := queue.Remove(ctx, entries[at:min(at+mostRemoved, len(entries))]); err != nil {
			return fmt.Errorf("poison queue: %s may still be there; all of them are in %s: %w", messages(len(entries)-at), to, err)
		}
	}
	return errors.Join(l.sayDropped(len(entries), to), l.ended(nil))
}

// sayDropped ends a drop.
func (l *poisonLook) sayDropped(n int, to string) error {
	if l.format == "json" {
		return encodeLine(l.Stdout, map[string]any{"dropped": n, "file": to})
	}
	line := "dropped " + messages(n)
	if to != "" {
		line += ": they are in " + to
	}
	_, err := fmt.Fprintln(l.Stdout, line)
	return err
}

// askTerminal asks a question on the terminal and takes y or yes for a yes.
func askTerminal(question string) bool {
	_, _ = fmt.Fprint(os.Stderr, question)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return grouped(int64(n)) + " messages"
}

// keep writes the messages that are asked for to a file that is not there yet. They are on the disk when it returns
// nil.
func (l *poisonLook) keep(ctx context.Context, queue pipeline.PoisonQueue, s poisonSelection, to string) (entries []*pipeline.PoisonEntry, err error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	w := bufio.NewWriter(f)
	var line []byte
	err = l.each(ctx, queue, s, func(e *pipeline.PoisonEntry) error {
		entry := poison.Entry(e.Message, time.Time{})
		line = recording.Append(line[:0], &entry)
		e.Message.Payload = nil // there may be many
		entries = append(entries, e)
		_, err := w.Write(line)
		return err
	})
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted: nothing was dropped")
	}
	return entries, errors.Join(err, w.Flush(), f.Sync(), f.Close())
}
