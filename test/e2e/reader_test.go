package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// apiStub stands for the provider's Edge API. It answers with the entitlements that it was given, and counts.
type apiStub struct {
	*httptest.Server
	t testing.TB

	mu           sync.Mutex
	requests     []string
	entitlements map[string][]any // by customer and resource, divided by a blank
}

func startAPI(t testing.TB) *apiStub {
	t.Helper()
	s := &apiStub{t: t, entitlements: map[string][]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/c/{customer}/entitlements.json", func(w http.ResponseWriter, r *http.Request) {
		who := r.PathValue("customer") + " " + r.URL.Query().Get("resourceId")
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, who)
		list := s.entitlements[who]
		if list == nil {
			list = []any{}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"entitlements": list}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// has makes the API know the entitlements of an event's customer.
func (s *apiStub) has(body string) {
	s.t.Helper()
	var event struct {
		CustomerID, ResourceID string
		Entitlements           []any
	}
	if err := json.Unmarshal([]byte(body), &event); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entitlements[event.CustomerID+" "+event.ResourceID] = event.Entitlements
}

// asked returns the requests since the last call, sorted.
func (s *apiStub) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	slices.Sort(requests)
	return requests
}

// answers checks what the SDK answered: every member of want, which is JSON, and no others. Where want has no
// feature, that of the answer is not looked at, and in none its displayName, which only the dual layout has. In a
// list the order counts.
func answers(t testing.TB, got reply, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got.Answer, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%v in %s", err, want)
	}
	var bare func(v, like any)
	bare = func(v, like any) {
		switch v := v.(type) {
		case map[string]any:
			if like, ok := like.(map[string]any); !ok || like["feature"] == nil {
				delete(v, "feature")
			} else if feature, ok := v["feature"].(map[string]any); ok {
				delete(feature, "displayName")
			}
		case []any:
			for i := range v {
				if like, ok := like.([]any); ok && i < len(like) {
					bare(v[i], like[i])
				}
			}
		}
	}
	bare(g, w)
	if !reflect.DeepEqual(g, w) {
		t.Errorf("the SDK answers\n     %s\nwant %s", asJSON(t, g), asJSON(t, w))
	}
}

// hit checks that the cache answered, and what.
func hit(t testing.TB, got reply, want string) {
	t.Helper()
	if got.Misses != 0 || len(got.Failures) != 0 {
		t.Errorf("want a hit, got %d misses, failures %q", got.Misses, got.Failures)
	}
	answers(t, got, want)
}

// sampleTime is when the samples without a time of their own are delivered: after those with one were made.
var sampleTime = time.Date(2026, 11, 20, 10, 20, 0, 0, time.UTC)

// readerFills are runs of penstock over samples, each with a prefix of its own, since some samples are about the same
// customer. A sample of a resource needs one of its customer: for those that have none, one is made of it.
func readerFills(t testing.TB) map[string][]event {
	global := func(number string, members map[string]any) event {
		members["resource"], members["resourceId"] = nil, nil
		return event{changed(t, sample(t, number), members), sampleTime}
	}
	return map[string][]event{
		"a": append(samplesAt(t, sampleTime, "01", "03", "05", "07", "08", "09", "10", "11", "12", "13", "14", "15", "16", "17", "18", "23", "24", "25"),
			global("15", map[string]any{}), global("24", map[string]any{})),
		"b": samplesAt(t, sampleTime, "02", "04", "06", "21", "22"),
		"c": samplesAt(t, sampleTime, "26", "03", "27", "19", "20"),
	}
}

const unicodeCustomer, unicodeResource = "客户:müller/😀", "ресурс 1"

