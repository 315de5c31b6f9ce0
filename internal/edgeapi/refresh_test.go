package edgeapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/entitlement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is an Edge API on fake time. Its answers name the time at which the request came.
type api struct {
	mu       sync.Mutex
	takes    time.Duration
	down     bool
	body     string // "" is an empty list
	requests []time.Time
	busy     map[string]int
	overlaps int
	ended    atomic.Int32 // requests that were given up
}

func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.requests = append(a.requests, time.Now())
	if a.busy == nil {
		a.busy = map[string]int{}
	}
	if a.busy[r.URL.String()]++; a.busy[r.URL.String()] > 1 {
		a.overlaps++
	}
	takes, down := a.takes, a.down
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.busy[r.URL.String()]--
	}()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		a.ended.Add(1)
		return nil, r.Context().Err()
	}
	if down {
		return answer(503, ""), nil
	}
	if a.body != "" {
		return answer(200, a.body), nil
	}
	return answer(200, noEntitlements), nil
}

func (a *api) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.requests)
}

func refresher(t *testing.T, a *api, o RefresherOptions) *Refresher {
	t.Helper()
	edge, err := New(Options{APIKey: fixed("k"), Attempts: 1, Transport: a})
	if err != nil {
		t.Fatal(err)
	}
	return NewRefresher(edge, o)
}

func TestRefresher_aBurstAboutOneCustomerIsOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{takes: 100 * time.Millisecond}
		r := refresher(t, a, RefresherOptions{})
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range 2000 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 400 * time.Microsecond)
				came := time.Now()
				got, err := r.Refresh(t.Context(), entitlement.Subject{Customer: fmt.Sprint(i % 300)}, time.Time{})
				if err != nil || got.AsOf.Before(came) {
					t.Errorf("as of %s for what came at %s, %v", got.AsOf.Sub(begin), came.Sub(begin), err)
				}
			})
		}
		wg.Wait()
		if n := a.asked(); n != 300 {
			t.Errorf("%d requests for 300 customers", n)
		}
	})
}

func TestRefresher_whatComesAfterARequestBeganGetsTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{takes: 5 * time.Second} // longer than the delay
		r := refresher(t, a, RefresherOptions{})
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				came := time.Now()
				got, err := r.Refresh(t.Context(), entitlement.Subject{Customer: "a"}, time.Time{})
				if err != nil || got.AsOf.Before(came) {
					t.Errorf("%d: as of %s before it came, %v", i, came.Sub(got.AsOf), err)
				}
			})
		}
		wg.Wait()
		if a.overlaps > 0 {
			t.Errorf("%d requests about one customer at the same time", a.overlaps)
		}
		if n := a.asked(); n < 5 || n > 7 {
			t.Errorf("%d requests in 30 s, of 5 s each, one after the other", n)
		}
	})
}

func TestRefresher_theRequestBeginsWellAfterTheLastWhoJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		r := refresher(t, a, RefresherOptions{})
		begin := time.Now()
		var wg sync.WaitGroup
		for _, after := range []time.Duration{0, 900 * time.Millisecond, 1700 * time.Millisecond} {
			wg.Go(func() {
				time.Sleep(after)
				if _, err := r.Refresh(t.Context(), entitlement.Subject{Customer: "a"}, time.Time{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n, in := a.asked(), a.requests[0].Sub(begin); n != 1 || in != 2700*time.Millisecond {
			t.Errorf("%d requests, the first after %s", n, in)
		}
	})
}

func TestRefresher_aPanicIsAnErrorOfThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, err := New(Options{APIKey: fixed("k"), Transport: &api{}, OnRequest: func(Outcome, time.Duration) { panic("boom") }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewRefresher(edge, RefresherOptions{}).Refresh(t.Context(), entitlement.Subject{Customer: "a"}, time.Time{}); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("%v", err)
		}
	})
}

