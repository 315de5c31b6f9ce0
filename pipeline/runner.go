package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/outage"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline/internal/gate"
)

// runner runs one pipeline, once.
type runner struct {
	p       Pipeline
	log     *zap.Logger
	tracer  Tracer                   // or nil
	observe func(complaint.Incident) // or nil

	stages    []string // of the transforms
	sinkStage string

	// soft ends when the pipeline shall stop: attempts go on, waits end. hard ends attempts too.
	soft, hard         context.Context
	softStop, hardStop context.CancelCauseFunc

	components     map[string]*outage.Component // by stage; complete before anything runs
	gate           *gate.Gate                   // of the sink: closed, it suspends the source too
	transformGates map[string]*gate.Gate        // by stage
	poisonGate     *gate.Gate                   // of the poison queue: closed, it holds what is to be poisoned, and nothing else
	poisonWaits    poisonWaits
	intake         *intake
	sink           backend
	muted          muting
	poisonWindow   *poisonWindow // nil without a poison_limit

	mu             sync.Mutex
	oldest, newest *delivery
	inFlight       int
	bytes          int64
	large          *delivery     // the one that may exceed the bound
	room           chan struct{} // closed when there may be more room; nil when nobody waits
	whenEmpty      chan struct{} // closed when nothing is in flight; nil when nobody waits

	received, retries, recordErrors atomic.Int64
	settled                         [outcomes]atomic.Int64
	lastPoison                      atomic.Pointer[error]
	duration                        prometheus.Histogram

	receiving atomic.Bool               // between subscribing and stopping
	sourceErr atomic.Pointer[error]     // why the source could not start yet
	lastStep  atomic.Pointer[time.Time] // of the watch loop
	ready     chan struct{}             // closed when everything has started

	pings sync.WaitGroup // running ones

	failure    atomic.Pointer[error] // the first fatal error
	failedWith atomic.Pointer[error] // why the pipeline ended, when it failed
}

// backend is a sink as the runner starts and watches it.
type backend struct {
	role      Role
	sink      *Sink
	component *outage.Component
	started   atomic.Bool
	down      atomic.Pointer[error] // why it does not answer; nil: it does
}

const (
	// pingInterval is for the sink, whose state readiness shows within 5 s: an interval and pingPatience are less.
	pingInterval = 1500 * time.Millisecond
	// pingIntervalAside is for the poison queue and the record, which hold nothing up.
	pingIntervalAside = 5 * time.Second
	// pingTimeout ends a ping, pingPatience is how long a part of one may take before the backend counts as away, and
	// pingGrace how long the ping goes on then: a slow backend may still answer.
	pingTimeout  = 8 * time.Second
	pingPatience = 3 * time.Second
	pingGrace    = 2 * time.Second
	// retryStart is the pause before a backend that was away is tried again.
	retryStart = time.Second
	// afterHardStop is how long components get to return once their contexts have ended.
	afterHardStop = 700 * time.Millisecond
)

func newRunner(p Pipeline, settings Settings) (*runner, error) {
	if err := p.setDefaults(); err != nil {
		return nil, err
	}
	r := &runner{
		p: p, log: settings.Logger.With(zap.String("pipeline", p.Name)), tracer: settings.Tracer, observe: settings.observe, ready: make(chan struct{}),
	}
	r.soft, r.softStop = context.WithCancelCause(context.Background())
	r.hard, r.hardStop = context.WithCancelCause(context.Background())
	for i := range p.Transforms {
		stage := fmt.Sprintf("transforms[%d]", i)
		if i < len(p.stageNames) {
			stage = p.stageNames[i]
		}
		r.stages = append(r.stages, stage)
	}
	r.sinkStage = string(RoleSink)
	if p.SinkName != "" {
		r.sinkStage += "." + p.SinkName
	}
	r.muted.titles = map[complaint.Title]*mutedTitle{}
	r.newComponents()
	r.sink = backend{role: RoleSink, sink: &r.p.Sink, component: r.components[r.sinkStage]}
	r.gate = r.newGate(r.sinkStage, func(cause error) { r.complain(titleOutage, cause) })
	r.poisonGate = r.newPoisonGate()
	r.transformGates = make(map[string]*gate.Gate, len(r.stages))
	for _, stage := range r.stages {
		r.transformGates[stage] = r.newGate(stage, func(cause error) { r.complain(titleOutageOfSome, cause) })
	}
	r.poisonWindow = newPoisonWindow(p.PoisonLimit)
	r.intake = newIntake(r)
	r.step()
	if err := r.register(settings.forPipeline(p.Name)); err != nil {
		return nil, fmt.Errorf("register the metrics of pipeline %s: %w", p.Name, err)
	}
	return r, nil
}

