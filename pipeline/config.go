package pipeline

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// Config is one pipeline as a file declares it. [Load] makes it from YAML; its constructor methods have not run yet.
type Config struct {
	// Name of the pipeline: 1 to 63 of a-z, 0-9 and "-"; unique in a process. It labels metrics and logs.
	Name string `yaml:"name" required:"true" pattern:"^[a-z0-9-]{1,63}$" want:"1 to 63 of a-z, 0-9 and -" code:"PS050" example:"persistent-cache"`
	// Where messages come from: one component.
	Source SourceSpec `yaml:"source" required:"true"`
	// What happens to each message on its way, in this order: a list of components.
	Transforms []TransformSpec `yaml:"transforms"`
	// Where messages go: one component.
	Sink SinkSpec `yaml:"sink" required:"true"`
	// How failed attempts are repeated.
	Retry RetryConfig `yaml:"retry" when:"on_exhausted=poison" needs:"poison_queue" code:"PS052" example:"{max_attempts: 3}"`
	// Where messages go that can't be processed: any sink. Without it they are released to the source.
	PoisonQueue *SinkSpec `yaml:"poison_queue"`
	// When to stop instead of poisoning more; without it never.
	PoisonLimit *PoisonLimitConfig `yaml:"poison_limit"`
	// Where every delivery is written once, as received, before the first attempt: any sink.
	Record *RecordConfig `yaml:"record"`
	// In which order messages are processed: "none", many at a time, which overtake each other; "source", one after
	// another in the order in which the source hands them on, as with max_in_flight: 1. Each source tells what
	// that keeps. When not set, it is as with "none", plus a warning where the order probably matters.
	Order string `yaml:"order" enum:"none,source"`
	// How many messages may be received and not yet settled.
	MaxInFlight int `yaml:"max_in_flight" default:"1024" range:"1.." unit:"messages"`
	// How many bytes of payload may be received and not yet settled. A single larger message is let through alone.
	MaxInFlightBytes ByteSize `yaml:"max_in_flight_bytes" default:"64MiB" range:"1.."`
	// How long one attempt (all transforms and the sink) may take.
	MessageTimeout time.Duration `yaml:"message_timeout" default:"30s" range:">0"`
	// How long a graceful stop may take before what is in flight is released.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" default:"8s" range:">0"`
	// HTTP servers of the process: at most one pipeline of a process may have it.
	Service *ServiceConfig `yaml:"service"`
	// Tests of the pipeline, which "penstock test" runs and everything else ignores. They may also stand in a file
	// beside this one, NAME_test.yaml for NAME.yaml.
	Tests TestCases `yaml:"tests" verbatim:"true" example:"[{name: passes, input: {payload: {id: c-1}}}]"`

	// File is the file that the pipeline was read from, for messages.
	File string `yaml:"-"`

	places  yamlfile.Places // where the keys stand in File
	skipped []string        // keys that were left out, so that rules don't ask for them
}

// RetryConfig says how attempts are repeated that failed with a retryable error. Waits grow from InitialInterval by
// Multiplier up to MaxInterval, with full jitter.
type RetryConfig struct {
	// Upper bound of the first wait.
	InitialInterval time.Duration `yaml:"initial_interval" default:"100ms" range:">0"`
	// Upper bound of every wait.
	MaxInterval time.Duration `yaml:"max_interval" default:"10s" range:">0"`
	// Growth of the wait from attempt to attempt; at least 1.
	Multiplier float64 `yaml:"multiplier" default:"2" range:"1.."`
	// How many attempts a delivery gets, the first one included; at least 1.
	MaxAttempts int `yaml:"max_attempts" default:"5" range:"1.." unit:"attempts"`
	// How long after the first attempt a delivery may be tried again.
	MaxElapsedTime time.Duration `yaml:"max_elapsed_time" default:"1m" range:">0"`
	// What happens when the budget is spent: "release" gives the message back to the source, "poison" stores it in the
	// poison queue.
	OnExhausted string `yaml:"on_exhausted" default:"release" enum:"release,poison"`
}

