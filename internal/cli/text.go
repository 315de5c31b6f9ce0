package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/pipeline"
)

// grouped prints a number with a comma between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// counted is a number of things: "1 message", "2,000 messages".
func counted(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// ledgerLine adds up.
func ledgerLine(l pipeline.Ledger) string {
	line := fmt.Sprintf("received %s = written %s + filtered %s + poisoned %s + released %s", grouped(l.Received),
		grouped(l.Written), grouped(l.Filtered), grouped(l.Poisoned), grouped(l.Released))
	if n := l.InFlight(); n != 0 {
		line += " + in flight " + grouped(n)
	}
	return line
}

func unresolvedLines(l pipeline.Ledger) string {
	if l.Unresolved == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  unresolved: %s, given up after their last attempt", grouped(l.Unresolved))
	if int64(len(l.UnresolvedAt)) < l.Unresolved {
		fmt.Fprintf(&b, "; the first %d", len(l.UnresolvedAt))
	}
	b.WriteString(":\n")
	for _, at := range l.UnresolvedAt {
		b.WriteString("    " + at + "\n")
	}
	return b.String()
}

// liveLine is the state of all pipelines in one line of room columns; 0: as many as it takes.
func liveLine(ledgers []pipeline.Ledger, health []pipeline.Health, lag time.Duration, room int) string {
	var sum pipeline.Ledger
	for _, l := range ledgers {
		sum.Received += l.Received
		sum.Written += l.Written
		sum.Filtered += l.Filtered
		sum.Poisoned += l.Poisoned
		sum.Released += l.Released
	}
	parts := []part{
		{"received " + grouped(sum.Received), 4}, {"written " + grouped(sum.Written), 5},
		{"filtered " + grouped(sum.Filtered), 1}, {"poisoned " + grouped(sum.Poisoned), 6},
	}
	if sum.Released > 0 {
		parts = append(parts, part{"released " + grouped(sum.Released), 3})
	}
	for _, h := range health {
		if !h.Up && h.Reason != "" {
			return fitted(append(parts, part{"waiting: " + h.Reason, 7}), room)
		}
	}
	if lag >= 0 {
		parts = append(parts, part{"lag p99 " + shortDuration(lag), 2})
	}
	return fitted(parts, room)
}

func shortDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", int64(math.Ceil(d.Seconds()*1000)))
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// lagMeter reads the 99th percentile of the event lag, of what came since it was last asked.
type lagMeter struct {
	metrics prometheus.Gatherer
	before  map[float64]uint64 // by upper bound
}

const lagMetric = "penstock_event_lag_seconds"

func newLagMeter(metrics prometheus.Gatherer) *lagMeter {
	return &lagMeter{metrics: metrics, before: map[float64]uint64{}}
}

// p99 returns -1 when nothing came.
func (m *lagMeter) p99() time.Duration {
	families, err := m.metrics.Gather()
	if err != nil {
		return -1
	}
	now := map[float64]uint64{}
	var bounds []float64
	for _, family := range families {
		if family.GetName() != lagMetric {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, bucket := range metric.GetHistogram().GetBucket() {
				bound := bucket.GetUpperBound()
				if _, ok := now[bound]; !ok {
					bounds = append(bounds, bound)
				}
				now[bound] += bucket.GetCumulativeCount()
			}
			if _, ok := now[math.Inf(1)]; !ok {
				bounds = append(bounds, math.Inf(1))
			}
			now[math.Inf(1)] += metric.GetHistogram().GetSampleCount()
		}
	}
	before := m.before
	m.before = now
	return quantile(0.99, bounds, func(bound float64) uint64 { return now[bound] - before[bound] })
}
