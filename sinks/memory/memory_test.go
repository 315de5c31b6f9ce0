package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func payload(writes ...cache.Write) string {
	var b []byte
	for _, w := range writes {
		b = cache.Append(b, w)
	}
	return string(b)
}

func publish(s *Store, writes ...cache.Write) error {
	return s.Publish("", message.NewMessage("m", []byte(payload(writes...))))
}

func value(key, text string, clocks ...int64) cache.Write {
	w := cache.Write{Key: key, Value: []byte(strconv.Quote(text))}
	if len(clocks) > 0 {
		w.Version = clocks[0]
	}
	if len(clocks) > 1 {
		w.AsOf = clocks[1]
	}
	return w
}

func deletion(key string, clock int64) cache.Write {
	return cache.Write{Key: key, Delete: true, Version: clock, AsOf: clock}
}

// text tells an entry in a word: "-" when it is absent.
func text(t testing.TB, s *Store, key string) string {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if !got[0].Found {
		return "-"
	}
	return string(got[0].Value)
}

// Every key's greatest write by cache.Compare is what must be left, whatever came when, and how often.
func TestStore_anyOrderAnyDuplicatesEndInTheGreatestWrite(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, i))
		greatest := map[string]cache.Write{}
		var messages [][]cache.Write
		for range 60 {
			var writes []cache.Write
			for range 1 + rng.IntN(3) {
				w := cache.Write{Version: 1 + rng.Int64N(5), Value: []byte(strconv.Itoa(rng.IntN(30)))}
				if w.Key = fmt.Sprintf("u%d", rng.IntN(3)); rng.IntN(2) == 0 {
					w.Key, w.AsOf = fmt.Sprintf("c%d", rng.IntN(3)), 1+rng.Int64N(5)
					if rng.IntN(3) == 0 {
						w.Delete, w.Value = true, nil
					}
				}
				if best, ok := greatest[w.Key]; !ok || cache.Compare(w, best) > 0 {
					greatest[w.Key] = w
				}
				writes = append(writes, w)
			}
			for range 1 + rng.IntN(2) {
				messages = append(messages, writes)
			}
		}
		rng.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		s := New(Config{})
		var senders sync.WaitGroup
		for from := range 3 {
			senders.Go(func() {
				for at := from; at < len(messages); at += 3 {
					if err := publish(s, messages[at]...); err != nil {
						t.Error(err)
					}
				}
			})
		}
		senders.Wait()
		for key, w := range greatest {
			wantValue, wantVersion := string(w.Value), strconv.FormatInt(w.Version, 10)
			if w.Delete {
				wantValue, wantVersion = "-", "-"
			}
			if v, version := text(t, s, key), text(t, s, key+"#timestamp"); v != wantValue || version != wantVersion {
				t.Fatalf("seed %d, %d: %s is %s, version %s; the greatest write is %s", seed, i, key, v, version, payload(w))
			}
		}
	}
}

