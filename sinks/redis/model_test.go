package redis

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/pipeline"
)

// model is what contract and design say a Redis must hold, written down a second time, without a look at the script.
type model map[string]*modelKey

type modelKey struct {
	value   *string
	sibling *string
	clocks  *cache.Write // the last decision of two-clock writes; its Value doesn't matter
}

func (m model) at(key string) *modelKey {
	if m[key] == nil {
		m[key] = &modelKey{}
	}
	return m[key]
}

var leadingDigits = regexp.MustCompile(`^[\t\n\v\f\r ]*([+-]?)([0-9]+)`)

// version is what a reader's parseInt makes of the sibling; nil = no version.
func (k *modelKey) version() *big.Int {
	if k.sibling == nil {
		return nil
	}
	found := leadingDigits.FindStringSubmatch(*k.sibling)
	if found == nil {
		return nil
	}
	n, _ := new(big.Int).SetString(found[2], 10)
	if found[1] == "-" {
		n.SetInt64(0)
	}
	return n
}

type effect int

const (
	skipped       effect = iota
	renewedDelete        // only the clocks live on
	renewed
	stored
)

func (m model) apply(w cache.Write) effect {
	if len(w.IfAnyExists) > 0 {
		any := false
		for _, key := range w.IfAnyExists {
			any = any || m.at(key).version() != nil
		}
		if !any {
			return skipped
		}
	}
	k := m.at(w.Key)
	if w.Version == 0 {
		*k = modelKey{clocks: k.clocks}
		if !w.Delete {
			k.value = new(string(w.Value))
		}
		return stored
	}
	theirs := k.version()
	twoClocks := w.AsOf != 0
	if twoClocks && k.clocks != nil {
		mine := *k.clocks
		untouched := theirs == nil || !mine.Delete && theirs.Cmp(big.NewInt(mine.Version)) == 0
		last, next := mine, w
		last.Value, next.Value = nil, nil
		c := cache.Compare(next, last)
		switch {
		case c < 0:
			return skipped
		case c == 0 && !untouched:
			return skipped
		case c == 0 && w.Delete:
			return renewedDelete
		case c == 0:
			return k.tie(w)
		case !untouched && big.NewInt(w.Version).Cmp(theirs) < 0:
			return skipped
		}
		return k.set(w)
	}
	if theirs != nil {
		c := big.NewInt(w.Version).Cmp(theirs)
		if c < 0 {
			return skipped
		}
		if c == 0 && !twoClocks {
			return k.tie(w)
		}
	}
	return k.set(w)
}

func (k *modelKey) tie(w cache.Write) effect {
	if k.value != nil {
		if *k.value > string(w.Value) {
			return skipped
		}
		if *k.value == string(w.Value) && k.sibling != nil {
			return renewed
		}
	}
	return k.set(w)
}

func (k *modelKey) set(w cache.Write) effect {
	k.value, k.sibling = nil, nil
	if !w.Delete {
		k.value, k.sibling = new(string(w.Value)), new(fmt.Sprint(w.Version))
	}
	if w.AsOf != 0 {
		k.clocks = &w
	}
	return stored
}

// text is what Redis holds when it agrees with the model.
func (k *modelKey) text() string {
	clocks := "-"
	if k.clocks != nil {
		kind := "v"
		if k.clocks.Delete {
			kind = "d"
		}
		clocks = fmt.Sprintf("%d %d %s", k.clocks.AsOf, k.clocks.Version, kind)
	}
	return fmt.Sprintf("value %s, version %s, clocks %s", quoted(k.value), quoted(k.sibling), clocks)
}

func quoted(s *string) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%q", *s)
}

// store is the Redis under test, and the sinks that write to it.
type store struct {
	client  *goredis.Client
	sinks   []pipeline.Sink
	prefix  string
	metrics *prometheus.Registry
}

// counted returns the sum of a counter of all sinks.
func (s *store) counted(name string) float64 {
	families, err := s.metrics.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	panic("no counter " + name)
}

func (s *store) names(key string) []string {
	return []string{s.prefix + ":" + key, s.prefix + ":" + key + "#timestamp", s.prefix + ":penstock:" + key}
}

// text is what Redis holds, in the form of modelKey.text; an entry of another type counts as absent.
func (s *store) text(ctx context.Context, key string) (string, error) {
	got, err := s.client.MGet(ctx, s.names(key)...).Result()
	if err != nil {
		return "", err
	}
	return textOf(got), nil
}

