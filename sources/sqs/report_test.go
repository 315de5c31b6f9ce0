package sqs

import "testing"

func TestReport_tellsRequestsAndTheirPrice(t *testing.T) {
	s := New(Settings{})
	if _, ok := s.Report()["requests_per_message"]; ok {
		t.Error("a rate of requests without a message")
	}
	s.metrics.requests.WithLabelValues("ReceiveMessage").Add(600)
	s.metrics.requests.WithLabelValues("DeleteMessageBatch").Add(500)
	s.metrics.requests.WithLabelValues("ChangeMessageVisibilityBatch").Add(100)
	s.metrics.deleted.Add(4800)
	r := s.Report()
	if r["requests_per_message"] != 0.25 || r["dollars_per_million_messages"] != 0.1 || r["requests"] != 1200.0 {
		t.Errorf("report %v", r)
	}
}
