package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// manyEvents is how many events all rounds of one size handle together at the most: the largest sizes have fewer
// rounds.
const manyEvents = 3_000_000

// runGrowth measures what a message costs in runs of growing length. The customers are the same, so that neither the
// Redis nor what penstock remembers has a reason to grow.
func runGrowth(ctx context.Context, b *bench) (string, error) {
	var empty sample // CPU and time of a run without events: penstock's start and end
	var emptyWall sample
	t := table{header: []string{"events", "rounds", "messages/s", "its CPU, µs a message", "Redis's CPU, µs a message", "peak RSS, MB", "keys in the end"}}
	var cpu, rss []sample
	for _, size := range b.sizes {
		one := *b
		one.events = size
		f, err := newFileBench(ctx, &one)
		if err != nil {
			return "", err
		}
		if len(empty) == 0 {
			if empty, emptyWall, err = f.emptyRuns(ctx); err != nil {
				f.redis.stop()
				return "", err
			}
		}
		result := fileResult{name: "growth", events: size}
		rounds := min(b.rounds, max(1, manyEvents/size))
		for range rounds {
			if err = f.measure(ctx, penstockIndex, &result); err != nil {
				break
			}
		}
		f.redis.stop()
		if err := os.Remove(f.recording); err != nil { // gigabytes
			return "", err
		}
		if err != nil {
			return "", fmt.Errorf("growth: %d events: %w", size, err)
		}
		var own, rate sample
		for i := range result.cpu {
			own.add(result.cpu[i] - empty.median()/float64(size))
			wall := float64(size)/result.rates[i] - emptyWall.median()
			rate.add(float64(size) / wall)
		}
		cpu, rss = append(cpu, own), append(rss, result.rss)
		t.add(thousands(float64(size)), fmt.Sprint(rounds), rate.spread(0), own.spread(1), result.redisCPU.spread(1), result.rss.spread(0),
			thousands(float64(f.model.redisKeys())))
	}
	last := len(b.sizes) - 1
	return fmt.Sprintf("File → decode → Redis as above, in runs of growing length, always of %s customers. CPU and time of penstock's start and end, "+
		"measured on a run without events (%.0f ms of CPU), are subtracted. After every run the Redis equalled the model.\n\n%s\n%s",
		thousands(float64(b.customers)), empty.median()/1000, t.String(), aims(
			atMost(fmt.Sprintf("CPU of a message at %s events, as a multiple of that at %s, where the run is long enough to warm up", thousands(float64(b.sizes[last])), thousands(float64(b.sizes[last/2]))),
				1.15, 2, cpu[last].median()/cpu[last/2].median()),
			atMost(fmt.Sprintf("RSS at %s events, MB more than at %s", thousands(float64(b.sizes[last])), thousands(float64(b.sizes[last/2]))),
				5, 1, rss[last].median()-rss[last/2].median()),
		)), nil
}

// penstockIndex is where penstock stands in fileContenders.
const penstockIndex = 1

// emptyRuns returns what runs without events take: µs of CPU, and seconds.
func (f *fileBench) emptyRuns(ctx context.Context) (cpu, wall sample, err error) {
	nothing := filepath.Join(f.dir, "nothing.ndjson")
	if err := os.WriteFile(nothing, nil, 0o600); err != nil {
		return nil, nil, err
	}
	recording := f.recording
	f.recording = nothing
	defer func() { f.recording = recording }()
	for range 5 {
		file, err := f.configFile("nothing", f.pipeline())
		if err != nil {
			return nil, nil, err
		}
		took, err := run(ctx, exec.Command(f.binary, "run", file), false)
		if err != nil {
			return nil, nil, err
		}
		cpu.add(float64(took.CPU.Microseconds()))
		wall.add(took.Wall.Seconds())
	}
	return cpu, wall, nil
}

// runTimeout bounds one run of a contender with so many events: one that hangs is a failure.
func runTimeout(events int) time.Duration {
	return 5*time.Minute + time.Duration(events)*time.Millisecond/4
}