// OrderSource is the [Config].Order that keeps the order of the source.
const OrderSource = "source"

// PoisonLimitConfig stops a pipeline that poisons too much: when most messages can't be processed, a change of the
// events or of the pipeline is the likely cause, and the poison queue is the wrong place for all of them.
type PoisonLimitConfig struct {
	// How many messages of the last ones may be poisoned; one more stops the pipeline, before it is stored. It stays in
	// the source, as what comes behind it does.
	MoreThan int `yaml:"more_than" required:"true" range:"1.." unit:"messages" example:"50"`
	// How many of the last messages are looked at: at most 1000000. Released messages don't count.
	OfLast int `yaml:"of_last" default:"1000" range:"2..1000000" unit:"messages"`
}

// RecordConfig is a sink that receives every delivery before its first attempt.
type RecordConfig struct {
	// The sink to record to: one component.
	Sink SinkSpec `yaml:",inline"`
	// What happens when recording fails: "continue" counts it and goes on, "block" treats it like a failed attempt.
	OnError string `yaml:"on_error" default:"continue" enum:"continue,block"`
}

// ServiceConfig are the HTTP servers of the process.
type ServiceConfig struct {
	// Probes and metrics. Without it nothing listens.
	HTTP *HTTPConfig `yaml:"http"`
	// Status and inspection, which may show payloads.
	Admin *AdminConfig `yaml:"admin"`
	// Traces: a span for every message, sent to an OpenTelemetry collector. Without it, and without
	// the variable OTEL_EXPORTER_OTLP_ENDPOINT, there are none.
	Tracing *TracingConfig `yaml:"tracing"`
}

// TracingConfig is where spans are sent to, and how many.
type TracingConfig struct {
	// Base URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; spans go to /v1/traces below
	// it, unless it has a path. Without it the variable OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
	// OTEL_EXPORTER_OTLP_ENDPOINT.
	Endpoint string `yaml:"endpoint" pattern:"^https?://[^\\s/@?#]+([/?#].*)?$" want:"http://HOST:PORT or https://HOST:PORT, without user and password" code:"PS058" note:"OTEL_EXPORTER_OTLP_HEADERS takes those" example:"http://127.0.0.1:4318"`
	// Share of the messages that get a span, 0 to 1.
	SampleRatio float64 `yaml:"sample_ratio" default:"1" range:"0..1" unit:"share of the messages"`
}

// Validate reports an invalid address, and a share that is not from 0 to 1.
func (c *TracingConfig) Validate() error {
	if err := CheckTags(c); err != nil || c.Endpoint == "" {
		return err
	}
	if u, err := url.Parse(c.Endpoint); err != nil || plaintext.CheckURLHost(u) != nil {
		return code.Mark(code.BadAddress, Invalid("endpoint", "must be http://HOST:PORT or https://HOST:PORT")) // not shown: it may hold a password
	}
	return nil
}

// HTTPConfig is where probes and metrics are served.
type HTTPConfig struct {
	// Address to listen on: "host:port", or ":port" for all interfaces.
	Address string `yaml:"address" required:"true" pattern:"^(\\[[^\\]]*\\]|[^:\\[\\]]*):(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$" want:"host:port or :port, with a port from 0 to 65535" code:"PS053" example:":4000"`
}

// AdminConfig is where the status API is served.
type AdminConfig struct {
	// Address to listen on; may be the same as http.address. Beyond loopback only with a token.
	Address string `yaml:"address" required:"true" pattern:"^(\\[[^\\]]*\\]|[^:\\[\\]]*):(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$" want:"host:port or :port, with a port from 0 to 65535" code:"PS053" needs:"token|address=localhost:*|address=127.*|address=[::1]:*" says:"PS054 is not a loopback address: it may show payloads to strangers, so it wants a token" example:"127.0.0.1:4001"`
	// Token that requests must carry as "Authorization: Bearer …". One that comes from a file is read again at every
	// request.
	Token Secret `yaml:"token"`
	// Whether the profiles of the Go runtime are served too, under /debug/pprof, for "go tool pprof".
	Pprof bool `yaml:"pprof" default:"false"`
}

