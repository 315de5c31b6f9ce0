package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// prefix of the keys of all contenders.
const prefix = "bench"

// fileBench measures events from a file to Redis.
type fileBench struct {
	*bench
	workload  workload
	recording string
	model     model
	redis     *redisServer
}

// fileSettings is what contenders written here are told.
type fileSettings struct {
	Recording   string
	Redis       string
	Script      string
	Batch       int
	Connections int
}

// fileContenders are the contenders in the order of the table. The second penstock is the A/A control: what lies
// between the two is the noise of the run.
var fileContenders = []struct {
	name, what string
	run        func(*fileBench, context.Context) (cost, error)
	// events is how many of the workload's events the contender handles, where that isn't all.
	events func(*bench) int
	// own marks those whose values are their own: the Redis is not compared with the model.
	own bool
}{
	{name: "limit", what: "raw go-redis: the same writes from memory by the same script, no pipeline", run: (*fileBench).limit},
	{name: "penstock", what: "file → unwrap → decode → redis", run: (*fileBench).penstock},
	{name: "penstock (A/A)", what: "the same again: the noise of this run", run: (*fileBench).penstock},
	{name: "watermill", what: "router + a handler that writes each message by one script call", run: (*fileBench).watermill},
	{name: benthosName, what: "Benthos 4.27: file → mapping → a newer-wins script for a batch of 512, one write an event, no layout", run: (*fileBench).runBenthos, own: true},
	{
		name: "reference × 1", what: "the provider SDK's own writer, one operation at a time",
		run: func(b *fileBench, ctx context.Context) (cost, error) { return b.reference(ctx, 1) }, events: func(b *bench) int { return b.events / 40 }, own: true,
	},
	{
		name: "reference × 64", what: "the same, 64 at a time",
		run: func(b *fileBench, ctx context.Context) (cost, error) { return b.reference(ctx, 64) }, events: func(b *bench) int { return b.events / 8 }, own: true,
	},
}

// fileResult is what one contender took in each round.
type fileResult struct {
	name, what string
	events     int
	rates      sample // messages a second
	cpu        sample // µs a message, the contender's own
	redisCPU   sample // µs a message
	rss        sample // MB
	perCall    sample // events a script call
}

// newFileBench makes the events and their model and starts a Redis.
func newFileBench(ctx context.Context, b *bench) (*fileBench, error) {
	f := &fileBench{bench: b, workload: b.workload()}
	f.recording = filepath.Join(b.dir, "events.ndjson")
	b.say("making %d events of %d customers", b.events, b.customers)
	if err := f.workload.writeRecording(f.recording); err != nil {
		return nil, err
	}
	var err error
	if f.model, err = newModel(f.workload); err != nil {
		return nil, err
	}
	f.redis, err = startRedis(ctx)
	return f, err
}

func runFile(ctx context.Context, b *bench) (string, error) {
	f, err := newFileBench(ctx, b)
	if err != nil {
		return "", err
	}
	defer f.redis.stop()

	results := make([]fileResult, len(fileContenders))
	for i, c := range fileContenders {
		results[i] = fileResult{name: c.name, what: c.what, events: b.events}
		if c.events != nil {
			results[i].events = max(c.events(b), 1)
			results[i].what += fmt.Sprintf(" (%s events)", thousands(float64(results[i].events)))
		}
	}
	for round := range b.rounds {
		for i := range fileContenders {
			// Every round begins with another one, so that no place in the order is anybody's.
			i := (i + round) % len(fileContenders)
			if !b.wants(fileContenders[i].name) {
				continue
			}
			if err := f.measure(ctx, i, &results[i]); err != nil {
				return "", fmt.Errorf("file: %s: %w", fileContenders[i].name, err)
			}
		}
	}
	return f.report(results)
}

func (f *fileBench) measure(ctx context.Context, i int, result *fileResult) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout(result.events))
	defer cancel()
	if err := f.redis.empty(ctx); err != nil {
		return err
	}
	before, err := f.redis.use(ctx)
	if err != nil {
		return err
	}
	took, err := fileContenders[i].run(f, ctx)
	if err != nil {
		return err
	}
	after, err := f.redis.use(ctx)
	if err != nil {
		return err
	}
	if !fileContenders[i].own {
		if err := f.model.compare(ctx, f.redis.client, prefix); err != nil {
			return err
		}
	}
	used, n := after.since(before), float64(result.events)
	result.rates.add(n / took.Wall.Seconds())
	result.cpu.add(float64(took.CPU.Microseconds()) / n)
	result.redisCPU.add(float64(used.cpu.Microseconds()) / n)
	result.rss.add(float64(took.RSS) / 1e6)
	if fileContenders[i].events != nil {
		// One event in ten is late and may lose; all others are set, with their version.
		if used.sets < int64(result.events) {
			return fmt.Errorf("the Redis has seen %d SETs for %d events", used.sets, result.events)
		}
	} else {
		result.perCall.add(n / float64(used.calls))
	}
	f.say("%-15s %8.0f messages/s  %5.1f µs + %5.1f µs of Redis a message  %4.0f MB", result.name,
		result.rates.last(), result.cpu.last(), result.redisCPU.last(), result.rss.last())
	return nil
}

