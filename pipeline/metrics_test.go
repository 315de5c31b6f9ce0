package pipeline_test

import (
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestMetrics_tellTheLedgerByPipeline(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	var pipelines []*pipeline.Pipeline
	for _, name := range []string{"one", "two"} {
		queue := pipelinetest.NewQueue(true, "write", "skip", "spoil")
		poison := (&pipelinetest.Store{}).Sink()
		pipelines = append(pipelines, &pipeline.Pipeline{
			Name: name, Source: queue.Source(), Sink: (&pipelinetest.Store{}).Sink(), PoisonQueue: &poison,
			Transforms: []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
				switch string(msg.Payload) {
				case "skip":
					return nil, nil
				case "spoil":
					return nil, pipeline.Permanent(errBroken)
				}
				return []*message.Message{msg}, nil
			}},
		})
	}
	engine, err := pipeline.New(pipeline.Settings{Metrics: registry}, pipelines...)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP penstock_messages_received_total Deliveries received.
# TYPE penstock_messages_received_total counter
penstock_messages_received_total{pipeline="one"} 3
penstock_messages_received_total{pipeline="two"} 3
# HELP penstock_messages_total Deliveries settled, by outcome.
# TYPE penstock_messages_total counter
penstock_messages_total{outcome="filtered",pipeline="one"} 1
penstock_messages_total{outcome="poisoned",pipeline="one"} 1
penstock_messages_total{outcome="released",pipeline="one"} 0
penstock_messages_total{outcome="written",pipeline="one"} 1
penstock_messages_total{outcome="filtered",pipeline="two"} 1
penstock_messages_total{outcome="poisoned",pipeline="two"} 1
penstock_messages_total{outcome="released",pipeline="two"} 0
penstock_messages_total{outcome="written",pipeline="two"} 1
# HELP penstock_in_flight Deliveries received and not yet settled.
# TYPE penstock_in_flight gauge
penstock_in_flight{pipeline="one"} 0
penstock_in_flight{pipeline="two"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"penstock_messages_received_total", "penstock_messages_total", "penstock_in_flight"); err != nil {
		t.Error(err)
	}
}