// newGate makes the gate of a stage, which logs when it opens.
func (r *runner) newGate(stage string, onClose func(cause error)) *gate.Gate {
	g := gate.New(r.p.MaxInFlight)
	g.OnClose = onClose
	g.OnOpen = func(closedFor time.Duration, held int) {
		r.over(stage, "outage ends: the backend is back", closedFor, held)
	}
	return g
}

func (r *runner) stopGates() {
	r.gate.Stop()
	r.poisonGate.Stop()
	for _, g := range r.transformGates {
		g.Stop()
	}
}

// fail stops the pipeline because of a fatal error.
func (r *runner) fail(err error) {
	r.failure.CompareAndSwap(nil, &err)
	r.softStop(err)
}

func (r *runner) failed() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// run starts sinks, then the source, and returns when the pipeline has stopped or its source has ended. The end of ctx
// asks for a graceful stop.
func (r *runner) run(ctx context.Context) error {
	stopAsking := context.AfterFunc(ctx, func() { r.softStop(errStopping) })
	defer stopAsking()
	defer r.hardStop(errStopping)
	defer r.stopGates()

	all := r.backends()
	defer r.awaitPings() // a ping may hang until its sink is closed
	defer r.closeSinks(all)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer r.softStop(errStopping)

	for _, b := range all {
		if err := r.start(b); err != nil && !IsUnavailable(err) {
			return reason.Errorf("start %s: %w", b.role, err)
		}
	}
	for _, b := range all {
		watching.Go(func() { r.watch(b) })
	}
	if err := r.startSource(); err != nil {
		return errors.Join(reason.Errorf("start %s: %w", RoleSource, err), r.closeSource())
	}
	if r.soft.Err() != nil {
		return errors.Join(r.failed(), r.closeSource())
	}
	return r.feed()
}

// feed subscribes, hands on messages until the source ends or the pipeline stops, and drains.
func (r *runner) feed() error {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: r.p.ShutdownTimeout}, watermill.NopLogger{})
	if err != nil {
		return reason.Errorf("make the router: %w", err)
	}
	handle := r.handler()
	router.AddConsumerHandler(r.p.Name, r.p.Source.Topic, r.intake, func(msg *message.Message) error {
		_, err := handle(msg)
		return err
	})
	var routing sync.WaitGroup
	defer routing.Wait()
	drained := make(chan struct{})
	defer close(drained)
	routing.Go(func() { r.watchAttempts(drained) })
	routed := make(chan error, 1)
	routing.Go(func() { routed <- router.Run(context.Background()) })

	select {
	case <-router.Running():
	case err := <-routed:
		if err != nil { // subscribing failed
			return errors.Join(reason.Errorf("subscribe to %s: %w", RoleSource, err), r.closeSource())
		}
		// The source has ended already, and with it the router.
	}
	r.receiving.Store(true)
	close(r.ready)

	select {
	case <-r.soft.Done():
	case <-r.intake.ended:
	}
	err = r.drain()
	if cerr := router.Close(); cerr != nil && err == nil {
		err = reason.Errorf("close the router: %w", cerr)
	}
	r.softStop(errStopping)
	return errors.Join(r.failed(), err)
}