// SourceSpec, TransformSpec and SinkSpec are one component as a file declares it: its name and its decoded config.
// A config struct may have fields of these types: that is how sinks are made of sinks.
type (
	// SourceSpec declares a source.
	SourceSpec struct{ Component }
	// TransformSpec declares a transform.
	TransformSpec struct{ Component }
	// SinkSpec declares a sink.
	SinkSpec struct{ Component }
)

// Component is a component's name, its config, and where it stands in the file.
type Component struct {
	// Name is the registered name, such as "redis".
	Name string
	// Config is a pointer to the registered config type, decoded and validated.
	Config any
	// Path is the place in the file, such as "sink.fan_out[0].redis".
	Path string
}

// IsZero reports whether no component was declared.
func (c Component) IsZero() bool { return c.Name == "" }

// New makes the source. The Env's Path and Logger are set to the component's.
func (s SourceSpec) New(env Env) (Source, error) {
	return s.Config.(SourceConfig).NewSource(env.at(s.Component))
}

// New makes the transform. The Env's Path and Logger are set to the component's.
func (s TransformSpec) New(env Env) (Transform, error) {
	return s.Config.(TransformConfig).NewTransform(env.at(s.Component))
}

// New makes the sink. The Env's Path and Logger are set to the component's.
func (s SinkSpec) New(env Env) (Sink, error) {
	return s.Config.(SinkConfig).NewSink(env.at(s.Component))
}

func (e Env) at(c Component) Env {
	e.Path = c.Path
	if e.Logger != nil {
		e.Logger = e.Logger.Named(c.Name)
	}
	return e
}

// Walk calls f with every component of the pipeline: the source, the transforms, the sink, the poison queue and the
// record sink, in this order, each followed by the components inside its config. role is that of the outermost
// component, kind the component's own. f may change the component.
func (c *Config) Walk(f func(role Role, kind Kind, component *Component)) {
	walkComponents(reflect.ValueOf(&c.Source), func(kind Kind, component *Component) { f(RoleSource, kind, component) })
	for i := range c.Transforms {
		walkComponents(reflect.ValueOf(&c.Transforms[i]), func(kind Kind, component *Component) { f(RoleTransform, kind, component) })
	}
	walkComponents(reflect.ValueOf(&c.Sink), func(kind Kind, component *Component) { f(RoleSink, kind, component) })
	if c.PoisonQueue != nil {
		walkComponents(reflect.ValueOf(c.PoisonQueue), func(kind Kind, component *Component) { f(RolePoisonQueue, kind, component) })
	}
	if c.Record != nil {
		walkComponents(reflect.ValueOf(&c.Record.Sink), func(kind Kind, component *Component) { f(RoleRecord, kind, component) })
	}
}

// walkComponents finds the components in v: in structs, lists and maps, and behind pointers.
func walkComponents(v reflect.Value, f func(Kind, *Component)) {
	if kind, ok := language.Components[v.Type()]; ok {
		component, ok := v.Field(0).Addr().Interface().(*Component)
		if !ok || component.IsZero() {
			return
		}
		f(Kind(kind), component)
		if component.Config != nil {
			walkComponents(reflect.ValueOf(component.Config), f)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walkComponents(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				walkComponents(v.Field(i), f)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			walkComponents(v.Index(i), f)
		}
	case reflect.Map:
		// Sorted, so that two walks meet the same components in the same order.
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		for _, key := range keys {
			// What a map holds can't be changed in place.
			element := reflect.New(v.Type().Elem()).Elem()
			element.Set(v.MapIndex(key))
			found := false
			walkComponents(element, func(kind Kind, component *Component) {
				found = true
				f(kind, component)
			})
			if found {
				v.SetMapIndex(key, element)
			}
		}
	}
}