// textOf is text of an MGET of a key's names.
func textOf(got []any) string {
	var texts [3]*string
	for i := range got {
		if text, ok := got[i].(string); ok {
			texts[i] = &text
		}
	}
	clocks := "-"
	if texts[2] != nil {
		clocks = *texts[2]
	}
	return fmt.Sprintf("value %s, version %s, clocks %s", quoted(texts[0]), quoted(texts[1]), clocks)
}

func payload(writes ...cache.Write) message.Payload {
	var b []byte
	for _, w := range writes {
		b = cache.Append(b, w)
	}
	return b
}

func (s *store) publish(sink int, writes ...cache.Write) error {
	return s.sinks[sink].Publisher.Publish("", message.NewMessage("m", payload(writes...)))
}

// Clocks that are apart, next to each other, of different lengths, and beyond what a double tells apart.
var clocks = []int64{
	1, 9, 10, 99, 100, 1795169730249, 1795169730250, 1795169730251, 999999999999999, 1000000000000000, 1000000000000001,
	9007199254740992, 9007199254740993, 9223372036854775806, 9223372036854775807,
}

// Values that are equal up to their last byte, to their length, or to the case; none of them in the order of a locale.
var values = []string{
	`{"a":1}`, `{"a":2}`, `{"a":10}`, `{}`, `"a"`, `"B"`, `"ä"`, `"z"`, `"😀"`, `""`,
	`"` + strings.Repeat("x", 200) + `a"`, `"` + strings.Repeat("x", 200) + `B"`, `"` + strings.Repeat("x", 200) + `"`,
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// randomWrite makes a write of one of a few keys: "u" keys have one clock, "c" keys have two and are deleted now and
// then, "n" keys have none.
func randomWrite(rng *rand.Rand, classes string) cache.Write {
	// Few clocks in one history make ties: at least one write in ten.
	clock := func() int64 { return pick(rng, clocks) }
	class := classes[rng.IntN(len(classes))]
	w := cache.Write{Key: fmt.Sprintf("%c_%d", class, rng.IntN(3)), Value: []byte(pick(rng, values))}
	switch class {
	case 'u':
		w.Version = clock()
	case 'c':
		w.Version, w.AsOf = clock(), clock()
		if rng.IntN(3) == 0 {
			w.AsOf = w.Version
		}
		if rng.IntN(4) == 0 {
			w.Delete, w.Value = true, nil
		}
	case 'n':
		if rng.IntN(4) == 0 {
			w.Delete, w.Value = true, nil
		}
	}
	return w
}

// Siblings as foreign writers, old services and accidents leave them.
var siblings = []string{
	"1", "9", "10", "1795169730250", "1795169730251", "0", "9223372036854775807", "99999999999999999999",
	"", "x", "NaN", " 10", "+10", "-10", "10abc", "0010", "1795169730250.5", "\t1795169730250\n",
}

const (
	freshTTL  = time.Hour
	markedTTL = 10 * time.Minute
	clocksTTL = 15 * 24 * time.Hour
)

// checkSteps carries out random writes and foreign ones, one after the other, and compares Redis with the model after
// each: entries, versions, clock keys, and whether TTLs were renewed.
func checkSteps(ctx context.Context, s *store, seed uint64, steps int) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := model{}
	var told []string
	var history []cache.Write
	failed := func(format string, args ...any) error {
		return fmt.Errorf("seed %d: after %s: %s", seed, strings.Join(told[max(0, len(told)-12):], "\n  "), fmt.Sprintf(format, args...))
	}
	for range steps {
		if rng.IntN(4) == 0 {
			text, err := s.foreign(ctx, rng, m)
			if err != nil {
				return err
			}
			told = append(told, text)
			continue
		}
		writes := []cache.Write{randomWrite(rng, "uccn")}
		if len(history) > 0 && rng.IntN(4) == 0 {
			writes[0] = pick(rng, history[max(0, len(history)-5):]) // a redelivery
		} else if rng.IntN(4) == 0 && !writes[0].Delete {
			writes[0].IfAnyExists = []string{fmt.Sprintf("c_%d", rng.IntN(3)), fmt.Sprintf("u_%d", rng.IntN(3))}[:1+rng.IntN(2)]
		} else {
			for rng.IntN(3) > 0 {
				writes = append(writes, randomWrite(rng, "uccn"))
			}
		}
		history = append(history, writes...)
		for _, w := range writes {
			for _, name := range s.names(w.Key) {
				if err := s.client.PExpire(ctx, name, markedTTL).Err(); err != nil {
					return err
				}
			}
		}
		if err := s.publish(0, writes...); err != nil {
			return failed("publish: %v", err)
		}
		effects := map[string]effect{}
		for _, w := range writes {
			got := m.apply(w)
			told = append(told, fmt.Sprintf("%s (%s %v)", strings.TrimSpace(string(payload(w))), "model:", got))
			effects[w.Key] = max(effects[w.Key], got)
		}
		for key, effect := range effects {
			got, err := s.text(ctx, key)
			if err != nil {
				return err
			}
			if want := m.at(key).text(); got != want {
				return failed("key %s:\n got %s\nwant %s", key, got, want)
			}
			if err := s.checkTTLs(ctx, key, effect); err != nil {
				return failed("key %s: %v", key, err)
			}
		}
	}
	return nil
}

