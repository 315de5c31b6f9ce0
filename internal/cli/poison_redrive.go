package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/poison"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources"
)

func (p *Program) poisonRedriveCommand() *cobra.Command {
	l := &poisonLook{Program: p}
	var rate sources.Rate
	var dry bool
	c := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "sends messages of a poison queue through the pipeline again",
		Long: `Sends messages of a poison queue through the whole pipeline again, as they were when they were received, and removes each
when it is stored. What is poisoned again, or not stored for another reason, stays in the poison queue as the one entry that
it was, and is told.

It may be run beside the pipeline, which goes on storing. Interrupted at any moment, by kill -9 too, it loses nothing: what
is not removed yet is sent again by the next redrive, and newer writes that are in the store stay. Two redrives at a time
are refused for files, and share the messages of an SQS queue. The file's source is not looked at, its record and service
are left out.

With --dry-run nothing is stored and nothing removed: it shows what would be written.` + poisonSelectHelp + `

The exit code is 0 when every message that was asked for was put back, or shown by --dry-run; 1 when one stays, a place is
damaged, an ID is not there, or the queue can't be read; 2 for a wrong pipeline file or expression.`,
		Example: p.examples(`
			penstock poison redrive -f my-pipeline.yaml --dry-run
			penstock poison redrive -f my-pipeline.yaml --filter '.poison.reason | contains("customerId")' --rate 100/s
			REDIS_HOST=redis POISON_DIR=poison penstock poison redrive`),
		RunE: func(c *cobra.Command, ids []string) error {
			s, err := l.selection(ids)
			if err != nil {
				return err
			}
			skip := []string{"source", "record", "service"}
			if dry {
				skip = append(skip, "sink")
			}
			loader := p.newRunLoader(skip...)
			loader.load(l.file)
			if err := loader.done(); err != nil {
				return err
			}
			return l.redrive(c.Context(), loader, s, float64(rate), dry)
		},
	}
	l.flags(c)
	c.Flags().Var(&textFlag{&rate, "rate"}, "rate", "most messages in a unit of time, such as 500/s or 30/m")
	c.Flags().BoolVar(&dry, "dry-run", false, "store and remove nothing, and show what would be written")
	return c
}

func (l *poisonLook) redrive(ctx context.Context, loader *loader, selection poisonSelection, rate float64, dry bool) error {
	keeper, err := l.keeper(loader)
	if err != nil {
		return err
	}
	queue, err := l.open(ctx, keeper, !dry)
	if err != nil {
		return err
	}
	r := newRedrive(l, queue, selection, dry)
	r.report = r.print
	if rate > 0 {
		r.interval = time.Duration(float64(time.Second) / rate)
	}
	r.stand(l.config)
	s := &session{Program: l.Program, configs: loader.configs, refs: loader.refs, warnings: loader.told(), notes: loader.notes, replay: true, around: r.watch}
	_, err = s.execute(ctx)
	if failed := r.err(); failed != nil {
		err = failed // the engine says the same, in more words
	}
	if cerr := queue.Close(); cerr != nil {
		l.problem(fmt.Errorf("poison queue: %w", cerr))
	}
	if err == nil || r.all() > 0 {
		err = errors.Join(err, r.summary())
	}
	switch {
	case err != nil:
		return err
	case s.signals > 0:
		return errors.New("interrupted: what was not put back is still in the poison queue")
	case l.problems > 0 || !dry && r.counts["poisoned"]+r.counts["released"] > 0:
		return exitError(exitFailed)
	}
	return nil
}

// dropAll is a sink that takes everything.
type dropAll struct{}

func (dropAll) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(context.Context, *message.Message) error { return nil }), nil
}

// redrive is the source and the poison queue of a pipeline whose own poison queue it reads. An entry is removed when
// its message was acked and not poisoned again; otherwise it stays as it is.
type redrive struct {
	look      *poisonLook
	queue     pipeline.PoisonQueue
	selection poisonSelection
	interval  time.Duration // between messages; 0: none
	dry       bool
	report    func(s *sent, outcome, reason string) error // tells a person of one message

	stop    context.CancelFunc // of reading
	out     chan *message.Message
	closing chan struct{} // closed: what is not settled by now is not
	ended   chan struct{} // closed: all is settled and removed
	close   sync.Once

	mu     sync.Mutex
	counts map[string]int64 // by outcome
	failed error            // nothing more can be done
}

func newRedrive(l *poisonLook, queue pipeline.PoisonQueue, selection poisonSelection, dry bool) *redrive {
	return &redrive{look: l, queue: queue, selection: selection, dry: dry, counts: map[string]int64{}}
}

