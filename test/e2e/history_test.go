package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// history makes mixed events about a number of customers, in all shapes that the provider is known to use, and keeps
// a model of what they should leave in the cache. Its clock runs with the events: each is truly newer than the one
// before, so that in the model the last one simply wins. What it makes depends on its seed alone.
type history struct {
	t         testing.TB
	rand      *rand.Rand
	customers int
	tick      int
	// model is what readers should find, without prefix.
	model map[string]cell
	// kinds counts what was made.
	kinds map[string]int
}

// cell is what the model knows of a key.
type cell struct {
	limit   int   // of the one metered feature, in a customer's or resource's value
	usage   int   // in a usage value
	version int64 // epoch milliseconds; 0 when only the delivery of the event has a time
}

func newHistory(t testing.TB, seed uint64, customers int) *history {
	return &history{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), customers: customers, model: map[string]cell{}, kinds: map[string]int{},
	}
}

// historyStart is in the past, so that no event comes from the future, and recent, so that none is about to expire.
var historyStart = time.Now().Add(-6 * time.Hour).Truncate(time.Second)

// moment is a time on the history's clock; times of one event differ by less than those of two.
func moment(tick, part int) time.Time {
	return historyStart.Add(time.Duration(tick)*10*time.Millisecond + time.Duration(part)*time.Millisecond)
}

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// next makes an event. With a twin it makes a second one that happened at the very same time, and has other values:
// with the same version or with one of its own. The twin of a purge is a snapshot, so that the two have the same
// clocks. A model is of no use then.
func (h *history) next(twin bool) []event {
	h.tick++
	customer := fmt.Sprintf("customer-%d", h.rand.IntN(h.customers))
	resource := ""
	if h.rand.IntN(4) == 0 {
		resource = fmt.Sprintf("site-%d", h.rand.IntN(2))
	}
	kinds := []string{
		"usage", "usage", "usage", "usage V2", "usage V2", "measurement", "measurement", "entitlements", "entitlements",
		"entitlements V2", "entitlements webhook", "entitlements undated", "entitlements SNS", "usage EventBridge",
		"purge", "purge, then entitlements", "empty V1", "empty V2", "package",
		"entitlements recalculated", "usage and entitlements in one body",
	}
	kind := kinds[h.rand.IntN(len(kinds))]
	h.kinds[kind]++
	events := []event{h.make(kind, customer, resource, 0)}
	if twin {
		switch kind {
		case "purge":
			kind = "entitlements with the purge"
		case "entitlements recalculated":
			kind = "entitlements recalculated later"
		}
		events = append(events, h.make(kind, customer, resource, 1))
	}
	return events
}