func TestStore_conditionsAndWritesWithoutAVersion(t *testing.T) {
	cases := map[string]struct {
		writes []cache.Write
		want   string // of key k
	}{
		"nothing":                               {nil, "-"},
		"the last arrival wins":                 {[]cache.Write{value("k", "b"), value("k", "a")}, `"a"`},
		"without a version over one with":       {[]cache.Write{value("k", "b", 5), value("k", "a")}, `"a"`},
		"any version over none":                 {[]cache.Write{value("k", "a"), value("k", "b", 1)}, `"b"`},
		"but not one older than the memory":     {[]cache.Write{value("k", "b", 5, 5), value("k", "a"), value("k", "c", 4, 4)}, `"a"`},
		"deleted without a version":             {[]cache.Write{value("k", "b"), {Key: "k", Delete: true}}, "-"},
		"a delete of one clock is remembered":   {[]cache.Write{{Key: "k", Delete: true, Version: 5}, value("k", "a", 4, 4)}, "-"},
		"a value beats a delete of its time":    {[]cache.Write{value("k", "a", 5, 5), deletion("k", 5)}, `"a"`},
		"condition met":                         {[]cache.Write{value("g", "x", 1), {Key: "k", Version: 1, Value: []byte("1"), IfAnyExists: []string{"f", "g"}}}, "1"},
		"condition not met":                     {[]cache.Write{value("f", "x", 1), {Key: "k", Version: 1, Value: []byte("1"), IfAnyExists: []string{"g"}}}, "-"},
		"a value without a version meets none":  {[]cache.Write{value("g", "x"), {Key: "k", Version: 1, Value: []byte("1"), IfAnyExists: []string{"g"}}}, "-"},
		"a deleted key meets none":              {[]cache.Write{value("g", "x", 1, 1), deletion("g", 2), {Key: "k", Version: 1, Value: []byte("1"), IfAnyExists: []string{"g"}}}, "-"},
		"adopts what one clock wrote":           {[]cache.Write{value("k", "a", 5), value("k", "b", 4, 9)}, `"a"`},
		"one clock over two":                    {[]cache.Write{value("k", "a", 4, 9), value("k", "b", 5), value("k", "c", 4, 10)}, `"b"`},
		"equal to the memory, not to the value": {[]cache.Write{value("k", "a", 4, 9), value("k", "b", 5), value("k", "z", 4, 9)}, `"b"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := New(Config{})
			for _, w := range c.writes {
				if err := publish(s, w); err != nil {
					t.Fatal(err)
				}
			}
			if got := text(t, s, "k"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestStore_anEqualValueBringsItsVersionBack(t *testing.T) {
	s := New(Config{})
	if err := publish(s, value("k", "a", 5, 5), value("k", "a"), value("k", "a", 5, 5)); err != nil {
		t.Fatal(err)
	}
	if got := text(t, s, "k#timestamp"); got != "5" {
		t.Errorf("its version is %s", got)
	}
}

func TestStore_entriesExpireAndAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{TTL: time.Minute})
		check := func(keys ...string) {
			t.Helper()
			if got := s.Keys(); !slices.Equal(got, keys) {
				t.Errorf("holds %q, want %q", got, keys)
			}
		}
		store := func(writes ...cache.Write) {
			t.Helper()
			if err := publish(s, writes...); err != nil {
				t.Fatal(err)
			}
		}
		store(value("equal", "a", 5, 5), value("older", "a", 5, 5), value("once", "a", 5, 5), value("gone", "a", 5, 5), value("usage", "a", 5))
		store(deletion("gone", 6))
		time.Sleep(40 * time.Second)
		store(value("equal", "a", 5, 5), value("older", "a", 4, 4))
		time.Sleep(20 * time.Second)
		check("equal")
		if got, _ := s.Get(t.Context(), "equal", "equal#timestamp", "older", "older#timestamp"); got[0].TTL != 40*time.Second ||
			got[1].TTL != 40*time.Second || got[2].Found || got[3].Found {
			t.Errorf("got %+v", got)
		}
		// The memory of two clocks lives on: what is older stays out, what is equal (a replay) comes back.
		store(value("older", "z", 4, 4), value("gone", "a", 5, 5), value("once", "a", 5, 5))
		check("equal", "once")
		// One clock has none.
		store(value("usage", "a", 1))
		check("equal", "once", "usage")

		time.Sleep(10 * 24 * time.Hour)
		store(deletion("gone", 6))
		time.Sleep(10 * 24 * time.Hour)
		store(value("gone", "a", 5, 5))
		check()

		time.Sleep(minClocksTTL)
		store(value("gone", "a", 5, 5), value("older", "a", 4, 4))
		check("gone", "older")
		if len(s.entries) != 2 || len(s.expiry) != 2 || s.bytes != 2*overhead+int64(len("gone"+"older"+`"a"`+`"a"`)) {
			t.Errorf("%d entries, %d expiries, %d bytes are left", len(s.entries), len(s.expiry), s.bytes)
		}
	})
}

func TestStore_aWriteBringsItsOwnTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{TTL: time.Hour})
		write := func(key string, asOf int64, ttl time.Duration) {
			t.Helper()
			w := value(key, "a", 5, asOf)
			w.TTL = ttl
			if err := publish(s, w); err != nil {
				t.Fatal(err)
			}
		}
		write("short", 5, time.Minute)
		write("long", 5, 2*minClocksTTL)
		write("never", 5, -1)
		write("default", 5, 0)
		write("older", 5, time.Minute)
		write("older", 4, 2*time.Minute)
		write("renewed", 5, time.Minute)
		write("renewed", 5, 2*time.Minute)
		got, err := s.Get(t.Context(), "short", "long", "never", "default", "older", "renewed")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{time.Minute, 2 * minClocksTTL, -1, time.Hour, time.Minute, 2 * time.Minute} {
			if got[i].TTL != want {
				t.Errorf("entry %d lives for %s, want %s", i, got[i].TTL, want)
			}
		}
		time.Sleep(2*minClocksTTL - time.Second)
		write("long", 4, 0) // its version alone would let it in
		write("never", 4, 0)
		if got := s.Keys(); !slices.Equal(got, []string{"long", "never"}) {
			t.Errorf("holds %q", got)
		}
		if got, _ := s.Get(t.Context(), "long", "never"); got[0].TTL != time.Second || got[1].TTL != -1 {
			t.Errorf("an older write was stored: TTLs %s, %s", got[0].TTL, got[1].TTL)
		}
	})
}

func TestStore_negativeTTLIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{TTL: -1})
		if err := publish(s, value("a", "a", 5, 5), deletion("b", 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(maxTTL)
		if err := publish(s, value("b", "b", 4, 4)); err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), "a", "b")
		if err != nil || got[0].TTL != -1 || !got[0].Found || got[1].Found {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestStore_atItsBoundRefusesAndForgetsNothing(t *testing.T) {
	s := New(Config{MaxEntries: 3, MaxBytes: 1 << 10})
	if err := publish(s, value("a", "1", 5, 5), value("b", "1", 5), deletion("c", 5)); err != nil {
		t.Fatal(err)
	}
	err := publish(s, value("d", "1"), value("a", "2", 6, 6))
	if !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "the store is full: it holds 3 entries (max_entries)") {
		t.Errorf("a fourth entry: %v", err)
	}
	if got := text(t, s, "a"); got != `"2"` {
		t.Errorf("its neighbour was not stored: %s", got)
	}
	if err := publish(s, deletion("d", 5)); !pipeline.IsUnavailable(err) {
		t.Errorf("a delete that must be remembered: %v", err)
	}
	if err := publish(s, value("a", strings.Repeat("x", 500), 7, 7)); !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "max_bytes") {
		t.Errorf("a larger value: %v", err)
	}
	if err := publish(s, value("b", strings.Repeat("x", 1<<10), 7)); !pipeline.IsPermanent(err) {
		t.Errorf("a value larger than the store: %v", err)
	}
	// What was known is known still.
	if err := publish(s, value("a", "1", 5, 5), value("b", "0", 4), value("c", "1", 4, 4)); err != nil {
		t.Errorf("older writes: %v", err)
	}
	for key, want := range map[string]string{"a": `"2"`, "b": `"1"`, "c": "-", "d": "-"} {
		if got := text(t, s, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	// A delete without a version leaves nothing to remember: there is room again.
	if err := publish(s, cache.Write{Key: "b", Delete: true}, value("d", "1")); err != nil {
		t.Errorf("no room: %v", err)
	}
	var sum int64
	for _, e := range s.entries {
		sum += e.size(len(e.value))
	}
	if s.bytes != sum {
		t.Errorf("counts %d bytes, holds %d", s.bytes, sum)
	}
}

func TestStore_aFullStoreHoldsThePipelineUntilEntriesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxEntries: 2, TTL: time.Minute})
		queue := pipelinetest.NewQueue(true, payload(value("a", "1", 1)), payload(value("b", "1", 1)), payload(value("c", "1", 1)), payload(value("d", "1", 1)))
		engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{Name: "p", Source: queue.Source(), Sink: pipeline.Sink{Publisher: s}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := engine.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l := engine.Ledgers()[0]; l.Written != 4 || l.Released+l.Poisoned != 0 {
			t.Errorf("ledger %+v", l)
		}
		if took := time.Since(begin); took < time.Minute {
			t.Errorf("ended after %s, before there was room", took)
		}
		if got := s.Keys(); len(got) != 2 {
			t.Errorf("holds %q", got)
		}
	})
}

func TestStore_badPayloadsFailForGoodAndAlone(t *testing.T) {
	s := New(Config{})
	for name, body := range map[string]string{"no JSON": "x", "no write": "", "no key": `{"value":1}`} {
		if err := s.Publish("", message.NewMessage("m", []byte(body))); !pipeline.IsPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := s.Publish("", message.NewMessage("bad", []byte("x")), message.NewMessage("good", []byte(payload(value("k", "v")))))
	if !pipeline.IsPermanent(err) || text(t, s, "k") != `"v"` {
		t.Errorf("got %v, k = %s", err, text(t, s, "k"))
	}
}

func TestStore_sharesNoBytes(t *testing.T) {
	s := New(Config{})
	body := []byte(payload(value("k", "v")))
	if err := s.Publish("", message.NewMessage("m", body)); err != nil {
		t.Fatal(err)
	}
	clear(body)
	got, _ := s.Get(t.Context(), "k")
	clear(got[0].Value)
	if got := text(t, s, "k"); got != `"v"` {
		t.Errorf("the value became %q", got)
	}
}

func TestStore_getEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(Config{}).Get(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestConfig_countsWhatItDoesNotStore(t *testing.T) {
	metrics := prometheus.NewRegistry()
	sink, err := (&Config{}).NewSink(pipeline.Env{Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	s := sink.Publisher.(*Store)
	if err := publish(s, value("a", "1", 5), value("a", "1", 4), value("a", "1", 3),
		cache.Write{Key: "b", Version: 1, Value: []byte("1"), IfAnyExists: []string{"c"}}); err != nil {
		t.Fatal(err)
	}
	if stale, guarded := testutil.ToFloat64(s.stale), testutil.ToFloat64(s.guarded); stale != 2 || guarded != 1 {
		t.Errorf("stale %v, guarded %v", stale, guarded)
	}
	if n, err := testutil.GatherAndCount(metrics); n != 2 || err != nil {
		t.Errorf("%d metrics, %v", n, err)
	}
}

func TestConfig_saysAllThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"zero":      {Config{}, "max_entries: must be at least 1, got 0\nmax_bytes: must be at least 1KiB, got 0\nttl: must be negative, or 1ms to 876000h, got 0s; negative means that entries never expire"},
		"tiny TTL":  {Config{MaxEntries: 1, MaxBytes: 1024, TTL: 1}, "ttl: must be negative, or 1ms to 876000h, got 1ns; negative means that entries never expire"},
		"long TTL":  {Config{MaxEntries: 1, MaxBytes: 1024, TTL: maxTTL + 1}, "ttl: must be negative, or 1ms to 876000h, got 876000h0m0.000000001s; negative means that entries never expire"},
		"no expiry": {Config{MaxEntries: 1, MaxBytes: 1024, TTL: -1}, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(c.config.Validate()); got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}
