package edgeapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/entitlement"
)

// roundTripper answers requests without a network, so that they can be made on fake time.
type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string, header ...string) *http.Response {
	response := &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)),
	}
	for i := 0; i < len(header); i += 2 {
		response.Header.Set(header[i], header[i+1])
	}
	return response
}

const noEntitlements = `{"data":{"entitlements":[]}}`

func TestEdge_asksBothGenerationsWithEscapedIDs(t *testing.T) {
	var got *http.Request
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		got = r
		return answer(200, noEntitlements), nil
	})
	for name, c := range map[string]struct {
		url   string
		state bool
		of    entitlement.Subject
		want  string
	}{
		"3.x":                  {of: entitlement.Subject{Customer: "customer-1"}, want: "https://edge.api.stigg.io/v1/c/customer-1/entitlements.json"},
		"4.x":                  {state: true, of: entitlement.Subject{Customer: "customer-1"}, want: "https://edge.api.stigg.io/v1/c/customer-1/entitlements-state.json"},
		"resource":             {of: entitlement.Subject{Customer: "a", Resource: "site 1&2"}, want: "https://edge.api.stigg.io/v1/c/a/entitlements.json?resourceId=site+1%262"},
		"slash, question mark": {of: entitlement.Subject{Customer: "a/b?c#d"}, want: "https://edge.api.stigg.io/v1/c/a%2Fb%3Fc%23d/entitlements.json"},
		"percent":              {of: entitlement.Subject{Customer: "100%25"}, want: "https://edge.api.stigg.io/v1/c/100%2525/entitlements.json"},
		"unicode":              {of: entitlement.Subject{Customer: "Zoë"}, want: "https://edge.api.stigg.io/v1/c/Zo%C3%AB/entitlements.json"},
		"dots":                 {of: entitlement.Subject{Customer: ".."}, want: "https://edge.api.stigg.io/v1/c/%2E%2E/entitlements.json"},
		"own address":          {url: "http://127.0.0.1:3060/edge/", of: entitlement.Subject{Customer: "a"}, want: "http://127.0.0.1:3060/edge/v1/c/a/entitlements.json"},
	} {
		t.Run(name, func(t *testing.T) {
			edge, err := New(Options{URL: c.url, APIKey: fixed("secret"), State: c.state, Transport: transport})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := edge.Entitlements(t.Context(), c.of); err != nil {
				t.Fatal(err)
			}
			if got.URL.String() != c.want || got.Method != http.MethodGet {
				t.Errorf("asked %s %s\nwant GET %s", got.Method, got.URL, c.want)
			}
			if got.Header.Get("X-API-KEY") != "secret" || got.Header.Get("X-API-VERSION") != "1" {
				t.Errorf("headers %v", got.Header)
			}
		})
	}
}

func TestEdge_refusesAddressesThatAreNone(t *testing.T) {
	for _, address := range []string{"edge.api.stigg.io", "ftp://x", "https://", "https://user:pass@x", "https://x?y=z", "https://x#y", "http://[", ":"} {
		if _, err := New(Options{URL: address, APIKey: fixed("k")}); err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no key, no error")
	}
}

