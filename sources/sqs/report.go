package sqs

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// dollarsPerMillionRequests is what SQS charges for a million requests to a standard queue in most regions
// (https://aws.amazon.com/sqs/pricing/, the tier after the free first million).
const dollarsPerMillionRequests = 0.40

// actions are the requests that the source sends.
var actions = []string{"ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "GetQueueAttributes"}

// Report tells what the queue costs: requests sent, requests for each message deleted, and what a million messages
// cost at that rate, in dollars.
func (s *Subscriber) Report() map[string]any {
	requests := 0.0
	for _, action := range actions {
		requests += count(s.metrics.requests.WithLabelValues(action))
	}
	deleted := count(s.metrics.deleted)
	report := map[string]any{
		"requests":                requests,
		"messages_received":       count(s.metrics.received),
		"messages_deleted":        deleted,
		"messages_received_twice": count(s.metrics.duplicates),
	}
	if deleted > 0 {
		report["requests_per_message"] = requests / deleted
		report["dollars_per_million_messages"] = requests / deleted * dollarsPerMillionRequests
	}
	return report
}

func count(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return 0
	}
	return m.GetCounter().GetValue()
}
