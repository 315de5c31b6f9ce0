package pipeline_test

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// flood is a finite source of n messages that hands on as fast as it can and ignores acks.
type flood int

func (f flood) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	payload := make([]byte, 300)
	go func() {
		defer close(out)
		for range int(f) {
			select {
			case out <- message.NewMessage("id", payload):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (f flood) Close() error { return nil }

func benchmarkEngine(b *testing.B, sink pipeline.Sink) {
	b.ReportAllocs()
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "bench", Source: pipeline.FromSubscriber(flood(b.N), ""), Sink: sink,
		Transforms: []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
			return []*message.Message{msg}, nil
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if err := engine.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	if l := engine.Ledgers()[0]; l.Written != int64(b.N) {
		b.Fatalf("ledger %+v", l)
	}
}

func BenchmarkEngine_noopSink(b *testing.B) {
	benchmarkEngine(b, pipeline.SinkFunc(func(context.Context, *message.Message) error { return nil }))
}

func BenchmarkEngine_noopBatchSink(b *testing.B) {
	benchmarkEngine(b, pipeline.BatchSinkFunc(func(context.Context, []*message.Message) []error { return nil }))
}
