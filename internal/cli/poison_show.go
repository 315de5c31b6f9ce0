package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
)

func (p *Program) poisonShowCommand() *cobra.Command {
	l := &poisonLook{Program: p}
	c := &cobra.Command{
		Use:   "show [ID...]",
		Short: "shows messages in a poison queue whole, and what would become of them today",
		Long: "Shows messages in a poison queue whole: why, where and when they were given up, their metadata and their payload. Then it runs the\n" +
			"transforms of the file on each, as redrive --dry-run does, and shows what today's pipeline would do with it: what would be\n" +
			"written, or why it would be poisoned again, and where in the payload." + poisonHelp,
		Example: p.examples(`
			penstock poison show -f my-pipeline.yaml --limit 1
			penstock poison show -f my-pipeline.yaml --format json`),
		RunE: func(c *cobra.Command, ids []string) error {
			return l.look(c.Context(), ids, []string{"source", "sink", "record", "service"}, func(e *pipeline.PoisonEntry) error {
				now, err := l.today(c.Context(), e)
				if err != nil {
					return err
				}
				return l.shown(e, now)
			})
		},
	}
	l.flags(c)
	return c
}

// today is what the pipeline would do with a message now.
type today struct {
	outcome, reason string
	writes          []string
	stage           string // where it failed; "" when it didn't
	given           []byte // what that stage was given
	at              int    // where in that it stopped, from 0; -1 when the error doesn't say
}

// one is a poison queue of one entry.
type one struct{ entry *pipeline.PoisonEntry }

func (o one) Entries(_ context.Context, each func(*pipeline.PoisonEntry) error, _ func(error)) error {
	return each(o.entry)
}
func (o one) Remove(context.Context, []*pipeline.PoisonEntry) error { return nil }
func (o one) Close() error                                          { return nil }

// today runs the transforms on an entry.
func (l *poisonLook) today(ctx context.Context, e *pipeline.PoisonEntry) (today, error) {
	result := today{at: -1}
	r := newRedrive(l, one{e}, poisonSelection{}, true)
	r.report = func(s *sent, outcome, reason string) error {
		result.outcome, result.reason, result.writes = outcome, reason, dryLines(s.wrote)
		return nil
	}
	cfg := *l.config
	r.stand(&cfg)
	cfg.Retry.MaxAttempts = 1
	settings := pipeline.Settings{}
	built, err := cfg.Build(settings)
	if err != nil {
		return result, &usageError{err}
	}
	var given []byte
	for i, next := range built.Transforms {
		built.Transforms[i] = func(msg *message.Message) ([]*message.Message, error) {
			given = msg.Payload
			return next(msg)
		}
	}
	built.Middleware = append(built.Middleware, r.watch, func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := next(msg)
			if err == nil {
				return out, nil
			}
			result.stage, result.given = inside.Stage(err), bytes.Clone(given)
			result.at = stoppedAt(err, given)
			if pipeline.IsUnavailable(err) || pipeline.IsFatal(err) { // nothing waits for it here
				err = errors.New(err.Error())
			}
			return nil, err
		}
	})
	engine, err := pipeline.New(settings, built)
	if err != nil {
		return result, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.MessageTimeout+time.Second)
	defer cancel()
	if err := engine.Run(ctx); err != nil {
		return result, err
	}
	if result.outcome == "" {
		result.outcome, result.reason = "released", "it did not end in time"
	}
	return result, nil
}

// stoppedAt is the byte of text, from 0, at which a decoder stopped, or -1 when its error doesn't say.
func stoppedAt(err error, text []byte) int {
	at := -1
	if e, ok := errors.AsType[*entitlement.Error](err); ok {
		if at = e.Byte - 1; at < 0 {
			at = memberAt(text, e.Path)
		}
	} else if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = int(e.Offset) - 1
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = int(e.Offset) - 1
	}
	if at < 0 || at > len(text) {
		return -1
	}
	return at
}

// memberAt is where in a JSON text the value at a path such as "entitlements[2].feature.refId" begins, or -1.
func memberAt(text []byte, path string) int {
	if path == "" {
		return -1
	}
	at := len(text) - len(bytes.TrimLeft(text, " \t\r\n"))
	for _, step := range strings.FieldsFunc(strings.ReplaceAll(path, "[", ".["), func(r rune) bool { return r == '.' }) {
		var ok bool
		if at, ok = stepInto(text, at, step); !ok {
			return -1
		}
	}
	return at
}