// stand puts the redrive in the place of the source and of the poison queue of a pipeline.
func (r *redrive) stand(cfg *pipeline.Config) {
	cfg.Source = pipeline.SourceSpec{Component: pipeline.Component{Name: "poison_queue", Config: (*redriveSource)(r), Path: "source"}}
	if r.dry {
		cfg.Sink.Component = pipeline.Component{Name: "dry-run", Config: dropAll{}, Path: "sink"}
		cfg.Order = pipeline.OrderSource // so that two dry runs show the same
		cfg.PoisonLimit = nil
	}
	cfg.PoisonQueue = &pipeline.SinkSpec{Component: pipeline.Component{Name: "poison_queue", Config: (*redrivePoison)(r), Path: "poison_queue"}}
}

// sent is an entry on its way.
type sent struct {
	entry *pipeline.PoisonEntry

	mu      sync.Mutex
	wrote   [][]byte // what reached the sink, of a dry run
	written bool     // something did
	poison  string   // why it was poisoned again
	failure error    // of the last attempt
}

type sentKey struct{}

func sentOf(ctx context.Context) *sent {
	s, _ := ctx.Value(sentKey{}).(*sent)
	return s
}

type (
	redriveSource redrive
	redrivePoison redrive
)

func (r *redriveSource) NewSource(pipeline.Env) (pipeline.Source, error) {
	return pipeline.FromSubscriber((*redrive)(r), "poison_queue"), nil
}

func (r *redrivePoison) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(ctx context.Context, msg *message.Message) error {
		s := sentOf(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.poison = msg.Metadata[pipeline.MetadataPoisonReason]
		return nil
	}), nil
}

// watch notes what an attempt came to.
func (r *redrive) watch(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		s := sentOf(msg.Context())
		if err := r.err(); err != nil {
			return nil, pipeline.Fatal(err)
		}
		out, err := next(msg)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failure, s.written, s.wrote = err, err == nil && len(out) > 0, nil
		if err == nil && r.dry {
			for _, m := range out {
				s.wrote = append(s.wrote, bytes.Clone(m.Payload))
			}
		}
		return out, err
	}
}

// Subscribe implements [message.Subscriber].
func (r *redrive) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	r.out, r.closing, r.ended = make(chan *message.Message), make(chan struct{}), make(chan struct{})
	ctx, r.stop = context.WithCancel(ctx)
	go func() {
		defer close(r.ended)
		settled := make(chan *sent)
		removing := make(chan struct{})
		go func() {
			defer close(removing)
			r.remove(settled)
		}()
		var waiting sync.WaitGroup
		err := r.read(ctx, func(s *sent, msg *message.Message) {
			waiting.Go(func() {
				if r.settle(s, msg) {
					settled <- s
				}
			})
		})
		if err != nil && ctx.Err() == nil {
			r.fail(fmt.Errorf("poison queue: %w", err))
		}
		stopped := ctx.Err() != nil
		if stopped {
			close(r.out) // a stop does not wait for what is in flight
		}
		waiting.Wait()
		close(settled)
		<-removing
		if !stopped {
			close(r.out)
		}
	}()
	return r.out, nil
}

// read hands on the messages, as they were when they were received.
func (r *redrive) read(ctx context.Context, handed func(*sent, *message.Message)) error {
	next := time.Now()
	return r.look.each(ctx, r.queue, r.selection, func(e *pipeline.PoisonEntry) error {
		if r.interval > 0 {
			timer := time.NewTimer(time.Until(next))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			next = time.Now().Add(r.interval)
		}
		if err := r.err(); err != nil {
			return err
		}
		s := &sent{entry: e}
		msg := message.NewMessage(e.Message.UUID, e.Message.Payload)
		maps.Copy(msg.Metadata, e.Message.Metadata)
		for _, key := range poison.Keys {
			delete(msg.Metadata, key)
		}
		msg.SetContext(context.WithValue(context.Background(), sentKey{}, s))
		select {
		case r.out <- msg:
		case <-ctx.Done():
			return ctx.Err()
		}
		handed(s, msg)
		return nil
	})
}

