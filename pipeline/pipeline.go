package pipeline

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
)

// Pipeline is a pipeline ready to run: [Config.Build] makes it from a file, or a program fills it in. Zero fields take
// the defaults of [Config]. A Pipeline runs once.
type Pipeline struct {
	// Name labels metrics and logs: 1 to 63 of a-z, 0-9 and "-".
	Name string
	// Source is where messages come from.
	Source Source
	// Transforms are applied in order, each to every message that the one before it returned.
	Transforms []Transform
	// Sink is where messages go.
	Sink Sink
	// SinkName is what readiness calls the sink; "" means "sink".
	SinkName string
	// PoisonQueue stores what can't be processed; nil means that such messages are released.
	PoisonQueue *Sink
	// PoisonLimit stops the pipeline when it poisons too much; nil means that it never does.
	PoisonLimit *PoisonLimitConfig
	// Record receives every delivery before its first attempt; nil means that nothing is recorded.
	Record *Sink
	// RecordOnError is "continue" (the default) or "block".
	RecordOnError string
	// Retry says how failed attempts are repeated.
	Retry RetryConfig
	// Middleware wraps each attempt (transforms and sink), the first one outermost. The engine's own policies lie around
	// it: metrics, poison queue, retry, recover.
	Middleware []message.HandlerMiddleware
	// MaxInFlight and MaxInFlightBytes bound what is received and not yet settled. With a MaxInFlight of 1 messages
	// are processed one after another: the next is received when the one before is settled.
	MaxInFlight      int
	MaxInFlightBytes int64
	// MessageTimeout bounds one attempt, ShutdownTimeout a graceful stop.
	MessageTimeout  time.Duration
	ShutdownTimeout time.Duration

	stageNames []string        // of the transforms, for errors and poison entries; nil: transforms[i]
	paths      map[Role]string // of the source, the poison queue and the record, for the status; nil: their roles
}

// Settings are what an engine and the components in it share.
type Settings struct {
	// Logger receives the engine's and the components' logs; nil means none.
	Logger *zap.Logger
	// Metrics receives the metrics; nil means a registry of the engine's own.
	Metrics prometheus.Registerer
	// Tracer follows every delivery; nil means that none is followed, which costs nothing.
	Tracer Tracer

	observe func(complaint.Incident) // of everything that goes wrong; nil: nobody. See inside.Observe.
}

// Ledger is what became of the deliveries of one pipeline. While it runs, Received is the sum of the others and of what
// is in flight; after it ended, of the four outcomes alone.
type Ledger struct {
	Pipeline string
	// Received counts deliveries; a message delivered twice counts twice.
	Received int64
	// Written counts deliveries of which any part was stored and the rest filtered, Filtered those of which the transforms
	// returned nothing, Poisoned those stored in the poison queue, Released those given back to the source.
	Written, Filtered, Poisoned, Released int64
	// Retries counts repeated attempts.
	Retries int64
	// RecordErrors counts deliveries that could not be recorded.
	RecordErrors int64
	// Unresolved counts messages that a finite source gave up; UnresolvedAt names the first ten.
	Unresolved   int64
	UnresolvedAt []string
	// LastPoison is the reason of the last poisoned delivery.
	LastPoison string
}

// InFlight returns how many deliveries are received and not yet settled.
func (l Ledger) InFlight() int64 {
	return l.Received - l.Written - l.Filtered - l.Poisoned - l.Released
}

// Health is a pipeline's state at a moment.
type Health struct {
	Pipeline string
	// Up is true when the source receives and the sink answers.
	Up bool
	// Consumers is the number of receive loops, or 0 while receiving fails, is suspended or has stopped.
	Consumers int
	// Sink is what readiness calls the sink; SinkConnected whether it answers.
	Sink          string
	SinkConnected bool
	// Reason says why the pipeline is not up: "" when it is.
	Reason string
	// OldestInFlight is the age of the oldest delivery in flight.
	OldestInFlight time.Duration
	// LastStep is when the engine last made a step on its own (a heartbeat of the run loop, not of messages).
	LastStep time.Time
	// PoisonWaiting is what waits for the poison queue; nil when nothing does. It does not make the pipeline less up.
	PoisonWaiting *PoisonWaiting
	// Components are the states of the source, the transforms, the sink, the poison queue and the record, in this order;
	// behind a sink made of sinks stand those.
	Components []ComponentHealth
	// Reports are what the components tell of themselves ([Reporter]), by role.
	Reports map[Role]map[string]any
}

// ComponentHealth is what is known of a component's backend at a moment.
type ComponentHealth struct {
	// Path is where the component stands in the pipeline file, such as "sink.fan_out[0].redis".
	Path string
	Role Role
	// State is "starting" before it was tried, "up", "away", or "reopening" when it is there again and what was held goes
	// on gradually; the source's is "stopped" when the pipeline stops. A component that has no backend is always up.
	// Since is when the state began, of "reopening" when it was away first.
	State string
	Since time.Time
	// LastError is why it was away last, LastErrorAt when that was found out the last time; nil: it never was. Its text
	// may hold anything. Code is that of the incident, which penstock explain explains.
	LastError   error
	LastErrorAt time.Time
	Code        string
	// Tries is how often it was found away since then, Held how many messages wait for it.
	Tries, Held int
	// NextTry is when it is tried next; zero: it is not away, or that is not known.
	NextTry time.Time
}

// PoisonWaiting is what waits until the poison queue takes it: a full disk, say, has no room for it.
type PoisonWaiting struct {
	// Messages and Bytes are the deliveries that are held, and their payloads.
	Messages, Bytes int64
	// Since is when the poison queue first did not take one, Reason why.
	Since  time.Time
	Reason string
}
