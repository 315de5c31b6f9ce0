package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/admin"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/errorreport"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/tracing"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
)

func (p *Program) runCommand() *cobra.Command {
	var failOnPoison, dry bool
	c := &cobra.Command{
		Use:   "run [FILE...]",
		Short: "runs pipelines until a signal, or until a finite source ends",
		Long: `Runs the pipelines of the files in one process, until a signal, or until a finite source (a file) ends.

FILE is a pipeline file or the name of a ready pipeline: ` + strings.Join(configs.Names(), ", ") + `.
Without FILE it runs the built-in cache service, ` + configs.PersistentCache + `, configured by environment variables:
QUEUE_URL and REDIS_HOST are required; docs/operations.md lists the others.

The first SIGINT or SIGTERM stops gracefully: nothing new is received, what is in flight is finished. A second one
stops at once.`,
		Example: p.examples(`
			penstock run quickstart
			penstock run my-pipeline.yaml another.yaml
			penstock run from-a-file.yaml --dry-run
			QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/events REDIS_HOST=redis penstock run`),
		RunE: func(c *cobra.Command, files []string) error {
			if len(files) == 0 {
				files = []string{configs.PersistentCache}
			}
			var skip []string
			if dry {
				skip = dryRunSkips
			}
			l := p.newRunLoader(skip...)
			for _, file := range files {
				l.load(file)
			}
			reports, err := errorreport.FromEnv(trimmed(p.LookupEnv), p.ReadFile)
			if err != nil && len(l.service) == 0 { // the built-in service has told it with the rest of its variables
				err = &usageError{err}
			} else {
				err = nil
			}
			if err := errors.Join(l.done(), err); err != nil {
				return err
			}
			if err := inside.CheckTogether(l.configs); err != nil {
				return err
			}
			s := &session{Program: p, configs: l.configs, refs: l.refs, warnings: l.told(), notes: l.notes, reports: reports}
			if dry {
				return s.dryRun(c.Context(), failOnPoison)
			}
			return s.run(c.Context(), failOnPoison)
		},
	}
	c.Flags().BoolVar(&failOnPoison, "fail-on-poison", false, "exit with 1 when a message was poisoned")
	c.Flags().BoolVar(&dry, "dry-run", false, "store nothing and show what would be written; not for queues, whose messages would be consumed")
	return c
}

// session is one run of an engine, with what surrounds it: signals, HTTP, logs and the live line.
type session struct {
	*Program
	configs         []*pipeline.Config
	refs            []string // what the person called each of them
	warnings, notes []string
	reports         errorreport.Config
	// dry, when it is not nil, stands in place of sinks and poison queues.
	dry *dryRun
	// replay shows how far the source is in place of the live line, and leaves the ledger to the summary.
	replay bool
	// quiet shows no progress.
	quiet bool
	// around is put around every attempt of the pipelines; nil: nothing is.
	around message.HandlerMiddleware
	// reasons counts why messages were poisoned or released; nil: nobody asks.
	reasons *reasons

	screen    *screen
	logger    *zap.Logger
	metrics   *prometheus.Registry
	engine    *pipeline.Engine
	traces    tracing.Config
	tracer    *tracing.Tracer       // nil: nothing is traced
	errors    *errorreport.Reporter // nil: errors are reported to nobody
	barHidden bool
	bar       *bar // nil: the live line

	started  time.Time
	signals  int
	killedBy os.Signal // the second signal, which stopped at once; nil: there was none
}

const (
	livePeriod = 2 * time.Second
	// hardStopPatience is how long components get to return after a hard stop.
	hardStopPatience = 3 * time.Second
)

// run returns nil when everything went well, and otherwise an error that carries the exit code.
func (s *session) run(ctx context.Context, failOnPoison bool) error {
	ledgers, err := s.execute(ctx)
	if err != nil {
		return err
	}
	return verdict(ledgers, failOnPoison)
}

// verdict is the exit code of a run that ended by itself or by one signal.
func verdict(ledgers []pipeline.Ledger, failOnPoison bool) error {
	for _, l := range ledgers {
		if l.Unresolved > 0 || failOnPoison && l.Poisoned > 0 {
			return exitError(exitFailed)
		}
	}
	return nil
}

