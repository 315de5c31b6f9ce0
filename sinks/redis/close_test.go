package redis

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// The engine leaves a probe alone that takes too long, and closes the sink: the probe's next request begins while, or
// after, the sink waits for those that run.
func TestWriter_closesWhileRequestsBegin(t *testing.T) {
	addr := testserver.Redis(t)
	for range 20 {
		w := newWriter(testConfig(addr), pipeline.Env{Metrics: prometheus.NewRegistry()}, writeScript)
		var probing sync.WaitGroup
		ended := make(chan struct{})
		for range 8 {
			probing.Go(func() {
				for {
					select {
					case <-ended:
						return
					default:
						_ = w.ping(t.Context())
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		if err := w.close(); err != nil {
			t.Error(err)
		}
		close(ended)
		probing.Wait()
		if err := w.probe(t.Context()); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("a closed sink answers a probe with %v, want %v", err, redis.ErrClosed)
		}
	}
}

// What was never used has no clients, and must not get some when it is closed.
func TestWriter_closedConnectsNoMore(t *testing.T) {
	w := newWriter(testConfig(testserver.Redis(t)), pipeline.Env{Metrics: prometheus.NewRegistry()}, writeScript)
	if err := w.close(); err != nil {
		t.Error(err)
	}
	if err := w.probe(t.Context()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("got %v, want %v", err, redis.ErrClosed)
	}
	if w.servers.Load() != nil {
		t.Error("a closed sink has connected")
	}
}
