package pipeline

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
)

// Build makes the components that a file declares and returns the pipeline, ready for [New] with the same settings. It
// does no I/O. When a component can't be made, those made before it are closed and the error says which it was.
func (c *Config) Build(settings Settings) (*Pipeline, error) {
	settings = settings.withDefaults()
	metrics := settings.forPipeline(c.Name)
	maxInFlight := c.MaxInFlight
	if c.Order == OrderSource {
		maxInFlight = 1
	}
	log := settings.Logger.With(zap.String("pipeline", c.Name))
	if settings.observe != nil {
		log = complaint.Watch(log, c.Name, settings.observe)
	}
	env := func(role Role) Env {
		return Env{
			Pipeline: c.Name, Role: role, Logger: log, Metrics: metrics,
			MaxInFlight: maxInFlight, MaxInFlightBytes: int64(c.MaxInFlightBytes),
		}
	}
	p := &Pipeline{
		Name: c.Name, SinkName: c.Sink.Name, Retry: c.Retry,
		MaxInFlight: maxInFlight, MaxInFlightBytes: int64(c.MaxInFlightBytes),
		MessageTimeout: c.MessageTimeout, ShutdownTimeout: c.ShutdownTimeout,
		paths: map[Role]string{RoleSource: c.Source.Path},
	}
	var opened []interface{ Close() error }
	fail := func(component Component, err error) (*Pipeline, error) {
		errs := []error{fmt.Errorf("%s: %s: %w", c.File, component.Path, err)}
		for _, o := range opened {
			errs = append(errs, o.Close())
		}
		return nil, errors.Join(errs...)
	}
	sink := func(role Role, spec SinkSpec) (*Sink, error) {
		s, err := spec.New(env(role))
		if err == nil {
			opened = append(opened, s.Publisher)
		}
		return &s, err
	}

	main, err := sink(RoleSink, c.Sink)
	if err != nil {
		return fail(c.Sink.Component, err)
	}
	p.Sink = *main
	if c.PoisonQueue != nil {
		p.paths[RolePoisonQueue] = c.PoisonQueue.Path
		if p.PoisonQueue, err = sink(RolePoisonQueue, *c.PoisonQueue); err != nil {
			return fail(c.PoisonQueue.Component, err)
		}
	}
	p.PoisonLimit = c.PoisonLimit
	if c.Record != nil {
		p.RecordOnError = c.Record.OnError
		p.paths[RoleRecord] = c.Record.Sink.Path
		if p.Record, err = sink(RoleRecord, c.Record.Sink); err != nil {
			return fail(c.Record.Sink.Component, err)
		}
	}
	for i, spec := range c.Transforms {
		t, err := spec.New(env(RoleTransform))
		if err != nil {
			return fail(spec.Component, err)
		}
		p.Transforms = append(p.Transforms, t)
		p.stageNames = append(p.stageNames, fmt.Sprintf("transforms[%d].%s", i, spec.Name))
	}
	if p.Source, err = c.Source.New(env(RoleSource)); err != nil {
		return fail(c.Source.Component, err)
	}
	return p, nil
}
