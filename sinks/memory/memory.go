// Package memory is a cache store inside the process: it carries out cache writes in the order of [cache.Write], as the
// redis sink does, and the program that embeds it reads them without a network.
//
//	store := memory.New(memory.Config{MaxEntries: 10_000})
//	p := &pipeline.Pipeline{Name: "cache", Source: source, Sink: pipeline.Sink{Publisher: store}}
//	…
//	entries, err := store.Get(ctx, "c_customer-3")
package memory

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
)

// Config declares the memory sink: it stores cache writes (what the decode transforms put out) inside the process,
// newer wins by the same order as in the redis sink. It is for tests, and for Go programs that embed a pipeline and
// read the store themselves; what it holds is gone with the process.
//
// It is bounded, and it evicts nothing: forgetting an entry would let an older write in, and forgetting a delete
// would bring back what was deleted. A write that has no room makes the sink unavailable: the pipeline holds its
// messages, and goes on once entries have expired. What is smaller than the entry that it replaces, and deletes of
// entries, still get through. A write that is larger than the whole store fails for good, and so does a payload that
// holds no cache writes.
//
// Order: as in the redis sink, only writes without a version depend on it; order: source on the pipeline keeps that of
// the source.
type Config struct {
	// Most entries, at least 1. What is remembered of a deleted or expired entry counts as one.
	MaxEntries int `yaml:"max_entries" default:"100000" range:"1.." unit:"entries"`
	// Most bytes, at least 1KiB: keys and values, and 200 bytes for each entry.
	MaxBytes pipeline.ByteSize `yaml:"max_bytes" default:"64MiB" range:"1KiB.."`
	// How long entries live after their last write, at least 1ms; negative: for ever. A write may say otherwise
	// (ttl). The clocks of deletes and of two-clock writes are kept as long, and at least 15 days.
	TTL time.Duration `yaml:"ttl" default:"168h" range:"<0,1ms..876000h" note:"negative means that entries never expire"`
}

const (
	defaultMaxEntries = 100_000
	defaultMaxBytes   = 64 << 20
	defaultTTL        = 168 * time.Hour
	minBytes          = 1 << 10
	// minClocksTTL outlives every message that could still arrive: SQS keeps one for at most 14 days.
	minClocksTTL = 15 * 24 * time.Hour
	maxTTL       = 100 * 365 * 24 * time.Hour
	// overhead is what an entry takes beside its key and value, about.
	overhead = 200
)

// Warnings tells when the sink can probably not store what reaches it.
func (c *Config) Warnings(whole *pipeline.Config) []error {
	if err := configfacts.WarnWithoutWrites(c, whole); err != nil {
		return []error{err}
	}
	return nil
}

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error { return pipeline.CheckTags(c) }

// NewSink makes the sink. Its Publisher is a [*Store].
func (c *Config) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	s := New(*c)
	s.stale = pipeline.RegisterMetric(env.Metrics, s.stale)
	s.guarded = pipeline.RegisterMetric(env.Metrics, s.guarded)
	return pipeline.Sink{Publisher: s}, nil
}

// Store is a store in memory: the publisher of a sink, and a reader of what the sink has stored. It is safe for
// concurrent use, by any number of pipelines and readers.
type Store struct {
	config         Config
	stale, guarded prometheus.Counter

	mu      sync.RWMutex
	entries map[string]*entry
	bytes   int64
	expiry  expiry
}

var (
	_ message.Publisher = (*Store)(nil)
	_ cache.Reader      = (*Store)(nil)
)

// New makes an empty store. Zero fields of config take their defaults.
func New(config Config) *Store {
	config.MaxEntries = cmp.Or(config.MaxEntries, defaultMaxEntries)
	config.MaxBytes = cmp.Or(config.MaxBytes, defaultMaxBytes)
	config.TTL = cmp.Or(config.TTL, defaultTTL)
	return &Store{
		config: config,
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_stale_writes_total",
			Help: "Writes that were older than what the store held, or than another write of the same batch.",
		}),
		guarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_guarded_writes_total",
			Help: "Writes that were not carried out because their condition (if_any_exists) was not met.",
		}),
		entries: map[string]*entry{},
	}
}

// entry is what the store knows of a key. It is there as long as it has a value or clocks.
type entry struct {
	key     string
	value   []byte // not nil when there is one; never written into
	version int64  // of the value; 0 = none
	until   time.Time

	// What was decided last by two clocks: a delete, or a value whose bytes are not kept here. Its Version is 0 when
	// there is none.
	clocks      cache.Write
	clocksUntil time.Time

	at int // place in the expiry; -1 = never expires
}

