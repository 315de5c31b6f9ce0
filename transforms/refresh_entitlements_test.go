package transforms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

const f1 = `[{"__typename":"FeatureEntitlement","isGranted":true,"usageLimit":10,"currentUsage":3,"hasUnlimitedUsage":false,` +
	`"entitlementUpdatedAt":"2026-09-20T00:00:00.000Z","usageUpdatedAt":"2026-09-21T00:00:00.000Z",` +
	`"feature":{"refId":"f1","featureType":"NUMBER","meterType":"Incremental","displayName":"F1"}}]`

func refresh(t testing.TB, edge *testserver.EdgeServer, c RefreshEntitlementsConfig) (pipeline.Transform, *observer.ObservedLogs, *prometheus.Registry) {
	t.Helper()
	if c.Layout == "" {
		c.Layout = "dual"
	}
	c.URL, c.Endpoint, c.RequestsPerSecond = edge.URL(), "auto", 1000
	if c.Delay == 0 {
		c.Delay = 10 * time.Millisecond
	}
	c.RequestTimeout = 5 * time.Second
	if err := errors.Join(c.Validate(), c.Check(&pipeline.Config{})); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	registry := prometheus.NewRegistry()
	transform, err := c.NewTransform(pipeline.Env{Logger: zap.New(core), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	return transform, logs, registry
}

func keys(t testing.TB, msgs []*message.Message, err error) string {
	t.Helper()
	var all []string
	for _, w := range writes(t, msgs, err) {
		all = append(all, w.Key)
	}
	return strings.Join(all, " ")
}

func TestRefreshEntitlements_completesWhatDoesNotSayEnough(t *testing.T) {
	edge := testserver.Edge(t, "key")
	edge.Set(testserver.EdgeSubject{Customer: "c"}, f1, "")
	edge.Set(testserver.EdgeSubject{Customer: "c", Resource: "r"}, f1, "")
	const all = "c_c c_c:metadata c_c:f_f1"
	for name, c := range map[string]struct {
		config RefreshEntitlementsConfig
		body   string
		want   string // keys; "" for none
		fails  string
		asks   int
	}{
		"no entitlements":                 {body: `{"type":"ENTITLEMENTS_UPDATED","customerId":"c"}`, want: all, asks: 1},
		"null entitlements":               {body: `{"type":"entitlements.updated","customer":{"id":"c"},"resource":null,"entitlements":null}`, want: all, asks: 1},
		"of a resource":                   {body: `{"type":"ENTITLEMENTS_UPDATED","customerId":"c","resourceId":"r"}`, want: "c_c:r_r c_c:r_r:metadata c_c:r_r:f_f1", asks: 1},
		"an entitlement that is none":     {body: `{"type":"ENTITLEMENTS_UPDATED","customerId":"c","entitlements":[{"feature":17}]}`, want: all, asks: 1},
		"a usage that is none":            {body: `{"type":"USAGE_UPDATED","customerId":"c","featureId":"f1","currentUsage":"many"}`, want: all, asks: 1},
		"a customer inside the usage":     {body: `{"usage":{"customerId":"c","resourceId":null,"currentUsage":true}}`, want: all, asks: 1},
		"a clock that is far ahead":       {body: `{"type":"ENTITLEMENTS_UPDATED","customerId":"c","timestamp":"2199-01-01T00:00:00Z","entitlements":[]}`, want: all, asks: 1},
		"an unknown type":                 {body: `{"type":"SOMETHING_NEW","customerId":"c"}`, want: all, asks: 1},
		"neither type nor shape":          {body: `{"customer":{"id":"c"},"x":1}`, want: all, asks: 1},
		"a credit's balance":              {body: `{"type":"CREDIT_BALANCE_UPDATED","customerId":"c","currencyId":"x","totalConsumed":5,"timestamp":"2026-11-20T00:00:00Z"}`, want: all, asks: 1},
		"a credit's balance in v3":        {config: RefreshEntitlementsConfig{DecodeEntitlementsConfig: DecodeEntitlementsConfig{Layout: "v3"}}, body: `{"type":"CREDIT_BALANCE_UPDATED","customerId":"c","currencyId":"x","totalConsumed":5}`, want: "c_c c_c:f_f1", asks: 1},
		"a credit's usage":                {body: `{"type":"USAGE_UPDATED_V2","customerId":"c","entitlementReference":{"type":"CREDIT","id":"x"},"usage":{"currentUsage":5}}`, want: all, asks: 1},
		"a grant":                         {body: `{"type":"CREDIT_GRANT_CREATED","customerId":"c"}`, want: all, asks: 1},
		"hash tags":                       {config: RefreshEntitlementsConfig{DecodeEntitlementsConfig: DecodeEntitlementsConfig{HashTags: true}}, body: `{"type":"X","customerId":"c"}`, want: "c_{c} c_{c}:metadata c_{c}:f_f1", asks: 1},
		"a mapped type":                   {config: RefreshEntitlementsConfig{DecodeEntitlementsConfig: DecodeEntitlementsConfig{Types: map[string]string{"subscription.updated": "refresh"}}}, body: `{"type":"SUBSCRIPTION_UPDATED","customerId":"c"}`, want: all, asks: 1},
		"a mapped place of the customer":  {config: RefreshEntitlementsConfig{DecodeEntitlementsConfig: DecodeEntitlementsConfig{Fields: DecodeEntitlementsFields{Customer: "$.who"}}}, body: `{"type":"X","who":"c"}`, want: all, asks: 1},
		"a customer that the API has not": {body: `{"type":"X","customerId":"nobody"}`, want: "c_nobody c_nobody:metadata", asks: 1},

		"one that says enough":                {body: `{"type":"ENTITLEMENTS_UPDATED","customerId":"c","entitlements":[]}`, want: "c_c c_c:metadata"},
		"a purge":                             {body: `{"type":"CUSTOMER_DELETED","customerId":"c"}`, want: "c_c c_c:metadata"},
		"one that changes nothing":            {body: `{"type":"SUBSCRIPTION_UPDATED","customerId":"c"}`},
		"a credit's balance in v4":            {config: RefreshEntitlementsConfig{DecodeEntitlementsConfig: DecodeEntitlementsConfig{Layout: "v4"}}, body: `{"type":"CREDIT_BALANCE_UPDATED","customerId":"c","currencyId":"x","totalConsumed":5}`, want: "c_c:credit_x"},
		"nobody to ask about":                 {body: `{"type":"ENTITLEMENTS_UPDATED"}`, fails: "entitlements: missing"},
		"two customers":                       {body: `{"type":"X","customerId":"c","customer":{"id":"d"}}`, fails: "another id than elsewhere"},
		"no JSON":                             {body: `{"type":"X","customerId":"c",}`, fails: "byte"},
		"not an object":                       {body: `[]`, fails: "want an object"},
		"no customer for a mapped type":       {config: RefreshEntitlementsConfig{DecodeEntitlementsConfig: DecodeEntitlementsConfig{Types: map[string]string{"A": "refresh"}}}, body: `{"type":"A"}`, fails: "customerId: missing"},
		"a resource that can't be understood": {body: `{"type":"X","customerId":"c","resourceId":5}`, fails: "resourceId"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.APIKey = pipeline.NewSecret("key")
			transform, _, registry := refresh(t, edge, c.config)
			before, begin := len(edge.Requests()), time.Now()
			msgs, err := transform(message.NewMessage("id", []byte(c.body)))
			asked := edge.Requests()[before:]
			if len(asked) != c.asks {
				t.Errorf("%d requests, want %d", len(asked), c.asks)
			}
			switch {
			case c.fails != "":
				if !pipeline.IsPermanent(err) || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v, want a permanent one that says %q", err, c.fails)
				}
				return
			case c.want == "":
				if err != nil || len(msgs) != 0 {
					t.Errorf("%d messages, %v", len(msgs), err)
				}
				return
			}
			if got := keys(t, msgs, err); got != c.want {
				t.Errorf("keys %s\nwant %s", got, c.want)
			}
			if c.asks == 0 {
				return
			}
			if w := writes(t, msgs, err)[0]; w.AsOf < begin.UnixMilli() || w.AsOf > time.Now().UnixMilli() || w.AsOf > asked[0].At.UnixMilli() {
				t.Errorf("as of %d, want the time at which the request began", w.AsOf)
			}
			if want := map[bool]string{true: "/entitlements.json", false: "/entitlements-state.json"}[c.config.Layout == "v3"]; !strings.Contains(asked[0].URI, want) {
				t.Errorf("asked %s, want %s", asked[0].URI, want)
			}
			if n := testutil.ToFloat64(mustFind(t, registry, "penstock_refreshes_total")); n != 1 {
				t.Errorf("%v refreshes counted", n)
			}
		})
	}
}

