package sinks

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks/memory"
)

// Two stores know nothing of each other but cache.Write, and must not differ after any step.
func TestStores_redisAndMemoryAgreeAfterEveryWrite(t *testing.T) {
	registry := Register(pipeline.NewRegistry())
	pipeline.AddSource[noSource](registry, "none")
	file := fmt.Sprintf("name: both\nsource: {none: {}}\nsink:\n  fan_out:\n    - redis: {host: %q, prefix: p}\n    - memory: {}\n", testserver.Redis(t))
	conf, _, err := pipeline.LoadBytes(registry, "both.yaml", []byte(file), pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var specs FanOutConfig = *conf.Sink.Config.(*FanOutConfig)
	redisReader, err := specs[0].Config.(*RedisConfig).NewReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = redisReader.Close() }()
	sink, err := conf.Sink.New(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Publisher.Close() }()
	if err := sink.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	memoryReader := sink.Publisher.(*fanOut).legs[1].Publisher.(*memory.Store)

	seed := rand.Uint64()
	for history := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, history))
		var keys []string
		for class := range 4 {
			for i := range 3 {
				key := fmt.Sprintf("%d:%c_%d", history, "ucnm"[class], i)
				keys = append(keys, key, key+"#timestamp")
			}
		}
		var told []string
		for range 100 {
			w := randomWrite(rng, history)
			told = append(told, strings.TrimSpace(string(cache.Append(nil, w))))
			if err := sink.Publisher.Publish("", message.NewMessage("m", cache.Append(nil, w))); err != nil {
				t.Fatal(err)
			}
			theirs, err := redisReader.Get(t.Context(), keys...)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := memoryReader.Get(t.Context(), keys...)
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				if ours[i].Found != theirs[i].Found || string(ours[i].Value) != string(theirs[i].Value) {
					t.Fatalf("seed %d, history %d, after\n  %s\n%s is in memory %+v, in Redis %+v", seed, history,
						strings.Join(told, "\n  "), key, ours[i], theirs[i])
				}
			}
		}
	}
}

// randomWrite makes a write of a few keys and few clocks: "u" keys have one clock, "c" keys two, "n" keys none, "m"
// keys any of them.
func randomWrite(rng *rand.Rand, history uint64) cache.Write {
	class := "ucnm"[rng.IntN(4)]
	key := func(class byte) string { return fmt.Sprintf("%d:%c_%d", history, class, rng.IntN(3)) }
	w := cache.Write{Key: key(class), Value: []byte(strconv.Itoa(rng.IntN(12)))}
	if class == 'm' {
		class = "ucn"[rng.IntN(3)]
	}
	if class != 'n' {
		w.Version = 1 + rng.Int64N(6)
	}
	if class == 'c' {
		w.AsOf = 1 + rng.Int64N(6)
	}
	if class != 'u' && rng.IntN(4) == 0 {
		w.Delete, w.Value = true, nil
	}
	if rng.IntN(5) == 0 {
		w.IfAnyExists = []string{key('u'), key('c')}[:1+rng.IntN(2)]
	}
	return w
}

type noSource struct{}

func (*noSource) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }
