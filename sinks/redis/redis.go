// Package redis is the sink that keeps a Redis up to date: it carries out cache writes, each one decided inside Redis
// by the total order of [cache.Write], so that neither the order of arrival, nor duplicates, nor the number of
// writers changes the result.
package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/netaddr"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// NewSink makes the sink.
func (c *Config) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	return newSink(c, env, writeScript), nil
}

func newSink(c *Config, env pipeline.Env, s script) pipeline.Sink {
	w := newWriter(c, env, s)
	sink := pipeline.BatchSinkFunc(w.store, pipeline.BatchSettings{
		Batch:   c.Batch,
		Workers: c.Connections,
		Observe: func(n int) { w.size.Observe(float64(n)) },
		Start:   w.start,
		Ping:    w.ping,
		Close:   w.close,
		Report:  w.report,
	})
	if c.RespectSDKLocks {
		sink.Publisher = &lockWaiter{batched: sink.Publisher, patience: lockPatience, waits: w.lockWaits}
	}
	return sink
}

func newWriter(c *Config, env pipeline.Env, s script) *writer {
	w := &writer{
		config: *c,
		log:    cmp.Or(env.Logger, zap.NewNop()),
		script: s,
		stale: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_stale_writes_total",
			Help: "Writes that were older than what the store held, or than another write of the same batch.",
		})),
		guarded: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_guarded_writes_total",
			Help: "Writes that were not carried out because their condition (if_any_exists) was not met.",
		})),
		lockWaits: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_lock_waits_total",
			Help: "Times that a message waited because an SDK held the lock of its customer.",
		})),
		overwritten: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_other_types_overwritten_total",
			Help: "Keys that held something else than a string and were overwritten.",
		})),
		wipes: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_store_wiped_total",
			Help: "Times that the store was found emptied.",
		})),
		size: pipeline.RegisterMetric(env.Metrics, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "penstock_sink_batch_size",
			Help:    "Messages in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		})),
		lag: pipeline.RegisterMetric(env.Metrics, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "penstock_event_lag_seconds",
			Help:    "Time from when a fact was true (AsOf, or Version) until it was applied to the store.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400},
		})),
	}
	w.memory = newMemoryUsage(env.Metrics)
	w.locks.Store(c.RespectSDKLocks && c.Plain == nil) // plain messages are no SDK's business
	w.maxValue.Store(defaultMaxValue)
	w.wipe.seen = map[string]string{}
	w.scratch.New = func() any { return newBatch() }
	return w
}

// writer is the running sink.
type writer struct {
	config  Config
	log     *zap.Logger
	script  script
	scratch sync.Pool // of *batch

	stale, guarded, lockWaits, overwritten, wipes prometheus.Counter
	size, lag                                     prometheus.Histogram
	memory                                        *memoryUsage

	connecting sync.Mutex
	servers    atomic.Pointer[servers]
	embedded   *embedded
	closed     atomic.Bool
	maxValue   atomic.Int64 // bytes that the server takes as one value
	locks      atomic.Bool  // whether locks are looked at
	wipe       wipeCheck
	accepted   atomic.Bool // whether the server has taken login, rights and TLS once

	beginning sync.RWMutex   // held to begin a request, and to close: none begins after closed is set
	requests  sync.WaitGroup // running ones, those that nobody waits for any more included
}

// defaultMaxValue is Redis's proto-max-bulk-len, unless configured otherwise.
const defaultMaxValue = 512 << 20

// connected returns the clients, and sets them up when they are asked for first. It does not wait for the server.
func (w *writer) connected() (*servers, error) {
	if s := w.servers.Load(); s != nil {
		return s, nil
	}
	w.connecting.Lock()
	defer w.connecting.Unlock()
	if s := w.servers.Load(); s != nil {
		return s, nil
	}
	if w.closed.Load() {
		return nil, redis.ErrClosed
	}
	s, err := w.connect()
	if err != nil {
		return nil, pipeline.Fatal(code.Mark(code.RedisTLS, err))
	}
	if w.config.Embedded != "" {
		e, err := startEmbedded(w.config.Embedded)
		if err != nil {
			return nil, pipeline.Fatal(code.Mark(code.AddressTaken, reason.Errorf("serve the built-in Redis: %w%s", err, netaddr.Hint(err, w.config.Embedded, "embedded of the redis sink"))))
		}
		w.embedded = e
	}
	w.servers.Store(s)
	return s, nil
}

func (w *writer) connect() (*servers, error) {
	return w.config.connect(w.config.Connections+1, func() { w.wipe.check.Store(true) }) // one more for the probe
}

