package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources"
)

// comparing is implemented by configs of sinks that can tell what a message would change in their store.
type comparing interface {
	NewComparer(ctx context.Context) (cache.Comparer, error)
}

// dryRunSkips are the keys of a pipeline that "run --dry-run" has no use for.
var dryRunSkips = []string{"sink", "record", "service"}

// dryRun stands in place of the sinks and poison queues of pipelines, and shows what would reach them.
type dryRun struct {
	out    io.Writer
	stores []dryStore

	mu                            sync.Mutex
	fresh, changed, gone, useless int // writes, with --compare
}

// dryStore is one store that writes are compared with.
type dryStore struct {
	name string // "" when it is the only one
	cache.Comparer
}

// newDryRun replaces the sinks of configs, which it changes.
func newDryRun(ctx context.Context, out io.Writer, configs []*pipeline.Config, compare bool) (*dryRun, error) {
	d := &dryRun{out: out}
	for _, cfg := range configs {
		if compare {
			if err := d.connect(ctx, cfg); err != nil {
				d.close()
				return nil, err
			}
		}
		name := ""
		if len(configs) > 1 {
			name = cfg.Name + ": "
		}
		cfg.Sink.Component = pipeline.Component{Name: "dry-run", Config: &drySink{dry: d, prefix: name}, Path: "sink.dry-run"}
		if cfg.PoisonQueue != nil {
			cfg.PoisonQueue.Component = pipeline.Component{Name: "dry-run", Config: &drySink{dry: d, prefix: name, poison: true}, Path: "poison_queue.dry-run"}
		}
		cfg.Record = nil
		if file, ok := cfg.Source.Config.(*sources.FileConfig); ok {
			file.Checkpoint = "" // what only was shown is still to do
		}
		cfg.Order = pipeline.OrderSource // so that two dry runs show the same
	}
	return d, nil
}

// connect connects to the stores of a pipeline, for reading.
func (d *dryRun) connect(ctx context.Context, cfg *pipeline.Config) error {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	all := leaves(cfg.Sink)
	for _, leaf := range all {
		config, ok := leaf.Config.(comparing)
		if !ok {
			continue
		}
		comparer, err := config.NewComparer(ctx)
		if err != nil {
			if where := embeddedAt(leaf); where != "" {
				return fmt.Errorf("%w\nthe built-in Redis on %s lives in the process that runs the pipeline: is it running?", err, where)
			}
			return err
		}
		s := dryStore{Comparer: comparer}
		if len(all) > 1 {
			s.name = summary(leaf.Component) + ": "
		}
		d.stores = append(d.stores, s)
	}
	if len(d.stores) == 0 {
		return usagef("%s: sink: %s keeps nothing that can be read back: --compare needs a redis", cfg.File, cfg.Sink.Name)
	}
	return nil
}

func (d *dryRun) close() {
	for _, s := range d.stores {
		_ = s.Close()
	}
}

// drySink is a sink of a dry run.
type drySink struct {
	dry    *dryRun
	prefix string
	poison bool
}

func (s *drySink) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(s.store), nil
}

func (s *drySink) store(ctx context.Context, msg *message.Message) error {
	switch {
	case s.poison:
		return s.dry.print(s.prefix + "would poison  " + printable(msg.Metadata[pipeline.MetadataPoisonReason]) + "\n")
	case len(s.dry.stores) > 0:
		return s.dry.compare(ctx, s.prefix, msg.Payload)
	}
	var b strings.Builder
	payload := bytes.TrimSuffix(msg.Payload, []byte("\n"))
	for line := range bytes.SplitSeq(payload, []byte("\n")) {
		b.WriteString(s.prefix + "would write  " + printable(string(line)) + "\n")
	}
	return s.dry.print(b.String())
}

