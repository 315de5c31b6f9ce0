package sinks

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// DropConfig takes every message and keeps none: for trying out a source or transforms, and
// for measuring them. It has no settings.
type DropConfig struct{}

// NewSink makes the sink.
func (*DropConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(context.Context, *message.Message) error { return nil }), nil
}