func TestEdge_outcomes(t *testing.T) {
	for name, c := range map[string]struct {
		response *http.Response
		err      error
		outcome  Outcome
		requests int32
		text     string
	}{
		"no connection":         {err: errors.New("connection refused"), outcome: Unavailable, requests: 3, text: "connection refused"},
		"500":                   {response: answer(500, "oops"), outcome: Unavailable, requests: 3, text: `500 Internal Server Error: "oops"`},
		"503":                   {response: answer(503, ""), outcome: Unavailable, requests: 3, text: "no content"},
		"408":                   {response: answer(408, ""), outcome: Unavailable, requests: 3},
		"429":                   {response: answer(429, ""), outcome: Throttled, requests: 3},
		"401":                   {response: answer(401, "{}"), outcome: Refused, requests: 1, text: "is it a server API key of this environment?"},
		"403":                   {response: answer(403, "<html>blocked"), outcome: Refused, requests: 1, text: `or the request: "<html>blocked"`},
		"400":                   {response: answer(400, "bad id"), outcome: Rejected, requests: 1, text: `"bad id"`},
		"404 of the API":        {response: answer(404, `{"message":"no such customer"}`), outcome: Failed, requests: 1, text: "no such customer"},
		"404 of somebody else":  {response: answer(404, "<html>"), outcome: Unavailable, requests: 3, text: "the API is elsewhere: asked https://edge.api.stigg.io/v1/c/a/entitlements.json"},
		"redirect":              {response: answer(302, "", "Location", "https://other.example"), outcome: Unavailable, requests: 3, text: "sent on to https://other.example"},
		"errors in a 200":       {response: answer(200, `{"data":{"entitlements":[]},"errors":[{"message":"boom","extensions":{"code":"Unexpected"}}]}`), outcome: Failed, requests: 1, text: "Unexpected boom"},
		"errors alone":          {response: answer(200, `{"data":null,"errors":[{"message":"boom"}]}`), outcome: Failed, requests: 1, text: "errors in the answer: boom"},
		"no JSON":               {response: answer(200, "<html>login</html>"), outcome: Unavailable, requests: 3, text: `not one of the Edge API: "<html>login</html>"`},
		"no list":               {response: answer(200, `{"data":{"entitlements":null}}`), outcome: Failed, requests: 1, text: "no list of entitlements in the answer"},
		"no state":              {response: answer(200, `{"data":{"entitlementsState":null}}`), outcome: Failed, requests: 1},
		"another document":      {response: answer(200, `{"data":{"paywall":{}}}`), outcome: Failed, requests: 1},
		"an endless answer":     {response: answer(200, `{"data":{"entitlements":["`+strings.Repeat("x", maxAnswer)+`"]}}`), outcome: Failed, requests: 1, text: "more than 32 MiB"},
		"empty list":            {response: answer(200, noEntitlements), outcome: OK, requests: 1},
		"state":                 {response: answer(200, `{"data":{"entitlementsState":{"accessDeniedReason":"CustomerNotFound","entitlementsV2":[]}}}`), outcome: OK, requests: 1},
		"state with V1 entries": {response: answer(200, `{"data":{"entitlementsState":{"accessDeniedReason":null,"entitlements":[]}}}`), outcome: OK, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				told := map[Outcome]int32{}
				body := ""
				if c.response != nil {
					b, _ := io.ReadAll(c.response.Body)
					body = string(b)
				}
				edge, err := New(Options{APIKey: fixed("secret-key"), Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					requests.Add(1)
					if c.err != nil {
						return nil, c.err
					}
					response := *c.response
					response.Body = io.NopCloser(strings.NewReader(body))
					return &response, nil
				}), OnRequest: func(outcome Outcome, _ time.Duration) { told[outcome]++ }})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, err = edge.Entitlements(t.Context(), entitlement.Subject{Customer: "a"})
				outcome := OK
				if failure, ok := errors.AsType[*Error](err); ok {
					outcome = failure.Outcome
				} else if err != nil {
					t.Fatal(err)
				}
				if outcome != c.outcome || requests.Load() != c.requests || told[outcome] != c.requests {
					t.Errorf("%s after %d requests, told %v, want %s after %d", outcome, requests.Load(), told, c.outcome, c.requests)
				}
				if err != nil && (!strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret-key")) {
					t.Errorf("error %q, want it to say %q", err, c.text)
				}
				if took := time.Since(begin); c.requests > 1 && (took < 100*time.Millisecond || took > 5*time.Second) {
					t.Errorf("tried again within %s: want pauses that grow", took)
				}
			})
		})
	}
}

func TestEdge_answersAreAsOfTheRequestThatSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, requests := time.Now(), 0
		edge, _ := New(Options{APIKey: fixed("k"), Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			if requests++; requests == 1 {
				return answer(502, ""), nil
			}
			return answer(200, noEntitlements), nil
		})})
		got, err := edge.Entitlements(t.Context(), entitlement.Subject{Customer: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if in := got.AsOf.Sub(begin); in < 2*time.Second || in > 3*time.Second {
			t.Errorf("as of %s after the first request began, want the time of the second", in)
		}
	})
}

func TestEdge_leavesTheAPIAloneForAsLongAsItAsks(t *testing.T) {
	for name, c := range map[string]struct {
		header func() string
		want   time.Duration
	}{
		"seconds":               {func() string { return "30" }, 30 * time.Second},
		"date":                  {func() string { return time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat) }, 30 * time.Second},
		"no longer than 10 min": {func() string { return time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat) }, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var times []time.Time
				edge, _ := New(Options{APIKey: fixed("k"), Attempts: 2, Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					times = append(times, time.Now())
					if len(times) == 1 {
						return answer(429, "", "Retry-After", c.header()), nil
					}
					return answer(200, noEntitlements), nil
				})})
				for i := 0; ; i++ { // whoever asks
					begin := time.Now()
					_, err := edge.Entitlements(t.Context(), entitlement.Subject{Customer: fmt.Sprint(i)})
					if err == nil {
						break
					}
					if failure, ok := errors.AsType[*Error](err); !ok || failure.Outcome != Throttled || time.Since(begin) > time.Second {
						t.Fatalf("after %s: %v", time.Since(begin), err)
					}
					time.Sleep(time.Second)
				}
				if len(times) != 2 || (times[1].Sub(times[0])-c.want).Abs() > time.Second {
					t.Errorf("requests at %v", times)
				}
			})
		})
	}
}