// renew replaces the clients s, of which a connection broke or led to a server that takes no writes (any more): the
// others of its pool lead to the same place, and each would cost a failure, or a timeout, of its own. Names are
// looked up and certificates read again. With Sentinels and in a cluster the client itself follows the master.
func (w *writer) renew(s *servers) {
	if s.one == nil || w.config.Sentinel.Master != "" {
		return
	}
	w.connecting.Lock()
	defer w.connecting.Unlock()
	if w.closed.Load() || w.servers.Load() != s {
		return // somebody else has
	}
	fresh, err := w.connect()
	if err != nil {
		return // a certificate can't be read just now
	}
	w.servers.Store(fresh)
	_ = s.close()
}

// start connects. That Redis is away is no reason not to start: it returns a [pipeline.Unavailable] error then, and the
// sink works once Redis is there. It may be called again.
func (w *writer) start(ctx context.Context) error {
	if err := w.ping(ctx); err != nil {
		return err
	}
	s, err := w.connected()
	if err != nil {
		return err
	}
	if err := w.checkLocks(ctx, s); err != nil {
		return err
	}
	// Not every user may read the configuration, and not every server has one.
	if conf, err := s.any().ConfigGet(ctx, maxValueSetting).Result(); err == nil {
		if n, err := strconv.ParseInt(conf[maxValueSetting], 10, 64); err == nil && n > 0 {
			w.maxValue.Store(n)
		}
	}
	return nil
}

const maxValueSetting = "proto-max-bulk-len"

// probeKey is written and deleted, in one step, to see whether writing works: a full Redis, a replica and a user
// without rights all answer a PING. In a cluster there is one for each master, with a hash tag behind it.
const probeKey = ownKeys + "probe"

func (w *writer) ping(ctx context.Context) error {
	err := w.probe(ctx)
	if err == nil {
		inside.Answered(ctx)
		err = w.checkForWipe(ctx)
	}
	if err == nil {
		inside.Answered(ctx)
	}
	w.memory.look(ctx, w, err)
	if err != nil {
		return w.failed(err)
	}
	w.accepted.Store(true)
	return nil
}

// probe writes and deletes probeKey, on every master.
func (w *writer) probe(ctx context.Context) error {
	s, err := w.connected()
	if err != nil {
		return err
	}
	keys, err := s.everywhere(ctx, w.config.Prefix, probeKey)
	if err != nil {
		return err
	}
	calls := make([]*call, len(keys))
	for i, key := range keys {
		c := &call{}
		c.request.begin(w.config.Prefix, key)
		c.request.literal(opUnversioned)
		c.request.literal("1")
		c.request.begin(w.config.Prefix, key)
		c.request.literal(opDeleteUnversioned)
		calls[i] = c
	}
	w.exec(ctx, calls)
	for _, c := range calls {
		if c.err == nil && len(c.got.errs) > 0 {
			c.err = c.got.nextError()
		}
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

func (w *writer) close() error {
	w.beginning.Lock()
	w.closed.Store(true)
	w.beginning.Unlock()
	w.connecting.Lock()
	defer w.connecting.Unlock()
	var err error
	if s := w.servers.Load(); s != nil {
		err = s.close()
	}
	if w.embedded != nil {
		w.embedded.close()
	}
	w.requests.Wait() // what hung has ended with its connection
	return err
}

// refused reports whether err is about who asks: a password, a right or a certificate. Such an error is fatal at the
// start; later on it means that something is being rotated, or was taken away by mistake, and will be given back.
func refused(err error) bool {
	if !pipeline.IsFatal(err) {
		return false
	}
	switch redisclient.FailureOf(err) {
	case redisclient.BadLogin, redisclient.NoRight, redisclient.BadTLS:
		return true
	}
	return false
}

// failed says what an error of a request means for its messages, and where it came from.
func (w *writer) failed(err error) error {
	switch {
	case errors.Is(err, redis.ErrClosed) && !w.closed.Load():
		err = pipeline.Unavailable(err) // these clients were just renewed
	case w.config.clustered() && redisclient.FailureOf(err) == redisclient.Cluster:
		err = pipeline.Unavailable(err) // a slot is on its way to another node
	default:
		err = redisclient.Outcome(err)
	}
	if w.accepted.Load() && refused(err) {
		err = pipeline.Unavailable(reason.Errorf("refused, what the server took before; secrets in files are read again with every connection: %w", err))
	}
	return fmt.Errorf("redis at %s: %w", w.config.Address(), err)
}