func TestRefresher_resourcesAreAskedForThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		r := refresher(t, a, RefresherOptions{})
		var wg sync.WaitGroup
		for _, of := range []entitlement.Subject{{Customer: "a"}, {Customer: "a", Resource: "r"}, {Customer: "a:r_r"}} {
			wg.Go(func() {
				got, err := r.Refresh(t.Context(), of, time.Time{})
				if err != nil || got.Subject != of {
					t.Errorf("asked %v, got %v, %v", of, got.Subject, err)
				}
			})
		}
		wg.Wait()
		if n := a.asked(); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestRefresher_anAnswerIsGoodForWhatWasSentWellBeforeItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{takes: time.Second}
		r := refresher(t, a, RefresherOptions{})
		of := entitlement.Subject{Customer: "a"}
		ask := func(sent time.Time) Answer {
			t.Helper()
			got, err := r.Refresh(t.Context(), of, sent)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		first := ask(time.Now())
		for name, c := range map[string]struct {
			sent     time.Time
			requests int
		}{
			"an hour before":     {first.AsOf.Add(-time.Hour), 0},
			"two seconds before": {first.AsOf.Add(-2 * time.Second), 0},
			"so little before that the API may not have known": {first.AsOf.Add(-900 * time.Millisecond), 1},
			"after":                          {first.AsOf.Add(time.Millisecond), 1},
			"at a time that nobody knows of": {time.Time{}, 1},
		} {
			r.answers.Purge()
			r.answers.Add(of, first)
			before := a.asked()
			ask(c.sent)
			if n := a.asked() - before; n != c.requests {
				t.Errorf("%s: %d requests, want %d", name, n, c.requests)
			}
		}
		time.Sleep(2 * time.Minute)
		before := a.asked()
		// While the request is under way, too.
		var wg sync.WaitGroup
		begin := time.Now()
		wg.Go(func() { ask(time.Time{}) })
		time.Sleep(1500 * time.Millisecond)
		wg.Go(func() { ask(begin.Add(-time.Second)) })
		wg.Wait()
		if n := a.asked() - before; n != 1 {
			t.Errorf("%d requests for an event that came during a request, and was sent before it", n)
		}
		r.answers.Purge()
		wg.Go(func() { ask(time.Time{}) })
		time.Sleep(1500 * time.Millisecond)
		wg.Go(func() { ask(time.Now().Add(-100 * time.Millisecond)) })
		wg.Wait()
		if n := a.asked() - before; n != 3 {
			t.Errorf("%d requests for an event that was sent after a request began", n-1)
		}

		time.Sleep(2 * time.Minute)
		before = a.asked()
		if ask(first.AsOf.Add(-time.Hour)); a.asked() != before+1 {
			t.Error("an old answer was given")
		}
	})
}

func TestRefresher_oneWhoLeavesDisturbsNobodyAndTheLastOneEndsTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{takes: time.Minute}
		r := refresher(t, a, RefresherOptions{})
		r.edge.client.Timeout = 0
		of := entitlement.Subject{Customer: "a"}
		leave, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Refresh(leave, of, time.Time{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one who leaves: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := r.Refresh(t.Context(), of, time.Time{}); err != nil {
				t.Errorf("the one who stays: %v", err)
			}
		})
		wg.Wait()
		if a.ended.Load() != 0 {
			t.Error("the request was given up")
		}

		leave, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := r.Refresh(leave, of, time.Time{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		// Whoever comes right then must not join what is ending.
		if _, err := r.Refresh(t.Context(), of, time.Time{}); err != nil {
			t.Error(err)
		}
		if a.ended.Load() != 1 {
			t.Errorf("%d requests were given up, want the one that nobody waited for", a.ended.Load())
		}

		// Nor what is ending before its request began, nor a request that is ending for an event that was sent before it.
		for name, c := range map[string]struct{ stays, before time.Duration }{
			"gathering": {stays: 500 * time.Millisecond},
			"asking":    {stays: 10 * time.Second, before: time.Hour},
		} {
			r.answers.Purge()
			leave, cancel := context.WithTimeout(t.Context(), c.stays)
			defer cancel()
			if _, err := r.Refresh(leave, of, time.Time{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			var sent time.Time
			if c.before > 0 {
				sent = time.Now().Add(-c.before)
			}
			if _, err := r.Refresh(t.Context(), of, sent); err != nil {
				t.Errorf("%s: whoever came next: %v", name, err)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.gathering)+len(r.asking) != 0 {
			t.Errorf("left behind: %v %v", r.gathering, r.asking)
		}
	})
}

func TestRefresher_whileTheAPIIsAwayOneAsksAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{takes: 3 * time.Second, down: true}
		r := refresher(t, a, RefresherOptions{})
		ask := func(customer string) error {
			_, err := r.Refresh(t.Context(), entitlement.Subject{Customer: customer}, time.Time{})
			return err
		}
		if err := ask("first"); err == nil || !strings.Contains(err.Error(), "503") {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var failed atomic.Int32
		for i := range 100 {
			wg.Go(func() {
				if ask(fmt.Sprint(i)) != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if n := a.asked(); failed.Load() != 100 || n != 2 {
			t.Errorf("%d of 100 failed, %d requests: want one more", failed.Load(), n-1)
		}
		a.mu.Lock()
		a.down = false
		a.mu.Unlock()
		if err := ask("first again"); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		for i := range 10 {
			wg.Go(func() { // all at once: one at a time is for outages
				if err := ask(fmt.Sprint("later ", i)); err != nil {
					t.Errorf("after the outage: %v", err)
				}
			})
		}
		wg.Wait()
	})
}

func TestRefresher_hugeAnswersAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, want := range map[int]int{keptBytes / 2: 1, keptBytes * 2: 2} {
			a := &api{body: `{"data":{"entitlements":["` + strings.Repeat("x", size) + `"]}}`}
			r := refresher(t, a, RefresherOptions{})
			for range 2 {
				if _, err := r.Refresh(t.Context(), entitlement.Subject{Customer: "a"}, time.Now().Add(-time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			if n := a.asked(); n != want {
				t.Errorf("%d bytes: %d requests, want %d", size, n, want)
			}
		}
	})
}
