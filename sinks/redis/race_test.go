package redis

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
)

// In each trial two writers write one key of usage, one an older value, one a newer, each within jitter of the same
// moment.
const (
	older, newer = 1795169730250, 1795169730251
	jitter       = 20 * time.Millisecond
)

// raceOfTwo runs the trials, many at once, and counts those after which the older version is stored. write must not
// return before its write is done.
func raceOfTwo(t *testing.T, s *store, trials, atOnce int, write func(writer, trial int, version int64)) (lost int) {
	t.Helper()
	for first := 0; first < trials; first += atOnce {
		var wg sync.WaitGroup
		for i := first; i < first+atOnce; i++ {
			for writer, version := range []int64{older, newer} {
				wg.Go(func() {
					time.Sleep(rand.N(jitter))
					write(writer, i, version)
				})
			}
		}
		wg.Wait()
	}
	for i := range trials {
		switch got := s.client.Get(t.Context(), fmt.Sprintf("p:c_%d:f_f#timestamp", i)).Val(); got {
		case fmt.Sprint(newer):
		case fmt.Sprint(older):
			lost++
		default:
			t.Fatalf("trial %d: version %q", i, got)
		}
	}
	return lost
}

func TestRace_ofTwoWritersTheNewerAlwaysWins(t *testing.T) {
	t.Parallel()
	const trials = 10_000
	s := newStore(t, testserver.Redis(t), 2, writeScript)
	lost := raceOfTwo(t, s, trials, 500, func(writer, trial int, version int64) {
		w := cache.Write{Key: fmt.Sprintf("c_%d:f_f", trial), Version: version, Value: []byte(`{}`), Lock: fmt.Sprint(trial)}
		if err := s.publish(writer, w); err != nil {
			t.Error(err)
		}
	})
	if lost != 0 {
		t.Errorf("the older value won %d of %d trials", lost, trials)
	}
}

// TestRace_theReferenceWriterLoses shows that these trials are ones that can be lost.
func TestRace_theReferenceWriterLoses(t *testing.T) {
	t.Parallel()
	const trials, atOnce = 2000, 50
	addr := testserver.Redis(t)
	s := &store{client: testClient(t, addr)}
	writers := []*sdk{startSDK(t, addr, "p"), startSDK(t, addr, "p")}
	var in, out [2]sync.Mutex
	lost := raceOfTwo(t, s, trials, atOnce, func(writer, trial int, version int64) {
		w := writers[writer]
		in[writer].Lock()
		w.write(t, "usage", fmt.Sprint(trial), version)
		in[writer].Unlock()
		// Any answer will do: there are as many as writes, so all are done when all have one.
		out[writer].Lock()
		defer out[writer].Unlock()
		if !w.out.Scan() {
			t.Error("the SDK ended early")
		}
	})
	t.Logf("the reference writer: the older value won %d of %d trials", lost, trials)
	if lost == 0 {
		t.Error("no trial was lost")
	}
}