// mustFind returns a registered counter without labels as a collector.
func mustFind(t testing.TB, r *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			c := prometheus.NewCounter(prometheus.CounterOpts{Name: name})
			for _, m := range f.GetMetric() {
				c.Add(m.GetCounter().GetValue())
			}
			return c
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

func TestRefreshEntitlements_withoutAKeyDecodesAndAsksNobody(t *testing.T) {
	edge := testserver.Edge(t, "key")
	transform, _, _ := refresh(t, edge, RefreshEntitlementsConfig{})
	if _, err := transform(message.NewMessage("id", []byte(`{"type":"ENTITLEMENTS_UPDATED","customerId":"c"}`))); !pipeline.IsPermanent(err) {
		t.Errorf("%v", err)
	}
	msgs, err := transform(message.NewMessage("id", []byte(`{"type":"ENTITLEMENTS_UPDATED","customerId":"c","entitlements":[]}`)))
	if got := keys(t, msgs, err); got != "c_c c_c:metadata" {
		t.Errorf("keys %s", got)
	}
	if n := len(edge.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestRefreshEntitlements_outcomes(t *testing.T) {
	respond := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		fault http.HandlerFunc
		key   string
		is    func(error) bool
		text  string
	}{
		"away":            {fault: respond(503, "down"), is: pipeline.IsUnavailable, text: "503"},
		"key refused":     {key: "another", is: pipeline.IsUnavailable, text: "the API key is refused"},
		"throttled":       {fault: respond(429, ""), is: pipeline.IsUnavailable, text: "too many requests"},
		"errors in a 200": {fault: respond(200, `{"errors":[{"message":"boom"}]}`), is: func(err error) bool { return !pipeline.IsUnavailable(err) && !pipeline.IsPermanent(err) }, text: "boom"},
		"never":           {fault: respond(400, "bad"), is: pipeline.IsPermanent, text: "bad"},
		"nonsense inside": {fault: respond(200, `{"data":{"entitlementsState":{"entitlementsV2":[17]}}}`), is: pipeline.IsPermanent, text: "the answer of the Edge API: entitlements[0]"},
		"too slow": {fault: func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, is: pipeline.IsUnavailable, text: "no answer of the Edge API in time"},
	} {
		t.Run(name, func(t *testing.T) {
			edge := testserver.Edge(t, "key")
			edge.Fail(c.fault)
			if c.key == "" {
				c.key = "key"
			}
			transform, _, registry := refresh(t, edge, RefreshEntitlementsConfig{APIKey: pipeline.NewSecret(c.key)})
			msg := message.NewMessage("id", []byte(`{"type":"X","customerId":"c"}`))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			msg.SetContext(ctx)
			_, err := transform(msg)
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want it to say %q", err, c.text)
			}
			if name != "too slow" && testutil.CollectAndCount(registry, "penstock_edge_requests_total") == 0 {
				t.Error("no request counted")
			}
		})
	}
}

func TestRefreshEntitlements_doctor(t *testing.T) {
	edge := testserver.Edge(t, "key")
	diagnose := func(key string) string {
		c := RefreshEntitlementsConfig{URL: edge.URL(), RequestTimeout: time.Second}
		if key != "" {
			c.APIKey = pipeline.NewSecret(key)
		}
		all := ""
		for _, f := range c.Diagnose(t.Context(), pipeline.DoctorEnv{}) {
			all += f.Code + " "
		}
		return all
	}
	if got := diagnose("key"); got != "" {
		t.Errorf("with the right key: %s", got)
	}
	if got := diagnose("another"); got != "PS303 " {
		t.Errorf("with a wrong key: %s", got)
	}
	if got := diagnose(""); got != "PS301 " {
		t.Errorf("without a key: %s", got)
	}
	edge.Stop()
	if got := diagnose("key"); got != "PS302 " {
		t.Errorf("without an API: %s", got)
	}
}

func TestRefreshEntitlements_manyAtOnce(t *testing.T) {
	edge := testserver.Edge(t, "key")
	transform, _, _ := refresh(t, edge, RefreshEntitlementsConfig{APIKey: pipeline.NewSecret("key"), Delay: 500 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"type":"X","customerId":"c%d"}`, i%30)
			msgs, err := transform(message.NewMessage(fmt.Sprint(i), []byte(body)))
			if got := writes(t, msgs, err)[0].Key; got != fmt.Sprintf("c_c%d", i%30) {
				t.Errorf("%s became %s", body, got)
			}
		})
	}
	wg.Wait()
	if n := len(edge.Requests()); n != 30 || edge.Overlaps() != 0 {
		t.Errorf("%d requests for 30 customers, %d at the same time as another one about the same", n, edge.Overlaps())
	}
}

func TestRefreshEntitlements_tellsWhatLeavesAndWhatIsUnencrypted(t *testing.T) {
	key := pipeline.NewSecret("key")
	for name, c := range map[string]struct {
		config RefreshEntitlementsConfig
		sends  string
		warns  bool
	}{
		"no key":   {RefreshEntitlementsConfig{URL: "http://edge.internal"}, "", false},
		"https":    {RefreshEntitlementsConfig{APIKey: key, URL: "https://edge.api.stigg.io"}, "ids of customers to edge.api.stigg.io", false},
		"http":     {RefreshEntitlementsConfig{APIKey: key, URL: "http://edge.internal:8080"}, "ids of customers to edge.internal:8080", true},
		"loopback": {RefreshEntitlementsConfig{APIKey: key, URL: "http://127.0.0.1:3060"}, "ids of customers to 127.0.0.1:3060", false},
	} {
		if got := c.config.Sends(); got != c.sends {
			t.Errorf("%s: sends %q, want %q", name, got, c.sends)
		}
		if got := len(c.config.Warnings(nil)) > 0; got != c.warns {
			t.Errorf("%s: warns: %t", name, got)
		}
	}
}

func TestRefreshEntitlements_aChangeOfTheProvidersFormatIsTold(t *testing.T) {
	edge := testserver.Edge(t, "key")
	transform, logs, registry := refresh(t, edge, RefreshEntitlementsConfig{APIKey: pipeline.NewSecret("key"), Delay: time.Nanosecond})
	for i := range 12 {
		if _, err := transform(message.NewMessage(fmt.Sprint(i), []byte(`{"type":"X","customerId":"c"}`))); err != nil {
			t.Fatal(err)
		}
	}
	if logs.FilterMessageSnippet("don't decode, and are refreshed").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`# HELP penstock_refreshes_total Attempts on events that don't say enough, so that the provider's Edge API is asked: because they don't decode, or by rule.
# TYPE penstock_refreshes_total counter
penstock_refreshes_total{reason="undecoded"} 12
`), "penstock_refreshes_total"); err != nil {
		t.Error(err)
	}
}