// drain stops receiving, waits for what is in flight, and closes the source, which flushes its acks.
func (r *runner) drain() error {
	r.receiving.Store(false)
	var draining sync.WaitGroup
	if d, ok := r.p.Source.Subscriber.(Drainer); ok && r.soft.Err() != nil {
		draining.Go(d.Drain)
	}
	<-r.intake.ended
	empty := r.empty()
	var stuck error
	if !r.waitFor(empty, r.soft.Done(), r.p.ShutdownTimeout) {
		r.complain(titleShutdownTooLong, nil, zap.Duration("shutdown_timeout", r.p.ShutdownTimeout))
		r.hardStop(errStopping)
		if !r.waitFor(empty, r.hard.Done(), afterHardStop) {
			r.mu.Lock()
			stuck = reason.Errorf("%d messages are still in flight: a component does not return when its context ends", r.inFlight)
			r.mu.Unlock()
		}
	}
	draining.Go(r.intake.drain)
	err := r.closeSource()
	if stuck == nil {
		draining.Wait()
	}
	return errors.Join(stuck, err)
}

// waitFor waits for done; the clock starts when begin is closed. False: it ran out, or the stop became a hard one.
func (r *runner) waitFor(done, begin <-chan struct{}, limit time.Duration) bool {
	select {
	case <-done:
		return true
	case <-begin:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	hard := r.hard.Done()
	if begin == hard {
		hard = nil
	}
	select {
	case <-done:
		return true
	case <-hard:
	case <-timer.C:
	}
	return false
}

func (r *runner) closeSource() error {
	r.intake.cancel()
	if err := r.p.Source.Subscriber.Close(); err != nil {
		return reason.Errorf("close %s: %w", RoleSource, err)
	}
	return nil
}

func (r *runner) closeSinks(all []*backend) {
	for _, b := range all {
		if err := r.closeSink(b.sink); err != nil {
			r.tell(complaint.Incident{Title: titleClose, Pipeline: r.p.Name, Severe: true, Err: err})
			r.log.Error(titleClose.String(), zap.String("component", string(b.role)), zap.Error(err), complaint.Code(titleClose.String()))
		}
	}
}

// closeSink waits for a sink to close. After a hard stop a component that ignores the end of its contexts gets no more
// than afterHardStop: the process must end in time.
func (r *runner) closeSink(sink *Sink) error {
	closed := make(chan error, 1)
	go func() { closed <- sink.Publisher.Close() }()
	var late <-chan time.Time
	hard := r.hard.Done()
	for {
		select {
		case err := <-closed:
			return err
		case <-hard:
			hard = nil
			timer := time.NewTimer(afterHardStop)
			defer timer.Stop()
			late = timer.C
		case <-late:
			return reason.Errorf("it has not closed within %s: a component does not return when its context ends", afterHardStop)
		}
	}
}

func (r *runner) backends() []*backend {
	all := []*backend{&r.sink}
	if r.p.PoisonQueue != nil {
		all = append(all, &backend{role: RolePoisonQueue, sink: r.p.PoisonQueue, component: r.components[string(RolePoisonQueue)]})
	}
	if r.p.Record != nil {
		all = append(all, &backend{role: RoleRecord, sink: r.p.Record, component: r.components[string(RoleRecord)]})
	}
	return all
}

// start starts a sink and notes whether it is there.
func (r *runner) start(b *backend) error {
	var err error
	if s, ok := b.sink.Publisher.(Starter); ok {
		ctx, cancel := context.WithTimeout(r.hard, r.p.MessageTimeout)
		defer cancel()
		err = s.Start(ctx)
	}
	if err == nil || IsUnavailable(err) {
		b.note(r, err)
	} else {
		b.down.Store(&err) // it ends the pipeline: that is no outage
	}
	if err == nil {
		b.started.Store(true)
	}
	return err
}

// note keeps whether a backend answers, and opens or closes its gate, if it has one.
func (b *backend) note(r *runner, err error) {
	if err != nil {
		b.down.Store(&err)
	} else {
		b.down.Store(nil)
	}
	begins := err != nil && b.component.Failed(err)
	g := r.gate
	switch b.role {
	case RolePoisonQueue:
		g = r.poisonGate
	case RoleRecord:
		switch {
		case err == nil:
			r.over(string(RoleRecord), "the record is back", 0, 0, zap.String("component", string(b.role)))
		case begins:
			r.complain(titleRecordAway, err, zap.String("component", string(b.role)))
		}
		return
	}
	if err != nil {
		g.Suspend(err)
		return
	}
	g.Resume()
	if g.IsOpen() {
		b.component.Worked()
	}
}

// watch starts a sink that was away at first, and then pings it, until the pipeline stops.
func (r *runner) watch(b *backend) {
	pinger, _ := b.sink.Publisher.(Pinger)
	for {
		if b.role == RoleSink {
			r.step()
			r.observeSource()
		}
		wait := pingInterval
		if b.role != RoleSink {
			wait = pingIntervalAside
		}
		if !b.started.Load() || b.down.Load() != nil {
			wait = retryStart
		}
		b.component.TriedAt(time.Now().Add(wait))
		if !r.sleep(wait) {
			return
		}
		if !b.started.Load() {
			if err := r.start(b); err != nil && !IsUnavailable(err) {
				r.fail(reason.Errorf("start %s: %w", b.role, err))
				return
			}
			continue
		}
		if pinger == nil {
			continue
		}
		err := r.ping(b, pinger)
		if r.soft.Err() != nil {
			return
		}
		if IsFatal(err) {
			// As when a message finds it out.
			b.down.Store(&err)
			r.fail(fmt.Errorf("%s: %w", b.role, err))
			return
		}
		b.note(r, err)
	}
}

// ping asks a backend whether it answers, and does not wait for one that hangs: not at the stop, which closes what it
// hangs on, and for readiness no longer than pingPatience.
func (r *runner) ping(b *backend, pinger Pinger) error {
	answer, answered := make(chan error, 1), make(chan struct{}, 1)
	written := r.settled[outcomeWritten].Load()
	ctx, cancel := context.WithTimeout(r.soft, pingTimeout)
	defer cancel()
	r.pings.Go(func() {
		answer <- pinger.Ping(inside.WithAnswered(ctx, func() {
			select {
			case answered <- struct{}{}:
			default:
			}
		}))
	})
	patience := time.NewTimer(pingPatience)
	defer patience.Stop()
	told := false
	for {
		select {
		case err := <-answer:
			return err
		case <-answered: // a part of it
			patience.Reset(pingPatience)
		case <-patience.C:
			if told {
				cancel() // the next ping finds out whether it is back
				continue
			}
			told = true
			patience.Reset(pingGrace)
			if b.role != RoleSink || r.settled[outcomeWritten].Load() == written {
				b.note(r, Unavailable(reason.Errorf("no answer to a ping within %s", pingPatience)))
			}
		case <-r.soft.Done():
			return nil
		}
	}
}

// awaitPings waits for running pings, no longer than afterHardStop: a component may ignore the end of its context.
func (r *runner) awaitPings() {
	done := make(chan struct{})
	go func() {
		r.pings.Wait()
		close(done)
	}()
	timer := time.NewTimer(afterHardStop)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// startSource starts the source, and goes on trying while its backend is away.
func (r *runner) startSource() error {
	s, ok := r.p.Source.Subscriber.(Starter)
	if !ok {
		return nil
	}
	for {
		ctx, cancel := context.WithTimeout(r.soft, r.p.MessageTimeout)
		err := s.Start(ctx)
		cancel()
		switch {
		case err == nil:
			r.sourceErr.Store(nil)
			r.over(string(RoleSource), "the source is back", 0, 0)
			return nil
		case r.soft.Err() != nil:
			return nil
		case !IsUnavailable(err):
			return err
		}
		r.sourceErr.Store(&err)
		if r.components[string(RoleSource)].Failed(err) {
			r.complain(titleSourceAway, err)
		}
		r.components[string(RoleSource)].TriedAt(time.Now().Add(retryStart))
		if !r.sleep(retryStart) {
			return nil
		}
	}
}

func (r *runner) step() {
	now := time.Now()
	r.lastStep.Store(&now)
}

func (r *runner) health() Health {
	h := Health{Pipeline: r.p.Name, Sink: r.p.SinkName, LastStep: *r.lastStep.Load()}
	if h.Sink == "" {
		h.Sink = string(RoleSink)
	}
	r.mu.Lock()
	if r.oldest != nil {
		h.OldestInFlight = time.Since(r.oldest.received)
	}
	r.mu.Unlock()

	var reasons []error
	h.SinkConnected = r.sink.started.Load()
	if down := r.sink.down.Load(); down != nil {
		h.SinkConnected = false
		reasons = append(reasons, *down)
	}
	if away := r.gate.Away(); away != nil && h.SinkConnected {
		// A backend may answer pings and fail what matters. It is back when a message has passed.
		h.SinkConnected = false
		reasons = append(reasons, away)
	}
	if closed, _, cause := r.gate.State(); closed {
		if h.SinkConnected {
			reasons = append(reasons, cause)
		}
	} else if r.receiving.Load() {
		h.Consumers = 1
		if s, ok := r.p.Source.Subscriber.(Receiver); ok {
			n, err := s.Receiving()
			if err != nil {
				n = 0
				reasons = append(reasons, err)
			}
			h.Consumers = n
		}
	} else if err := r.sourceErr.Load(); err != nil {
		reasons = append(reasons, *err)
	}
	if !h.SinkConnected {
		h.Consumers = 0 // nothing is received for a sink that doesn't answer, whatever the source has open
	}
	h.Up = h.Consumers > 0 && h.SinkConnected
	for _, stage := range r.stages {
		if cause := r.transformGates[stage].Away(); cause != nil {
			h.Up = false
			reasons = append(reasons, cause)
		}
	}
	h.PoisonWaiting = r.poisonWaits.state(r.poisonGate)
	h.Components = r.componentHealth()
	h.Reports = r.reports()
	switch {
	case h.Up:
	case r.failedWith.Load() != nil:
		h.Reason = "failed: " + (*r.failedWith.Load()).Error()
	case r.failed() != nil: // it is about to end because of that
		h.Reason = "failed: " + r.failed().Error()
	case len(reasons) > 0:
		h.Reason = errors.Join(reasons...).Error()
	case r.soft.Err() != nil:
		h.Reason = "stopped"
	default:
		h.Reason = "starting"
	}
	return h
}

// reports asks the components that have something to tell.
func (r *runner) reports() map[Role]map[string]any {
	all := map[Role]map[string]any{}
	ask := func(role Role, component any) {
		if c, ok := component.(Reporter); ok {
			if facts := c.Report(); len(facts) > 0 {
				all[role] = facts
			}
		}
	}
	ask(RoleSource, r.p.Source.Subscriber)
	ask(RoleSink, r.p.Sink.Publisher)
	if r.p.PoisonQueue != nil {
		ask(RolePoisonQueue, r.p.PoisonQueue.Publisher)
	}
	if r.p.Record != nil {
		ask(RoleRecord, r.p.Record.Publisher)
	}
	return all
}

func (r *runner) ledger() Ledger {
	l := Ledger{
		Pipeline: r.p.Name,
		// Outcomes are read before what was received, so that InFlight is never negative.
		Written:      r.settled[outcomeWritten].Load(),
		Filtered:     r.settled[outcomeFiltered].Load(),
		Poisoned:     r.settled[outcomePoisoned].Load(),
		Released:     r.settled[outcomeReleased].Load(),
		Retries:      r.retries.Load(),
		RecordErrors: r.recordErrors.Load(),
	}
	l.Received = r.received.Load()
	if reason := r.lastPoison.Load(); reason != nil {
		l.LastPoison = (*reason).Error()
	}
	if f, ok := r.p.Source.Subscriber.(Finite); ok {
		l.Unresolved, l.UnresolvedAt = f.Unresolved()
	}
	return l
}
