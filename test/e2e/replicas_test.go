package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// replicas starts n penstocks on one queue and one Redis.
func replicas(t testing.TB, q *queue, store string, n int) []*process {
	t.Helper()
	env := q.env(t, store)
	var all []*process
	for range n {
		all = append(all, launch(t, penstockProgram(t, env, "run", writeFile(t, fromQueue))))
	}
	return all
}

// end stops replicas, which must end well, and returns what each has written or filtered.
func end(t testing.TB, all []*process) (done []int64) {
	t.Helper()
	for _, p := range all {
		p.signal(syscall.SIGTERM)
	}
	for _, p := range all {
		if code := p.code(); code != 0 {
			t.Errorf("exit code %d: %s", code, p.errors())
		}
		s := p.summary("stopped")
		if s.Poisoned != 0 {
			t.Errorf("%+v", s)
		}
		done = append(done, s.Written+s.Filtered)
	}
	return done
}

func sum(all []int64) (n int64) {
	for _, v := range all {
		n += v
	}
	return n
}

// shuffledHistory makes a history of at least n events, in any order.
func shuffledHistory(t testing.TB, seed uint64, n int) (*history, []event) {
	t.Helper()
	h := newHistory(t, seed, 200)
	var events []event
	for len(events) < n {
		events = append(events, h.next(false)...)
	}
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	return h, events
}

func TestReplicas_leaveTheSameStateHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	h, events := shuffledHistory(t, 41, 5000)
	var first map[string]entry
	for _, n := range []int{1, 2, 4} {
		q, store := startQueue(t), testserver.Redis(t)
		all := replicas(t, q, store, n)
		for _, p := range all {
			p.logged(`"msg":"ready"`)
		}
		q.send(events...)
		eventually(t, q.notEmpty)
		done := end(t, all)
		if sum(done) != int64(len(events)) {
			t.Errorf("%d replicas: %v of %d events", n, done, len(events))
		}
		// The queue decides who gets how much; the work must have been divided, or the case shows nothing.
		if working := len(slices.DeleteFunc(slices.Clone(done), func(d int64) bool { return d == 0 })); working < min(n, 2) {
			t.Errorf("%d replicas: one has done everything: %v", n, done)
		}
		c := dial(t, store, 0)
		h.check(c, "production")
		state := dump(t, c)
		// Events without a time have that of their sending, which is another one in every queue.
		maps.DeleteFunc(state, func(key string, _ entry) bool { return strings.Contains(key, "c_undated-") })
		if first == nil {
			first = state
		}
		compare(t, state, first, begun)
		t.Logf("%d replicas: %v", n, done)
	}
}

func TestReplicas_whenOneIsKilledTheOthersFinish(t *testing.T) {
	t.Parallel()
	h, events := shuffledHistory(t, 42, 6000)
	q, store := startQueue(t), testserver.Redis(t)
	// What the killed one holds comes back after this.
	q.call("SetQueueAttributes", map[string]any{"QueueUrl": q.url, "Attributes": map[string]string{"VisibilityTimeout": strconv.Itoa(5)}}, &struct{}{})
	q.send(events...)
	victim := replicas(t, q, store, 1)[0]
	victim.eventually(func() string {
		if visible, held := q.left(); held == 0 || visible+held == len(events) {
			return fmt.Sprintf("%d visible, %d held: not in the middle of its work yet", visible, held)
		}
		return ""
	})
	others := replicas(t, q, store, 3)
	victim.signal(syscall.SIGKILL)
	<-victim.exited
	eventually(t, q.notEmpty)
	done := end(t, others)
	if sum(done) == int64(len(events)) {
		t.Error("the one that was killed had done nothing: this shows nothing")
	}
	h.check(dial(t, store, 0), "production")
	t.Logf("the three that were left did %v of %d events", done, len(events))
}
