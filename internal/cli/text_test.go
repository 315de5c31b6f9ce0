package cli

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/pipeline"
)

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 8120: "8,120", 1234567: "1,234,567", -1000: "-1,000", -999: "-999",
		math.MaxInt64: "9,223,372,036,854,775,807", math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestLiveLine(t *testing.T) {
	one := []pipeline.Ledger{{Received: 250, Written: 247, Filtered: 2, Poisoned: 1}}
	up := []pipeline.Health{{Up: true}}
	for name, c := range map[string]struct {
		ledgers []pipeline.Ledger
		health  []pipeline.Health
		lag     time.Duration
		room    int
		want    string
	}{
		"as in the README":  {one, up, 3 * time.Millisecond, 0, "received 250  written 247  filtered 2  poisoned 1  lag p99 3 ms"},
		"nothing came":      {one, up, -1, 0, "received 250  written 247  filtered 2  poisoned 1"},
		"several pipelines": {append(one, pipeline.Ledger{Received: 1750, Written: 1700, Released: 50}), up, -1, 0, "received 2,000  written 1,947  filtered 2  poisoned 1  released 50"},
		"an outage":         {one, []pipeline.Health{{Up: true}, {Reason: "no route"}}, time.Second, 0, "received 250  written 247  filtered 2  poisoned 1  waiting: no route"},
		"a long lag":        {one, up, 90 * time.Second, 0, "received 250  written 247  filtered 2  poisoned 1  lag p99 90.0 s"},
		"on 80 columns":     {one, up, 3 * time.Millisecond, 77, "received 250  written 247  filtered 2  poisoned 1  lag p99 3 ms"},
		"on 40 columns":     {one, up, 3 * time.Millisecond, 37, "received 250  written 247  poisoned 1"},
		"many, narrow":      {[]pipeline.Ledger{{Received: 81_200, Written: 81_174, Filtered: 22, Poisoned: 4}}, up, time.Second, 37, "written 81,174  poisoned 4"},
		"an outage, narrow": {one, []pipeline.Health{{Reason: "no route"}}, time.Second, 37, "poisoned 1  waiting: no route"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := liveLine(c.ledgers, c.health, c.lag, c.room); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestLedgerLine_saysWhenItDoesNotAddUp(t *testing.T) {
	l := pipeline.Ledger{Received: 10, Written: 5, Filtered: 1, Poisoned: 1, Released: 1}
	if got, want := ledgerLine(l), "received 10 = written 5 + filtered 1 + poisoned 1 + released 1 + in flight 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestQuantile(t *testing.T) {
	counts := func(cumulative ...uint64) func(float64) uint64 {
		return func(bound float64) uint64 {
			switch bound {
			case 1:
				return cumulative[0]
			case 2:
				return cumulative[1]
			default:
				return cumulative[2]
			}
		}
	}
	bounds := func() []float64 { return []float64{math.Inf(1), 2, 1} } // in any order
	for name, c := range map[string]struct {
		q          float64
		cumulative []uint64
		want       time.Duration
	}{
		"none":                       {0.99, []uint64{0, 0, 0}, -1},
		"all in the first":           {0.5, []uint64{100, 100, 100}, 500 * time.Millisecond},
		"in the second":              {0.75, []uint64{50, 100, 100}, 1500 * time.Millisecond},
		"at a bound":                 {0.5, []uint64{50, 100, 100}, time.Second},
		"above the last finite one":  {0.99, []uint64{0, 0, 100}, 2 * time.Second},
		"an empty bucket in between": {0.5, []uint64{0, 100, 100}, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			if got := quantile(c.q, bounds(), counts(c.cumulative...)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if got := quantile(0.99, nil, nil); got != -1 {
		t.Errorf("without buckets: %s", got)
	}
}

func TestLagMeter_looksAtWhatCameSinceItWasAskedLast(t *testing.T) {
	registry := prometheus.NewRegistry()
	var lags []prometheus.Histogram
	for _, name := range []string{"a", "b"} {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: lagMetric, Buckets: []float64{0.1, 1, 10}})
		prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": name}, registry).MustRegister(h)
		lags = append(lags, h)
	}
	m := newLagMeter(registry)
	if got := m.p99(); got != -1 {
		t.Errorf("before anything came: %s", got)
	}
	lags[0].Observe(5)
	if got := m.p99(); got < time.Second || got > 10*time.Second {
		t.Errorf("after 5 s: %s", got)
	}
	for range 100 {
		lags[1].Observe(0.05)
	}
	if got := m.p99(); got <= 0 || got > 100*time.Millisecond {
		t.Errorf("after 50 ms: %s", got)
	}
	if got := m.p99(); got != -1 {
		t.Errorf("after nothing: %s", got)
	}
}

func TestScreen_keepsTheLiveLineBelowTheLog(t *testing.T) {
	var b bytes.Buffer
	width := 0
	s := newScreen(&b, func() int { return width })
	_, _ = s.Write([]byte("one\n"))
	s.Live("live 1")
	_, _ = s.Write([]byte("two\n"))
	s.Live("live 2")
	s.EndLive()
	_, _ = s.Write([]byte("three\n"))
	s.EndLive()
	want := "one\n" + "\rlive 1\x1b[K" + "\r\x1b[Ktwo\nlive 1" + "\rlive 2\x1b[K" + "\n" + "three\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
	b.Reset()
	width = 10
	s.Live("0123456→89ABC")
	if got := strings.TrimSuffix(strings.TrimPrefix(b.String(), "\r"), "\x1b[K"); got != "012345…" {
		t.Errorf("too wide: %q", got)
	}
	b.Reset()
	s.Live("日本語日本\n\x1b[2J")
	if got := strings.TrimSuffix(strings.TrimPrefix(b.String(), "\r"), "\x1b[K"); got != "日本語…" {
		t.Errorf("what takes two columns, or steers the terminal: %q", got)
	}
}

func TestAgesInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 900 * time.Millisecond: "0s", 3 * time.Second: "3s", 65 * time.Second: "1m 5s", time.Hour: "1h",
		7*24*time.Hour - time.Second: "6d 23h", 48 * time.Hour: "2d",
	} {
		if got := rough(d); got != want {
			t.Errorf("rough(%s) = %s, want %s", d, got, want)
		}
	}
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct{ got, want string }{
		"past":      {ago(now, now.Add(-5*time.Second)), "5s ago"},
		"future":    {ago(now, now.Add(time.Minute)), "in 1m"},
		"never":     {ago(now, time.Time{}), "-"},
		"no expiry": {ttl(-1), "none"},
		"absent":    {ttl(0), "-"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", name, c.got, c.want)
		}
	}
}
