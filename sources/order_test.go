package sources

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// Lines keep their order through retries, releases, and an outage of the sink, with order: source. The same file
// without it does not, or the test would prove nothing.
func TestFile_orderSourceKeepsTheOrderOfLines(t *testing.T) {
	const lines = 300
	var text strings.Builder
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprintf("line-%03d", i))
		text.WriteString(want[i] + "\n")
	}
	file := filepath.Join(t.TempDir(), "lines.txt")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(order string) []string {
		registry := pipeline.AddSink[troubledConfig](Register(pipeline.NewRegistry()), "troubled")
		config, _, err := pipeline.LoadBytes(registry, "x.yaml", []byte(`
name: x
`+order+`
source: {file: {paths: [`+file+`], format: lines, redeliveries: 50}}
sink: {troubled: {}}
retry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 2}
`), pipeline.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		built, err := config.Build(pipeline.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		engine, err := pipeline.New(pipeline.Settings{}, built)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := engine.Run(ctx); err != nil {
			t.Fatal(err)
		}
		ledger := engine.Ledgers()[0]
		if ledger.Written != lines || ledger.Released == 0 || ledger.Retries == 0 || ledger.Unresolved != 0 {
			t.Errorf("%q: %+v, want every line written, some after a release", order, ledger)
		}
		return config.Sink.Config.(*troubledConfig).stored
	}
	if got := run("order: source"); !slices.Equal(got, want) {
		t.Errorf("stored %v", got)
	}
	if got := run("order: none"); slices.Equal(got, want) {
		t.Error("without an order the lines kept theirs: this test proves nothing")
	}
}

// troubledConfig stores what it is given after some failures: retryable ones, more than the retry budget now and
// then, and an outage.
type troubledConfig struct {
	stored []string
	tries  map[string]int
}

func (c *troubledConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	c.tries = map[string]int{}
	lock := make(chan struct{}, 1)
	return pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		lock <- struct{}{}
		defer func() { <-lock }()
		line := string(msg.Payload)
		c.tries[line]++
		switch n := c.tries[line]; {
		case strings.HasSuffix(line, "7") && n <= 5: // more than the two attempts of a delivery
			return errors.New("not now")
		case strings.HasSuffix(line, "3") && n <= 1:
			return errors.New("once more")
		case line == "line-150" && n <= 2:
			return pipeline.Unavailable(errors.New("away"))
		}
		c.stored = append(c.stored, line)
		return nil
	}), nil
}

// Made-up events keep their order, too, through retries and releases.
func TestGenerate_orderSourceKeepsTheOrderOfEvents(t *testing.T) {
	run := func(order string, faults bool) []string {
		registry := pipeline.AddSink[seventhConfig](Register(pipeline.NewRegistry()), "seventh")
		config, _, err := pipeline.LoadBytes(registry, "x.yaml", []byte(`
name: x
`+order+`
source: {generate: {count: 210, rate: max, start: 2026-11-20T10:00:00Z, redeliveries: 50}}
sink: {seventh: {}}
retry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 2}
`), pipeline.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sink := config.Sink.Config.(*seventhConfig)
		sink.faults = faults
		built, err := config.Build(pipeline.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		engine, err := pipeline.New(pipeline.Settings{}, built)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := engine.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if ledger := engine.Ledgers()[0]; ledger.Written != 210 || faults != (ledger.Released > 0) {
			t.Errorf("%q: %+v", order, ledger)
		}
		return sink.stored
	}
	want := run("order: source", false)
	if got := run("order: source", true); !slices.Equal(got, want) {
		t.Errorf("stored %v\nwant   %v", got, want)
	}
	if got := run("order: none", true); slices.Equal(got, want) {
		t.Error("without an order the events kept theirs: this test proves nothing")
	}
}

// seventhConfig is a sink that fails every seventh message five times: more than the two attempts of a delivery.
type seventhConfig struct {
	faults bool
	mu     sync.Mutex
	tries  map[string]int
	stored []string
}

func (c *seventhConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	c.tries = map[string]int{}
	return pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		body := string(msg.Payload)
		if _, seen := c.tries[body]; !seen && len(c.tries)%7 != 6 {
			c.tries[body] = 5
		}
		if c.tries[body]++; c.faults && c.tries[body] <= 5 {
			return errors.New("not now")
		}
		c.stored = append(c.stored, body)
		return nil
	}), nil
}