// Publish carries out the writes of the messages, each message's in their order. It keeps nothing of the messages.
func (s *Store) Publish(_ string, msgs ...*message.Message) error {
	errs := make([]error, len(msgs))
	for i, msg := range msgs {
		writes, err := cache.Parse(nil, msg.Payload)
		switch {
		case err != nil:
			errs[i] = pipeline.Permanent(fmt.Errorf("memory: the payload is not cache writes: %w", err))
		case len(writes) == 0:
			errs[i] = pipeline.Permanent(errors.New("memory: the payload holds no cache write"))
		default:
			errs[i] = s.store(writes)
		}
	}
	return pipeline.Worst(errs...)
}

// store carries out all writes that it can.
func (s *Store) store(writes []cache.Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.expire(now)
	errs := make([]error, len(writes))
	for i := range writes {
		w := &writes[i]
		if w.Delete && w.AsOf == 0 {
			w.AsOf = w.Version // a delete is always remembered, with both clocks
		}
		if len(w.IfAnyExists) > 0 && !slices.ContainsFunc(w.IfAnyExists, s.hasVersion) {
			s.guarded.Inc()
			continue
		}
		e := s.entries[w.Key]
		if e == nil {
			e = &entry{key: w.Key, at: -1}
		}
		switch d := e.decide(w); d {
		case older:
			s.stale.Inc()
		case renew:
			s.renew(e, w, now)
		case write:
			errs[i] = s.write(e, w, now)
		}
	}
	return pipeline.Worst(errs...)
}

func (s *Store) hasVersion(key string) bool {
	e := s.entries[key]
	return e != nil && e.version != 0
}

type decision int

const (
	older decision = iota
	renew          // it is what is there already
	write
)

// decide says what becomes of a write, by the order of docs/cache-layout.md.
func (e *entry) decide(w *cache.Write) decision {
	switch {
	case w.Version == 0:
		return write // the last arrival wins
	case w.AsOf == 0:
		if w.Version < e.version {
			return older
		}
		if w.Version == e.version {
			return e.tie(w)
		}
		return write
	}
	// A write of one clock, which leaves the clocks alone, has come since.
	foreign := e.version != 0 && (e.clocks.Delete || e.clocks.Version != e.version)
	if e.clocks.Version != 0 {
		clocks := *w
		clocks.Value = nil // the values are compared below: the clocks have none
		switch c := cache.Compare(clocks, e.clocks); {
		case c < 0, c == 0 && foreign:
			return older
		case c == 0 && w.Delete:
			return renew
		case c == 0:
			return e.tie(w)
		}
	}
	if foreign && w.Version < e.version {
		return older
	}
	return write
}

// tie is for a value whose clocks are those of the entry: the greater bytes win.
func (e *entry) tie(w *cache.Write) decision {
	if e.value == nil {
		return write // it has expired
	}
	switch c := bytes.Compare(w.Value, e.value); {
	case c < 0:
		return older
	case c == 0 && e.version != 0:
		return renew
	}
	return write
}

func (s *Store) renew(e *entry, w *cache.Write, now time.Time) {
	if !w.Delete {
		e.until = after(now, s.ttl(w))
	}
	if w.AsOf != 0 {
		e.clocksUntil = after(now, s.clocksTTL(w))
	}
	s.schedule(e)
}

// write makes room for the write and carries it out.
func (s *Store) write(e *entry, w *cache.Write, now time.Time) error {
	if w.Delete && w.Version == 0 && e.clocks.Version == 0 {
		s.remove(e) // nothing is left to be known
		return nil
	}
	was, is := int64(0), e.size(len(w.Value))
	known := s.entries[w.Key] != nil
	if known {
		was = e.size(len(e.value))
	}
	most := int64(s.config.MaxBytes)
	switch {
	case is > most:
		return pipeline.Permanent(fmt.Errorf("memory: key %.100q: the entry takes %d bytes, the whole store holds %d (max_bytes)", w.Key, is, most))
	case !known && len(s.entries) >= s.config.MaxEntries:
		return pipeline.Unavailable(fmt.Errorf("memory: the store is full: it holds %d entries (max_entries)", len(s.entries)))
	case s.bytes-was+is > most:
		return pipeline.Unavailable(fmt.Errorf("memory: the store is full: it holds %d bytes of %d (max_bytes)", s.bytes, most))
	}
	s.entries[w.Key] = e
	s.bytes += is - was
	e.value, e.version, e.until = nil, 0, time.Time{}
	if !w.Delete {
		e.value = append([]byte{}, w.Value...)
		e.version = w.Version
		e.until = after(now, s.ttl(w))
	}
	if w.AsOf != 0 {
		e.clocks = cache.Write{Version: w.Version, AsOf: w.AsOf, Delete: w.Delete}
		e.clocksUntil = after(now, s.clocksTTL(w))
	}
	s.schedule(e)
	return nil
}

