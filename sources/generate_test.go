package sources

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "rewrite the golden files")

var generatedFrom = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

// generate returns the bodies of a whole run.
func generate(t *testing.T, c GenerateConfig) [][]byte {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSource(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Subscriber.Close()
	out, err := s.Subscriber.Subscribe(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	for msg := range out {
		bodies = append(bodies, msg.Payload)
		msg.Ack()
	}
	return bodies
}

func TestGenerate_makesTheSameBodiesAgain(t *testing.T) {
	c := GenerateConfig{Count: 2000, Customers: 7, Seed: 42, Start: generatedFrom}
	first, again := generate(t, c), generate(t, c)
	if len(first) != 2000 || len(again) != 2000 {
		t.Fatalf("made %d and %d", len(first), len(again))
	}
	for i := range first {
		if !bytes.Equal(first[i], again[i]) {
			t.Fatalf("body %d:\n%s\n%s", i, first[i], again[i])
		}
	}
	c.Seed++
	different := 0
	for i, body := range generate(t, c) {
		if !bytes.Equal(body, first[i]) {
			different++
		}
	}
	if different < 1900 {
		t.Errorf("another seed changes only %d bodies", different)
	}
}

func TestGenerate_makesTheDocumentedBodies(t *testing.T) {
	// Among the first 600 of this seed are all kinds but one.
	var got []byte
	kinds := make(map[string]bool)
	for _, body := range generate(t, GenerateConfig{Count: 600, Customers: 4, Seed: 9, Start: generatedFrom}) {
		kind := kindOf(body)
		if !kinds[kind] {
			kinds[kind] = true
			got = append(append(got, body...), '\n')
		}
	}
	golden := filepath.Join("testdata", "generate.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s", got)
	}
	for _, kind := range []string{"EntitlementsUpdated", "EntitlementsUpdatedV2", "entitlements.updated", "UsageUpdated", "UsageUpdatedV2", "measurement.reported"} {
		if !kinds[kind] {
			t.Errorf("no %s among them", kind)
		}
	}
}

// kindOf returns the type of a body, or "malformed".
func kindOf(body []byte) string {
	var e struct {
		Typename string `json:"__typename"`
		Type     string `json:"type"`
		Customer *struct{ ID *string }
	}
	if json.Unmarshal(body, &e) != nil || e.Type == "customer.teleported" || e.Customer != nil && e.Customer.ID == nil {
		return "malformed"
	}
	return e.Typename + e.Type
}

func TestGenerate_mixesEventsAsDocumented(t *testing.T) {
	const n = 100_000
	type share struct{ count, bytes int }
	var usage, snapshots, purges, ignored, malformed share
	for _, body := range generate(t, GenerateConfig{Count: n, Customers: 40, Seed: 1, Start: generatedFrom}) {
		kind := &ignored
		switch kindOf(body) {
		case "malformed":
			kind = &malformed
		case "PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED":
			kind = &purges
		case "EntitlementsUpdated", "EntitlementsUpdatedV2", "entitlements.updated":
			kind = &snapshots
		case "UsageUpdated", "UsageUpdatedV2", "measurement.reported":
			kind = &usage
		}
		kind.count++
		kind.bytes += len(body)
		if bytes.ContainsAny(body, "\n\r") {
			t.Fatalf("a line break in %q", body)
		}
	}
	for name, c := range map[string]struct {
		got      share
		min, max float64 // of 100 events
		bytes    int
	}{
		"usage": {usage, 88, 90.5, 350}, "snapshots": {snapshots, 9.5, 10.7, 1600}, "purges": {purges, 0.05, 0.2, 0}, "ignored": {ignored, 0.3, 0.5, 0}, "malformed": {malformed, 0.05, 0.2, 0},
	} {
		if part := 100 * float64(c.got.count) / n; part < c.min || part > c.max {
			t.Errorf("%s: %.2f %%, want %v to %v", name, part, c.min, c.max)
		}
		if c.bytes == 0 {
			continue
		}
		if mean := c.got.bytes / c.got.count; mean < c.bytes*9/10 || mean > c.bytes*11/10 {
			t.Errorf("%s: %d bytes in the mean, want about %d", name, mean, c.bytes)
		}
	}
}

// world is what a reader of the events knows: by customer, what its last event said.
type world struct {
	times map[string]int64
	plans map[string]string
	usage map[string]int64
}

func TestGenerate_makesLivesOfCustomers(t *testing.T) {
	const customers = 10
	w := world{times: map[string]int64{}, plans: map[string]string{}, usage: map[string]int64{}}
	var hits, upgrades, downgrades, purges, grown int
	purged := ""
	for i, body := range generate(t, GenerateConfig{Count: 50_000, Customers: customers, Seed: 3, Start: generatedFrom}) {
		kind := kindOf(body)
		if kind == "malformed" {
			continue
		}
		var e struct {
			CustomerID            string
			Customer              struct{ ID string }
			Timestamp             time.Time
			EntitlementsUpdatedAt time.Time
			Feature               struct{ ID string }
			CurrentUsage          int64
			EntitlementReference  struct{ ID string }
			Usage                 struct {
				CustomerID, FeatureID string
				CurrentUsage          int64
				UsageUpdatedAt        time.Time
			}
			Entitlement  struct{ UsageUpdatedAt time.Time }
			Entitlements []struct {
				Feature              struct{ ID, RefID string }
				UsageLimit           *int64
				HasUnlimitedUsage    bool
				EntitlementUpdatedAt time.Time
			}
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		id := e.CustomerID + e.Customer.ID + e.Usage.CustomerID
		var at time.Time
		for _, candidate := range []time.Time{e.Timestamp, e.EntitlementsUpdatedAt, e.Usage.UsageUpdatedAt, e.Entitlement.UsageUpdatedAt} {
			if candidate.After(at) {
				at = candidate
			}
		}
		plan := ""
		for _, item := range e.Entitlements {
			if item.EntitlementUpdatedAt.After(at) {
				at = item.EntitlementUpdatedAt
			}
			if item.Feature.ID+item.Feature.RefID == "feature-api-calls" {
				switch {
				case item.HasUnlimitedUsage:
					plan = "enterprise"
				default:
					plan = map[int64]string{1000: "free", 10000: "team"}[*item.UsageLimit]
				}
			}
		}
		if i < customers && (id != fmt.Sprintf("customer-%d", i+1) || plan == "") {
			t.Errorf("event %d is no snapshot of customer-%d: %s", i, i+1, body)
		}
		if purged != "" && (id != purged || plan == "") {
			t.Errorf("no snapshot after the purge of %s: %s", purged, body)
		}
		purged = ""
		if at.UnixMilli() <= w.times[id] {
			t.Fatalf("event %d of %s is not newer than the one before: %s", i, id, body)
		}
		w.times[id] = at.UnixMilli()
		if plan != "" {
			switch was := w.plans[id]; {
			case was == "free" && plan == "team" || was == "team" && plan == "enterprise":
				upgrades++
			case was == "enterprise" && plan == "free":
				downgrades++
				delete(w.usage, id)
			case was != "" && was != plan:
				t.Errorf("%s went from %s to %s", id, was, plan)
			}
			w.plans[id] = plan
		}
		if strings.HasPrefix(kind, "PURGE") {
			purges++
			purged = id
		}
		if feature := e.EntitlementReference.ID + e.Usage.FeatureID + e.Feature.ID; feature == "feature-api-calls" {
			used := e.Usage.CurrentUsage + e.CurrentUsage
			if used < w.usage[id] {
				t.Errorf("usage of %s fell from %d to %d", id, w.usage[id], used)
			}
			if used > w.usage[id] {
				grown++
			}
			if limit := map[string]int64{"free": 1000, "team": 10000}[w.plans[id]]; limit > 0 && used >= limit {
				hits++
			}
			w.usage[id] = used
		}
	}
	if len(w.plans) != customers || hits < 100 || upgrades < 10 || downgrades < 5 || purges < 20 || grown < 20_000 {
		t.Errorf("%d customers, %d limits hit, %d upgrades, %d downgrades, %d purges, usage grew %d times", len(w.plans), hits, upgrades, downgrades, purges, grown)
	}
	if plan := plans[newGenerator(&GenerateConfig{Customers: 3}).customers[2].plan].name; plan != "team" {
		t.Errorf("customer-3 begins with %s", plan)
	}
}

// The decoder takes every event for what it is, and refuses the malformed ones.
func TestGenerate_makesWhatTheDecoderKnows(t *testing.T) {
	decoder, err := entitlement.NewDecoder(entitlement.Options{})
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[entitlement.Kind]int)
	refused := 0
	for _, body := range generate(t, GenerateConfig{Count: 20_000, Customers: 40, Seed: 5, Start: generatedFrom}) {
		kind := kindOf(body)
		_, event, err := decoder.Append(nil, entitlement.Input{Body: body, Now: generatedFrom.Add(time.Minute)})
		if (err != nil) != (kind == "malformed") {
			t.Fatalf("%v: %s", err, body)
		}
		if err != nil {
			refused++
			continue
		}
		if event.Undated {
			t.Fatalf("has no time: %s", body)
		}
		counts[event.Kind]++
	}
	if counts[entitlement.KindUsage] < 17_000 || counts[entitlement.KindEntitlements] < 1_800 || counts[entitlement.KindPurge] < 10 || counts[entitlement.KindIgnored] < 40 || refused < 10 {
		t.Errorf("%v, refused %d", counts, refused)
	}
}

func TestGenerate_usesTheClockUnlessToldOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := GenerateConfig{Count: 10, Customers: 10, Seed: 1, Rate: 0.1}
		s, err := c.NewSource(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Subscriber.Close()
		out, err := s.Subscriber.Subscribe(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		start, n := time.Now(), 0
		for msg := range out {
			// An event is made when its turn has come.
			made := start.Add(time.Duration(n) * 10 * time.Second).UTC().Format(isoMillis)
			if !bytes.Contains(msg.Payload, []byte(made)) {
				t.Errorf("event %d was not made at %s: %s", n, made, msg.Payload)
			}
			n++
			msg.Ack()
		}
		// That there is no eleventh event is seen when it would be its turn.
		if took := time.Since(start); took != 100*time.Second {
			t.Errorf("ten events at one in ten seconds took %s", took)
		}
	})
}