func TestEdge_boundsRequestsUnderWayAndTheirWaitIsNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		edge, _ := New(Options{APIKey: fixed("k"), Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(2 * time.Second)
			now.Add(-1)
			return answer(200, noEntitlements), nil
		})})
		var wg sync.WaitGroup
		for i := range 200 { // 25 s in all, more than a request may take
			wg.Go(func() {
				if _, err := edge.Entitlements(t.Context(), entitlement.Subject{Customer: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != edgeRequests {
			t.Errorf("%d at once, want %d", most.Load(), edgeRequests)
		}
	})
}

func TestEdge_boundsRequestsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, _ := New(Options{APIKey: fixed("k"), PerSecond: 50, Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(200, noEntitlements), nil
		})})
		begin := time.Now()
		for i := range 500 {
			if _, err := edge.Entitlements(t.Context(), entitlement.Subject{Customer: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took < 9800*time.Millisecond || took > 11*time.Second {
			t.Errorf("500 requests took %s, want 10 s", took)
		}
	})
}

func TestEdge_aRequestEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		edge, _ := New(Options{APIKey: fixed("k"), Timeout: 10 * time.Second, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			requests++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		begin := time.Now()
		_, err := edge.Entitlements(t.Context(), entitlement.Subject{Customer: "a"})
		if failure, ok := errors.AsType[*Error](err); !ok || failure.Outcome != Unavailable {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took != 10*time.Second || requests != 1 {
			t.Errorf("%d requests took %s, want one: the next would keep whoever asks too long", requests, took)
		}
	})
}

func TestEdge_doesNotTakeTheKeyWhereARedirectLeads(t *testing.T) {
	var leaked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Store(true) }))
	defer other.Close()
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer first.Close()
	edge, err := New(Options{URL: first.URL, APIKey: fixed("k"), Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer edge.client.CloseIdleConnections()
	if _, err := edge.Entitlements(t.Context(), entitlement.Subject{Customer: "a"}); err == nil || leaked.Load() {
		t.Errorf("followed: %v, error %v", leaked.Load(), err)
	}
}

// TestAnswer_becomesTheWritesOfASnapshot: what the API says goes through the decoder as an event would.
func TestAnswer_becomesTheWritesOfASnapshot(t *testing.T) {
	at := time.UnixMilli(1_790_000_000_000)
	feature := `{"__typename":"FeatureEntitlement","isGranted":true,"usageLimit":10,"currentUsage":3,"hasUnlimitedUsage":false,` +
		`"entitlementUpdatedAt":"2026-09-20T00:00:00.000Z","usageUpdatedAt":"2026-09-21T00:00:00.000Z",` +
		`"feature":{"refId":"f1","featureType":"NUMBER","meterType":"Incremental","displayName":"F & <1>"}}`
	for name, c := range map[string]struct {
		answer Answer
		want   []string // keys, values in part
	}{
		"entitlements": {
			Answer{Subject: entitlement.Subject{Customer: "c:1"}, AsOf: at, Entitlements: []byte("[" + feature + "]")},
			[]string{"c_c:1=" + `{"f1":`, "c_c:1:metadata=" + `{"accessDeniedReason":null}`, "c_c:1:f_f1=" + `{"currentUsage":3`},
		},
		"a resource": {
			Answer{Subject: entitlement.Subject{Customer: "a", Resource: `r"1`}, AsOf: at, Entitlements: []byte("[]")},
			[]string{`c_a:r_r"1={}`, `c_a:r_r"1:metadata={"accessDeniedReason":null}`},
		},
		"nothing, for a reason": {
			Answer{Subject: entitlement.Subject{Customer: "a"}, AsOf: at, Entitlements: []byte("[]"), Reason: "CustomerNotFound"},
			[]string{"c_a={}", `c_a:metadata={"accessDeniedReason":"CustomerNotFound"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			decoder, err := entitlement.NewDecoder(entitlement.Options{})
			if err != nil {
				t.Fatal(err)
			}
			list, event, err := decoder.Decode(entitlement.Input{Body: c.answer.Event(), Now: at.Add(time.Second)})
			if err != nil || event.Time != at.UnixMilli() {
				t.Fatalf("%+v, %v", event, err)
			}
			var got []string
			for i, w := range list {
				got = append(got, w.Key+"="+string(w.Value))
				if i < len(c.want) && !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("write %d: %s, want %s…", i, got[i], c.want[i])
				}
				if w.Delete || w.When() == 0 {
					t.Errorf("write %d: %+v", i, w)
				}
			}
			if len(list) != len(c.want) {
				t.Errorf("writes %q", got)
			}
			if first := list[0]; first.AsOf != at.UnixMilli() || cache.Compare(first, cache.Write{Version: 1, AsOf: at.UnixMilli() - 1}) <= 0 {
				t.Errorf("as of %d", first.AsOf)
			}
		})
	}
}

// fixed is an API key that stays the same.
func fixed(key string) func() string { return func() string { return key } }
