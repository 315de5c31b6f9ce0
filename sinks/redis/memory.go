package redis

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

const (
	// memoryInterval is about as often as metrics are read.
	memoryInterval = 15 * time.Second
	// memoryRefused is the pause after a server said that the user may not ask: each refusal is a line in its ACL log.
	memoryRefused = 10 * time.Minute
)

// memoryUsage shows how full the servers are, each labelled by its address, as INFO tells it. What is not known is
// absent: without the right +info both, without a maxmemory the latter, and everything of a server that can't be
// reached.
type memoryUsage struct {
	used, max *prometheus.GaugeVec

	mu   sync.Mutex
	next time.Time       // when to ask again
	told map[string]bool // the servers that are shown
}

func newMemoryUsage(r prometheus.Registerer) *memoryUsage {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return pipeline.RegisterMetric(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "penstock_redis_memory_" + name, Help: help}, []string{"server"}))
	}
	return &memoryUsage{
		used: gauge("used_bytes", "Memory that the Redis uses (used_memory)."),
		max:  gauge("max_bytes", "Memory that the Redis may use (maxmemory); absent when it has no such limit."),
		told: map[string]bool{},
	}
}

// look asks the servers, when it is time. err is what the probe said: a server that refuses writes, because it is
// full, say, still answers.
func (m *memoryUsage) look(ctx context.Context, w *writer, err error) {
	if w.config.Embedded != "" {
		return // it lives in this process, whose memory has metrics of its own
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && redisclient.FailureOf(err) != redisclient.Refusing {
		m.keep(nil) // an old figure would look like a new one
		m.next = time.Time{}
		return
	}
	now := time.Now()
	if now.Before(m.next) {
		return
	}
	s, err := w.connected()
	if err != nil {
		return
	}
	told, refused := m.ask(ctx, s, w.config.Address())
	m.keep(told)
	m.next = now.Add(memoryInterval)
	if refused {
		m.next = now.Add(memoryRefused)
	}
}

// ask returns the servers that told, and whether one said that the user may not ask.
func (m *memoryUsage) ask(ctx context.Context, s *servers, address string) (told map[string]bool, refused bool) {
	told = map[string]bool{}
	if s.cluster == nil {
		err := m.askOne(ctx, s.one, address)
		told[address] = err == nil
		return told, redisclient.IsNoPermission(err)
	}
	var mu sync.Mutex
	// An error of it is one of looking up the masters: the next probe says more.
	_ = s.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		address := node.Options().Addr
		err := m.askOne(ctx, node, address)
		mu.Lock()
		defer mu.Unlock()
		told[address] = err == nil
		refused = refused || redisclient.IsNoPermission(err)
		return nil
	})
	return told, refused
}

func (m *memoryUsage) askOne(ctx context.Context, client *redis.Client, address string) error {
	text, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	used, ok := infoNumber(text, "used_memory")
	if !ok {
		return errNoMemory
	}
	m.used.WithLabelValues(address).Set(used)
	if limit, ok := infoNumber(text, "maxmemory"); ok && limit > 0 {
		m.max.WithLabelValues(address).Set(limit)
	} else {
		m.max.DeleteLabelValues(address)
	}
	return nil
}

var errNoMemory = errors.New("INFO doesn't tell used_memory")

// keep takes away what is no longer known.
func (m *memoryUsage) keep(told map[string]bool) {
	for address := range m.told {
		if !told[address] {
			m.used.DeleteLabelValues(address)
			m.max.DeleteLabelValues(address)
		}
	}
	m.told = told
}

// infoNumber returns a field of what INFO tells.
func infoNumber(info, field string) (float64, bool) {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return n, err == nil
		}
	}
	return 0, false
}
