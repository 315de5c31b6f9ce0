package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// workload is a made-up history of events: one in ten is a snapshot of a customer's entitlements (about 1.5 KB), the
// others are usage (about 300 B). One event in ten is late: older than what came before it. The same workload always
// makes the same bytes.
type workload struct {
	seed      uint64
	events    int
	customers int
	// distinct gives every event a customer of its own, so that the number of keys in Redis tells how many events were
	// written.
	distinct bool
	// real makes events of the size that is met in the field: nine of ten are snapshots of 2 to 10 features (1 to 6 KB).
	real bool
}

// firstEvent is the time of the first event. It lies in the past: events from the future are refused.
var firstEvent = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

var features = [...]struct{ id, name, unit, meter, period string }{
	{"feature-api-calls", "API calls", "call", "Incremental", `"usagePeriodAnchor":"2026-01-01T00:00:00.000Z",` +
		`"usagePeriodStart":"2026-01-01T00:00:00.000Z","usagePeriodEnd":"2036-02-01T00:00:00.000Z","resetPeriod":"MONTH",` +
		`"resetPeriodConfiguration":{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"}`},
	{"feature-seats", "Seats", "seat", "Fluctuating", `"usagePeriodAnchor":null,"usagePeriodStart":null,"usagePeriodEnd":null,` +
		`"resetPeriod":null,"resetPeriodConfiguration":null`},
}

// late is how far events may be out of order.
const late = 5 * time.Second

// each calls f with every event. The body is valid until f returns.
func (w workload) each(f func(body []byte) error) error {
	r := rand.New(rand.NewPCG(w.seed, 0))
	var body []byte
	for i := range w.events {
		at := firstEvent.Add(time.Duration(i) * time.Millisecond)
		if r.IntN(10) == 0 {
			at = at.Add(-time.Duration(r.Int64N(int64(late))))
		}
		customer := r.IntN(w.customers)
		if w.distinct {
			customer = i
		}
		switch {
		case w.real && i%10 != 0:
			body = appendSnapshot(body[:0], r, customer, at, 1, 1+r.IntN(9))
		case !w.real && i%10 == 0:
			body = appendSnapshot(body[:0], r, customer, at, len(features), 0)
		default:
			body = appendUsage(body[:0], r, customer, at)
		}
		if err := f(body); err != nil {
			return err
		}
	}
	return nil
}

// appendSnapshot appends a snapshot of that many metered features, and of others that are not metered.
func appendSnapshot(b []byte, r *rand.Rand, customer int, at time.Time, metered, others int) []byte {
	b = fmt.Appendf(b, `{"__typename":"EntitlementsUpdatedV2","accountId":"acc-7d1e","environmentId":"env-2b40",`+
		`"customerId":"customer-%d","resourceId":null,"accessDeniedReason":null,"entitlements":[`, customer)
	for i, feature := range features[:metered] {
		if i > 0 {
			b = append(b, ',')
		}
		updated := instant(at)
		b = fmt.Appendf(b, `{"__typename":"FeatureEntitlement","isGranted":true,"accessDeniedReason":null,"usageLimit":%d,`+
			`"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":%d,"enumValues":null,"entitlementUpdatedAt":"%s",`+
			`"usageUpdatedAt":"%s",%s,"feature":{"__typename":"EntitlementFeature","featureType":"NUMBER","meterType":"%s",`+
			`"featureUnits":"%s","featureUnitsPlural":"%ss","displayName":"%s","refId":"%s"},"creditRate":null,"validUntil":null}`,
			1000*(1+r.IntN(50)), r.IntN(100_000), updated, updated, feature.period, feature.meter, feature.unit, feature.unit,
			feature.name, feature.id)
	}
	for i := range others {
		b = fmt.Appendf(b, `,{"__typename":"FeatureEntitlement","isGranted":true,"accessDeniedReason":null,"usageLimit":null,`+
			`"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":null,"enumValues":null,"entitlementUpdatedAt":"%s",`+
			`"usageUpdatedAt":null,"usagePeriodAnchor":null,"usagePeriodStart":null,"usagePeriodEnd":null,"resetPeriod":null,`+
			`"resetPeriodConfiguration":null,"feature":{"__typename":"EntitlementFeature","featureType":"BOOLEAN","meterType":"None",`+
			`"featureUnits":null,"featureUnitsPlural":null,"displayName":"Feature %d of the plan","description":"What the plan says `+
			`about it, in one sentence.","refId":"feature-of-the-plan-%d"},"creditRate":null,"validUntil":null}`, instant(at), i, i)
	}
	return append(b, "]}"...)
}

func appendUsage(b []byte, r *rand.Rand, customer int, at time.Time) []byte {
	return fmt.Appendf(b, `{"__typename":"UsageUpdatedV2","accountId":"acc-7d1e","environmentId":"env-2b40",`+
		`"customerId":"customer-%d","resourceId":null,"entitlementReference":{"type":"FEATURE","id":"%s"},`+
		`"usage":{"currentUsage":%d,"usageUpdatedAt":"%s","usagePeriodStart":null,"usagePeriodEnd":null}}`,
		customer, features[r.IntN(len(features))].id, r.IntN(100_000), instant(at))
}

// instant is a time as the provider writes it.
func instant(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

// entry is one line of penstock's recording format.
type entry struct {
	ID      string `json:"id"`
	Time    string `json:"time"`
	Payload string `json:"payload"`
}

// writeRecording writes the events to a file in penstock's recording format.
func (w workload) writeRecording(name string) error {
	i := 0
	return w.write(name, func(body []byte) ([]byte, error) {
		i++
		return json.Marshal(entry{
			ID: "event-" + strconv.Itoa(i), Time: firstEvent.Add(time.Duration(i) * time.Millisecond).Format(time.RFC3339Nano),
			Payload: string(body),
		})
	})
}

// writeLines writes the events to a file, one a line, as they are.
func (w workload) writeLines(name string) error {
	return w.write(name, func(body []byte) ([]byte, error) { return body, nil })
}

func (w workload) write(name string, line func(body []byte) ([]byte, error)) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(file, 1<<20)
	err = w.each(func(body []byte) error {
		text, err := line(body)
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
		return out.WriteByte('\n')
	})
	return errors.Join(err, out.Flush(), file.Close())
}

// readLines calls f with every line of a file. The line is valid until f returns.
func readLines(name string, f func(line []byte) error) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	for lines.Scan() {
		if err := f(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}
