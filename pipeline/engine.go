package pipeline

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/inside"
)

// Engine runs pipelines, each on a Watermill router of its own. Engines share nothing: a process may have several.
type Engine struct {
	runners []*runner
	ready   chan struct{}
}

// New makes an engine for pipelines, which it owns from then on: it starts and closes their components. Names must be
// unique. The engine runs once.
func New(settings Settings, pipelines ...*Pipeline) (*Engine, error) {
	if len(pipelines) == 0 {
		return nil, errors.New("no pipeline to run")
	}
	settings = settings.withDefaults()
	e := &Engine{ready: make(chan struct{})}
	seen := map[string]bool{}
	for _, p := range pipelines {
		if seen[p.Name] {
			return nil, fmt.Errorf("two pipelines are named %q: names are unique in a process", p.Name)
		}
		seen[p.Name] = true
		r, err := newRunner(*p, settings)
		if err != nil {
			return nil, err
		}
		e.runners = append(e.runners, r)
	}
	return e, nil
}

// Run runs the pipelines until each has ended: its finite source is finished, or it was stopped. The end of ctx asks
// for a graceful stop: nothing more is received, what is in flight is finished for as long as shutdown_timeout
// allows, the rest is released. When one pipeline fails, the others go on: [Engine.Health] and the log say which
// failed, and why. Run returns nil, or what made pipelines fail.
func (e *Engine) Run(ctx context.Context) error {
	errs := make([]error, len(e.runners))
	var wg sync.WaitGroup
	for i, r := range e.runners {
		wg.Go(func() {
			if err := r.run(ctx); err != nil {
				errs[i] = fmt.Errorf("pipeline %s: %w", r.p.Name, err)
				r.failedWith.Store(&err)
				if len(e.runners) > 1 {
					complaint.Error(r.log, "pipeline failed: the others go on", zap.Error(err))
				}
			}
		})
	}
	wg.Go(func() {
		for _, r := range e.runners {
			select {
			case <-r.ready:
			case <-r.soft.Done():
				return
			}
		}
		close(e.ready)
	})
	wg.Wait()
	return errors.Join(errs...)
}

// Kill asks for a hard stop: attempts in flight are cancelled and their messages released. Run then returns soon. It
// may be called at any time, and more than once.
func (e *Engine) Kill() {
	for _, r := range e.runners {
		r.softStop(errStopping)
		r.hardStop(errStopping)
	}
}

// Ready returns a channel that is closed when all pipelines receive. Their backends may be away: see [Engine.Health].
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Health returns the state of each pipeline, in the order given to [New]. It does not block on any backend.
func (e *Engine) Health() []Health {
	all := make([]Health, len(e.runners))
	for i, r := range e.runners {
		all[i] = r.health()
	}
	return all
}

// Ledgers returns what became of the deliveries of each pipeline so far, in the order given to [New].
func (e *Engine) Ledgers() []Ledger {
	all := make([]Ledger, len(e.runners))
	for i, r := range e.runners {
		all[i] = r.ledger()
	}
	return all
}

func (s Settings) withDefaults() Settings {
	if s.Logger == nil {
		s.Logger = zap.NewNop()
	}
	if s.Metrics == nil {
		s.Metrics = prometheus.NewRegistry()
	}
	return s
}

// forPipeline returns a registerer that labels everything with the pipeline.
func (s Settings) forPipeline(name string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": name}, s.Metrics)
}

var pipelineName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// setDefaults fills what a program left out, and reports what it must not leave out.
func (p *Pipeline) setDefaults() error {
	if !pipelineName.MatchString(p.Name) {
		return fmt.Errorf("pipeline name %q: want 1 to 63 of a-z, 0-9 and -", p.Name)
	}
	if p.Source.Subscriber == nil {
		return fmt.Errorf("pipeline %s has no source", p.Name)
	}
	if p.Sink.Publisher == nil {
		return fmt.Errorf("pipeline %s has no sink", p.Name)
	}
	d := DefaultConfig()
	setDefault(&p.MaxInFlight, d.MaxInFlight)
	setDefault(&p.MaxInFlightBytes, int64(d.MaxInFlightBytes))
	setDefault(&p.MessageTimeout, d.MessageTimeout)
	setDefault(&p.ShutdownTimeout, d.ShutdownTimeout)
	setDefault(&p.RecordOnError, "continue")
	setDefault(&p.Retry.InitialInterval, d.Retry.InitialInterval)
	setDefault(&p.Retry.MaxInterval, d.Retry.MaxInterval)
	setDefault(&p.Retry.Multiplier, d.Retry.Multiplier)
	setDefault(&p.Retry.MaxAttempts, d.Retry.MaxAttempts)
	setDefault(&p.Retry.MaxElapsedTime, d.Retry.MaxElapsedTime)
	setDefault(&p.Retry.OnExhausted, d.Retry.OnExhausted)
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// newPanicError makes a panic of a component an error of the message that it was given.
func newPanicError(value any) error {
	return Permanent(&inside.PanicError{Value: value, Stack: debug.Stack()})
}
