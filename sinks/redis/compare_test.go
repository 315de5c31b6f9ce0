package redis_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks/redis"
)

// comparedConfig is a sink of the Redis at a port.
func comparedConfig(port int) *redis.Config {
	c := &redis.Config{}
	pipeline.SetDefaults(c)
	c.Host, c.Port = "127.0.0.1", port
	return c
}

func anyWrite(r *rand.Rand) cache.Write {
	key := func() string { return string(rune('a' + r.IntN(4))) }
	w := cache.Write{Key: key(), Version: int64(1 + r.IntN(4))}
	switch r.IntN(6) {
	case 0:
		w.Delete = true
	case 1:
		w.Version = 0
	case 2:
		w.IfAnyExists = []string{key(), key()}
	}
	if w.Version != 0 && r.IntN(2) == 0 {
		w.AsOf = int64(1 + r.IntN(4))
	}
	if !w.Delete {
		w.Value = fmt.Appendf(nil, `{"n":%d}`, r.IntN(3))
	}
	return w
}

// What a comparer says of messages, one after another, is what the sink then does: on what was in the store before,
// and on what the messages before have changed.
func TestCompare_saysWhatTheSinkDoesThen(t *testing.T) {
	server := testserver.StartRedis(t)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	kinds := map[string]int{}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		config := comparedConfig(server.Port())
		config.Prefix = fmt.Sprintf("p%d", seed)
		sink, err := config.NewSink(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		store := func(payload []byte) {
			t.Helper()
			if err := sink.Publisher.Publish("", message.NewMessage("", payload)); err != nil {
				t.Fatal(err)
			}
		}
		some := func() []byte {
			var payload []byte
			for range 1 + r.IntN(3) {
				payload = cache.Append(payload, anyWrite(r))
			}
			return payload
		}
		for range 5 {
			store(some())
		}
		comparer, err := config.NewComparer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		payloads := make([][]byte, 30)
		said := make([]map[string]string, len(payloads))
		for i := range payloads {
			payloads[i] = some()
			changes, err := comparer.Compare(t.Context(), payloads[i])
			if err != nil {
				t.Fatal(err)
			}
			said[i] = map[string]string{}
			for _, c := range changes {
				said[i][c.Key] = string(c.After)
				switch {
				case c.Same():
					kinds["same"]++
				case c.Before == nil:
					kinds["added"]++
				case c.After == nil:
					kinds["deleted"]++
				default:
					kinds["changed"]++
				}
			}
		}
		if err := comparer.Close(); err != nil {
			t.Fatal(err)
		}
		for i, payload := range payloads {
			store(payload)
			for _, key := range slices.Sorted(maps.Keys(said[i])) {
				is, err := client.Get(t.Context(), key).Result()
				if err != nil && err != goredis.Nil { //nolint:errorlint // as go-redis documents it
					t.Fatal(err)
				}
				if is != said[i][key] {
					t.Fatalf("seed %d, message %d:\n%s%s is %q, and it was to be %q", seed, i, payload, key, is, said[i][key])
				}
			}
		}
		if err := sink.Publisher.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"same", "added", "deleted", "changed"} {
		if kinds[kind] < 20 {
			t.Errorf("%d writes are %s: the test is not one of it", kinds[kind], kind)
		}
	}
}

func TestCompare_onlyReads(t *testing.T) {
	server := testserver.StartRedis(t)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	if err := client.HSet(t.Context(), "production:hash", "a", "b").Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	comparer, err := comparedConfig(server.Port()).NewComparer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	payload := cache.Append(nil, cache.Write{Key: "k", Version: 1, AsOf: 2, Lock: "c", Value: []byte(`1`)})
	payload = cache.Append(payload, cache.Write{Key: "gone", Version: 1, Delete: true})
	payload = cache.Append(payload, cache.Write{Key: "hash", Version: 1, Value: []byte(`2`), IfAnyExists: []string{"k"}})
	changes, err := comparer.Compare(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 3 || changes[0].Key != "production:k" || !bytes.Equal(changes[0].After, []byte("1")) || !changes[1].Same() || changes[2].Same() {
		t.Errorf("changes: %q", changes)
	}
	if _, err := comparer.Compare(t.Context(), []byte("no cache write")); !pipeline.IsPermanent(err) {
		t.Errorf("what the sink refuses: %v", err)
	}
	if err := comparer.Close(); err != nil {
		t.Fatal(err)
	}
	stats, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(stats) {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if ok && !slices.Contains([]string{"get", "pttl", "ping", "hello", "info", "config|resetstat", "client|setinfo", "select"}, name) {
			t.Errorf("it sent %s", name)
		}
	}
}

func TestCompare_storeThatIsAway(t *testing.T) {
	config := comparedConfig(1)
	config.Timeout = 200 * time.Millisecond
	if _, err := config.NewComparer(t.Context()); !pipeline.IsUnavailable(err) {
		t.Errorf("error %v", err)
	}
}

func TestCompare_plain(t *testing.T) {
	server := testserver.StartRedis(t)
	config := comparedConfig(server.Port())
	config.Plain = &redis.Plain{Key: "id", Value: "$", Version: "v"}
	comparer, err := config.NewComparer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = comparer.Close() }()
	for _, c := range []struct {
		payload string
		same    bool
	}{{`{"id":"a","v":2}`, false}, {`{"id":"a","v":1}`, true}, {`{"id":"a","v":3}`, false}, {`{"id":"a","v":3}`, true}} {
		changes, err := comparer.Compare(t.Context(), []byte(c.payload))
		if err != nil || len(changes) != 1 || changes[0].Same() != c.same {
			t.Errorf("%s: %q, %v", c.payload, changes, err)
		}
	}
}
