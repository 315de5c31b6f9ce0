package sqs

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/pipeline"
)

type metrics struct {
	requests           *prometheus.CounterVec
	queueMessages      *prometheus.GaugeVec
	oldest             *prometheus.GaugeVec
	received           prometheus.Counter
	deleted            prometheus.Counter
	released           prometheus.Counter
	duplicates         prometheus.Counter
	emptyReceives      prometheus.Counter
	ackFailures        prometheus.Counter
	visibilityFailures prometheus.Counter
	lapsed             prometheus.Counter
	held               prometheus.Gauge
	receives           prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return pipeline.RegisterMetric(r, prometheus.NewCounter(prometheus.CounterOpts{Name: "penstock_sqs_" + name, Help: help}))
	}
	return &metrics{
		requests: pipeline.RegisterMetric(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "penstock_sqs_requests_total", Help: "Requests sent to SQS.",
		}, []string{"action"})),
		queueMessages: pipeline.RegisterMetric(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "penstock_sqs_queue_messages", Help: "Messages in the queue, as SQS estimates them, by state: visible, in_flight or delayed.",
		}, []string{"queue", "state"})),
		oldest: pipeline.RegisterMetric(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "penstock_sqs_oldest_message_seconds", Help: "Age, since it was sent, of the oldest message that is held.",
		}, []string{"queue"})),
		received:           counter("received_total", "Messages that receives brought, duplicates included."),
		deleted:            counter("deleted_total", "Messages whose delete SQS confirmed."),
		released:           counter("released_total", "Messages given back to the queue."),
		duplicates:         counter("duplicates_total", "Messages received again while they were held; they are not handled twice."),
		emptyReceives:      counter("empty_receives_total", "Receives that brought nothing."),
		ackFailures:        counter("ack_failures_total", "Deletes of a message that failed; they are tried again while that makes sense."),
		visibilityFailures: counter("visibility_failures_total", "Changes of a message's visibility that failed."),
		lapsed:             counter("lapsed_total", "Messages held for 11.5 hours and made visible again."),
		held: pipeline.RegisterMetric(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "penstock_sqs_held_messages", Help: "Messages received and neither deleted nor released: received minus duplicates, deleted and released.",
		})),
		receives: pipeline.RegisterMetric(r, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "penstock_sqs_receive_count", Help: "How often SQS has delivered a message, at its receipt.",
			Buckets: []float64{1, 2, 3, 5, 10, 20, 50, 100},
		})),
	}
}

func (m *metrics) setQueueMessages(queue string, attributes map[string]string) {
	for state, name := range map[string]types.QueueAttributeName{
		"visible":   types.QueueAttributeNameApproximateNumberOfMessages,
		"in_flight": types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		"delayed":   types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	} {
		if n, err := strconv.ParseFloat(attributes[string(name)], 64); err == nil {
			m.queueMessages.WithLabelValues(queue, state).Set(n)
		}
	}
}