func (f *fileBench) settings() fileSettings {
	return fileSettings{
		Recording: f.recording, Redis: f.redis.addr, Script: filepath.Join(f.root, "sinks", "redis", "write.lua"),
		Batch: f.batch, Connections: f.connections,
	}
}

func (f *fileBench) penstock(ctx context.Context) (cost, error) {
	file, err := f.configFile("file", f.pipeline())
	if err != nil {
		return cost{}, err
	}
	return run(ctx, exec.Command(f.binary, "run", file), false)
}

// pipeline is penstock's pipeline file.
func (f *fileBench) pipeline() string {
	host, port := f.redis.hostPort()
	return fmt.Sprintf(`name: bench
source:
  file: {paths: [%q]}
transforms:
  - unwrap: {}
  - decode_entitlements: {layout: dual}
sink:
  redis: {host: %s, port: %s, prefix: %s, connections: %d, batch: {count: %d}}
`, f.recording, host, port, prefix, f.connections, f.batch)
}

func (f *fileBench) limit(ctx context.Context) (cost, error) {
	return runContender(ctx, "limit", f.settings())
}

func (f *fileBench) watermill(ctx context.Context) (cost, error) {
	return runContender(ctx, "watermill", f.settings())
}

// reference runs the provider SDK's own writer. It handles fewer events, and what it leaves in Redis is not compared:
// it writes other values, and its races are its own.
func (f *fileBench) reference(ctx context.Context, concurrency int) (cost, error) {
	events := f.events / 40
	if concurrency > 1 {
		events = f.events / 8
	}
	host, port := f.redis.hostPort()
	return run(ctx, exec.Command("node", filepath.Join(f.root, "bench", "reference.mjs"), f.root, f.recording,
		strconv.Itoa(max(events, 1)), host, port, strconv.Itoa(concurrency)), true)
}

func (f *fileBench) report(results []fileResult) (string, error) {
	t := table{header: []string{"contender", "messages/s", "of the limit", "its CPU, µs a message", "Redis's CPU, µs a message", "peak RSS, MB", "messages a script call"}}
	limit := results[0].rates.median()
	var bars []bar
	for _, r := range results {
		if len(r.rates) == 0 {
			continue
		}
		bars = append(bars, bar{label: r.name, value: r.rates})
		share := "–"
		if limit > 0 {
			share = fmt.Sprintf("%.0f %%", 100*r.rates.median()/limit)
		}
		t.add(fmt.Sprintf("**%s**: %s", r.name, r.what), r.rates.spread(0), share, r.cpu.spread(1), r.redisCPU.spread(1),
			r.rss.spreadOr("–", 0), r.perCall.spreadOr("–", 0))
	}
	size, err := os.Stat(f.recording)
	if err != nil {
		return "", err
	}
	by := map[string]sample{}
	for _, r := range results {
		by[r.name] = r.rates
	}
	penstock := []sample{by["penstock"], by["penstock (A/A)"]}
	f.chart = chart("File → decode → Redis: messages a second", bars)
	return fmt.Sprintf("%s events of %s customers (10 %% snapshots of entitlements, 90 %% usage; %s MB as a recording), %s keys in the "+
		"end; batches of %d, %d connections. After every run of the limit, penstock and Watermill the Redis equalled the model.\n\n%s\n%s",
		thousands(float64(f.events)), thousands(float64(f.customers)), thousands(float64(size.Size()/1e6)), thousands(float64(2*len(f.model))),
		f.batch, f.connections, t.String(), aims(
			atLeast("penstock, as a part of the limit", 0.5, 2, ratios(penstock, by["limit"])...),
			atLeast("penstock, as a multiple of the reference writer at 64 concurrent", 4, 1, ratios(penstock, by["reference × 64"])...),
			atLeast("penstock, as a multiple of Benthos", 2, 2, ratios(penstock, by[benthosName])...),
		)), nil
}