// compare shows what a payload would change in each store.
func (d *dryRun) compare(ctx context.Context, prefix string, payload []byte) error {
	for _, store := range d.stores {
		changes, err := store.Compare(ctx, payload)
		if err != nil {
			return err
		}
		var b strings.Builder
		d.mu.Lock()
		for _, c := range changes {
			word := ""
			switch {
			case c.Same():
				d.useless++
				continue
			case c.Before == nil:
				word = "would add    "
				d.fresh++
			case c.After == nil:
				word = "would delete "
				d.gone++
			default:
				word = "would change "
				d.changed++
			}
			b.WriteString(prefix + store.name + word + printable(c.Key) + "\n")
			if c.Before != nil {
				b.WriteString("  - " + printable(string(c.Before)) + "\n")
			}
			if c.After != nil {
				b.WriteString("  + " + printable(string(c.After)) + "\n")
			}
		}
		d.mu.Unlock()
		if err := d.print(b.String()); err != nil {
			return err
		}
	}
	return nil
}

// print writes lines of one message together. Results that can't be written end the run.
func (d *dryRun) print(lines string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := io.WriteString(d.out, lines); err != nil {
		return pipeline.Fatal(fmt.Errorf("write the result: %w", err))
	}
	return nil
}

// printable writes what would upset a terminal, or break a line, as Go does.
func printable(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	return strconv.Quote(text)
}

// summary tells what would have become of the messages.
func (d *dryRun) summary(ledgers []pipeline.Ledger) {
	for _, l := range ledgers {
		name := ""
		if len(ledgers) > 1 {
			name = l.Pipeline + ": "
		}
		_, _ = fmt.Fprintf(d.out, "%sdry run of %s, nothing was stored: %s would be written, %s filtered, %s poisoned, %s released\n",
			name, counted(l.Received, "message"), grouped(l.Written), grouped(l.Filtered), grouped(l.Poisoned), grouped(l.Released))
		for _, at := range l.UnresolvedAt {
			_, _ = fmt.Fprintf(d.out, "unresolved: %s\n", at)
		}
	}
	if len(d.stores) > 0 {
		_, _ = fmt.Fprintf(d.out, "of the writes, %s would add a key, %s change one, %s delete one, and %s change nothing\n",
			grouped(int64(d.fresh)), grouped(int64(d.changed)), grouped(int64(d.gone)), grouped(int64(d.useless)))
	}
}

// dryRun is "run --dry-run": a run whose sinks show what would be written.
func (s *session) dryRun(ctx context.Context, failOnPoison bool) error {
	for i, cfg := range s.configs {
		if _, ok := cfg.Source.Config.(configfacts.QueueConsumer); ok {
			return refuseDryRun(s.Invocation, cfg, s.refs[i])
		}
	}
	dry, err := newDryRun(ctx, s.Stdout, s.configs, false)
	if err != nil {
		return err
	}
	s.dry = dry
	ledgers, err := s.execute(ctx)
	if err == nil || len(ledgers) > 0 {
		dry.summary(ledgers)
	}
	if err != nil {
		return err
	}
	return verdict(ledgers, failOnPoison)
}

// refuseDryRun says why a source can't be part of a dry run, and what else to do.
func refuseDryRun(invocation string, cfg *pipeline.Config, ref string) error {
	return usagef(`%s: source.%s: a dry run of a source that does not end by itself is refused: what it received of a queue would be gone, or
hidden from those who work on it. Look at the same messages in another way:
  - record: in the running pipeline keeps every message in files; then %s replay %s RECORDINGS --dry-run
  - a second queue on the same topic, drained into files by %s run sqs-to-file, and the same replay
  - tests: beside the pipeline, with messages of your own: %s test %s`, cfg.File, cfg.Source.Name, invocation, ref, invocation, invocation, ref)
}

// checkDryReplay reports flags of a replay that contradict each other.
func checkDryReplay(dry, compare, record, checkpoint bool) error {
	switch {
	case checkpoint && dry:
		return usagef("--checkpoint and --dry-run: what a dry run shows is still to do, so it has nothing to remember")
	case compare && !dry:
		return usagef("--compare goes with --dry-run: a replay that stores compares by itself, newer wins")
	case record && dry:
		return usagef("--record and --dry-run: a dry run stores nothing")
	}
	return nil
}