// readerCases are all kinds of entitlement, asked for in the ways an application would, with the right answers.
var readerCases = map[string]struct {
	question
	want string
}{
	"boolean": {question{"a", "getBooleanEntitlement", "customer-acorn", "", "feature-sso", nil},
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":true,"feature":{"id":"feature-sso","featureType":"BOOLEAN","meterType":"None","units":"","unitsPlural":"","isMetered":false}}`},
	"numeric": {question{"b", "getNumericEntitlement", "customer-acorn", "", "feature-projects", nil},
		`{"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":false,"value":25,"feature":{"id":"feature-projects","featureType":"NUMBER","meterType":"None","units":"project","unitsPlural":"projects","isMetered":false}}`},
	"metered, incremental": {question{"a", "getMeteredEntitlement", "customer-juniper", "", "feature-api-calls", map[string]any{"requestedUsage": 5789}},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":4211,"requestedUsage":5789,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z",
		  "feature":{"id":"feature-api-calls","featureType":"NUMBER","meterType":"Incremental","units":"call","unitsPlural":"calls","isMetered":true}}`},
	"metered, one too many": {question{"a", "getMeteredEntitlement", "customer-juniper", "", "feature-api-calls", map[string]any{"requestedUsage": 5790}},
		`{"type":"METERED","isFallback":false,"hasAccess":false,"accessDeniedReason":"RequestedUsageExceedingLimit","isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":4211,"requestedUsage":5790,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z"}`},
	"metered, after a usage event": {question{"a", "getMeteredEntitlement", "customer-birch", "", "feature-api-calls", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":4300,"requestedUsage":0,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-16T00:00:00.000Z","nextResetDate":"2036-12-16T00:00:00.000Z"}`},
	"metered, fluctuating": {question{"b", "getMeteredEntitlement", "customer-birch", "", "feature-seats", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":12,"currentUsage":7,"requestedUsage":0,
		  "feature":{"id":"feature-seats","featureType":"NUMBER","meterType":"Fluctuating","units":"seat","unitsPlural":"seats","isMetered":true}}`},
	"enum": {question{"a", "getEnumEntitlement", "customer-cedar", "", "feature-regions", nil},
		`{"type":"ENUM","isFallback":false,"hasAccess":true,"enumValues":["eu-west","us-east"]}`},
	"enum, a value too many": {question{"a", "getEnumEntitlement", "customer-cedar", "", "feature-regions", map[string]any{"requestedValues": []string{"eu-west", "moon"}}},
		`{"type":"ENUM","isFallback":false,"hasAccess":false,"accessDeniedReason":"RequestedValuesMismatch","enumValues":["eu-west","us-east"],"requestedValues":["eu-west","moon"]}`},
	"unlimited, metered": {question{"b", "getMeteredEntitlement", "customer-cedar", "", "feature-api-calls", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":true,"hasSoftLimit":false,"currentUsage":990001,"requestedUsage":0,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z"}`},
	"unlimited, numeric": {question{"b", "getNumericEntitlement", "customer-cedar", "", "feature-projects", nil},
		`{"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":true}`},
	"soft limit": {question{"a", "getMeteredEntitlement", "customer-dogwood", "", "feature-api-calls", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":true,"usageLimit":100,"currentUsage":163,"requestedUsage":0,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z"}`},
	// SDK 3.95 knows nothing of wallets: a feature without a limit of its own has none left.
	"credit-backed": {question{"a", "getMeteredEntitlement", "customer-elm", "", "feature-api-calls", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":false,"accessDeniedReason":"RequestedUsageExceedingLimit","isUnlimited":false,"hasSoftLimit":false,"currentUsage":40,"requestedUsage":0}`},
	"resource-scoped": {question{"a", "getEntitlements", "customer-fir", "site-berlin", "", nil},
		`[{"type":"BOOLEAN","isFallback":false,"hasAccess":true},
		  {"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":false,"value":25},
		  {"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":4211,"requestedUsage":0,"resetPeriod":"MONTH",
		   "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z"},
		  {"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":12,"currentUsage":9,"requestedUsage":0},
		  {"type":"ENUM","isFallback":false,"hasAccess":true,"enumValues":["eu-west","us-east"]}]`},
	"the customer of a resource": {question{"a", "getNumericEntitlement", "customer-fir", "", "feature-projects", nil},
		`{"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":false,"value":3}`},
	"access denied": {question{"a", "getBooleanEntitlement", "customer-gum", "", "feature-sso", nil},
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":false,"accessDeniedReason":"Revoked"}`},
	"not entitled": {question{"a", "getBooleanEntitlement", "customer-acorn", "", "feature-other", nil},
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":false,"accessDeniedReason":"NoFeatureEntitlementInSubscription"}`},
	"empty": {question{"a", "getBooleanEntitlement", "customer-ivy", "", "feature-sso", nil},
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":false,"accessDeniedReason":"CustomerNotFound"}`},
	// With the reference writer this one is a miss for ever, see docs/reference-writer.md.
	"empty resource": {question{"a", "getBooleanEntitlement", "customer-ivy", "site-oslo", "feature-sso", nil},
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":false,"accessDeniedReason":"CustomerNotFound"}`},
	"empty, for a reason": {question{"a", "getEntitlements", "customer-kapok", "", "", nil}, `[]`},
	"unicode": {question{"a", "getMeteredEntitlement", unicodeCustomer, unicodeResource, "feature-données:α", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":9,"currentUsage":4,"requestedUsage":0,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z"}`},
	"all of a customer": {question{"a", "getEntitlements", "customer-juniper", "", "", nil},
		`[{"type":"BOOLEAN","isFallback":false,"hasAccess":true},
		  {"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":false,"value":25},
		  {"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":4211,"requestedUsage":0,"resetPeriod":"MONTH",
		   "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z"},
		  {"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":12,"currentUsage":7,"requestedUsage":0},
		  {"type":"ENUM","isFallback":false,"hasAccess":true,"enumValues":["eu-west","us-east"]}]`},
	"from a V2 event, without the credit": {question{"b", "getEntitlements", "customer-elm", "", "", nil},
		`[{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":40,"requestedUsage":0}]`},
	"from webhooks": {question{"a", "getMeteredEntitlement", "customer-larch", "site-rome", "feature-api-calls", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":1000,"currentUsage":15,"requestedUsage":0,
		  "feature":{"id":"feature-api-calls","featureType":"NUMBER","meterType":"Incremental","units":"call","unitsPlural":"calls","isMetered":true}}`},
	"out of an SNS envelope": {question{"c", "getEntitlement", "customer-acorn", "", "feature-sso", nil},
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":true}`},
	"out of an EventBridge envelope": {question{"c", "getEntitlement", "customer-birch", "", "feature-api-calls", nil},
		`{"type":"METERED","isFallback":false,"hasAccess":true,"isUnlimited":false,"hasSoftLimit":false,"usageLimit":10000,"currentUsage":4300,"requestedUsage":0,"resetPeriod":"MONTH",
		  "usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-16T00:00:00.000Z","nextResetDate":"2036-12-16T00:00:00.000Z"}`},
}

func TestReader_everyKindOfEntitlementIsAHitWithTheRightValues(t *testing.T) {
	for _, layout := range []string{"dual", "v3"} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			redis := testserver.Redis(t)
			fillAll := func() {
				for prefix, events := range readerFills(t) {
					fill(t, map[string]string{"REDIS": redis, "LAYOUT": layout, "PREFIX": prefix}, events...)
				}
			}
			fillAll()
			api := startAPI(t)
			askAll := func(t *testing.T) {
				r := startReader(t, redis, api.URL)
				for name, c := range readerCases {
					t.Run(name, func(t *testing.T) {
						hit(t, r.ask(c.question), c.want)
						if asked := api.asked(); len(asked) > 0 {
							t.Errorf("asked the API for %q", asked)
						}
					})
				}
				r.close()
			}
			t.Run("API up", askAll)
			api.Close()
			t.Run("API down", askAll)
			fillAll()
			t.Run("after restarts of penstock and the SDK's process", askAll)
		})
	}
}

func TestReader_expiredEntitlementIsRefetchedByTheSDKsOwnRule(t *testing.T) {
	t.Parallel()
	redis, api := testserver.Redis(t), startAPI(t)
	fill(t, map[string]string{"REDIS": redis}, samplesAt(t, sampleTime, "12")...)
	// The API knows a limit that the expired one had not: it is what tells the answers apart.
	api.has(strings.NewReplacer(`"validUntil": 1700000000000`, `"validUntil": null`, `"isGranted": true`, `"isGranted": false`,
		`"accessDeniedReason": null`, `"accessDeniedReason": "Revoked"`).Replace(sample(t, "12")))
	r := startReader(t, redis, api.URL)
	got := r.ask(question{Prefix: "production", Method: "getBooleanEntitlement", CustomerID: "customer-hazel", FeatureID: "feature-sso"})
	if got.Misses != 0 {
		t.Errorf("want the customer to be in the cache, got %d misses", got.Misses)
	}
	if asked := api.asked(); !slices.Equal(asked, []string{"customer-hazel "}) {
		t.Errorf("want the SDK to ask the API once, asked for %q", asked)
	}
	answers(t, got, `{"type":"BOOLEAN","isFallback":false,"hasAccess":false,"accessDeniedReason":"Revoked"}`)
	// The SDK stored what it fetched: its own write is the next hit.
	hit(t, r.ask(question{Prefix: "production", Method: "getBooleanEntitlement", CustomerID: "customer-hazel", FeatureID: "feature-sso"}),
		`{"type":"BOOLEAN","isFallback":false,"hasAccess":false,"accessDeniedReason":"Revoked"}`)
	if asked := api.asked(); len(asked) > 0 {
		t.Errorf("asked the API again for %q", asked)
	}
}

// purge makes the event that asks for a customer's purge.
func purge(customer, resource string, at time.Time) string {
	r := "null"
	if resource != "" {
		r = fmt.Sprintf("%q", resource)
	}
	return fmt.Sprintf(`{"type":"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED","customerId":%q,"resourceId":%s,"timestamp":%q}`,
		customer, r, at.Format("2006-01-02T15:04:05.000Z"))
}

// projects makes an entitlementsUpdated event with one numeric entitlement.
func projects(t testing.TB, customer string, limit int, at time.Time) string {
	body := strings.NewReplacer("customer-acorn", customer, `"usageLimit": 25`, fmt.Sprintf(`"usageLimit": %d`, limit),
		"2026-11-20T10:15:30.250Z", at.Format("2006-01-02T15:04:05.000Z")).Replace(sample(t, "02"))
	return changed(t, body, nil)
}

func TestReader_purgeIsOneMissAndTheSDKsFillIsKept(t *testing.T) {
	t.Parallel()
	redis, api := testserver.Redis(t), startAPI(t)
	env := map[string]string{"REDIS": redis}
	at := func(minute int) time.Time { return time.Date(2026, 11, 20, 11, minute, 0, 0, time.UTC) }
	ask := question{Prefix: "production", Method: "getNumericEntitlement", CustomerID: "customer-acorn", FeatureID: "feature-projects"}
	numeric := func(limit int) string {
		return fmt.Sprintf(`{"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":false,"value":%d}`, limit)
	}
	r := startReader(t, redis, api.URL)
	fill(t, env, event{projects(t, "customer-acorn", 1, at(0)), at(0)})
	hit(t, r.ask(ask), numeric(1))

	// The API's answer is older than the purge: nothing has changed since minute 10.
	api.has(projects(t, "customer-acorn", 10, at(10)))
	fill(t, env, event{purge("customer-acorn", "", at(30)), at(30)})
	got := r.ask(ask)
	if got.Misses != 1 {
		t.Errorf("want one miss after the purge, got %d", got.Misses)
	}
	answers(t, got, numeric(10))
	if asked := api.asked(); !slices.Equal(asked, []string{"customer-acorn "}) {
		t.Errorf("want one request, got %q", asked)
	}
	hit(t, r.ask(ask), numeric(10))

	// Late events from before the purge stay out: older than the SDK's fill, and between it and the purge. So does a
	// duplicate of the purge.
	fill(t, env, event{projects(t, "customer-acorn", 5, at(5)), at(40)}, event{projects(t, "customer-acorn", 20, at(20)), at(41)},
		event{purge("customer-acorn", "", at(30)), at(42)})
	hit(t, r.ask(ask), numeric(10))

	// What happened after it comes in.
	fill(t, env, event{projects(t, "customer-acorn", 40, at(40)), at(43)})
	hit(t, r.ask(ask), numeric(40))
	if asked := api.asked(); len(asked) > 0 {
		t.Errorf("asked the API again for %q", asked)
	}

	// After another purge the SDK fetches what is newer than an event that is still on its way: that event stays out,
	// although it is newer than the purge.
	api.has(projects(t, "customer-acorn", 55, at(55)))
	fill(t, env, event{purge("customer-acorn", "", at(45)), at(45)})
	if got := r.ask(ask); got.Misses != 1 {
		t.Errorf("want one miss after the second purge, got %d", got.Misses)
	}
	fill(t, env, event{projects(t, "customer-acorn", 50, at(50)), at(56)})
	hit(t, r.ask(ask), numeric(55))
}

func TestReader_resourceIsAMissAfterItsCustomersPurge(t *testing.T) {
	t.Parallel()
	redis, api := testserver.Redis(t), startAPI(t)
	env := map[string]string{"REDIS": redis}
	fill(t, env, samplesAt(t, sampleTime, "09", "10")...)
	api.has(sample(t, "09"))
	api.has(sample(t, "10"))
	r := startReader(t, redis, api.URL)
	ask := question{Prefix: "production", Method: "getNumericEntitlement", CustomerID: "customer-fir", ResourceID: "site-berlin", FeatureID: "feature-projects"}
	want := `{"type":"NUMERIC","isFallback":false,"hasAccess":true,"isUnlimited":false,"value":25}`
	hit(t, r.ask(ask), want)

	later := sampleTime.Add(time.Hour)
	fill(t, env, event{purge("customer-fir", "", later), later})
	got := r.ask(ask)
	if got.Misses != 1 {
		t.Errorf("want one miss, got %d", got.Misses)
	}
	answers(t, got, want)
	// By the SDK's own rule it fetches the customer along with the resource.
	if asked := api.asked(); !slices.Equal(asked, []string{"customer-fir ", "customer-fir site-berlin"}) {
		t.Errorf("want a request for the resource and one for its customer, got %q", asked)
	}
	hit(t, r.ask(ask), want)
}