// execute builds, listens, loops and ends. The ledgers come also with an error, once the engine ran.
func (s *session) execute(ctx context.Context) ([]pipeline.Ledger, error) {
	s.started = time.Now()
	if s.KeepOnBrokenPipe != nil {
		s.KeepOnBrokenPipe()
	}
	defer s.close()
	if err := s.build(); err != nil {
		return nil, err
	}
	servers, err := s.listen()
	if err != nil {
		return nil, err
	}
	s.sayStart(servers.Addresses())
	err = s.loop(ctx, servers.Failed())
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return s.end(errors.Join(err, servers.Close(closing)))
}

// build makes the log, what goes to others (error reports and traces), and the engine with its pipelines.
func (s *session) build() error {
	level, err := logLevel(func(name string) string { v, _ := trimmed(s.LookupEnv)(name); return v })
	if err != nil {
		return &usageError{err}
	}
	s.screen = newScreen(s.Stderr, s.Width)
	s.logger = newLogger(s.screen, s.Terminal, level)
	if s.reports.DSN != "" {
		if s.errors, err = errorreport.New(s.reports, Version, s.logger); err != nil {
			return usagef("SENTRY_DSN can't be used") // the error may quote it
		}
	}
	s.metrics = prometheus.NewRegistry()
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	settings := pipeline.Settings{Logger: s.logger, Metrics: s.metrics}
	tracerLog := s.logger
	if s.reasons != nil {
		inside.Observe(&settings, s.reasons.observe)
	}
	if s.errors != nil {
		inside.Observe(&settings, s.errors.Observe)
		tracerLog = complaint.Watch(s.logger, "", s.errors.Observe)
	}
	if s.traces, err = tracing.FromEnv(s.tracingConfig(), trimmed(s.LookupEnv)); err != nil {
		return &usageError{err}
	}
	if s.traces.Enabled && !s.replay {
		if s.tracer, err = tracing.New(s.traces, Version, tracerLog, s.metrics); err != nil {
			return &usageError{err}
		}
		settings.Tracer = s.tracer
	}
	var pipelines []*pipeline.Pipeline
	for _, cfg := range s.configs {
		built, err := cfg.Build(settings)
		if err != nil {
			return &usageError{err}
		}
		if s.around != nil {
			built.Middleware = append(built.Middleware, s.around)
		}
		pipelines = append(pipelines, built)
	}
	if s.dry != nil && !s.replay {
		for i, p := range pipelines {
			if _, ok := p.Source.Subscriber.(pipeline.Finite); !ok {
				return refuseDryRun(s.Invocation, s.configs[i], s.refs[i])
			}
		}
	}
	if progress, ok := pipelines[0].Source.Subscriber.(sources.Progress); ok && s.replay {
		s.bar = newBar(progress)
	}
	s.barHidden = s.quiet || s.Terminal && s.stdoutTerminal() && s.printsResults()
	if s.engine, err = pipeline.New(settings, pipelines...); err != nil {
		return &usageError{err}
	}
	return nil
}

// printsResults tells that results go to Stdout while it runs: on one terminal they would tear a live line apart.
func (s *session) printsResults() bool {
	prints := s.dry != nil
	for _, cfg := range s.configs {
		cfg.Walk(func(_ pipeline.Role, _ pipeline.Kind, component *pipeline.Component) {
			if _, ok := component.Config.(*sinks.StdoutConfig); ok {
				prints = true
			}
		})
	}
	return prints
}

// close sends what is still to send: traces, then error reports.
func (s *session) close() {
	atOnce := s.killedBy != nil
	if s.tracer != nil {
		s.tracer.Close(atOnce)
	}
	if s.errors != nil {
		s.errors.Close(atOnce)
	}
}

