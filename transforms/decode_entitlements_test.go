package transforms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func decode(t testing.TB, c DecodeEntitlementsConfig) (pipeline.Transform, *observer.ObservedLogs, *prometheus.Registry) {
	t.Helper()
	if c.Layout == "" {
		c.Layout = "dual"
	}
	if err := c.Validate(); err != nil {
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

// dated makes a message that carries its time in its metadata, as a source would.
func dated(body string) *message.Message {
	msg := message.NewMessage("id", []byte(body))
	msg.Metadata.Set("recorded_at", "2026-11-20T12:00:00.123456789Z")
	return msg
}

func writes(t testing.TB, msgs []*message.Message, err error) []cache.Write {
	t.Helper()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("%d messages, %v", len(msgs), err)
	}
	list, err := cache.Parse(nil, msgs[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTransforms_unwrapAndDecodeTheEnvelopeSamples: an enveloped sample makes the writes of the sample inside.
func TestTransforms_unwrapAndDecodeTheEnvelopeSamples(t *testing.T) {
	unwrap := unwrap(t, UnwrapConfig{})
	read := func(name string) []byte {
		body, err := os.ReadFile(filepath.Join("..", "entitlement", "testdata", "samples", name))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	for _, layout := range []string{"dual", "v3", "v4"} {
		decode, _, _ := decode(t, DecodeEntitlementsConfig{Layout: layout})
		run := func(body []byte) string {
			msgs, err := unwrap(message.NewMessage("id", body))
			if err != nil || len(msgs) != 1 {
				t.Fatalf("%d messages, %v", len(msgs), err)
			}
			if msgs, err = decode(msgs[0]); err != nil || len(msgs) != 1 {
				t.Fatalf("%d messages, %v", len(msgs), err)
			}
			return string(msgs[0].Payload)
		}
		for envelope, inner := range map[string]string{
			"26-envelope-sns-notification-of-01.json": "01-entitlements-boolean.json",
			"27-envelope-eventbridge-of-17.json":      "17-usage-incremental.json",
		} {
			if got, want := run(read(envelope)), run(read(inner)); got != want {
				t.Errorf("%s, %s: %s\nwant %s", layout, envelope, got, want)
			}
		}
	}
	_, err := unwrap(message.NewMessage("id", read("28-envelope-s3-pointer.json")))
	if err == nil || !strings.Contains(err.Error(), `bucket "example-bucket", key "8c0d1c1e-0000-4000-8000-000000000001"`) || !pipeline.IsPermanent(err) {
		t.Errorf("S3 pointer: %v", err)
	}
}

func TestDecodeEntitlements_envelopeTellsTimeAndType(t *testing.T) {
	unwrap := unwrap(t, UnwrapConfig{})
	decode, _, _ := decode(t, DecodeEntitlementsConfig{})
	for name, c := range map[string]struct {
		body     string
		deletes  bool
		version  int64
		filtered bool
	}{
		"V1 by its GraphQL field":       {`{"data":{"entitlementsUpdated":{"customerId":"c","entitlements":[]}}}`, false, 1795176000123, false},
		"V2 by its GraphQL field":       {`{"data":{"entitlementsUpdatedV2":{"customerId":"c","entitlements":[]}}}`, true, 1795176000123, false},
		"purge by its detail-type":      {`{"detail-type":"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED","time":"2026-11-20T11:00:01Z","detail":{"customerId":"c"}}`, true, 1795172401000, false},
		"ignored by its detail-type":    {`{"detail-type":"customer.created","detail":{"customerId":"c"}}`, false, 0, true},
		"own type beats detail-type":    {`{"detail-type":"customer.created","detail":{"type":"customer.deleted","customer":{"id":"c"}}}`, true, 1795176000123, false},
		"unknown detail-type no matter": {`{"detail-type":"whatever","detail":{"customerId":"c","entitlements":[]}}`, false, 1795176000123, false},
	} {
		t.Run(name, func(t *testing.T) {
			msgs, err := unwrap(dated(c.body))
			if err != nil {
				t.Fatal(err)
			}
			msgs, err = decode(msgs[0])
			if c.filtered {
				if err != nil || msgs != nil {
					t.Errorf("%v, %v", msgs, err)
				}
				return
			}
			if w := writes(t, msgs, err)[0]; w.Delete != c.deletes || w.Version != c.version || w.AsOf != c.version {
				t.Errorf("got %+v", w)
			}
		})
	}
}

func TestDecodeEntitlements_whatDoesNotDecodeIsPermanent(t *testing.T) {
	decode, _, _ := decode(t, DecodeEntitlementsConfig{})
	body := `{"type":"weather.changed","customerId":"c"}`
	msg := dated(body)
	_, err := decode(msg)
	if err == nil || err.Error() != `type: unknown event type "weather.changed"` || !pipeline.IsPermanent(err) {
		t.Errorf("got %v (permanent %v)", err, pipeline.IsPermanent(err))
	}
	if string(msg.Payload) != body {
		t.Errorf("payload became %s", msg.Payload)
	}
}

func TestDecodeEntitlements_policiesMakeWritesConditional(t *testing.T) {
	const usage = `{"type":"measurement.reported","timestamp":"2026-11-20T10:15:31.900Z","currentUsage":1,"feature":{"id":"f"},"customer":{"id":"c"}}`
	for name, c := range map[string]struct {
		config DecodeEntitlementsConfig
		want   string
	}{
		"default":            {DecodeEntitlementsConfig{}, `[]`},
		"if_customer_cached": {DecodeEntitlementsConfig{Usage: "if_customer_cached"}, `[c_c]`},
		"update_if_exists":   {DecodeEntitlementsConfig{UpdatePolicy: "update_if_exists"}, `[c_c:f_f c_c]`},
	} {
		t.Run(name, func(t *testing.T) {
			decode, _, _ := decode(t, c.config)
			msgs, err := decode(dated(usage))
			if got := fmt.Sprint(writes(t, msgs, err)[0].IfAnyExists); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestDecodeEntitlements_tellsCreditsOnceAndCountsUndatedEvents(t *testing.T) {
	decode, logs, registry := decode(t, DecodeEntitlementsConfig{})
	credit := `{"type":"credit.balance.low","customerId":"c","currencyId":"x","totalConsumed":1}`
	for range 3 {
		if msgs, err := decode(dated(credit)); err != nil || msgs != nil {
			t.Fatalf("%v, %v", msgs, err)
		}
		if msgs, err := decode(dated(`{"type":"customer.created"}`)); err != nil || msgs != nil {
			t.Fatalf("%v, %v", msgs, err)
		}
	}
	if n := logs.Len(); n != 1 || logs.All()[0].ContextMap()["why"] != "layout dual has no keys for credits" {
		t.Errorf("%d lines: %v", n, logs.All())
	}
	for range 2 {
		if _, err := decode(message.NewMessage("id", []byte(`{"customerId":"c","entitlements":[]}`))); err != nil {
			t.Fatal(err)
		}
	}
	want := "# HELP penstock_undated_events_total Events that carry no time, nor does what came with them: only their arrival orders them.\n" +
		"# TYPE penstock_undated_events_total counter\npenstock_undated_events_total 2\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestDecodeEntitlements_tellsAnAmbiguousIDOnce(t *testing.T) {
	decode, logs, _ := decode(t, DecodeEntitlementsConfig{})
	send := func(customer string) {
		t.Helper()
		if _, err := decode(dated(`{"customerId":"` + customer + `","entitlements":[]}`)); err != nil {
			t.Fatal(err)
		}
	}
	send("plain:id")
	for range 3 {
		send("a:r_b")
		send("x:metadata")
	}
	if n := logs.Len(); n != 2 {
		t.Fatalf("%d lines: %v", n, logs.All())
	}
	if id := logs.All()[0].ContextMap()["id"]; id != "a:r_b" {
		t.Errorf("told %v", id)
	}
	for i := range 2000 {
		send(fmt.Sprintf("a:f_%d", i))
	}
	if n := logs.Len(); n != mostAmbiguous+1 {
		t.Errorf("%d lines", n)
	}
	if last := logs.All()[mostAmbiguous].Message; !strings.Contains(last, "further ones are not logged") {
		t.Errorf("last line: %s", last)
	}
}

func TestDecodeEntitlements_tellsWhenManyBodiesDoNotDecode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Fake time begins in 2000.
		good := func() *message.Message {
			return message.NewMessage("id", []byte(`{"customerId":"c","entitlements":[]}`))
		}
		decode, logs, _ := decode(t, DecodeEntitlementsConfig{})
		send := func(bad, of int) {
			for i := range of {
				msg := good()
				if i < bad {
					msg.Payload = []byte("nonsense")
				}
				_, _ = decode(msg)
			}
		}
		send(10, 1000)
		send(10, 1000)
		if logs.Len() != 0 {
			t.Fatalf("told at 1 %%: %v", logs.All())
		}
		send(0, 1000)
		send(11, 11)
		if logs.Len() != 1 || logs.All()[0].ContextMap()["last"] != "want an object, got 'n' (byte 1)" {
			t.Fatalf("%v", logs.All())
		}
		send(500, 500)
		if logs.Len() != 1 {
			t.Fatalf("told again within a minute: %v", logs.All())
		}
		time.Sleep(61 * time.Second)
		send(1, 1)
		if logs.Len() != 2 {
			t.Fatalf("not told again: %v", logs.All())
		}
	})
}

func TestDecodeEntitlementsConfig_ValidateReportsAllAtOnce(t *testing.T) {
	c := DecodeEntitlementsConfig{
		Types:  map[string]string{"MY_EVENT": "maybe"},
		Fields: DecodeEntitlementsFields{Customer: "a.b", TotalConsumed: "$.a[x]"},
	}
	want := `types.MY_EVENT: want entitlements, usage, credit, purge, ignore or refresh, got "maybe"
fields.customer: want a path such as $.a.b, got "a.b"
fields.total_consumed: path "$.a[x]": want an index such as [0], got [x]`
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestRegister_knowsTheTransforms(t *testing.T) {
	r := Register(pipeline.NewRegistry())
	for _, name := range []string{"unwrap", "decode_entitlements"} {
		if _, ok := r.Lookup(pipeline.KindTransform, name); !ok {
			t.Errorf("no %s", name)
		}
	}
}

// TestDecodeEntitlements_attemptsAgreeOnTheTimeOfAnUndatedEvent: else a retry would be a newer write than the first
// try.
func TestDecodeEntitlements_attemptsAgreeOnTheTimeOfAnUndatedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := pipelinetest.NewQueue(true, `[{"customerId":"a","entitlements":[]},{"customerId":"b","entitlements":[]}]`)
		var tried []string
		store := &pipelinetest.Store{Before: func(_ context.Context, call int, msg *message.Message) error {
			tried = append(tried, string(msg.Payload))
			if call < 5 {
				return errors.New("not yet")
			}
			return nil
		}}
		decode, _, metrics := decode(t, DecodeEntitlementsConfig{Layout: "v3"})
		p := &pipeline.Pipeline{
			Name: "test", Source: queue.Source(), Transforms: []pipeline.Transform{unwrap(t, UnwrapConfig{}), decode}, Sink: store.Sink(),
			Retry: pipeline.RetryConfig{InitialInterval: time.Minute, MaxInterval: time.Minute, MaxElapsedTime: 24 * time.Hour, MaxAttempts: 50},
		}
		engine, err := pipeline.New(pipeline.Settings{}, p)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := engine.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) < time.Millisecond || len(tried) < 3 {
			t.Fatalf("%d tries in %s prove nothing", len(tried), time.Since(begin))
		}
		for _, payload := range tried {
			first := tried[0]
			if strings.Contains(payload, `"c_b"`) {
				first = strings.ReplaceAll(strings.ReplaceAll(first, "c_a", "c_b"), `"lock":"a"`, `"lock":"b"`)
			}
			if payload != first {
				t.Errorf("tried %s\nand then %s", tried[0], payload)
			}
		}
		if n, err := testutil.GatherAndCount(metrics); n != 1 || err != nil {
			t.Errorf("%d metrics, %v", n, err)
		}
		families, err := metrics.Gather()
		if err != nil || families[0].GetMetric()[0].GetCounter().GetValue() != 2 {
			t.Errorf("undated events: %v, %v", families, err)
		}
	})
}

// TestTransforms_keepTheContext: the engine finds its delivery in it.
func TestTransforms_keepTheContext(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, 1)
	decode, _, _ := decode(t, DecodeEntitlementsConfig{})
	for _, m := range []pipeline.Transform{unwrap(t, UnwrapConfig{}), decode} {
		body := `{"customerId":"c","entitlements":[]}`
		msg := dated(body)
		msg.SetContext(ctx)
		msgs, err := m(msg)
		if err != nil || msgs[0].Context().Value(key{}) != 1 {
			t.Errorf("%v, %v", msgs, err)
		}
	}
	msg := dated(`[{"a":1},{"b":1}]`)
	msg.SetContext(ctx)
	msgs, err := unwrap(t, UnwrapConfig{})(msg)
	if err != nil || len(msgs) != 2 || msgs[0].Context().Value(key{}) != 1 || msgs[1].Context().Value(key{}) != 1 {
		t.Errorf("%v, %v", msgs, err)
	}
}

func BenchmarkUnwrapAndDecode(b *testing.B) {
	usage := `{"__typename":"UsageUpdatedV2","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"customer-000123","resourceId":null,"entitlementReference":{"type":"FEATURE","id":"feature-api-calls"},"usage":{"currentUsage":4300,"usageUpdatedAt":"2026-11-20T11:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z"}}`
	indented, err := os.ReadFile("../entitlement/testdata/samples/09-entitlements-resource-scoped.json")
	if err != nil {
		b.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, indented); err != nil {
		b.Fatal(err)
	}
	// Two of its five entitlements are about what an ordinary snapshot holds.
	var doc map[string]json.RawMessage
	var items []json.RawMessage
	if json.Unmarshal(compact.Bytes(), &doc) != nil || json.Unmarshal(doc["entitlements"], &items) != nil {
		b.Fatal("no sample")
	}
	snapshot := `{"__typename":"EntitlementsUpdated","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"customer-fir","resourceId":"site-berlin","entitlements":[` +
		string(items[0]) + "," + string(items[2]) + `]}`
	for name, body := range map[string]string{
		"usage": usage, "snapshot": snapshot, "snapshot-of-five": compact.String(), "snapshot-of-five-indented": string(indented), "usage-in-sns": sns(usage), "usage-in-eventbridge": eventBridge(usage),
	} {
		b.Run(name, func(b *testing.B) {
			unwrap := unwrap(b, UnwrapConfig{})
			decode, _, _ := decode(b, DecodeEntitlementsConfig{})
			payload := []byte(body)
			msg := message.NewMessage("id", payload)
			for b.Loop() {
				msg.Payload = payload
				msgs, err := unwrap(msg)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := decode(msgs[0]); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
		})
	}
}