func (s *store) checkTTLs(ctx context.Context, key string, effect effect) error {
	for i, name := range s.names(key) {
		ttl, err := s.client.PTTL(ctx, name).Result()
		if err != nil {
			return err
		}
		if i > 0 && strings.HasPrefix(key, "n") {
			continue // a write without a version has neither
		}
		if err := checkTTL(name, i == 2, ttl, effect); err != nil {
			return err
		}
	}
	return nil
}

func checkTTL(name string, clocks bool, ttl time.Duration, effect effect) error {
	least, most := time.Duration(0), markedTTL
	switch fresh := effect >= renewed || effect == renewedDelete && clocks; {
	case ttl == -2:
		return nil // absent
	case fresh && clocks:
		least, most = clocksTTL-time.Minute, clocksTTL
	case fresh:
		least, most = freshTTL-time.Minute, freshTTL
	}
	if ttl <= least || ttl > most {
		return fmt.Errorf("TTL of %s is %s, want %s to %s (effect %d)", name, ttl, least, most, effect)
	}
	return nil
}

// foreign does what others may do to the keys: an SDK's write, a purge, an eviction, a key of another type.
func (s *store) foreign(ctx context.Context, rng *rand.Rand, m model) (string, error) {
	key := fmt.Sprintf("%c_%d", "uccn"[rng.IntN(4)], rng.IntN(3))
	names := s.names(key)
	k := m.at(key)
	pipe := s.client.TxPipeline()
	var text string
	switch rng.IntN(7) {
	case 0:
		text = "purge of " + key
		pipe.Del(ctx, names[0], names[1])
		k.value, k.sibling = nil, nil
	case 1:
		i := rng.IntN(3)
		text = "eviction of " + names[i]
		pipe.Del(ctx, names[i])
		switch i {
		case 0:
			k.value = nil
		case 1:
			k.sibling = nil
		case 2:
			k.clocks = nil
		}
	case 2:
		text = "a hash at " + names[0]
		pipe.Del(ctx, names[0])
		pipe.HSet(ctx, names[0], "a", "b")
		k.value = nil
	case 3:
		text = "a list at " + names[1]
		pipe.Del(ctx, names[1])
		pipe.RPush(ctx, names[1], "5")
		k.sibling = nil
	default:
		value, sibling := pick(rng, values), pick(rng, siblings)
		text = fmt.Sprintf("SDK's %s = %s, %q", key, value, sibling)
		pipe.Set(ctx, names[0], value, freshTTL)
		pipe.Set(ctx, names[1], sibling, freshTTL)
		k.value, k.sibling = &value, &sibling
	}
	_, err := pipe.Exec(ctx)
	return text, err
}

// checkShuffled delivers a random history in any order, with duplicates, through several sinks at once, and compares
// Redis with the greatest write of each key. A few keys, whose clocks and values are close together or hard to tell
// apart.
func checkShuffled(ctx context.Context, s *store, seed uint64, size int) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	greatest := map[string]cache.Write{}
	var messages [][]cache.Write
	for range size {
		var writes []cache.Write
		for range 1 + rng.IntN(4) {
			w := randomWrite(rng, "ucc")
			writes = append(writes, w)
			if best, ok := greatest[w.Key]; !ok || cache.Compare(w, best) > 0 {
				greatest[w.Key] = w
			}
		}
		for range 1 + rng.IntN(3)/2 {
			messages = append(messages, writes)
		}
	}
	rng.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	if err := s.deliver(ctx, messages, 1+rng.IntN(len(s.sinks)), 0); err != nil {
		return err
	}
	for key, w := range greatest {
		m := model{}
		m.apply(w)
		got, err := s.text(ctx, key)
		if err != nil {
			return err
		}
		if want := m.at(key).text(); got != want {
			return fmt.Errorf("seed %d: key %s:\n got %s\nwant %s", seed, key, got, want)
		}
	}
	return nil
}