// loop runs the engine until it ends, shows how far it is meanwhile, and stops it on signals and when a server failed.
func (s *session) loop(ctx context.Context, failed <-chan error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(ctx) }()
	ready := s.engine.Ready()
	period := livePeriod
	if s.bar != nil {
		period = barPeriod
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	meter := newLagMeter(s.metrics)
	var waiting bool // for a store that is away, to say that all is ready
	var tooLate <-chan time.Time
	var failure error
	for {
		select {
		case err := <-done:
			select {
			case <-ready: // it was over before this loop saw that it had begun
				if s.connected() {
					s.sayReady()
				}
			default:
			}
			return errors.Join(err, failure)
		case <-tooLate:
			return errors.Join(errors.New("components did not return"), failure)
		case <-ready:
			ready = nil
			if waiting = !s.connected(); !waiting {
				s.sayReady()
			}
		case <-ticker.C:
			if waiting && s.connected() {
				waiting = false
				s.sayReady()
			}
			s.sayProgress(meter)
		case failure = <-failed:
			stop()
		case sig := <-s.Signals:
			if s.signals++; s.signals == 1 {
				stop()
				s.logger.Debug("stopping: finishing what is in flight; a second signal stops at once", zap.Stringer("signal", sig))
				continue
			}
			s.killedBy = sig
			s.engine.Kill()
			tooLate = time.After(hardStopPatience)
		}
	}
}

// end tells what became of the messages, and returns err, nil or one that carries the exit code.
func (s *session) end(err error) ([]pipeline.Ledger, error) {
	if s.Terminal && s.bar != nil && !s.barHidden {
		s.screen.Live(s.bar.line(err == nil, s.screen.room()))
	}
	s.screen.EndLive()
	ledgers := s.engine.Ledgers()
	s.sayEnd(ledgers, s.signals > 0, err)
	if s.errors != nil && err != nil {
		s.errors.Failed(err)
	}
	if s.killedBy != nil {
		if n, ok := s.killedBy.(syscall.Signal); ok {
			return ledgers, exitError(128 + int(n))
		}
		return ledgers, exitError(exitFailed)
	}
	if err != nil {
		err = withCode(err)
	}
	if err != nil && !s.Terminal {
		// Where logs are for machines, the reason of the end is one of them.
		s.logger.Error("a pipeline failed", zap.Error(err), zap.String("code", string(code.Of(err))))
		err = exitError(exitFailed)
	}
	return ledgers, err
}

// withCode gives an error that ends a pipeline a code, when none of its causes has one.
func withCode(err error) error {
	if code.Of(err) != "" {
		return err
	}
	return code.Mark(code.PipelineEnded, err)
}

func (s *session) listen() (*admin.Servers, error) {
	var service *pipeline.ServiceConfig
	for _, cfg := range s.configs {
		if cfg.Service != nil {
			service = cfg.Service
		}
	}
	return admin.Listen(service, admin.Options{Engine: s.engine, Metrics: s.metrics, Version: Version, Logger: s.logger})
}

// sayStart says once what runs, within which bounds, and where its Redis is for the provider's SDK.
func (s *session) sayStart(addresses []string) {
	for _, w := range s.warnings {
		s.logger.Warn(w)
	}
	for _, n := range s.notes {
		s.logger.Info(n)
	}
	if !s.Terminal {
		type pipelineFields struct {
			Name             string   `json:"name"`
			File             string   `json:"file"`
			Flow             string   `json:"flow"`
			MaxInFlight      int      `json:"max_in_flight"`
			MaxInFlightBytes string   `json:"max_in_flight_bytes"`
			Redis            []sdkUse `json:"sdk_redis,omitempty"`
		}
		var all []pipelineFields
		for _, cfg := range s.configs {
			all = append(all, pipelineFields{
				Name: cfg.Name, File: cfg.File, Flow: flow(cfg), MaxInFlight: cfg.MaxInFlight,
				MaxInFlightBytes: cfg.MaxInFlightBytes.String(), Redis: sdkUses(cfg.Sink),
			})
		}
		s.logger.Info("starting", zap.String("version", Version), zap.Any("pipelines", all), zap.Strings("http", addresses),
			zap.String("sends", s.sends()))
		return
	}
	var b strings.Builder
	for i, cfg := range s.configs {
		fmt.Fprintf(&b, "penstock %s  %s: %s\n", Version, cfg.Name, flow(cfg))
		fmt.Fprintf(&b, "  bounds   %s messages and %s in flight\n", grouped(int64(cfg.MaxInFlight)), cfg.MaxInFlightBytes)
		for _, use := range sdkUses(cfg.Sink) {
			fmt.Fprintf(&b, "  SDK      redis: {host: '%s', port: %d, db: %d, environmentPrefix: '%s'}\n", use.Host, use.Port, use.DB, use.EnvironmentPrefix)
		}
		if cfg.Service != nil && cfg.Service.HTTP != nil && len(addresses) > 0 {
			fmt.Fprintf(&b, "  ready    http://%s/readyz\n", reachable(addresses[0]))
		}
		b.WriteString(s.hints(cfg, s.refs[i]))
	}
	fmt.Fprintf(&b, "  sends    %s\n", s.sends())
	_, _ = s.screen.Write([]byte(b.String()))
}

