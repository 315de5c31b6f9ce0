// Package redis is the sink that keeps a Redis up to date: it carries out cache writes, each one decided inside Redis by
// the total order of [cache.Write], so that neither the order of arrival, nor duplicates, nor the number of writers
// changes the result.
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// Config stores cache writes (what the decode transforms put out) in a Redis, newer wins.
//
// Messages that arrive together share one script call per connection; inside it every write is decided by itself. A
// message is stored when all its writes are: carried out, older than what is there, or kept out by their condition. A
// payload that holds no cache writes fails for good, alone. While Redis is away, read-only, loading or full, the sink is
// unavailable and nothing is lost.
type Config struct {
	// Host name or address of the server; "host:port" is understood, too, and the path of a unix socket.
	Host string `yaml:"host" default:"localhost"`
	// Port of the server; 1 to 65535.
	Port int `yaml:"port" default:"6379"`
	// Redis Sentinels that know the server, instead of host and port.
	Sentinel Sentinel `yaml:"sentinel"`
	// Number of the database; 0 or more.
	DB int `yaml:"db" default:"0"`
	// User to log in as; empty for the default user.
	User string `yaml:"user"`
	// Password to log in with; empty for none.
	Password pipeline.Secret `yaml:"password"`
	// Name of the connections in the server's CLIENT LIST: no blanks; empty for none.
	ClientName string `yaml:"client_name"`
	// Encryption of the connections, to Sentinels too.
	TLS TLS `yaml:"tls"`
	// How long one request may take before the server counts as away; 100ms to 30s.
	Timeout time.Duration `yaml:"timeout" default:"5s"`
	// Prefix of all keys, put before them with a colon: the SDK's environmentPrefix.
	Prefix string `yaml:"prefix" default:"production"`
	// How long entries live after their last write, at least 1ms; negative: for ever. A write may say otherwise (ttl). The memory of deletes and of
	// two-clock writes lives as long, and at least 15 days.
	TTL time.Duration `yaml:"ttl" default:"168h"`
	// How many connections write at the same time; 1 to 1000.
	Connections int `yaml:"connections" default:"2"`
	// On how many replicas a write must be before it counts as stored.
	WaitReplicas WaitReplicas `yaml:"wait_replicas"`
	// For messages that are no cache writes but JSON objects of a key, a value, and perhaps a version and a TTL: the names of
	// these members; {} takes the defaults. Each message is one entry then, and any source will do, without a transform.
	Plain *Plain `yaml:"plain"`
	// How messages are gathered into one script call.
	Batch pipeline.Batch `yaml:"batch"`
	// Whether to wait with a write while an SDK holds the lock of its customer, so that the SDK's own write, decided before
	// ours, can't undo it: the message is tried again every 50 to 200 ms, and written after 10 s in any case. Needs the
	// right to read keys that start with the prefix and "-"; without it there is a warning, and locks are not looked at.
	RespectSDKLocks bool `yaml:"respect_sdk_locks" default:"true"`
	// Address such as "127.0.0.1:6380" on which to serve a built-in Redis, in memory and gone with the process, instead
	// of dialling one; host, port, user, password and tls are not used then.
	Embedded string `yaml:"embedded"`
}

// TLS declares how the connection is encrypted.
type TLS struct {
	// Whether the connection is encrypted.
	Enabled bool `yaml:"enabled" default:"false"`
	// File with the certificates (PEM) of the authorities to trust; empty for the system's.
	CAFile string `yaml:"ca_file"`
	// File with the client's certificate (PEM); needs key_file.
	CertFile string `yaml:"cert_file"`
	// File with the client certificate's private key (PEM); needs cert_file.
	KeyFile string `yaml:"key_file"`
	// Name that the server's certificate must be for; empty for the host.
	ServerName string `yaml:"server_name"`
}

// Sentinel declares the Sentinels of a Redis. After a failover the sink goes on with the new master.
type Sentinel struct {
	// Name under which the Sentinels know the master; empty: no Sentinels.
	Master string `yaml:"master"`
	// Addresses of the Sentinels, each "host:port"; one that answers will do.
	Addresses []string `yaml:"addresses"`
	// User to log in to the Sentinels as; empty for the default user.
	User string `yaml:"user"`
	// Password to log in to the Sentinels with; empty for none.
	Password pipeline.Secret `yaml:"password"`
}

// WaitReplicas declares what a failover may cost. A server that crashes loses what it had not replicated; with count 0 those
// are the last moments before the crash.
type WaitReplicas struct {
	// Number of replicas that must have a write before its message is acked; 0: none.
	Count int `yaml:"count" default:"0"`
	// How long to wait for them; more than 0 and less than the sink's timeout. After that the store counts as away, until
	// there are enough replicas.
	Timeout time.Duration `yaml:"timeout" default:"1s"`
}

