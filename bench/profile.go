package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

type profileSettings struct {
	// Pipeline is the pipeline file's text; Profile the file to write.
	Pipeline, Profile string
}

// profileMain runs a pipeline in this process, until its source ends or a signal, and writes its CPU profile.
func profileMain(ctx context.Context, s profileSettings) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	debug.SetGCPercent(200) // as penstock.Main does
	registry := sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry())))
	config, _, err := pipeline.LoadBytes(registry, "bench.yaml", []byte(s.Pipeline), pipeline.LoadOptions{})
	if err != nil {
		return err
	}
	settings := pipeline.Settings{}
	built, err := config.Build(settings)
	if err != nil {
		return err
	}
	engine, err := pipeline.New(settings, built)
	if err != nil {
		return err
	}
	out, err := os.Create(s.Profile)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return engine.Run(ctx)
}

// stages are the parts of a message's way, and how their code is recognised: by the innermost function on the stack
// that belongs to one of them. What belongs to none is the runtime's own: scheduler, garbage collector.
var stages = []struct {
	name string
	in   []string
}{
	{"read", []string{"penstock/internal/recording.", "penstock/internal/feed.", "penstock/sources"}},
	{"unwrap", []string{"transforms.(*unwrap", "transforms.(*Unwrap"}},
	{"decode", []string{"penstock/entitlement.", "transforms.(*decode", "transforms.(*Decode"}},
	{"commit", []string{"penstock/sinks", "go-redis/", "penstock/cache.", "penstock/internal/redisclient.", "penstock/pipeline.(*batcher"}},
	{"engine and router", []string{"penstock/pipeline.", "watermill/"}},
}

// runProfile says where the CPU of a message goes, between file and Redis.
func runProfile(ctx context.Context, b *bench) (string, error) {
	f, err := newFileBench(ctx, b)
	if err != nil {
		return "", err
	}
	defer f.redis.stop()
	shares := make([]sample, len(stages)+2)
	var total sample
	for range b.rounds {
		if err := f.redis.empty(ctx); err != nil {
			return "", err
		}
		file := filepath.Join(b.dir, "cpu.pprof")
		cmd, err := contender("profile", profileSettings{Pipeline: f.pipeline(), Profile: file})
		if err != nil {
			return "", err
		}
		if _, err := run(ctx, cmd, false); err != nil {
			return "", fmt.Errorf("profile: %w", err)
		}
		if err := f.model.compare(ctx, f.redis.client, prefix); err != nil {
			return "", err
		}
		spent, err := splitProfile(ctx, file)
		if err != nil {
			return "", fmt.Errorf("profile: %w", err)
		}
		var sum time.Duration
		for i, d := range spent {
			shares[i].add(float64(d.Nanoseconds()) / 1000 / float64(b.events))
			sum += d
		}
		total.add(float64(sum.Nanoseconds()) / 1000 / float64(b.events))
		b.say("profile: %.1f µs a message", total.last())
		if b.profile != "" {
			if err := os.Rename(file, b.profile); err != nil {
				return "", err
			}
		}
	}
	t := table{header: []string{"stage", "µs a message"}}
	for i, stage := range stages {
		t.add(stage.name, shares[i].spread(2))
	}
	t.add("scheduler, system calls outside of the stages", shares[len(stages)].spread(2))
	t.add("garbage collector", shares[len(stages)+1].spread(2))
	t.add("**all**", total.spread(2))
	return "CPU of penstock alone (without Redis's), by its profile, from file to Redis:\n\n" + t.String(), nil
}

// splitProfile adds up the samples of a CPU profile by stage; the last two entries are the runtime's and the garbage
// collector's.
func splitProfile(ctx context.Context, file string) ([]time.Duration, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", "-unit=us", file)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w", err)
	}
	spent := make([]time.Duration, len(stages)+2)
	// A trace is a line with its time and its innermost function, and then its callers, one a line; rules of dashes stand
	// between traces.
	var (
		took  time.Duration
		stack []string
	)
	flush := func() {
		if len(stack) > 0 {
			spent[stageOf(stack)] += took
		}
		stack = stack[:0]
	}
	started := false
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "-----------+") {
			flush()
			started = true
			continue
		}
		fields := strings.Fields(line)
		if !started || len(fields) == 0 {
			continue
		}
		if len(stack) == 0 {
			if took, err = time.ParseDuration(fields[0]); err != nil || len(fields) < 2 {
				return nil, fmt.Errorf("go tool pprof: not understood: %q", line)
			}
			fields = fields[1:]
		}
		stack = append(stack, fields[0])
	}
	flush()
	return spent, nil
}

// stageOf returns the index of the stage that a stack, innermost function first, belongs to.
func stageOf(stack []string) int {
	for _, function := range stack {
		for i, stage := range stages {
			for _, in := range stage.in {
				if strings.Contains(function, in) {
					return i
				}
			}
		}
		// Allocation makes goroutines help the collector: that is its cost, whoever allocates.
		if strings.HasPrefix(function, "runtime.gc") || strings.HasPrefix(function, "runtime.bgsweep") {
			return len(stages) + 1
		}
	}
	return len(stages)
}