// sends says what leaves for others than the pipelines' own servers.
func (s *session) sends() string {
	var all []string
	for _, cfg := range s.configs {
		cfg.Walk(func(_ pipeline.Role, _ pipeline.Kind, component *pipeline.Component) {
			if c, ok := component.Config.(configfacts.Sender); ok {
				if what := c.Sends(); what != "" && !slices.Contains(all, what) {
					all = append(all, what)
				}
			}
		})
	}
	if s.errors != nil {
		all = append(all, "errors to Sentry at "+s.errors.Host())
	}
	if s.traces.Enabled && !s.replay {
		all = append(all, "traces to "+s.traces.Host)
	}
	if len(all) == 0 {
		return "nothing to anyone"
	}
	return strings.Join(all, ", ")
}

// tracingConfig is what the one file with a service says, or nil.
func (s *session) tracingConfig() *pipeline.TracingConfig {
	for _, cfg := range s.configs {
		if cfg.Service != nil && cfg.Service.Tracing != nil {
			return cfg.Service.Tracing
		}
	}
	return nil
}

// reachable turns an address that is listened on into one to connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// connected reports whether every store answers: an engine that receives while one is away is not ready.
func (s *session) connected() bool {
	for _, h := range s.engine.Health() {
		if !h.SinkConnected {
			return false
		}
	}
	return true
}

func (s *session) sayReady() {
	took := time.Since(s.started)
	if s.Terminal {
		_, _ = fmt.Fprintf(s.screen, "ready in %d ms\n", took.Milliseconds())
		return
	}
	s.logger.Info("ready", zap.Int64("ms", took.Milliseconds()))
}

func (s *session) sayProgress(meter *lagMeter) {
	switch {
	case s.barHidden:
	case !s.Terminal:
		if s.bar != nil {
			if line := s.bar.plain(); line != "" {
				s.logger.Info("replaying: " + line)
			}
		}
	case s.bar != nil:
		s.screen.Live(s.bar.line(false, s.screen.room()))
	default:
		s.screen.Live(liveLine(s.engine.Ledgers(), s.engine.Health(), meter.p99(), s.screen.room()))
	}
}

// sayEnd writes the ledger: what was received, and what became of it.
func (s *session) sayEnd(ledgers []pipeline.Ledger, stopped bool, err error) {
	word := "done"
	switch {
	case err != nil:
		word = "failed"
	case stopped:
		word = "stopped"
	}
	for _, l := range ledgers {
		if !s.Terminal {
			level := zap.InfoLevel
			if err != nil { // who looks for errors in the log finds what became of the messages, too
				level = zap.ErrorLevel
			}
			s.logger.Log(level, word, zap.String("pipeline", l.Pipeline), zap.Int64("received", l.Received),
				zap.Int64("written", l.Written), zap.Int64("filtered", l.Filtered), zap.Int64("poisoned", l.Poisoned),
				zap.Int64("released", l.Released), zap.Int64("retries", l.Retries), zap.Int64("record_errors", l.RecordErrors),
				zap.Int64("unresolved", l.Unresolved), zap.Strings("unresolved_at", l.UnresolvedAt), zap.String("last_poison", l.LastPoison))
			continue
		}
		if s.replay {
			continue
		}
		name := ""
		if len(ledgers) > 1 {
			name = l.Pipeline + ": "
		}
		_, _ = fmt.Fprintf(s.screen, "%s: %s%s\n", word, name, ledgerLine(l))
		if l.Poisoned > 0 {
			_, _ = fmt.Fprintf(s.screen, "  last poisoned: %s\n", l.LastPoison)
		}
		_, _ = fmt.Fprint(s.screen, unresolvedLines(l))
	}
}
