package e2e

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// TestOrder_shuffledAndDuplicatedHistoryLeavesTheSameState goes from events to a real Redis. That each rule of the
// script is needed for it is proven by the mutations in sinks/redis.
func TestOrder_shuffledAndDuplicatedHistoryLeavesTheSameState(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	const seed = 20261120
	h := newHistory(t, seed, 40)
	var ordered []event
	twins := 0
	for len(ordered) < 3000 {
		before := h.kinds["purge"] + h.kinds["entitlements recalculated"]
		made := h.next(h.rand.IntN(4) == 0)
		if len(made) > 1 && made[0].body != made[1].body && h.kinds["purge"]+h.kinds["entitlements recalculated"] == before {
			twins++
		}
		ordered = append(ordered, made...)
	}
	if twins*10 < len(ordered) {
		t.Fatalf("only %d of %d events have a twin with equal versions and another value", twins, len(ordered))
	}
	for _, kind := range []string{"purge", "purge, then entitlements", "empty V2", "entitlements undated", "entitlements recalculated"} {
		if h.kinds[kind] < 20 {
			t.Fatalf("only %d events of kind %q: %v", h.kinds[kind], kind, h.kinds)
		}
	}

	addr := testserver.Redis(t)
	env := func(db int) map[string]string { return map[string]string{"REDIS": addr, "DB": strconv.Itoa(db)} }
	fill(t, env(0), ordered...)
	want := dump(t, dial(t, addr, 0))
	if len(want) < 500 {
		t.Fatalf("the ordered history left only %d keys", len(want))
	}
	for db := 1; db <= 3; db++ {
		r := rand.New(rand.NewPCG(seed, uint64(db)))
		shuffled := make([]event, 0, 2*len(ordered))
		for _, e := range ordered {
			for range 1 + r.IntN(3) {
				shuffled = append(shuffled, e)
			}
		}
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		fill(t, env(db), shuffled...)
		compare(t, dump(t, dial(t, addr, db)), want, begun)
	}
}

// TestOrder_historyLeavesWhatTheModelSays checks the state itself: not only that it is the same every time.
func TestOrder_historyLeavesWhatTheModelSays(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 7, 40)
	var events []event
	for range 3000 {
		events = append(events, h.next(false)...)
	}
	rand.New(rand.NewPCG(7, 1)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	addr := testserver.Redis(t)
	fill(t, map[string]string{"REDIS": addr}, events...)
	h.check(dial(t, addr, 0), "production")
}
