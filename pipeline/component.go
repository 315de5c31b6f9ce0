package pipeline

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Source is where a pipeline's messages come from: a Watermill subscriber and the topic to subscribe to.
//
// The engine hands on one message at a time from the channel and never more than the pipeline's bounds allow: a source
// that blocks on its channel send is a source under back pressure. Only the engine acks and nacks. A source must accept
// an ack at any time until it is closed. What it has not handed on when it is closed, it gives back.
//
// The Subscriber may implement [Drainer], [Receiver], [Finite], [Starter] and [Reporter].
type Source struct {
	Subscriber message.Subscriber
	Topic      string
}

// Sink is where a pipeline's messages go: a Watermill publisher and a topic.
//
// Publish returns nil only when the data is stored, is safe for concurrent use, may see duplicates, honours each
// message's Context, and keeps nothing of a message after it returns. Its errors follow the rules of [Unavailable],
// [Permanent], [RetryAfter] and [Fatal]. All messages that came out of one delivery arrive in one Publish call.
//
// The Publisher may implement [Starter], [Pinger] and [Reporter].
type Sink struct {
	Publisher message.Publisher
	Topic     string
}

// Transform turns a message into messages: itself, others, or none (none = filtered). It may set metadata on the
// message it is given and may replace its Payload, but must not write into the Payload's bytes: the original is kept
// for the poison queue.
type Transform = message.HandlerFunc

// FromSubscriber makes any Watermill subscriber a source.
func FromSubscriber(s message.Subscriber, topic string) Source {
	return Source{Subscriber: s, Topic: topic}
}

// FromPublisher makes any Watermill publisher a sink.
func FromPublisher(p message.Publisher, topic string) Sink {
	return Sink{Publisher: p, Topic: topic}
}

// Starter is implemented by sources and sinks that must connect, open or claim something before the first message.
// Sinks start before sources. ctx is for starting only. A [Fatal] error, or any error that is not [Unavailable],
// stops the pipeline before it has received anything; an [Unavailable] one lets it start with its gate closed.
type Starter interface {
	Start(ctx context.Context) error
}

// Drainer is implemented by sources that can stop receiving early: Drain takes nothing new, gives back what it has
// not handed on, and closes the message channel; acks of what was handed on are still honoured until Close.
type Drainer interface {
	Drain()
}

// Receiver is implemented by sources with receive loops of their own, so that readiness can tell how many there are.
// Receiving returns the configured number of receive loops and nil while receiving works (parked loops count), or the
// error that keeps it from working. It must not block.
type Receiver interface {
	Receiving() (consumers int, err error)
}

// Finite is implemented by sources that come to an end by themselves: they close the message channel when everything
// they handed on is settled. Unresolved tells how many messages were given up after their last redelivery, and where
// the first ten of them are (such as "events.ndjson:17"). It must not block.
type Finite interface {
	Unresolved() (n int64, first []string)
}

// Pinger is implemented by components whose backend can be asked whether it answers. The engine pings at start and
// every few seconds, so that readiness is right on an idle pipeline too. Safe for concurrent use.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Reporter is implemented by sources and sinks that have more to tell an operator than the engine knows. Report
// returns facts by snake_case name, with their unit in the name, that encoding/json can encode; the status API shows
// them. It must not block, and may be called at any time.
type Reporter interface {
	Report() map[string]any
}

// Role is the place that a component has in its pipeline.
type Role string

// The roles of a component.
const (
	RoleSource      Role = "source"
	RoleTransform   Role = "transform"
	RoleSink        Role = "sink"
	RolePoisonQueue Role = "poison_queue"
	RoleRecord      Role = "record"
)

// Env is what the engine gives a component's constructor. Constructors do no I/O that can fail because of what
// is around the process: that is the task of [Starter].
type Env struct {
	// Pipeline is the name of the pipeline.
	Pipeline string
	// Role is the component's place in the pipeline; a child of a sink made of sinks has its parent's.
	Role Role
	// Path is where the component stands in the pipeline file, such as "sink.fan_out[0].redis".
	Path string
	// Logger names the component and its pipeline.
	Logger *zap.Logger
	// Metrics registers the component's own metrics; every one gets the label pipeline. Components of one kind may
	// register the same metric: use [RegisterMetric], which returns the one that is there.
	Metrics prometheus.Registerer
	// MaxInFlight and MaxInFlightBytes bound what the pipeline has received and not yet settled, in messages and
	// bytes. The engine enforces them; a source uses them to size its receives. With a MaxInFlight of 1 order
	// matters: a source, if it can, offers a released message again before it hands on the next.
	MaxInFlight      int
	MaxInFlightBytes int64
}

// RegisterMetric registers the metric c, or returns the one that was registered before under the same name and
// labels: several components of one kind share it. Without a registerer it returns c.
func RegisterMetric[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	if err := r.Register(c); err != nil {
		if are, ok := err.(prometheus.AlreadyRegisteredError); ok { //nolint:errorlint // client_golang documents this form
			if existing, ok := are.ExistingCollector.(C); ok {
				return existing
			}
		}
		panic(err)
	}
	return c
}