func (h *history) make(kind, customer, resource string, variant int) event {
	limit, usage := 100+h.rand.IntN(1000)*2+variant, h.rand.IntN(1000)*2+variant
	entitled, used, at := moment(h.tick, 0), moment(h.tick, 1), moment(h.tick, 2)
	key := "c_" + customer
	if resource != "" {
		key += ":r_" + resource
	}
	usageKey := key + ":f_feature-api-calls"
	var resourceID any
	if resource != "" {
		resourceID = resource
	}
	feature := map[string]any{"refId": "feature-api-calls", "featureType": "NUMBER", "meterType": "Incremental",
		"featureUnits": "call", "featureUnitsPlural": "calls", "displayName": "API calls"}
	webhookFeature := map[string]any{"id": "feature-api-calls", "featureType": "NUMBER", "meterType": "INCREMENTAL", "unit": "call", "units": "calls"}
	webhookWho := func(m map[string]any) map[string]any {
		m["customer"] = map[string]any{"id": customer}
		if resource != "" {
			m["resource"] = map[string]any{"id": resource}
		}
		return m
	}
	item := map[string]any{"isGranted": true, "usageLimit": limit, "hasUnlimitedUsage": false, "hasSoftLimit": false,
		"currentUsage": usage, "entitlementUpdatedAt": iso(entitled), "usageUpdatedAt": iso(used), "feature": feature}
	entitlements := map[string]any{"__typename": "EntitlementsUpdated", "customerId": customer, "resourceId": resourceID,
		"entitlements": []any{item}}
	usageEvent := map[string]any{"__typename": "UsageUpdated",
		"usage":       map[string]any{"customerId": customer, "resourceId": resourceID, "featureId": "feature-api-calls", "currentUsage": usage},
		"entitlement": map[string]any{"usageUpdatedAt": iso(used), "feature": feature}}
	known := func(entitlementsVersion, usageVersion time.Time) {
		h.model[key] = cell{limit: limit, version: entitlementsVersion.UnixMilli()}
		h.model[usageKey] = cell{usage: usage, version: usageVersion.UnixMilli()}
	}

	var body any
	switch kind {
	case "usage":
		body = usageEvent
		h.model[usageKey] = cell{usage: usage, version: used.UnixMilli()}
	case "usage V2":
		body = map[string]any{"__typename": "UsageUpdatedV2", "customerId": customer, "resourceId": resourceID,
			"entitlementReference": map[string]any{"type": "FEATURE", "id": "feature-api-calls"},
			"usage":                map[string]any{"currentUsage": usage, "usageUpdatedAt": iso(used)}}
		h.model[usageKey] = cell{usage: usage, version: used.UnixMilli()}
	case "measurement":
		body = webhookWho(map[string]any{"type": "measurement.reported", "timestamp": iso(used), "currentUsage": usage, "feature": webhookFeature})
		h.model[usageKey] = cell{usage: usage, version: used.UnixMilli()}
	case "entitlements":
		if h.rand.IntN(2) == 0 {
			entitlements["timestamp"] = iso(at)
		}
		body = entitlements
		known(entitled, used)
	case "entitlements V2":
		item["__typename"], entitlements["__typename"] = "FeatureEntitlement", "EntitlementsUpdatedV2"
		body = entitlements
		known(entitled, used)
	case "entitlements webhook":
		for _, name := range []string{"entitlementUpdatedAt", "usageUpdatedAt", "isGranted"} {
			delete(item, name)
		}
		item["feature"] = webhookFeature
		body = webhookWho(map[string]any{"type": "entitlements.updated", "entitlementsUpdatedAt": iso(entitled), "entitlements": []any{item}})
		known(entitled, entitled)
	case "entitlements undated":
		// Only its delivery tells when: in the recording, or in the queue. A queue stamps what is sent with the time of
		// sending, so such an event is the only one of its kind about its customer.
		key = "c_undated-" + strconv.Itoa(h.tick)
		usageKey = key + ":f_feature-api-calls"
		entitlements["customerId"], entitlements["resourceId"] = "undated-"+strconv.Itoa(h.tick), nil
		delete(item, "entitlementUpdatedAt")
		delete(item, "usageUpdatedAt")
		body = entitlements
		h.model[key], h.model[usageKey] = cell{limit: limit}, cell{usage: usage}
	case "entitlements SNS":
		body = map[string]any{"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-2:000000000000:events",
			"Timestamp": iso(at), "Message": asJSON(h.t, entitlements)}
		known(entitled, used)
	case "usage EventBridge":
		body = map[string]any{"version": "0", "id": "b", "detail-type": "USAGE_UPDATED", "source": "example", "time": iso(at), "detail": usageEvent}
		h.model[usageKey] = cell{usage: usage, version: used.UnixMilli()}
	case "purge":
		body = json.RawMessage(purge(customer, resource, at))
		delete(h.model, key)
	case "purge, then entitlements":
		// Both are true at the same time, in one body: the purge comes before the value.
		entitlements["timestamp"] = iso(at)
		item["entitlementUpdatedAt"] = iso(at)
		body = []any{json.RawMessage(purge(customer, resource, at)), entitlements}
		known(at, used)
	case "entitlements with the purge":
		entitlements["timestamp"] = iso(at)
		item["entitlementUpdatedAt"] = iso(at)
		body = entitlements
	case "entitlements recalculated", "entitlements recalculated later":
		entitlements["timestamp"] = iso(at)
		if kind == "entitlements recalculated later" {
			item["entitlementUpdatedAt"] = iso(used)
		}
		body = entitlements
		known(entitled, used)
	case "empty V1":
		body = map[string]any{"type": "ENTITLEMENTS_UPDATED", "customerId": customer, "resourceId": resourceID, "entitlements": []any{}, "timestamp": iso(at)}
		h.model[key] = cell{limit: -1, version: at.UnixMilli()}
	case "empty V2":
		body = map[string]any{"__typename": "EntitlementsUpdatedV2", "customerId": customer, "resourceId": resourceID, "entitlements": []any{},
			"accessDeniedReason": nil, "timestamp": iso(at)}
		delete(h.model, key)
	case "package":
		body = map[string]any{"__typename": "PackagePublished", "packageType": "Plan", "packageRefId": "plan-growth", "packageVersion": 4, "migrationType": "ALL_CUSTOMERS"}
	case "usage and entitlements in one body":
		body = []any{usageEvent, entitlements}
		known(entitled, used)
	default:
		h.t.Fatalf("no kind %q", kind)
	}
	return event{asJSON(h.t, body), at}
}

// check compares a Redis with the model: every key, value and version, and no other keys that readers look at.
func (h *history) check(c *redis.Client, prefix string) {
	h.t.Helper()
	found := dump(h.t, c)
	problems := 0
	wrong := func(format string, args ...any) {
		h.t.Helper()
		if problems++; problems <= 10 {
			h.t.Errorf(format, args...)
		}
	}
	get := func(key string) string {
		e, ok := found[key]
		if !ok {
			wrong("%q is missing", key)
		}
		delete(found, key)
		return e.value
	}
	for name, want := range h.model {
		key := prefix + ":" + name
		value := get(key)
		version, _ := strconv.ParseInt(get(key+"#timestamp"), 10, 64)
		if want.version != 0 && version != want.version {
			wrong("%q has version %d, want %d", key, version, want.version)
		}
		var limits map[string]struct {
			CalculatedEntitlement struct{ UsageLimit int }
		}
		var usage struct{ CurrentUsage int }
		switch {
		case want.limit < 0:
			if value != "{}" {
				wrong("%q is %s, want {}", key, value)
			}
		case want.limit > 0:
			if err := json.Unmarshal([]byte(value), &limits); err != nil || len(limits) != 1 ||
				limits["feature-api-calls"].CalculatedEntitlement.UsageLimit != want.limit {
				wrong("%q is %s, want a limit of %d", key, value, want.limit)
			}
		default:
			if err := json.Unmarshal([]byte(value), &usage); err != nil || usage.CurrentUsage != want.usage {
				wrong("%q is %s, want a usage of %d", key, value, want.usage)
			}
			continue
		}
		get(key + ":metadata")
		get(key + ":metadata#timestamp")
	}
	own := prefix + ":penstock:"
	for key := range found {
		if len(key) < len(own) || key[:len(own)] != own {
			wrong("%q should not be there", key)
		}
	}
	if problems > 10 {
		h.t.Errorf("and %d more", problems-10)
	}
}
