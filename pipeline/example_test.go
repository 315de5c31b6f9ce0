package pipeline_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/pipeline"
)

// GreetConfig greets each message.
type GreetConfig struct {
	// What to say.
	Word string `yaml:"word" default:"hello"`
}

// NewSink makes the sink. It is all that a component needs besides its config.
func (c *GreetConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		fmt.Println(c.Word, "to a message with a payload:", len(msg.Payload) > 0)
		return nil
	}), nil
}

// A sink of one's own, declared once, used by a pipeline file, and run.
func Example() {
	registry := pipeline.AddSink[GreetConfig](penstock.Builtins(), "greet")
	file := []byte(`
name: greetings
source:
  generate: {count: 1}
sink:
  greet: {word: welcome}
`)
	config, _, err := pipeline.LoadBytes(registry, "greetings.yaml", file, pipeline.LoadOptions{})
	if err != nil {
		fmt.Println(err) // every problem of the file, each with its line and column
		return
	}
	settings := pipeline.Settings{} // a logger, a metrics registry, a tracer
	p, err := config.Build(settings)
	if err != nil {
		fmt.Println(err)
		return
	}
	engine, err := pipeline.New(settings, p)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = engine.Run(context.Background()) // until the source ends, or the context
	fmt.Println(engine.Ledgers()[0].Written, "written,", err)
	// Output:
	// welcome to a message with a payload: true
	// 1 written, <nil>
}

// A pipeline without a file: any Watermill subscriber and publisher will do.
func ExamplePipeline() {
	orders := &twoOrders{}
	p := &pipeline.Pipeline{
		Name:   "orders",
		Source: pipeline.FromSubscriber(orders, "orders"),
		Transforms: []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
			if string(msg.Payload) == "test" {
				return nil, nil // filtered
			}
			return []*message.Message{msg}, nil
		}},
		Sink: pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
			fmt.Printf("order %s\n", msg.Payload)
			return nil
		}),
	}
	engine, err := pipeline.New(pipeline.Settings{}, p)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := engine.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	l := engine.Ledgers()[0]
	fmt.Println(l.Written, "written,", l.Filtered, "filtered")
	// Output:
	// order 17
	// 1 written, 1 filtered
}

// twoOrders is a source of two messages that ends when both are settled.
type twoOrders struct{}

func (*twoOrders) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for _, body := range []string{"17", "test"} {
			msg := message.NewMessage(body, []byte(body))
			select {
			case out <- msg:
			case <-ctx.Done():
				return
			}
			select {
			case <-msg.Acked():
			case <-msg.Nacked():
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (*twoOrders) Close() error                  { return nil }
func (*twoOrders) Unresolved() (int64, []string) { return 0, nil }

var _ pipeline.Finite = (*twoOrders)(nil)