// stepInto goes from an object or a list at that place to its member, such as "name", or element, such as "[2]".
func stepInto(text []byte, at int, step string) (int, bool) {
	d := json.NewDecoder(bytes.NewReader(text[at:]))
	open, err := d.Token()
	if err != nil {
		return 0, false
	}
	for n := 0; d.More(); n++ {
		switch open {
		case json.Delim('{'):
			name, err := d.Token()
			if err != nil {
				return 0, false
			}
			if name == step {
				at += int(d.InputOffset())
				return at + len(text[at:]) - len(bytes.TrimLeft(text[at:], ": \t\r\n")), true
			}
		case json.Delim('['):
			if step == fmt.Sprintf("[%d]", n) {
				at += int(d.InputOffset())
				return at + len(text[at:]) - len(bytes.TrimLeft(text[at:], ", \t\r\n")), true
			}
		default:
			return 0, false
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return 0, false
		}
	}
	return 0, false
}

func (l *poisonLook) shown(e *pipeline.PoisonEntry, now today) error {
	metadata, p := poisonParts(e)
	if l.format == "json" {
		facts := poisonFacts(e)
		facts["metadata"] = metadata
		if utf8.Valid(e.Message.Payload) {
			facts["payload"] = string(e.Message.Payload)
		} else {
			facts["payload_base64"] = e.Message.Payload
		}
		facts["today"] = now.facts()
		return encodeLine(l.Stdout, facts)
	}
	if err := writePoisonHead(l.text(), e); err != nil {
		return err
	}
	var b strings.Builder
	if e.Place != "" {
		fmt.Fprintf(&b, "  at %s\n", visible(e.Place))
	}
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		fmt.Fprintf(&b, "  %s: %s\n", visible(k), visible(metadata[k]))
	}
	if p.Stack != "" {
		fmt.Fprintf(&b, "\n%s\n", visible(p.Stack))
	}
	body := e.Message.Payload
	var pretty bytes.Buffer
	if json.Indent(&pretty, body, "", "  ") == nil {
		body = pretty.Bytes()
	}
	fmt.Fprintf(&b, "\n%s\n\n", visible(string(body)))
	now.write(&b)
	_, err := io.WriteString(l.Stdout, b.String())
	return err
}

func (t today) facts() map[string]any {
	facts := map[string]any{"outcome": t.outcome}
	if t.reason != "" {
		facts["reason"] = t.reason
	}
	if t.outcome == "written" {
		facts["writes"] = t.writes
	}
	if t.at >= 0 {
		facts["stage"], facts["byte"] = t.stage, t.at+1
	}
	return facts
}

func (t today) write(b *strings.Builder) {
	switch t.outcome {
	case "written":
		b.WriteString("today it would be written:\n")
		for _, line := range t.writes {
			b.WriteString("  " + printable(line) + "\n")
		}
	case "filtered":
		b.WriteString("today it would be filtered: nothing is stored of it\n")
	case "poisoned":
		b.WriteString("today it would be poisoned again" + because(t.reason) + "\n")
	default:
		b.WriteString("today it would not be stored" + because(t.reason) + "\n")
	}
	if t.at >= 0 {
		line, mark := excerpt(t.given, t.at)
		fmt.Fprintf(b, "  it stopped at byte %d of what that was given:\n  %s\n  %s^\n", t.at+1, line, strings.Repeat(" ", mark))
	}
	b.WriteString("\n")
}

// excerpt returns the characters around a byte of text in one line, and how many of them stand before it.
func excerpt(text []byte, at int) (line string, before int) {
	const around = 30
	clean := func(part []byte) []rune {
		return []rune(strings.Map(func(r rune) rune {
			if r == '\n' || r == '\t' {
				return ' '
			}
			return r
		}, visible(string(part))))
	}
	head, tail := clean(text[:at]), clean(text[at:])
	if len(head) > around {
		head = append([]rune("…"), head[len(head)-around:]...)
	}
	if len(tail) > around {
		tail = append(tail[:around:around], '…')
	}
	return string(head) + string(tail), len(head)
}
