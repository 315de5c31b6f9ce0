// Package pipeline runs pipelines: messages come from a source, pass through transforms, and go to a sink.
//
// The words are those of [Watermill]: a source is a message.Subscriber, a transform a message.HandlerFunc, a sink a
// message.Publisher. Only the engine acks and nacks. Every delivery ends in exactly one of four ways: written,
// filtered, poisoned (stored whole in the poison queue) or released (given back to the source).
//
// # A component
//
// A component is a config struct with a constructor, registered under the name that pipeline files use:
//
//	type WebhookConfig struct {
//		// Where to post to.
//		URL string `yaml:"url" required:"true"`
//	}
//
//	func (c *WebhookConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
//		return pipeline.SinkFunc(func(ctx context.Context, msg *message.Message) error { … }), nil
//	}
//
//	registry := pipeline.AddSink[WebhookConfig](penstock.Builtins(), "webhook")
//
// Tags, defaults, Validate, the help and the reference all come from that struct: see [SourceConfig].
//
// # What errors mean
//
// A component says by its error what is to become of the message:
//
//	nil                 done: the message is acked
//	an error            this attempt failed: it is tried again, with growing waits
//	[Unavailable]       the backend is away: nothing is lost and nothing counts, until it is back
//	[Permanent]         this message will always fail: poison queue
//	[RetryAfter]        the backend asks for patience
//	[Fatal]             the configuration is broken: the pipeline stops
//
// # Running
//
// [Load] reads a pipeline file, [Config.Build] makes its components, [New] makes an engine of one or more pipelines and
// [Engine.Run] runs it until its context ends:
//
//	config, _, err := pipeline.Load(registry, "orders.yaml", pipeline.LoadOptions{})
//	p, err := config.Build(settings)
//	engine, err := pipeline.New(settings, p)
//	err = engine.Run(ctx)
//
// A program may also fill in a [Pipeline] itself, without a file: see the example.
//
// Components may do more than they must, by methods of optional interfaces. The subscriber of a source: [Starter],
// [Drainer], [Receiver], [Finite], [Reporter]; the publisher of a sink: [Starter], [Pinger], [Reporter]; a config:
// [Validator], [Checker], [Warner], [Doctor]. Package pipelinetest has test doubles for all of them.
//
// [Watermill]: https://watermill.io
package pipeline