// settle waits for the outcome of a message, and tells it; true means that the entry is to be removed.
func (r *redrive) settle(s *sent, msg *message.Message) bool {
	select {
	case <-msg.Acked():
	case <-msg.Nacked():
	case <-r.closing:
	}
	outcome := "released"
	select {
	case <-msg.Acked():
		outcome = "filtered"
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reason := ""
	switch {
	case outcome == "released":
		if s.failure == nil {
			return false // the stop has taken it back
		}
		reason = s.failure.Error()
	case s.poison != "":
		outcome, reason = "poisoned", s.poison
	case s.written:
		outcome = "written"
	}
	r.tell(s, outcome, reason)
	return !r.dry && (outcome == "written" || outcome == "filtered")
}

// tell counts an outcome and reports it.
func (r *redrive) tell(s *sent, outcome, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[outcome]++
	if err := r.report(s, outcome, reason); err != nil && r.failed == nil {
		r.failed = fmt.Errorf("write the result: %w", err)
	}
}

// print prints what a person wants to know of a message.
func (r *redrive) print(s *sent, outcome, reason string) error {
	id := s.entry.Message.UUID
	if r.look.format == "json" {
		line := map[string]any{"id": id, "outcome": outcome, "place": s.entry.Place}
		if reason != "" {
			line["reason"] = reason
		}
		if r.dry && outcome == "written" {
			line["writes"] = dryLines(s.wrote)
		}
		return encodeLine(r.look.Stdout, line)
	}
	var b strings.Builder
	switch {
	case r.dry && outcome == "written":
		fmt.Fprintf(&b, "%s  would be written\n", visible(id))
		for _, line := range dryLines(s.wrote) {
			b.WriteString("  " + printable(line) + "\n")
		}
	case r.dry:
		fmt.Fprintf(&b, "%s  would be %s%s\n", visible(id), outcome, because(reason))
	case outcome == "poisoned":
		fmt.Fprintf(&b, "%s  stays, poisoned again%s\n", visible(id), because(reason))
	case outcome == "released":
		fmt.Fprintf(&b, "%s  stays, not stored%s\n", visible(id), because(reason))
	}
	_, err := io.WriteString(r.look.Stdout, b.String())
	return err
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + visible(reason)
}

// dryLines are the lines of what would be written: a payload of cache writes has one for each.
func dryLines(payloads [][]byte) []string {
	lines := []string{}
	for _, payload := range payloads {
		for line := range strings.SplitSeq(strings.TrimSuffix(string(payload), "\n"), "\n") {
			lines = append(lines, line)
		}
	}
	return lines
}

// mostRemoved is how many entries are removed in one call.
const mostRemoved = 500

// remove removes settled entries, those together that came while the ones before were being removed.
func (r *redrive) remove(settled <-chan *sent) {
	for s := range settled {
		batch := []*pipeline.PoisonEntry{s.entry}
		for more := true; more && len(batch) < mostRemoved; {
			select {
			case s, ok := <-settled:
				if more = ok; ok {
					batch = append(batch, s.entry)
				}
			default:
				more = false
			}
		}
		// The messages are stored: neither a signal nor the end of the pipeline shall keep their entries there.
		ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
		err := r.queue.Remove(ctx, batch)
		cancel()
		if err != nil {
			r.fail(fmt.Errorf("poison queue: %d messages are stored, but can't be removed: the next redrive sends them again: %w", len(batch), err))
		}
	}
}

// removeTimeout is how long a poison queue may take to remove entries.
const removeTimeout = 30 * time.Second

func (r *redrive) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = err
	}
}

func (r *redrive) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// Drain implements [pipeline.Drainer].
func (r *redrive) Drain() {
	if r.stop != nil {
		r.stop()
	}
}

// Unresolved implements [pipeline.Finite]: what stays in the queue is told by name.
func (r *redrive) Unresolved() (int64, []string) { return 0, nil }

// Close implements [message.Subscriber]. It returns when what was settled is removed.
func (r *redrive) Close() error {
	if r.stop == nil {
		return nil
	}
	r.stop()
	r.close.Do(func() { close(r.closing) })
	<-r.ended
	return nil
}

// all is how many messages have an outcome.
func (r *redrive) all() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.counts {
		n += c
	}
	return n
}

// summary ends a redrive.
func (r *redrive) summary() error {
	all := r.all()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	back := c["written"] + c["filtered"]
	if r.look.format == "json" {
		summary := map[string]any{"messages": all, "dry_run": r.dry}
		for _, outcome := range []string{"written", "filtered", "poisoned", "released"} {
			summary[outcome] = c[outcome]
		}
		return encodeLine(r.look.Stdout, map[string]any{"summary": summary})
	}
	format := "put back %s of %s messages: %s written, %s filtered, %s poisoned again, %s not stored\n"
	args := []any{grouped(back), grouped(all)}
	if r.dry {
		format = "dry run of %s messages, nothing was stored or removed: %s would be written, %s filtered, %s poisoned, %s not stored\n"
		args = args[1:]
	}
	args = slices.Concat(args, []any{grouped(c["written"]), grouped(c["filtered"]), grouped(c["poisoned"]), grouped(c["released"])})
	_, err := fmt.Fprintf(r.look.Stdout, format, args...)
	return err
}