const (
	defaultHost = "localhost"
	defaultPort = 6379
	// minMemory outlives every message that could still arrive: SQS keeps one for at most 14 days.
	minMemory = 15 * 24 * time.Hour
	maxTTL    = 100 * 365 * 24 * time.Hour
)

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) { errs = append(errs, pipeline.Invalid(field, format, args...)) }
	if c.Port < 1 || c.Port > 65535 {
		bad("port", "must be 1 to 65535, got %d", c.Port)
	}
	if strings.HasPrefix(c.Host, "/") {
		if c.TLS.Enabled {
			bad("tls", "is not for unix sockets")
		}
	} else if host, port, err := net.SplitHostPort(c.Host); err == nil {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
			bad("host", "want a host, or host:port, got %q", c.Host)
		} else if c.Port != defaultPort && c.Port != n {
			bad("port", "host says port %d, port says %d: leave one out", n, c.Port)
		}
	} else if c.Host == "" || strings.Contains(c.Host, "/") {
		bad("host", "want a host, or host:port, got %q", c.Host)
	}
	if c.Sentinel.Master == "" && (len(c.Sentinel.Addresses) > 0 || c.Sentinel.User != "" || !c.Sentinel.Password.IsZero()) {
		bad("sentinel.master", "is required with the other settings of sentinel")
	}
	if c.Sentinel.Master != "" {
		if len(c.Sentinel.Addresses) == 0 {
			bad("sentinel.addresses", "must name at least one Sentinel")
		}
		if c.Host != defaultHost || c.Port != defaultPort {
			bad("sentinel", "excludes host and port: the Sentinels know them")
		}
	}
	for i, address := range c.Sentinel.Addresses {
		if host, _, err := net.SplitHostPort(address); err != nil || host == "" {
			bad(fmt.Sprintf("sentinel.addresses[%d]", i), "want host:port, got %q", address)
		}
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > 30*time.Second {
		bad("timeout", "must be 100ms to 30s, got %s", c.Timeout)
	}
	if c.WaitReplicas.Count < 0 || c.WaitReplicas.Count > 100 {
		bad("wait_replicas.count", "must be 0 to 100, got %d", c.WaitReplicas.Count)
	}
	if c.WaitReplicas.Count > 0 && (c.WaitReplicas.Timeout < time.Millisecond || c.WaitReplicas.Timeout >= c.Timeout) {
		bad("wait_replicas.timeout", "must be at least 1ms and less than timeout (%s), got %s", c.Timeout, c.WaitReplicas.Timeout)
	}
	if c.DB < 0 {
		bad("db", "must not be negative, got %d", c.DB)
	}
	if strings.ContainsFunc(c.ClientName, func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad("client_name", "must be ASCII without blanks, got %q", c.ClientName)
	}
	if c.User != "" && c.Password.IsZero() {
		bad("password", "user needs a password")
	}
	if c.Prefix == "" {
		bad("prefix", "must not be empty: it is the SDK's environmentPrefix")
	}
	switch {
	case c.TTL == 0:
		bad("ttl", "must not be 0: entries would be gone at once; negative means that they never expire")
	case c.TTL > 0 && c.TTL < time.Millisecond:
		bad("ttl", "must be at least 1ms, got %s", c.TTL)
	case c.TTL > maxTTL:
		bad("ttl", "must be at most %s, got %s; negative means that entries never expire", maxTTL, c.TTL)
	}
	if c.Connections < 1 || c.Connections > 1000 {
		bad("connections", "must be 1 to 1000, got %d", c.Connections)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls", "cert_file and key_file go together")
	}
	if !c.TLS.Enabled && c.TLS != (TLS{}) {
		bad("tls", "has settings but is not enabled: add enabled: true")
	}
	if c.Embedded != "" {
		if _, _, err := net.SplitHostPort(c.Embedded); err != nil {
			bad("embedded", "want an address such as 127.0.0.1:6380, got %q", c.Embedded)
		}
		if c.Host != defaultHost || c.Port != defaultPort || c.Sentinel.Master != "" {
			bad("embedded", "excludes host, port and sentinel: it serves a Redis of its own")
		}
		if c.WaitReplicas.Count > 0 {
			bad("wait_replicas.count", "must be 0 with embedded: the built-in Redis has no replicas")
		}
		if c.TLS.Enabled || c.User != "" || !c.Password.IsZero() {
			bad("embedded", "excludes user, password and tls: the built-in Redis has neither")
		}
	}
	return errors.Join(errs...)
}

// Address returns "host:port" of the server that the sink writes to: what a reader of the cache must be pointed to. With
// Sentinels it is "master at" and their addresses, with a unix socket its path.
func (c *Config) Address() string {
	switch {
	case c.Embedded != "":
		return c.Embedded
	case c.Sentinel.Master != "":
		return c.Sentinel.Master + " at " + strings.Join(c.Sentinel.Addresses, ",")
	case strings.HasPrefix(c.Host, "/"):
		return c.Host
	}
	if _, _, err := net.SplitHostPort(c.Host); err == nil {
		return c.Host
	}
	return net.JoinHostPort(strings.Trim(c.Host, "[]"), strconv.Itoa(c.Port))
}