func TestGenerate_resetsUsageWithTheMonth(t *testing.T) {
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	g := newGenerator(&GenerateConfig{Customers: 1, Seed: 1, Start: end.Add(-time.Second), Rate: 1000})
	for g.made < 1500 {
		if _, err := g.next(); err != nil {
			t.Fatal(err)
		}
		if g.made == 999 && (g.period.endText != "2026-12-01T00:00:00.000Z" || g.customers[0].calls < 100) {
			t.Errorf("before: %+v %+v", g.period, g.customers[0])
		}
		if g.made == 1001 && (g.period.startText != "2026-12-01T00:00:00.000Z" || g.period.endText != "2027-01-01T00:00:00.000Z" || g.customers[0].calls > 200) {
			t.Errorf("after: %+v %+v", g.period, g.customers[0])
		}
	}
}

func TestGenerate_aNackedMessageComesBackTheSame(t *testing.T) {
	s, err := (&GenerateConfig{Count: 50, Customers: 5, Redeliveries: 1}).NewSource(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Subscriber.Close()
	out, err := s.Subscriber.Subscribe(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	bodies := make(map[string][]byte)
	var nacked *message.Message
	for msg := range out {
		if msg.UUID == "generate-0-20" && nacked == nil {
			nacked = msg
			msg.Nack()
			continue
		}
		bodies[msg.UUID] = msg.Payload
		msg.Ack()
	}
	if len(bodies) != 50 || !bytes.Equal(bodies[nacked.UUID], nacked.Payload) {
		t.Errorf("%d bodies; nacked %s, came back %s", len(bodies), nacked.Payload, bodies[nacked.UUID])
	}
	if n, _ := s.Subscriber.(pipeline.Finite).Unresolved(); n != 0 {
		t.Errorf("%d unresolved", n)
	}
}

func TestGenerateConfig_namesAllBrokenRules(t *testing.T) {
	c := GenerateConfig{Rate: -1, Count: -1, Customers: 0, Redeliveries: -1, Start: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)}
	want := []string{"count: must not be negative, got -1", "customers: must be 1 to 1000000, got 0", "redeliveries: must not be negative, got -1",
		"rate: must not be negative", "start: must not be before 1974, got 1969-01-01T00:00:00Z"}
	if err := c.Validate(); err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v", err)
	}
	// Events of 1973 would be refused: their clocks look like another unit.
	if err := (&GenerateConfig{Rate: 1, Customers: 1, Start: time.Date(1973, 1, 1, 0, 0, 0, 0, time.UTC)}).Validate(); err == nil {
		t.Error("1973 is taken")
	}
}

func BenchmarkGenerate(b *testing.B) {
	b.ReportAllocs()
	g := newGenerator(&GenerateConfig{Customers: 40, Seed: 1})
	for range b.N {
		item, _ := g.next()
		b.SetBytes(int64(len(item.Message.Payload)))
	}
}
