package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector shows the runner's ledger, which is the only place that counts, as metrics.
type collector runner

var (
	descReceived = prometheus.NewDesc("penstock_messages_received_total", "Deliveries received.", nil, nil)
	descOutcome  = prometheus.NewDesc("penstock_messages_total", "Deliveries settled, by outcome.", []string{"outcome"}, nil)
	descRetries  = prometheus.NewDesc("penstock_retries_total", "Repeated attempts.", nil, nil)
	descRecord   = prometheus.NewDesc("penstock_record_errors_total", "Deliveries that could not be recorded.", nil, nil)
	descWaiting  = prometheus.NewDesc("penstock_poison_waiting", "Deliveries held until the poison queue takes them.", nil, nil)
	descWaitingB = prometheus.NewDesc("penstock_poison_waiting_bytes", "Payload bytes held until the poison queue takes them.", nil, nil)
	descInFlight = prometheus.NewDesc("penstock_in_flight", "Deliveries received and not yet settled.", nil, nil)
	descBytes    = prometheus.NewDesc("penstock_in_flight_bytes", "Payload bytes received and not yet settled.", nil, nil)
	descOldest   = prometheus.NewDesc("penstock_oldest_in_flight_seconds", "Age of the oldest delivery in flight.", nil, nil)
	descUp       = prometheus.NewDesc("penstock_up", "1 when the source receives and the sink answers.", nil, nil)
	descAnswers  = prometheus.NewDesc("penstock_transform_up", "0 while the backend of a transform is away and messages that need it are held.", []string{"transform"}, nil)
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReceived, descOutcome, descRetries, descRecord, descInFlight, descBytes, descOldest, descUp, descAnswers,
		descWaiting, descWaitingB,
	} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	r := (*runner)(c)
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	for i := range r.settled {
		count(descOutcome, r.settled[i].Load(), outcomeNames[i])
	}
	count(descReceived, r.received.Load())
	count(descRetries, r.retries.Load())
	count(descRecord, r.recordErrors.Load())
	r.mu.Lock()
	inFlight, bytes, oldest := r.inFlight, r.bytes, time.Duration(0)
	if r.oldest != nil {
		oldest = time.Since(r.oldest.received)
	}
	r.mu.Unlock()
	gauge(descInFlight, float64(inFlight))
	gauge(descBytes, float64(bytes))
	gauge(descOldest, oldest.Seconds())
	gauge(descWaiting, float64(r.poisonWaits.messages.Load()))
	gauge(descWaitingB, float64(r.poisonWaits.bytes.Load()))
	up := 0.0
	if h := r.health(); h.Consumers > 0 && h.SinkConnected {
		up = 1
	}
	gauge(descUp, up)
	for _, stage := range r.stages {
		answers := 1.0
		if r.transformGates[stage].Away() != nil {
			answers = 0
		}
		ch <- prometheus.MustNewConstMetric(descAnswers, prometheus.GaugeValue, answers, stage)
	}
}

// register puts the runner's metrics under the pipeline's label.
func (r *runner) register(metrics prometheus.Registerer) error {
	r.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "penstock_message_duration_seconds",
		Help:    "Time from receiving a delivery to settling it.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 14),
	})
	if err := metrics.Register(r.duration); err != nil {
		return err
	}
	return metrics.Register((*collector)(r))
}