func (s *Store) ttl(w *cache.Write) time.Duration { return cmp.Or(w.TTL, s.config.TTL) }

// clocksTTL returns how long the clocks of a write are kept: no shorter than its entry.
func (s *Store) clocksTTL(w *cache.Write) time.Duration {
	if s.config.TTL < 0 || w.TTL < 0 {
		return -1
	}
	return max(s.config.TTL, w.TTL, minClocksTTL)
}

// after returns when the TTL is over; the zero time is never.
func after(now time.Time, ttl time.Duration) time.Time {
	if ttl < 0 {
		return time.Time{}
	}
	return now.Add(ttl)
}

func (e *entry) size(value int) int64 { return int64(len(e.key) + value + overhead) }

func (s *Store) remove(e *entry) {
	if s.entries[e.key] == nil {
		return
	}
	delete(s.entries, e.key)
	s.bytes -= e.size(len(e.value))
	if e.at >= 0 {
		heap.Remove(&s.expiry, e.at)
	}
}

// expire drops what is over.
func (s *Store) expire(now time.Time) {
	for len(s.expiry) > 0 && !s.expiry[0].next().After(now) {
		e := s.expiry[0]
		if over(e.clocksUntil, now) {
			e.clocks, e.clocksUntil = cache.Write{}, time.Time{}
		}
		if over(e.until, now) {
			s.bytes -= int64(len(e.value))
			e.value, e.version, e.until = nil, 0, time.Time{}
		}
		if e.value == nil && e.clocks.Version == 0 {
			s.remove(e)
		} else {
			s.schedule(e)
		}
	}
}

func over(until, now time.Time) bool { return !until.IsZero() && !until.After(now) }

// schedule puts e where its next expiry belongs.
func (s *Store) schedule(e *entry) {
	switch expires := !e.next().IsZero(); {
	case expires && e.at < 0:
		heap.Push(&s.expiry, e)
	case expires:
		heap.Fix(&s.expiry, e.at)
	case e.at >= 0:
		heap.Remove(&s.expiry, e.at)
	}
}

// next returns when something of e is over; the zero time is never.
func (e *entry) next() time.Time {
	if e.until.IsZero() || !e.clocksUntil.IsZero() && e.clocksUntil.Before(e.until) {
		return e.clocksUntil
	}
	return e.until
}

// expiry is a heap of the entries that expire, the next one first.
type expiry []*entry

func (x expiry) Len() int           { return len(x) }
func (x expiry) Less(i, j int) bool { return x[i].next().Before(x[j].next()) }
func (x expiry) Swap(i, j int)      { x[i], x[j] = x[j], x[i]; x[i].at, x[j].at = i, j }

func (x *expiry) Push(e any) {
	e.(*entry).at = len(*x)
	*x = append(*x, e.(*entry))
}

func (x *expiry) Pop() any {
	last := len(*x) - 1
	e := (*x)[last]
	(*x)[last] = nil
	*x = (*x)[:last]
	e.at = -1
	return e
}

// versionSuffix is how readers ask for the version of an entry, as they ask a Redis.
const versionSuffix = "#timestamp"

// Get returns one entry for each key, in the order of keys, as they are at one moment. The version of an entry is read
// under its key and "#timestamp". The values are the caller's. Get fails only when ctx has ended.
func (s *Store) Get(ctx context.Context, keys ...string) ([]cache.Entry, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	now := time.Now()
	got := make([]cache.Entry, len(keys))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, key := range keys {
		if e := s.entries[key]; e.live(now) {
			got[i] = cache.Entry{Value: bytes.Clone(e.value), Found: true, TTL: e.ttl(now)}
			continue
		}
		if name, ok := strings.CutSuffix(key, versionSuffix); ok {
			if e := s.entries[name]; e.live(now) && e.version != 0 {
				got[i] = cache.Entry{Value: strconv.AppendInt(nil, e.version, 10), Found: true, TTL: e.ttl(now)}
			}
		}
	}
	return got, nil
}

func (e *entry) live(now time.Time) bool { return e != nil && e.value != nil && !over(e.until, now) }

func (e *entry) ttl(now time.Time) time.Duration {
	if e.until.IsZero() {
		return -1
	}
	return e.until.Sub(now)
}

// Keys returns the keys of all entries, sorted.
func (s *Store) Keys() []string {
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]string, 0, len(s.entries))
	for key, e := range s.entries {
		if e.live(now) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Close does nothing: the store outlives the pipelines that write to it, and its readers.
func (s *Store) Close() error { return nil }
