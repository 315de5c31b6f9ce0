package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rates are the messages a second at which latency and memory are measured.
var rates = []int{5000, 10_000}

// latencyResult is what penstock showed at one rate.
type latencyResult struct {
	rate, p50, p99, within, cpu, rss sample
}

// runLatency measures how long a message takes from being received until it is stored and acked, at steady rates, by
// penstock's own histogram: the clock starts when the message comes out of the source and stops when it is settled,
// after Redis has answered.
func runLatency(ctx context.Context, b *bench) (string, error) {
	const warmUp = 2 * time.Second
	one := *b
	one.events = int((b.steady + 2*warmUp).Seconds() * float64(slices.Max(rates)))
	f, err := newFileBench(ctx, &one)
	if err != nil {
		return "", err
	}
	defer f.redis.stop()
	results := make([]latencyResult, len(rates))
	for range b.rounds {
		for i, rate := range rates {
			if err := f.steady(ctx, rate, warmUp, &results[i]); err != nil {
				return "", fmt.Errorf("latency: %d/s: %w", rate, err)
			}
		}
	}
	t := table{header: []string{"asked for", "messages/s", "half within, ms", "99 % within, ms", "share within 7.8 ms, %", "its CPU, % of one core", "peak RSS, MB"}}
	for i, r := range results {
		t.add(thousands(float64(rates[i]))+"/s", r.rate.spread(0), r.p50.spread(1), r.p99.spread(1), r.within.spread(2), r.cpu.spread(0), r.rss.spread(0))
	}
	return fmt.Sprintf("File → decode → Redis at a steady rate for %s, after a warm-up of %s: from being received until stored and acked, by penstock's own "+
		"`penstock_message_duration_seconds`. Its buckets end at 0.5, 1.25, 3.1, 7.8 and 19.5 ms; in between the quantiles are interpolated.\n\n%s\n%s",
		b.steady, warmUp, t.String(), aims(
			// The bucket after this one ends at 19.5 ms: whether all of 99 % are within 10 ms can only be shown by this one.
			atLeast("within 7.8 ms (aimed at are 10) at 5,000/s, % of the messages", 99, 2, results[0].within.median()),
			atMost("peak RSS at 10,000/s, MB", 64, 0, results[1].rss.median()),
		)), nil
}

// steady runs penstock at a rate and notes what came out.
func (f *fileBench) steady(ctx context.Context, rate int, warmUp time.Duration, r *latencyResult) error {
	if err := f.redis.empty(ctx); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	text := strings.Replace(f.pipeline(), "paths:", fmt.Sprintf("rate: %d/s, paths:", rate), 1) +
		fmt.Sprintf("service: {http: {address: %q}}\n", address)
	file, err := f.configFile("steady", text)
	if err != nil {
		return err
	}
	p, err := startProcess(exec.Command(f.binary, "run", file))
	if err != nil {
		return err
	}
	defer p.kill()
	sleep := func(d time.Duration) error {
		select {
		case <-p.done:
			return errors.Join(errors.New("ended by itself"), p.failure)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := sleep(warmUp); err != nil {
		return err
	}
	before, err := scrape(ctx, address)
	if err != nil {
		return err
	}
	if err := sleep(f.bench.steady); err != nil {
		return err
	}
	after, err := scrape(ctx, address)
	if err != nil {
		return err
	}
	rss := p.peakRSS()
	if _, err := p.stop(ctx); err != nil {
		return err
	}
	seen := after.since(before)
	r.rate.add(seen.count / seen.at.Seconds())
	r.p50.add(1000 * seen.quantile(0.5))
	r.p99.add(1000 * seen.quantile(0.99))
	r.within.add(100 * seen.within(0.0079))
	r.cpu.add(100 * seen.cpu / seen.at.Seconds())
	r.rss.add(float64(rss) / 1e6)
	f.say("latency: %5d/s: half within %.1f ms, 99 %% within %.1f ms, %.0f MB", rate, r.p50.last(), r.p99.last(), r.rss.last())
	return nil
}

// durations is penstock's histogram of message durations, and its CPU seconds, since at.
type durations struct {
	at    time.Duration // since the start of this process; in a difference: the time between
	cpu   float64
	count float64
	upTo  []float64 // upper bounds of the buckets, in seconds, ascending
	n     []float64 // messages up to each
}

var began = time.Now()

// scrape reads the metrics of a penstock.
func scrape(ctx context.Context, address string) (durations, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return durations{}, err
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return durations{}, err
	}
	defer func() { _ = res.Body.Close() }()
	d := durations{at: time.Since(began)}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		switch {
		case name == "process_cpu_seconds_total":
			d.cpu = value
		case strings.HasPrefix(name, "penstock_message_duration_seconds_count"):
			d.count = value
		case strings.HasPrefix(name, "penstock_message_duration_seconds_bucket"):
			_, rest, _ := strings.Cut(name, `le="`)
			bound, _, _ := strings.Cut(rest, `"`)
			upTo, err := strconv.ParseFloat(bound, 64) // "+Inf", too
			if err != nil {
				return d, err
			}
			d.upTo, d.n = append(d.upTo, upTo), append(d.n, value)
		}
	}
	if len(d.n) == 0 {
		return d, errors.New("penstock has no histogram of message durations")
	}
	return d, nil
}

// since is what came after before.
func (d durations) since(before durations) durations {
	diff := durations{at: d.at - before.at, cpu: d.cpu - before.cpu, count: d.count - before.count, upTo: d.upTo}
	for i := range d.n {
		diff.n = append(diff.n, d.n[i]-before.n[i])
	}
	return diff
}

// quantile returns the seconds within which that share of the messages lies, interpolated inside a bucket.
func (d durations) quantile(share float64) float64 {
	rank := share * d.count
	low, below := 0.0, 0.0
	for i, n := range d.n {
		if n >= rank {
			if math.IsInf(d.upTo[i], 1) {
				return d.upTo[i]
			}
			return low + (d.upTo[i]-low)*(rank-below)/max(n-below, 1)
		}
		low, below = d.upTo[i], n
	}
	return math.Inf(1)
}

// within returns the share of the messages in the buckets that end below a time in seconds.
func (d durations) within(seconds float64) float64 {
	share := 0.0
	for i, bound := range d.upTo {
		if bound <= seconds {
			share = d.n[i] / d.count
		}
	}
	return share
}
