package main

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/entitlement"
)

// plainLua is the least that a newer-wins store does: it compares versions and sets values. It knows one clock, no
// deletes, no locks, no ties and no conditions.
//
//go:embed plain.lua
var plainLua string

// scriptContenders make calls of the same writes, each by a script of its own.
var scriptContenders = []struct {
	name, what string
	call       func(*scriptBench, []cache.Write) []any
}{
	{"plain", "a plain newer-wins script: MGET of the versions, two SETs an accepted write", (*scriptBench).plainCall},
	{"penstock", "the script of the redis sink", (*scriptBench).penstockCall},
	{"penstock (A/A)", "the same again: the noise of this run", (*scriptBench).penstockCall},
}

type scriptBench struct {
	*bench
	redis           *redisServer
	plain, penstock script
	batches         [][]cache.Write
	writes          int
	model           model
}

func runScript(ctx context.Context, b *bench) (string, error) {
	s := &scriptBench{bench: b}
	var err error
	if s.redis, err = startRedis(ctx); err != nil {
		return "", err
	}
	defer s.redis.stop()
	if err := s.load(ctx); err != nil {
		return "", err
	}
	took := make([]sample, len(scriptContenders))
	rates := make([]sample, len(scriptContenders))
	for round := range b.rounds {
		for i := range scriptContenders {
			i := (i + round) % len(scriptContenders)
			if !b.wants(scriptContenders[i].name) {
				continue
			}
			us, wall, err := s.measure(ctx, i)
			if err != nil {
				return "", fmt.Errorf("script: %s: %w", scriptContenders[i].name, err)
			}
			took[i].add(us)
			rates[i].add(float64(s.writes) / wall.Seconds())
			b.say("script: round %d: %s: %.2f µs of Redis a write", round+1, scriptContenders[i].name, us)
		}
	}
	t := table{header: []string{"contender", "Redis's time, µs a write", "of plain", "writes/s, 1 connection"}}
	for i, c := range scriptContenders {
		ratio := "–"
		if len(took[0]) > 0 && len(took[i]) > 0 {
			ratio = number(took[i].median()/took[0].median(), 2)
		}
		t.add("**"+c.name+"**: "+c.what, took[i].spread(1), ratio, rates[i].spread(0))
	}
	text := fmt.Sprintf("%s events (%s), %s writes in calls of %d events; Redis's time is that of its own `commandstats`. After every "+
		"run of penstock's script the Redis equalled the model.\n\n%s\n", thousands(float64(b.events)), b.sizeText(), thousands(float64(s.writes)), b.batch, t.String())
	return text + aims(atMost("Redis's time of a write, as a multiple of plain", 1.4, 2, ratios(took[1:], took[0])...)), nil
}

// load decodes the events into batches of writes, and loads the scripts.
func (s *scriptBench) load(ctx context.Context) error {
	w := s.workload()
	s.say("making %d events of %d customers", w.events, w.customers)
	decoder, err := newDecoder()
	if err != nil {
		return err
	}
	now, n := time.Now(), 0
	var batch []cache.Write
	flush := func() {
		if len(batch) > 0 {
			s.batches = append(s.batches, batch)
			s.writes += len(batch)
			batch = nil
		}
	}
	err = w.each(func(body []byte) error {
		writes, _, err := decoder.Decode(entitlement.Input{Body: append([]byte(nil), body...), Now: now})
		if err != nil {
			return err
		}
		batch = append(batch, writes...)
		if n++; n%s.batch == 0 {
			flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	flush()
	if s.model, err = newModel(w); err != nil {
		return err
	}
	if s.penstock, err = loadScript(ctx, s.redis.client, filepath.Join(s.root, "sinks", "redis", "write.lua")); err != nil {
		return err
	}
	sum := sha1.Sum([]byte(plainLua))
	s.plain = script{text: plainLua, sha: hex.EncodeToString(sum[:])}
	return s.redis.client.ScriptLoad(ctx, plainLua).Err()
}

func (s *scriptBench) penstockCall(writes []cache.Write) []any { return s.penstock.call(writes) }

func (s *scriptBench) plainCall(writes []cache.Write) []any {
	args := make([]any, 0, 4+3*len(writes))
	args = append(args, "evalsha", s.plain.sha, len(writes))
	for i := range writes {
		args = append(args, []byte(prefix+":"+writes[i].Key))
	}
	args = append(args, strconv.Itoa(int(ttl.Seconds())))
	for i := range writes {
		args = append(args, writes[i].Version, writes[i].Value)
	}
	return args
}

var evalshaTime = regexp.MustCompile(`calls=\d+,usec=(\d+)`)

// measure sends all batches, one after another, and returns Redis's microseconds a write.
func (s *scriptBench) measure(ctx context.Context, i int) (us float64, wall time.Duration, err error) {
	if err := s.redis.empty(ctx); err != nil {
		return 0, 0, err
	}
	client := redis.NewClient(&redis.Options{Addr: s.redis.addr, Protocol: 2, PoolSize: 1, DisableIdentity: true, ReadTimeout: time.Minute})
	defer func() { _ = client.Close() }()
	before, err := s.scriptTime(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, batch := range s.batches {
		args := scriptContenders[i].call(s, batch)
		began := time.Now()
		if err := client.Do(ctx, args...).Err(); err != nil {
			return 0, 0, err
		}
		wall += time.Since(began)
	}
	after, err := s.scriptTime(ctx)
	if err != nil {
		return 0, 0, err
	}
	if scriptContenders[i].name != "plain" {
		if err := s.model.compare(ctx, s.redis.client, prefix); err != nil {
			return 0, 0, err
		}
	}
	return (after - before) / float64(s.writes), wall, nil
}

// scriptTime is how long Redis has been inside of scripts, in microseconds.
func (s *scriptBench) scriptTime(ctx context.Context) (float64, error) {
	info, err := s.redis.info(ctx)
	if err != nil {
		return 0, err
	}
	match := evalshaTime.FindStringSubmatch(info["cmdstat_evalsha"])
	if match == nil {
		return 0, nil // none was called yet
	}
	return strconv.ParseFloat(match[1], 64)
}

// workload is the made-up history of the flags.
func (b *bench) workload() workload {
	return workload{seed: b.seed, events: b.events, customers: b.customers, real: b.size == sizeReal}
}

// The sizes of events.
const (
	sizeSmall = "small"
	sizeReal  = "real"
)

func (b *bench) sizeText() string {
	if b.size == sizeReal {
		return "real size: nine of ten are snapshots of 2 to 10 features"
	}
	return "small: one in ten a snapshot of 1.5 KB"
}