// client reads the certificates and sets up a client with that many connections. onConnect may be nil.
func (c *Config) client(connections int, onConnect func()) (*redis.Client, error) {
	conf := redisclient.Config{
		Address: c.Address(), DB: c.DB, User: c.User, Password: c.Password.Reveal(), Connections: connections,
		Timeout: c.Timeout, OnConnect: onConnect, Name: c.ClientName,
	}
	if s := c.Sentinel; s.Master != "" {
		conf.Sentinel = &redisclient.Sentinel{
			Master: s.Master, Addresses: s.Addresses, User: s.User, Password: s.Password.Reveal(),
		}
	}
	if c.TLS.Enabled {
		var err error
		if conf.TLS, err = c.TLS.load(); err != nil {
			return nil, err
		}
	}
	return redisclient.New(conf), nil
}

func (t *TLS) load() (*tls.Config, error) {
	conf := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

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
		stale: pipeline.Register(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_stale_writes_total",
			Help: "Writes that were older than what the store held, or than another write of the same batch.",
		})),
		guarded: pipeline.Register(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_guarded_writes_total",
			Help: "Writes that were not carried out because their condition (if_any_exists) was not met.",
		})),
		lockWaits: pipeline.Register(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_lock_waits_total",
			Help: "Times that a message waited because an SDK held the lock of its customer.",
		})),
		overwritten: pipeline.Register(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_other_types_overwritten_total",
			Help: "Keys that held something else than a string and were overwritten.",
		})),
		wipes: pipeline.Register(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_store_wiped_total",
			Help: "Times that the store was found emptied.",
		})),
		size: pipeline.Register(env.Metrics, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "penstock_sink_batch_size",
			Help:    "Messages in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		})),
		lag: pipeline.Register(env.Metrics, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "penstock_event_lag_seconds",
			Help:    "Time from when a fact was true (AsOf, or Version) until it was applied to the store.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400},
		})),
	}
	w.locks.Store(c.RespectSDKLocks && c.Plain == nil) // plain messages are no SDK's business
	w.maxValue.Store(defaultMaxValue)
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

	connecting sync.Mutex
	client     atomic.Pointer[redis.Client]
	embedded   *embedded
	maxValue   atomic.Int64 // bytes that the server takes as one value
	locks      atomic.Bool  // whether locks are looked at
	epoch      epoch
}

// defaultMaxValue is Redis's proto-max-bulk-len, unless configured otherwise.
const defaultMaxValue = 512 << 20

// connected returns the client, and sets it up when it is asked for first. It does not wait for the server.
func (w *writer) connected() (*redis.Client, error) {
	if client := w.client.Load(); client != nil {
		return client, nil
	}
	w.connecting.Lock()
	defer w.connecting.Unlock()
	if client := w.client.Load(); client != nil {
		return client, nil
	}
	client, err := w.config.client(w.config.Connections+1, func() { w.epoch.check.Store(true) }) // one more for the probe
	if err != nil {
		return nil, pipeline.Fatal(err)
	}
	if w.config.Embedded != "" {
		e, err := startEmbedded(w.config.Embedded)
		if err != nil {
			return nil, pipeline.Fatal(fmt.Errorf("serve the built-in Redis: %w", err))
		}
		w.embedded = e
	}
	w.client.Store(client)
	return client, nil
}

// start connects. That Redis is away is no reason not to start: it returns a [pipeline.Unavailable] error then, and the
// sink works once Redis is there. It may be called again.
func (w *writer) start(ctx context.Context) error {
	if err := w.ping(ctx); err != nil {
		return err
	}
	if err := w.checkLocks(ctx); err != nil {
		return err
	}
	// Not every user may read the configuration, and not every server has one.
	if conf, err := w.client.Load().ConfigGet(ctx, maxValueSetting).Result(); err == nil {
		if n, err := strconv.ParseInt(conf[maxValueSetting], 10, 64); err == nil && n > 0 {
			w.maxValue.Store(n)
		}
	}
	return nil
}

const maxValueSetting = "proto-max-bulk-len"

// probeKey is written and deleted, in one step, to see whether writing works: a full Redis, a replica and a user without rights all
// answer a PING.
const probeKey = ownKeys + "probe"

func (w *writer) ping(ctx context.Context) error {
	err := w.probe(ctx)
	if err == nil {
		err = w.lookAtEpoch(ctx)
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

// probe writes and deletes probeKey.
func (w *writer) probe(ctx context.Context) error {
	var r request
	r.begin(w.config.Prefix, probeKey)
	r.literal(opUnversioned)
	r.literal("1")
	r.begin(w.config.Prefix, probeKey)
	r.literal(opDeleteUnversioned)
	got, err := w.call(ctx, &r)
	if err == nil && len(got.errs) > 0 {
		err = got.nextError()
	}
	return err
}

func (w *writer) close() error {
	w.connecting.Lock()
	defer w.connecting.Unlock()
	var err error
	if client := w.client.Load(); client != nil {
		err = client.Close()
	}
	if w.embedded != nil {
		w.embedded.close()
	}
	return err
}

// failed says what an error of a request means for its messages, and where it came from.
func (w *writer) failed(err error) error {
	return fmt.Errorf("redis at %s: %w", w.config.Address(), redisclient.Outcome(err))
}
