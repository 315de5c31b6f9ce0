package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// customers is how many a history is about.
const customers = 50

// customerEvents makes events as the decoder would write them: snapshots of entitlements, with and without a time of
// their own, refreshes from the provider's API, usage and purges, of customers and of their resources. One in ten
// happens at the very time of another one.
func customerEvents(rng *rand.Rand, n int) [][]cache.Write {
	const begin = int64(1795169730000)
	events := make([][]cache.Write, n)
	at := begin
	for i := range events {
		if rng.IntN(10) > 0 {
			at += rng.Int64N(5)
		}
		customer := fmt.Sprintf("customer-%d", rng.IntN(customers))
		key, lock := "c_"+customer, customer
		if rng.IntN(4) == 0 {
			key, lock = key+":r_site", lock+":site"
		}
		value := func() []byte { return []byte(pick(rng, values)) }
		usage := func(version int64) cache.Write {
			return cache.Write{Key: fmt.Sprintf("%s:f_%d", key, rng.IntN(2)), Version: version, Value: value(), Lock: lock}
		}
		snapshot := func(version, asOf int64) []cache.Write {
			return []cache.Write{
				{Key: key, Version: version, AsOf: asOf, Value: value(), Lock: lock},
				{Key: key + ":metadata", Version: version, AsOf: asOf, Value: value(), Lock: lock},
				usage(version),
			}
		}
		switch rng.IntN(8) {
		case 0: // a purge
			events[i] = []cache.Write{
				{Key: key, Version: at, AsOf: at, Delete: true, Lock: lock},
				{Key: key + ":metadata", Version: at, AsOf: at, Delete: true, Lock: lock},
			}
		case 1: // a refresh: what was so when the request began, with the versions of then
			events[i] = snapshot(at-rng.Int64N(50), at-rng.Int64N(10))
		case 2: // no time of its own: that of its delivery
			events[i] = snapshot(at+rng.Int64N(20), at+rng.Int64N(20))
		case 3, 4: // entitlements changed a little before they were told of
			events[i] = snapshot(at-rng.Int64N(3), at)
		default:
			events[i] = []cache.Write{usage(at)}
		}
	}
	return events
}

// checkHistory delivers a history of customers shuffled and with duplicates through 1 to 4 sinks at once, while
// connections are cut, and compares all of Redis with the model: entries, versions, clock keys, TTLs, and that there
// is nothing else.
func checkHistory(ctx context.Context, s *store, seed uint64, size int) error {
	rng := rand.New(rand.NewPCG(seed, 4))
	events := customerEvents(rng, size)
	want := model{}
	for _, writes := range events {
		for _, w := range writes {
			// The model takes the writes in an order of its own: the greatest decides.
			if k := want.at(w.Key); k.clocks == nil || cache.Compare(w, *k.clocks) > 0 {
				k.set(w)
				k.clocks = &w
			}
		}
	}
	var messages [][]cache.Write
	for _, writes := range events {
		for range 1 + rng.IntN(3)/2 {
			messages = append(messages, writes)
		}
	}
	rng.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	if err := s.deliver(ctx, messages, 1+rng.IntN(len(s.sinks)), 1+rng.IntN(3)); err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}

	found := map[string]bool{}
	for scan := s.client.Scan(ctx, 0, s.prefix+":*", 1000).Iterator(); scan.Next(ctx); {
		found[scan.Val()] = true
	}
	pipe := s.client.Pipeline()
	texts, ttls := map[string]*goredis.SliceCmd{}, map[string]*goredis.DurationCmd{}
	for key := range want {
		names := s.names(key)
		texts[key] = pipe.MGet(ctx, names...)
		for _, name := range names {
			ttls[name] = pipe.PTTL(ctx, name)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for key, k := range want {
		if strings.Contains(key, ":f_") {
			k.clocks = nil // usage has one clock
		}
		if got, want := textOf(texts[key].Val()), k.text(); got != want {
			return fmt.Errorf("seed %d: key %s:\n got %s\nwant %s", seed, key, got, want)
		}
		for i, name := range s.names(key) {
			if err := checkTTL(name, i == 2, ttls[name].Val(), stored); err != nil {
				return fmt.Errorf("seed %d: key %s: %w", seed, key, err)
			}
			delete(found, name)
		}
	}
	delete(found, s.prefix+":"+contentsKey)
	for key := range found {
		return fmt.Errorf("seed %d: key %s should not be there", seed, key)
	}
	return nil
}

// deliver gives messages to several sinks at once, three at a time to each, and meanwhile cuts all connections that
// many times; what was not acked is delivered once more.
func (s *store) deliver(ctx context.Context, messages [][]cache.Write, sinks, cuts int) error {
	errs := make([]error, sinks*3)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for at := i; at < len(messages) && errs[i] == nil; at += len(errs) {
				errs[i] = s.publish(i%sinks, messages[at]...)
				for pipeline.IsUnavailable(errs[i]) && ctx.Err() == nil {
					errs[i] = s.publish(i%sinks, messages[at]...)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for range cuts {
		select {
		case <-done:
		case <-time.After(2 * time.Millisecond):
			s.client.Do(ctx, "client", "kill", "type", "normal", "skipme", "yes")
		}
	}
	<-done
	return errors.Join(errs...)
}

// TestOrder_historiesOfCustomers is the property that everything stands on: whatever the order of arrival,
// duplicates, the number of sinks and broken connections, Redis ends as the model says. -histories makes the run
// longer.
func TestOrder_historiesOfCustomers(t *testing.T) {
	s := newStore(t, testserver.Redis(t), 4, writeScript)
	seed := firstSeed(t)
	for i := range uint64(*histories) {
		s.empty(t)
		if err := checkHistory(t.Context(), s, seed+i, 150); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.client.Info(t.Context(), "commandstats").Result(); err != nil || !strings.Contains(n, "cmdstat_client|kill") {
		t.Errorf("no connection was cut: %v", err)
	}
}
