package pipeline

import (
	"cmp"
	"time"

	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/outage"
	"github.com/penstock-dev/penstock/pipeline/internal/gate"
)

// This file is what the engine knows of its components' backends. What finds one away or there tells its
// outage.Component; the status API and the lines at the end of outages tell what stands there.

// nextTrier is a source that tries by itself and knows when it does next; zero: it doesn't fail.
type nextTrier interface{ NextTry() time.Time }

// outageParts is a sink made of sinks, which knows the state of each.
type outageParts interface{ Outages() []outage.Status }

func (r *runner) newComponents() {
	r.components = map[string]*outage.Component{}
	for _, stage := range append([]string{string(RoleSource), r.sinkStage}, r.stages...) {
		r.components[stage] = outage.New(cmp.Or(r.p.paths[Role(stage)], stage))
	}
	for _, role := range []Role{RolePoisonQueue, RoleRecord} {
		r.components[string(role)] = outage.New(cmp.Or(r.p.paths[role], string(role)))
	}
	for _, stage := range r.stages { // transforms are not started
		r.components[stage].Worked()
	}
}

// over logs the end of an outage, once, with its counts. closedFor is how long messages were held; 0: as long as the
// outage took.
func (r *runner) over(stage, what string, closedFor time.Duration, held int, fields ...zap.Field) {
	o, ended := r.components[stage].Worked()
	if !ended && closedFor == 0 {
		return
	}
	if closedFor == 0 {
		closedFor = time.Since(o.Since)
	}
	r.log.Info(what, append(fields, zap.Duration("after", closedFor.Round(time.Millisecond)),
		zap.Int("tries", o.Tries), zap.Int("held", held))...)
}

// observeSource asks the source whether it receives.
func (r *runner) observeSource() {
	if !r.receiving.Load() {
		return
	}
	c := r.components[string(RoleSource)]
	receiver, ok := r.p.Source.Subscriber.(Receiver)
	if !ok {
		c.Worked()
		return
	}
	_, err := receiver.Receiving()
	if err == nil {
		c.Worked() // it logs that itself
		return
	}
	if !r.receiving.Load() { // it was stopped meanwhile
		return
	}
	var next time.Time
	if n, ok := r.p.Source.Subscriber.(nextTrier); ok {
		next = n.NextTry()
	}
	c.Failing(err, next)
}

// componentHealth is the state of every component.
func (r *runner) componentHealth() []ComponentHealth {
	r.observeSource()
	all := []ComponentHealth{r.componentState(RoleSource, string(RoleSource), nil, titleSourceAway)}
	for _, stage := range r.stages {
		all = append(all, r.componentState(RoleTransform, stage, r.transformGates[stage], titleOutageOfSome))
	}
	all = r.withParts(append(all, r.componentState(RoleSink, r.sinkStage, r.gate, titleOutage)), r.p.Sink, titleOutage)
	if r.p.PoisonQueue != nil {
		all = append(all, r.componentState(RolePoisonQueue, string(RolePoisonQueue), r.poisonGate, titlePoisonAway))
		all = r.withParts(all, *r.p.PoisonQueue, titlePoisonAway)
	}
	if r.p.Record != nil {
		all = append(all, r.componentState(RoleRecord, string(RoleRecord), nil, titleRecordAway))
		all = r.withParts(all, *r.p.Record, titleRecordAway)
	}
	return all
}

// componentState is the state of a stage; g is its gate, or nil.
func (r *runner) componentState(role Role, stage string, g *gate.Gate, away complaint.Title) ComponentHealth {
	s := r.components[stage].Status()
	if g != nil {
		waiting, probe := g.Held()
		if s.Held = waiting; s.State == outage.Away {
			if !probe.IsZero() && (s.Next.IsZero() || probe.Before(s.Next)) {
				s.Next = probe
			}
			if g.Away() == nil && !g.IsOpen() {
				s.State, s.Next = outage.Reopening, time.Time{}
			}
		}
	}
	return r.tellState(role, s, away)
}

// withParts adds the parts of the sink whose state is the last of all. They are tried when it is.
func (r *runner) withParts(all []ComponentHealth, sink Sink, away complaint.Title) []ComponentHealth {
	parts, ok := sink.Publisher.(outageParts)
	if !ok {
		return all
	}
	whole := all[len(all)-1]
	for _, s := range parts.Outages() {
		if s.State == outage.Away {
			s.Next = whole.NextTry
		}
		all = append(all, r.tellState(whole.Role, s, away))
	}
	return all
}

func (r *runner) tellState(role Role, s outage.Status, away complaint.Title) ComponentHealth {
	h := ComponentHealth{
		Path: s.Path, Role: role, State: string(s.State), Since: s.Since, LastError: s.Err, LastErrorAt: s.At,
		Tries: s.Tries, Held: s.Held, NextTry: s.Next,
	}
	if s.Err != nil {
		h.Code = string(code.OfTitle(away.String()))
	}
	if r.soft.Err() != nil {
		h.NextTry = time.Time{}
		if role == RoleSource {
			h.State = "stopped"
		}
	}
	return h
}
