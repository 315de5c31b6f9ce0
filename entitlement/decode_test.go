package entitlement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/cache"
)

// brief says what a body becomes, in one line: the writes, "filtered: why" or "error: what".
func brief(t testing.TB, o Options, body string, meta map[string]string) string {
	t.Helper()
	writes, ev, err := decoder(t, o).Decode(Input{Body: []byte(body), Metadata: meta, Now: clock})
	if err != nil {
		return "error: " + err.Error()
	}
	if ev.Filtered != "" {
		return "filtered: " + ev.Filtered
	}
	var parts []string
	for _, w := range writes {
		s := w.Key
		if w.Version != 0 {
			s += fmt.Sprintf(" v%d", w.Version-base)
		}
		if w.AsOf != 0 {
			s += fmt.Sprintf(" a%d", w.AsOf-base)
		}
		if w.Delete {
			s += " delete"
		} else {
			s += " " + string(w.Value)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " | ")
}

// base is 2026-11-20T10:15:30.000Z: times in the tables count from it.
const base = 1795169730000

func iso(ms int64) string { return time.UnixMilli(base + ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func TestDecoder_knowsTypesInAllSpellings(t *testing.T) {
	body := func(member, typ string) string {
		return `{"` + member + `":"` + typ + `","timestamp":"` + iso(1) + `","customerId":"c","featureId":"f","currentUsage":1,"entitlements":[],` +
			`"currencyId":"x","totalConsumed":2}`
	}
	usage := `c_c:f_f v1 {"currentUsage":1,"usagePeriodStart":null,"usagePeriodEnd":null}`
	empty := `c_c v1 a1 {} | c_c:metadata v1 a1 {"accessDeniedReason":null}`
	purge := `c_c v1 a1 delete | c_c:metadata v1 a1 delete`
	credit := `c_c:credit_x v1 {"currentUsage":2,"usagePeriodStart":null,"usagePeriodEnd":null}`
	for typ, want := range map[string]string{
		"ENTITLEMENTS_UPDATED": empty, "entitlements.updated": empty, "EntitlementsUpdated": empty, "entitlementsUpdated": empty,
		"Entitlements_Updated": empty, "EntitlementsUpdatedV2": purge, "entitlementsUpdatedV2": purge, "ENTITLEMENTS_UPDATED_V2": purge,
		"USAGE_UPDATED": usage, "usage.updated": usage, "UsageUpdated": usage, "UsageUpdatedV2": usage,
		"MEASUREMENT_REPORTED": usage, "measurement.reported": usage, "Measurement.Reported": usage,
		"CREDIT_BALANCE_UPDATED": credit, "credit.balance.low": credit, "creditBalanceUpdated": credit, "credit.balance.depleted": credit,
		"credit.grant.created": credit, "CREDIT_GRANT_UPDATED": credit,
		"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED": purge, "purge.customer.persistent.cache.requested": purge,
		"customer.deleted": purge, "CUSTOMER_DELETED": purge,
		"customer.created":      `filtered: event type "customer.created" changes nothing in the cache`,
		"PACKAGE_PUBLISHED":     `filtered: event type "PACKAGE_PUBLISHED" changes nothing in the cache`,
		"customer.deletedd":     `error: %s: unknown event type "customer.deletedd"`,
		"entitlementsupdate":    `error: %s: unknown event type "entitlementsupdate"`,
		"subscription.haiku":    `error: %s: unknown event type "subscription.haiku"`,
		strings.Repeat("x", 99): `error: %s: unknown event type "` + strings.Repeat("x", 40) + `…"`,
	} {
		for _, member := range []string{"type", "__typename"} {
			want := strings.Replace(want, "%s", member, 1)
			if got := brief(t, Options{Layout: LayoutV4}, body(member, typ), nil); got != want {
				t.Errorf("%s %s:\ngot  %s\nwant %s", member, typ, got, want)
			}
		}
	}
}

func TestDecoder_knowsEveryTypeOfItsLists(t *testing.T) {
	body := `{"type":"%s","timestamp":"` + iso(1) + `","customerId":"c","featureId":"f","currentUsage":1,"entitlements":[],"currencyId":"x","totalConsumed":2}`
	for name := range handled {
		if got := brief(t, Options{Layout: LayoutV4}, fmt.Sprintf(body, name), nil); strings.HasPrefix(got, "error") || strings.HasPrefix(got, "filtered") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, name := range ignored {
		if got := brief(t, Options{}, fmt.Sprintf(body, name), nil); !strings.HasPrefix(got, "filtered") {
			t.Errorf("%s: %s", name, got)
		}
		if _, both := handled[name]; both {
			t.Errorf("%s is in both lists", name)
		}
	}
}

func TestDecoder_rules(t *testing.T) {
	item := func(members string) string {
		return `{"entitlementUpdatedAt":"` + iso(5) + `","feature":{"refId":"f","featureType":"BOOLEAN"}` + members + `}`
	}
	list := func(items ...string) string {
		return `{"customerId":"c","entitlements":[` + strings.Join(items, ",") + `]}`
	}
	// v3 values without what a table entry is not about.
	boolean := `c_c v5 a%d {"f":{"calculatedEntitlement":{"feature":{"id":"f","featureType":"BOOLEAN","units":"","unitsPlural":""},"usageLimit":null,"hasUnlimitedUsage":false,"hasSoftLimit":false,"enumValues":[]},"featureUsage":{"resetPeriod":null,"resetPeriodConfiguration":null,"currentUsage":0}}}`
	hint := map[string]string{"sqs_sent_at": fmt.Sprint(base + 100)}
	cases := map[string]struct {
		body string
		meta map[string]string
		want string
	}{
		// Shapes without a type.
		"no type, entitlements":   {list(item("")), nil, fmt.Sprintf(boolean, 5)},
		"no type, usage":          {`{"usage":{"customerId":"c","featureId":"f","currentUsage":1},"entitlement":{"usageUpdatedAt":"` + iso(3) + `"}}`, nil, `c_c:f_f v3 {"currentUsage":1}`},
		"no type, flat usage":     {`{"customerId":"c","featureId":"f","currentUsage":1,"usageUpdatedAt":"` + iso(3) + `"}`, nil, `c_c:f_f v3 {"currentUsage":1}`},
		"no type, measurement":    {`{"timestamp":"` + iso(2) + `","customer":{"id":"c"},"feature":{"id":"f"},"currentUsage":1}`, nil, `c_c:f_f v2 {"currentUsage":1}`},
		"no type, usage V2":       {`{"customerId":"c","entitlementReference":{"type":"feature","id":"f"},"usage":{"currentUsage":1,"usageUpdatedAt":"` + iso(3) + `"}}`, nil, `c_c:f_f v3 {"currentUsage":1}`},
		"no type, credit":         {`{"customerId":"c","currency":{"currencyId":"x"},"totalConsumed":1}`, hint, `filtered: layout v3 has no keys for credits`},
		"no type, package":        {`{"packageRefId":"p","migrationType":"ALL_CUSTOMERS"}`, nil, `filtered: event type "PackagePublished" changes nothing in the cache`},
		"no type, nothing known":  {`{"customerId":"c"}`, nil, `error: neither an event type nor the shape of a known event`},
		"type null, typename":     {`{"type":null,"__typename":"UsageUpdated","usage":{"customerId":"c","featureId":"f","currentUsage":1}}`, hint, `c_c:f_f v100 {"currentUsage":1}`},
		"type unknown, typename":  {`{"type":"SYSTEM","__typename":"UsageUpdated","usage":{"customerId":"c","featureId":"f","currentUsage":1}}`, hint, `c_c:f_f v100 {"currentUsage":1}`},
		"hint":                    {`{"customerId":"c"}`, map[string]string{"envelope_type": "customer.deleted", "sqs_sent_at": fmt.Sprint(base + 1)}, `c_c v1 a1 delete | c_c:metadata v1 a1 delete`},
		"unknown hint, known":     {`{"customerId":"c","featureId":"f","currentUsage":1}`, map[string]string{"envelope_type": "?", "sqs_sent_at": fmt.Sprint(base + 1)}, `c_c:f_f v1 {"currentUsage":1}`},
		"unknown type beats hint": {`{"type":"x","customerId":"c"}`, map[string]string{"envelope_type": "customer.deleted"}, `error: type: unknown event type "x"`},

		// Empty lists.
		"empty, V1":                        {`{"__typename":"EntitlementsUpdated","customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"empty, V1 with a null reason":     {`{"__typename":"EntitlementsUpdated","accessDeniedReason":null,"customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"empty, V1 by its GraphQL field":   {`{"accessDeniedReason":null,"customerId":"c","entitlements":[]}`, map[string]string{"envelope_type": "entitlementsUpdated", "sqs_sent_at": fmt.Sprint(base + 1)}, `c_c v1 a1 {}`},
		"empty, no type":                   {`{"customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"empty, no type, null reason":      {`{"customerId":"c","accessDeniedReason":null,"entitlements":[]}`, hint, `c_c v100 a100 delete | c_c:metadata v100 a100 delete`},
		"empty, V2":                        {`{"__typename":"EntitlementsUpdatedV2","customerId":"c","resourceId":"r","entitlements":[]}`, hint, `c_c:r_r v100 a100 delete | c_c:r_r:metadata v100 a100 delete`},
		"empty, V2, empty reason":          {`{"__typename":"EntitlementsUpdatedV2","customerId":"c","accessDeniedReason":"","entitlements":[]}`, hint, `c_c v100 a100 delete | c_c:metadata v100 a100 delete`},
		"empty, V2, reason":                {`{"__typename":"EntitlementsUpdatedV2","accessDeniedReason":"CustomerNotFound","customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"empty, internal, reason":          {`{"type":"ENTITLEMENTS_UPDATED","accessDeniedReason":"CustomerNotFound","customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"empty, webhook":                   {`{"type":"entitlements.updated","timestamp":"` + iso(9) + `","entitlementsUpdatedAt":"` + iso(7) + `","customer":{"id":"c"},"entitlements":[]}`, nil, `c_c v7 a9 {}`},
		"entitlements null":                {`{"type":"entitlements.updated","customer":{"id":"c"},"entitlements":null}`, hint, `error: entitlements: missing`},
		"entitlements of the wrong kind":   {`{"type":"entitlements.updated","customer":{"id":"c"},"entitlements":{}}`, hint, `error: entitlements: want an array, got an object (byte 69)`},
		"an entitlement of the wrong kind": {`{"customerId":"c","entitlements":[` + item("") + `,7]}`, hint, `error: entitlements[1]: want an object, got a number (byte 135)`},

		// Clocks.
		"version is the newest in the list": {
			list(`{"entitlementUpdatedAt":"`+iso(4)+`"}`, `{"entitlementUpdatedAt":null,"feature":{"id":"g"}}`, item("")), nil,
			`c_c v5 a5 {"":` + plain("") + `,"g":` + plain("g") + `,"f":` + strings.TrimSuffix(strings.TrimPrefix(boolean, `c_c v5 a%d {"f":`), "}") + `}`,
		},
		"newest item time is the event's":    {list(item(`,"usageUpdatedAt":"` + iso(8) + `"`)), hint, fmt.Sprintf(boolean, 8)},
		"timestamp before item times":        {`{"timestamp":"` + iso(3) + `","customerId":"c","entitlements":[` + item(`,"usageUpdatedAt":"`+iso(8)+`"`) + `]}`, nil, fmt.Sprintf(boolean, 3)},
		"timestamp before entitlements' own": {`{"entitlementsUpdatedAt":"` + iso(7) + `","timestamp":"` + iso(3) + `","customerId":"c","entitlements":[` + item("") + `]}`, nil, fmt.Sprintf(boolean, 3)},
		"entitlementsUpdatedAt":              {`{"entitlementsUpdatedAt":"` + iso(7) + `","customerId":"c","entitlements":[` + item("") + `]}`, nil, fmt.Sprintf(boolean, 7)},
		"usage: own time first":              {`{"timestamp":"` + iso(1) + `","usage":{"customerId":"c","featureId":"f","currentUsage":1,"usageUpdatedAt":"` + iso(2) + `"},"entitlement":{"usageUpdatedAt":"` + iso(3) + `"}}`, nil, `c_c:f_f v2 {"currentUsage":1}`},
		"usage: then the entitlement's":      {`{"timestamp":"` + iso(1) + `","usage":{"customerId":"c","featureId":"f","currentUsage":1},"entitlement":{"usageUpdatedAt":"` + iso(3) + `"}}`, nil, `c_c:f_f v3 {"currentUsage":1}`},
		"usage: then the event's":            {`{"timestamp":"` + iso(1) + `","usage":{"customerId":"c","featureId":"f","currentUsage":1}}`, hint, `c_c:f_f v1 {"currentUsage":1}`},
		"purge":                              {`{"type":"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED","timestamp":"` + iso(1) + `","customerId":"c"}`, hint, `c_c v1 a1 delete | c_c:metadata v1 a1 delete`},
		"envelope_time first":                {`{"customerId":"c","entitlements":[]}`, map[string]string{"envelope_time": iso(1), "sqs_first_sent_at": fmt.Sprint(base + 2), "sqs_sent_at": fmt.Sprint(base + 3), "recorded_at": iso(4)}, `c_c v1 a1 {}`},
		"then sqs_first_sent_at":             {`{"customerId":"c","entitlements":[]}`, map[string]string{"sqs_first_sent_at": fmt.Sprint(base + 2), "sqs_sent_at": fmt.Sprint(base + 3), "recorded_at": iso(4)}, `c_c v2 a2 {}`},
		"then sqs_sent_at":                   {`{"customerId":"c","entitlements":[]}`, map[string]string{"sqs_sent_at": fmt.Sprint(base + 3), "recorded_at": iso(4)}, `c_c v3 a3 {}`},
		"then recorded_at":                   {`{"customerId":"c","entitlements":[]}`, map[string]string{"recorded_at": time.UnixMilli(base + 4).UTC().Format(time.RFC3339Nano)}, `c_c v4 a4 {}`},
		"a broken one is passed over":        {`{"customerId":"c","entitlements":[]}`, map[string]string{"envelope_time": "noon", "recorded_at": iso(4)}, `c_c v4 a4 {}`},
		"then the clock":                     {`{"customerId":"c","entitlements":[]}`, nil, fmt.Sprintf(`c_c v%d a%d {}`, clock.UnixMilli()-base, clock.UnixMilli()-base)},
		"time zone":                          {`{"timestamp":"2026-11-20T12:15:30.001+02:00","customerId":"c","entitlements":[]}`, nil, `c_c v1 a1 {}`},
		"microseconds are cut off":           {`{"timestamp":"2026-11-20T10:15:30.001999Z","customerId":"c","entitlements":[]}`, nil, `c_c v1 a1 {}`},
		"seconds":                            {`{"timestamp":"2026-11-20T10:15:30Z","customerId":"c","entitlements":[]}`, nil, `c_c v0 a0 {}`},
		"epoch milliseconds":                 {`{"timestamp":1795169730001,"customerId":"c","entitlements":[]}`, nil, `c_c v1 a1 {}`},
		"epoch milliseconds, float":          {`{"timestamp":1.795169730001e12,"customerId":"c","entitlements":[]}`, nil, `c_c v1 a1 {}`},
		"no time at all":                     {`{"timestamp":"soon","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "soon" (byte 14)`},
		"no such day":                        {`{"timestamp":"2026-02-30T10:15:30.000Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "2026-02-30T10:15:30.000Z" (byte 14)`},
		"time is a boolean":                  {`{"timestamp":true,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time, got a boolean (byte 14)`},
		"time below 1":                       {`{"timestamp":0,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is before 1970 (byte 14)`},
		"item time below 1":                  {list(item(`,"usageUpdatedAt":"1969-12-31T23:59:59.999Z"`)), nil, `error: entitlements[0].usageUpdatedAt: time is before 1970 (byte 151)`},
		"24 hours ahead":                     {`{"timestamp":"2026-11-22T00:00:00.000Z","customerId":"c","entitlements":[]}`, nil, fmt.Sprintf(`c_c v%d a%d {}`, clock.UnixMilli()+maxAhead-base, clock.UnixMilli()+maxAhead-base)},
		"more than 24 hours ahead":           {`{"timestamp":"2026-11-22T00:00:00.001Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is more than 24 hours ahead of the clock (byte 14)`},
		"version too far ahead":              {`{"entitlements":[{"entitlementUpdatedAt":"2036-11-22T00:00:00.001Z"}],"customerId":"c"}`, nil, `error: entitlements[0].entitlementUpdatedAt: time is more than 24 hours ahead of the clock (byte 42)`},
		"metadata too far ahead":             {`{"customerId":"c","entitlements":[]}`, map[string]string{"sqs_sent_at": "9999999999999"}, `error: metadata: time is more than 24 hours ahead of the clock: 9999999999999`},
		"seconds for milliseconds":           {`{"timestamp":1795169730,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is in 1970: it looks like seconds, and must be milliseconds (byte 14)`},
		"seconds, as a float":                {`{"timestamp":1795169730.5,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is in 1970: it looks like seconds, and must be milliseconds (byte 14)`},
		"seconds, read as milliseconds":      {`{"timestamp":"1970-01-21T18:39:29.730Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is in 1970: it looks like seconds, and must be milliseconds (byte 14)`},
		"seconds in an item":                 {list(`{"entitlementUpdatedAt":1795169730,"feature":{"id":"f"}}`), nil, `error: entitlements[0].entitlementUpdatedAt: time is in 1970: it looks like seconds, and must be milliseconds (byte 59)`},
		"seconds in a usage":                 {`{"usage":{"customerId":"c","featureId":"f","currentUsage":1,"usageUpdatedAt":1795169730}}`, nil, `error: usage.usageUpdatedAt: time is in 1970: it looks like seconds, and must be milliseconds (byte 78)`},
		"seconds in entitlementsUpdatedAt":   {`{"entitlementsUpdatedAt":1795169730,"customerId":"c","entitlements":[]}`, nil, `error: entitlementsUpdatedAt: time is in 1970: it looks like seconds, and must be milliseconds (byte 26)`},
		"microseconds for milliseconds":      {`{"timestamp":1795169730250000,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is far ahead of the clock: it looks like microseconds, and must be milliseconds (byte 14)`},
		"nanoseconds for milliseconds":       {`{"timestamp":1795169730250000000,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is far ahead of the clock: it looks like nanoseconds, and must be milliseconds (byte 14)`},
		"a small number":                     {`{"timestamp":12,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is before 1973: it can't be a clock of today in milliseconds (byte 14)`},
		"minutes":                            {`{"timestamp":29919495,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is before 1973: it can't be a clock of today in milliseconds (byte 14)`},
		"more than an int64":                 {`{"timestamp":99999999999999999999,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time in epoch milliseconds, got 99999999999999999999 (byte 14)`},
		"negative":                           {`{"timestamp":-1795169730250,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is before 1970 (byte 14)`},
		"negative zero":                      {`{"timestamp":-0,"customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is before 1970 (byte 14)`},
		"a number in a string":               {`{"timestamp":"1795169730250","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "1795169730250" (byte 14)`},
		"year 10000":                         {`{"timestamp":"10000-01-01T00:00:00Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "10000-01-01T00:00:00Z" (byte 14)`},
		"year 0":                             {`{"timestamp":"0000-01-01T00:00:00Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: time is before 1970 (byte 14)`},
		"leap second":                        {`{"timestamp":"2016-12-31T23:59:60Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "2016-12-31T23:59:60Z" (byte 14)`},
		"no time zone":                       {`{"timestamp":"2026-11-20T10:15:30","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "2026-11-20T10:15:30" (byte 14)`},
		"zone of 25 hours":                   {`{"timestamp":"2026-11-20T10:15:30+25:00","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "2026-11-20T10:15:30+25:00" (byte 14)`},
		"a blank for the T":                  {`{"timestamp":"2026-11-20 10:15:30Z","customerId":"c","entitlements":[]}`, nil, `error: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got "2026-11-20 10:15:30Z" (byte 14)`},
		"small letters":                      {`{"timestamp":"2026-11-20t10:15:30z","customerId":"c","entitlements":[]}`, nil, `c_c v0 a0 {}`},
		"comma before the fraction":          {`{"timestamp":"2026-11-20T10:15:30,001Z","customerId":"c","entitlements":[]}`, nil, `c_c v1 a1 {}`},
		"metadata in seconds":                {`{"customerId":"c","entitlements":[]}`, map[string]string{"sqs_sent_at": "1795169730"}, `error: metadata: time is in 1970: it looks like seconds, and must be milliseconds: 1795169730`},
		"usage beyond a double":              {`{"customerId":"c","featureId":"f","currentUsage":1e400}`, hint, `error: currentUsage: number is too large: readers would take it for Infinity: 1e400 (byte 50)`},
		"usage below minus a double":         {`{"customerId":"c","featureId":"f","currentUsage":-1E+400}`, hint, `error: currentUsage: number is too large: readers would take it for Infinity: -1E+400 (byte 50)`},
		"usage of 400 digits":                {`{"customerId":"c","featureId":"f","currentUsage":1` + strings.Repeat("0", 400) + `}`, hint, `error: currentUsage: number is too large: readers would take it for Infinity: 1` + strings.Repeat("0", 39) + `… (byte 50)`},
		"usage of 300 digits":                {`{"customerId":"c","featureId":"f","currentUsage":1` + strings.Repeat("0", 300) + `}`, hint, `c_c:f_f v100 {"currentUsage":1` + strings.Repeat("0", 300) + `}`},
		"usage near the largest double":      {`{"customerId":"c","featureId":"f","currentUsage":1.7e308}`, hint, `c_c:f_f v100 {"currentUsage":1.7e308}`},
		"usage next to nothing":              {`{"customerId":"c","featureId":"f","currentUsage":1e-400}`, hint, `c_c:f_f v100 {"currentUsage":1e-400}`},
		"usage beyond 2^53 keeps its digits": {`{"customerId":"c","featureId":"f","currentUsage":9007199254740993}`, hint, `c_c:f_f v100 {"currentUsage":9007199254740993}`},
		"usage of minus nothing":             {`{"customerId":"c","featureId":"f","currentUsage":-0}`, hint, `c_c:f_f v100 {"currentUsage":-0}`},
		"usage is Infinity":                  {`{"customerId":"c","featureId":"f","currentUsage":Infinity}`, hint, `error: currentUsage: want a number, got 'I' (byte 50)`},
		"usage is NaN in a string":           {`{"customerId":"c","featureId":"f","currentUsage":"NaN"}`, hint, `error: currentUsage: want a number, got a string (byte 50)`},
		"limit beyond a double":              {list(`{"usageLimit":1e999,"feature":{"id":"f"}}`), hint, `error: entitlements[0].usageLimit: number is too large: readers would take it for Infinity: 1e999 (byte 49)`},
		"copied number beyond a double":      {list(`{"feature":{"id":"f","unitTransformation":{"divide":1e400}}}`), hint, `error: entitlements[0].feature.unitTransformation: number is too large: readers would take it for Infinity: 1e400 (byte 87)`},
		"nobody reads it, so it may be any":  {`{"customerId":"c","note":1e400,"featureId":"f","currentUsage":1}`, hint, `c_c:f_f v100 {"currentUsage":1}`},
		"period ends may lie ahead":          {`{"customerId":"c","featureId":"f","currentUsage":1,"usagePeriodEnd":"2036-11-22T00:00:00.001Z","usagePeriodStart":0}`, hint, `c_c:f_f v100 {"currentUsage":1,"usagePeriodStart":0,"usagePeriodEnd":2110924800001}`},

		"usage's legacy reset date":      {`{"customerId":"c","featureId":"f","currentUsage":1,"nextResetDate":1}`, hint, `c_c:f_f v100 {"currentUsage":1,"usagePeriodEnd":1}`},
		"usage's period end comes first": {`{"customerId":"c","featureId":"f","currentUsage":1,"nextResetDate":1,"usagePeriodEnd":2}`, hint, `c_c:f_f v100 {"currentUsage":1,"usagePeriodEnd":2}`},

		// Ids.
		"no customer":                {`{"entitlements":[]}`, hint, `error: customerId: missing`},
		"customer null":              {`{"customerId":null,"entitlements":[]}`, hint, `error: customerId: missing`},
		"customer empty":             {`{"customerId":"","entitlements":[]}`, hint, `error: customerId: missing`},
		"customer is a number":       {`{"customerId":7,"entitlements":[]}`, hint, `error: customerId: want a string, got a number (byte 15)`},
		"customer object":            {`{"customer":{"entityId":"e","id":"c"},"entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"customer object without id": {`{"customer":{"entityId":"e"},"entitlements":[]}`, hint, `error: customer: no id (byte 13)`},
		"customer as a string":       {`{"customer":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"customers agree":            {`{"customer":{"id":"c"},"customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"customers differ":           {`{"customer":{"id":"c"},"customerId":"d","entitlements":[]}`, hint, `error: customerId: another id than elsewhere in the event: d, c (byte 37)`},
		"resource":                   {`{"resource":{"id":"r","entityId":"e"},"customerId":"c","entitlements":[]}`, hint, `c_c:r_r v100 a100 {}`},
		"resource null":              {`{"resource":null,"customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"resource empty":             {`{"resourceId":"","customerId":"c","entitlements":[]}`, hint, `c_c v100 a100 {}`},
		"resource without id":        {`{"resource":{"entityId":"e"},"customerId":"c","entitlements":[]}`, hint, `error: resource: no id (byte 13)`},
		"escapes in an id":           {`{"customerId":"a\u00e9\"\\\/\ud83d\ude00\n","entitlements":[]}`, hint, "c_aé\"\\/😀\n v100 a100 {}"},
		"escape in a member's name":  {`{"customer\u0049d":"c","entitlements":[]}`, hint, "c_c v100 a100 {}"},
		"half a pair in an id":       {`{"customerId":"a\ud83d","entitlements":[]}`, hint, `error: customerId: half a surrogate pair in a string (byte 17)`},
		"usage without a feature":    {`{"type":"usage.updated","customerId":"c","currentUsage":1}`, hint, `error: featureId: missing`},
		"usage without a usage":      {`{"type":"usage.updated","customerId":"c","featureId":"f"}`, hint, `error: currentUsage: missing`},
		"usage null":                 {`{"type":"usage.updated","customerId":"c","featureId":"f","currentUsage":null}`, hint, `error: currentUsage: missing`},
		"usage is a string":          {`{"type":"usage.updated","customerId":"c","featureId":"f","currentUsage":"1"}`, hint, `error: currentUsage: want a number, got a string (byte 73)`},
		"reference to the unknown":   {`{"customerId":"c","entitlementReference":{"type":"X","id":"f"}}`, hint, `error: entitlementReference.type: want FEATURE or CREDIT, got X (byte 53)`},
		"reference without an id":    {`{"customerId":"c","entitlementReference":{"type":"FEATURE"}}`, hint, `error: entitlementReference: want a type and an id (byte 60)`},
		"feature without an id":      {list(`{"feature":{"featureType":"BOOLEAN"}}`), hint, `error: entitlements[0].feature: no refId or id (byte 46)`},
		"deeper error":               {list(`{"feature":{"id":5}}`), hint, `error: entitlements[0].feature.id: want a string, got a number (byte 52)`},
		"error in a usage":           {`{"usage":{"customerId":5}}`, hint, `error: usage.customerId: want a string, got a number (byte 24)`},

		// What is ignored may look like anything, as long as it is JSON.
		"ignored, other shapes":    {`{"customer":{"name":"x"},"currency":5,"entitlements":7,"type":"customer.created"}`, nil, `filtered: event type "customer.created" changes nothing in the cache`},
		"ignored, text after":      {`{"customer":5,"type":"customer.created"} x`, nil, `error: customer: want a string, got a number (byte 13)`},
		"ignored, but broken":      {`{"type":"customer.created","customer":{]}`, nil, `error: customer: want a member's name, got ']' (byte 40)`},
		"ignored, broken after it": {`{"customer":5,"type":"customer.created"`, nil, `error: customer: want a string, got a number (byte 13)`},
		"credit, other layout":     {`{"type":"credit.balance.updated"}`, nil, `filtered: layout v3 has no keys for credits`},
		"grant without a balance":  {`{"type":"credit.grant.created"}`, nil, `filtered: a credit grant without totalConsumed changes no usage`},

		// Not JSON.
		"empty body":       {``, nil, `error: want an object, got the end (byte 1)`},
		"not JSON":         {`hello`, nil, `error: want an object, got 'h' (byte 1)`},
		"JSON, no object":  {`[{"customerId":"c"}]`, nil, `error: want an object, got an array (byte 1)`},
		"torn":             {`{"customerId":"c","entitlements":[`, nil, `error: entitlements[0]: want an object, got the end (byte 35)`},
		"torn string":      {`{"customerId":"c`, nil, `error: customerId: the text ends inside a string (byte 17)`},
		"text after":       {`{"customerId":"c","entitlements":[]} x`, nil, `error: text after the end of the event (byte 38)`},
		"not UTF-8":        {"{\"customerId\":\"c\xff\",\"entitlements\":[]}", nil, `error: customerId: string is not valid UTF-8 (byte 17)`},
		"control":          {"{\"customerId\":\"c\n\",\"entitlements\":[]}", nil, `error: customerId: control character in a string (byte 17)`},
		"bad escape":       {`{"customerId":"\x","entitlements":[]}`, nil, `error: customerId: bad escape in a string (byte 16)`},
		"trailing comma":   {`{"customerId":"c",}`, nil, `error: want a member's name, got '}' (byte 19)`},
		"no comma":         {`{"customerId":"c" "a":1}`, nil, `error: want ',' or '}', got a string (byte 19)`},
		"bad number":       {`{"x":01}`, nil, `error: want ',' or '}', got a number (byte 7)`},
		"bad literal":      {`{"x":nul}`, nil, `error: x: not JSON: 'n' (byte 6)`},
		"byte order mark":  {"\ufeff{}", nil, `error: neither an event type nor the shape of a known event`},
		"nested too deep":  {`{"x":` + strings.Repeat("[", 101) + strings.Repeat("]", 101) + `}`, nil, `error: x: nested too deeply (byte 106)`},
		"deep but allowed": {`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, nil, `error: neither an event type nor the shape of a known event`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := brief(t, Options{Layout: LayoutV3}, c.body, c.meta); got != c.want {
				t.Errorf("%s\ngot  %s\nwant %s", c.body, got, c.want)
			}
		})
	}
}

// plain is the v3 value of an entitlement of which nothing is known but the id.
func plain(id string) string {
	feature := ""
	if id != "" {
		feature = `"feature":{"id":"` + id + `","units":"","unitsPlural":""},`
	}
	return `{"calculatedEntitlement":{` + feature + `"usageLimit":null,"hasUnlimitedUsage":false,"hasSoftLimit":false,"enumValues":[]},"featureUsage":{"resetPeriod":null,"resetPeriodConfiguration":null,"currentUsage":0}}`
}

func TestDecoder_normalisesEntitlements(t *testing.T) {
	calculated := func(t *testing.T, layout Layout, members string) string {
		t.Helper()
		body := `{"timestamp":"` + iso(1) + `","customerId":"c","entitlements":[{` + members + `}]}`
		writes, _, err := decoder(t, Options{Layout: layout}).Decode(Input{Body: []byte(body), Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		return string(writes[0].Value)
	}
	const feature = `"feature":{"id":"f","featureType":"NUMBER","meterType":"None"},`
	cases := map[string]struct {
		layout        Layout
		members, want string // want is a part of the value
	}{
		"meter type of the webhooks":  {LayoutV3, `"feature":{"id":"f","featureType":"number","meterType":"FLUCTUATING"}`, `"featureType":"NUMBER","meterType":"Fluctuating"`},
		"unknown meter type":          {LayoutV3, `"feature":{"id":"f","featureType":"DATE","meterType":"Odd"}`, `"featureType":"DATE","meterType":"Odd"`},
		"meter type null":             {LayoutV3, `"feature":{"id":"f","featureType":"BOOLEAN","meterType":null}`, `"featureType":"BOOLEAN","units"`},
		"units of GraphQL":            {LayoutV3, `"feature":{"refId":"f","featureUnits":"a","featureUnitsPlural":"b"}`, `"units":"a","unitsPlural":"b"`},
		"units of the webhooks":       {LayoutV3, `"feature":{"id":"f","unit":"a","units":"b"}`, `"units":"a","unitsPlural":"b"`},
		"name of GraphQL":             {LayoutDual, `"feature":{"id":"f","displayName":"N \u00e9\t"}`, `"displayName":"N \u00e9\t"`},
		"name of the webhooks":        {LayoutV4, `"feature":{"id":"f","name":"N","description":"D","unitTransformation":{ "divide": 2, "round": "UP" }}`, `"displayName":"N","description":"D","unitTransformation":{"divide":2,"round":"UP"}`},
		"large number":                {LayoutV3, feature + `"usageLimit":12345678901234567890.10`, `"usageLimit":12345678901234567890.10,`},
		"exponent":                    {LayoutV3, feature + `"usageLimit":-1.5E+3,"currentUsage":1e2`, `"currentUsage":1e2`},
		"booleans":                    {LayoutV3, feature + `"hasUnlimitedUsage":true,"hasSoftLimit":true`, `"hasUnlimitedUsage":true,"hasSoftLimit":true`},
		"booleans null":               {LayoutV3, feature + `"hasUnlimitedUsage":null,"hasSoftLimit":null`, `"hasUnlimitedUsage":false,"hasSoftLimit":false`},
		"reason":                      {LayoutV3, feature + `"accessDeniedReason":"Revoked"`, `"accessDeniedReason":"Revoked"`},
		"reason empty":                {LayoutV3, feature + `"accessDeniedReason":""`, `"hasSoftLimit":false,"enumValues"`},
		"item's resource":             {LayoutV3, feature + `"resourceId":"r"`, `"resourceId":"r"`},
		"enum values":                 {LayoutV3, feature + `"enumValues":[ "a b" , "c\n" ]`, `"enumValues":["a b","c\n"]`},
		"valid until, number":         {LayoutV3, feature + `"validUntil":1700000000000`, `"validUntil":1700000000000`},
		"valid until, ISO":            {LayoutV3, feature + `"validUntil":"2026-11-20T10:15:30.000Z"`, `"validUntil":1795169730000`},
		"valid until 0":               {LayoutV3, feature + `"validUntil":0`, `"enumValues":[]},`},
		"credit rate":                 {LayoutV3, feature + `"creditRate":{"amount":0.10,"currencyId":"x","costFormula":null}`, `"creditRate":{"amount":0.10,"currencyId":"x"}`},
		"reset configuration":         {LayoutV3, feature + `"resetPeriod":"MONTH","resetPeriodConfiguration":{ "__typename": "M", "monthlyAccordingTo": "StartOfTheMonth" }`, `"resetPeriod":"MONTH","resetPeriodConfiguration":{"__typename":"M","monthlyAccordingTo":"StartOfTheMonth"}`},
		"reset of webhooks, month":    {LayoutV3, feature + `"resetPeriod":"month","resetPeriodConfiguration":{"accordingTo":"SUBSCRIPTION_START"}`, `"resetPeriod":"MONTH","resetPeriodConfiguration":{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"}`},
		"reset of webhooks, week":     {LayoutV3, feature + `"resetPeriod":"WEEK","resetPeriodConfiguration":{"accordingTo":"EverySunday"}`, `{"__typename":"WeeklyResetPeriodConfig","weeklyAccordingTo":"EverySunday"}`},
		"reset of webhooks, year":     {LayoutV3, feature + `"resetPeriod":"YEAR","resetPeriodConfiguration":{"accordingTo":"New"}`, `{"__typename":"YearlyResetPeriodConfig","yearlyAccordingTo":"New"}`},
		"reset of webhooks, day":      {LayoutV3, feature + `"resetPeriod":"DAY","resetPeriodConfiguration":{"accordingTo":"New"}`, `"resetPeriodConfiguration":{"accordingTo":"New"}`},
		"period":                      {LayoutV3, feature + `"usagePeriodAnchor":"` + iso(1) + `","usagePeriodStart":"` + iso(2) + `","usagePeriodEnd":"` + iso(3) + `"`, `"usagePeriodAnchor":1795169730001,"usagePeriodStart":1795169730002,"usagePeriodEnd":1795169730003`},
		"legacy reset date":           {LayoutV3, feature + `"nextResetDate":"` + iso(3) + `"`, `"currentUsage":0,"usagePeriodEnd":1795169730003`},
		"repeated feature: last wins": {LayoutV3, `"feature":{"id":"f"}},{"feature":{"id":"g"}},{"feature":{"id":"f"},"usageLimit":3`, `{"g":{"calculatedEntitlement":{"feature":{"id":"g","units":"","unitsPlural":""},"usageLimit":null`},
		"ids with quotes":             {LayoutV3, `"feature":{"id":"a\"\\\n\u0001"}`, `{"a\"\\\n\u0001":{"calculatedEntitlement":{"feature":{"id":"a\"\\\n\u0001",`},
		"credit left out":             {LayoutDual, `"currency":{"currencyId":"x"},"usageLimit":5`, `{}`},
		"credit in v4":                {LayoutV4, `"currency":{"currencyId":"x\""},"usageLimit":5,"isGranted":true,"currentUsage":2,"usagePeriodEnd":7,"validUntil":8,"accessDeniedReason":"InsufficientCredits"`, `{"credit_x\"":{"calculatedEntitlement":{"type":"CREDIT","currency":{"currencyId":"x\""},"isGranted":true,"usageLimit":5,"hasSoftLimit":false,"accessDeniedReason":"InsufficientCredits","validUntil":8,"usagePeriodEnd":7},"usageData":{"currentUsage":2,"usagePeriodStart":null,"usagePeriodEnd":7,"updatedAt":1795169730001}}}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := calculated(t, c.layout, c.members)
			if !strings.Contains(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("not JSON: %s", got)
			}
		})
	}
}

func TestDecoder_usageOfACreditHasNoBegin(t *testing.T) {
	for body, key := range map[string]string{
		`{"timestamp":"` + iso(1) + `","customerId":"c","entitlements":[{"currency":{"currencyId":"x"},"currentUsage":2,"usagePeriodStart":3,"usagePeriodEnd":4}]}`:            "entitlements",
		`{"timestamp":"` + iso(1) + `","customerId":"c","entitlementReference":{"type":"CREDIT","id":"x"},"usage":{"currentUsage":2,"usagePeriodStart":3,"usagePeriodEnd":4}}`: "usage",
	} {
		writes, _, err := decoder(t, Options{Layout: LayoutV4}).Decode(Input{Body: []byte(body), Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		w := writes[len(writes)-1]
		if w.Key != "c_c:credit_x" || string(w.Value) != `{"currentUsage":2,"usagePeriodStart":null,"usagePeriodEnd":4}` {
			t.Errorf("%s: %s %s", key, w.Key, w.Value)
		}
	}
}

func TestDecoder_manyEntitlementsAndRepeatedOnes(t *testing.T) {
	var items []string
	for i := range 100 {
		items = append(items, fmt.Sprintf(`{"feature":{"id":"f%d","featureType":"NUMBER","meterType":"Incremental"},"currentUsage":%d}`, i%90, i))
	}
	body := `{"timestamp":"` + iso(1) + `","customerId":"c","entitlements":[` + strings.Join(items, ",") + `]}`
	writes, _, err := decoder(t, Options{}).Decode(Input{Body: []byte(body), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	var snapshot map[string]json.RawMessage
	if err := json.Unmarshal(writes[0].Value, &snapshot); err != nil || len(snapshot) != 90 || len(writes) != 92 {
		t.Errorf("%d features, %d writes, %v", len(snapshot), len(writes), err)
	}
	seen := map[string]string{}
	for _, w := range writes[2:] {
		if _, twice := seen[w.Key]; twice {
			t.Errorf("%s twice", w.Key)
		}
		seen[w.Key] = string(w.Value)
	}
	if seen["c_c:f_f5"] != `{"currentUsage":95}` || seen["c_c:f_f50"] != `{"currentUsage":50}` {
		t.Errorf("%s, %s", seen["c_c:f_f5"], seen["c_c:f_f50"])
	}
}

func TestDecoder_readersMeterWhatGetsAUsageKey(t *testing.T) {
	for feature, want := range map[string]int{
		`{"id":"f","featureType":"NUMBER","meterType":"Incremental"}`:  1,
		`{"id":"f","featureType":"NUMBER","meterType":"FLUCTUATING"}`:  1,
		`{"id":"f","featureType":"NUMBER","meterType":"None"}`:         0,
		`{"id":"f","featureType":"NUMBER"}`:                            0,
		`{"id":"f","featureType":"BOOLEAN","meterType":"Incremental"}`: 0,
		`null`: 0,
	} {
		body := `{"timestamp":"` + iso(1) + `","customerId":"c","entitlements":[{"feature":` + feature + `}]}`
		for layout, metadata := range map[Layout]int{LayoutV3: 0, LayoutDual: 1, LayoutV4: 1} {
			writes, _, err := decoder(t, Options{Layout: layout}).Decode(Input{Body: []byte(body), Now: clock})
			if err != nil || len(writes) != 1+metadata+want {
				t.Errorf("%s: %d writes, %v", feature, len(writes), err)
			}
		}
	}
}

func TestDecoder_usageOfASnapshotWithoutItsTimeHasTheEvents(t *testing.T) {
	body := `{"timestamp":"` + iso(9) + `","customerId":"c","entitlements":[{"entitlementUpdatedAt":"` + iso(2) + `","feature":{"id":"f","featureType":"NUMBER","meterType":"Incremental"}}]}`
	writes, _, err := decoder(t, Options{}).Decode(Input{Body: []byte(body), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if w := writes[2]; w.Version != base+9 || w.AsOf != 0 || string(w.Value) != `{"currentUsage":0}` {
		t.Errorf("%+v", w)
	}
	if w := writes[0]; w.Version != base+2 || w.AsOf != base+9 {
		t.Errorf("%+v", w)
	}
}

func TestDecoder_policiesMakeWritesConditional(t *testing.T) {
	snapshot := `{"timestamp":"` + iso(1) + `","customerId":"c","resourceId":"r","entitlements":[{"feature":{"id":"f","featureType":"NUMBER","meterType":"Incremental"}}]}`
	usage := `{"timestamp":"` + iso(1) + `","customerId":"c","featureId":"f","currentUsage":1}`
	purge := `{"type":"customer.deleted","timestamp":"` + iso(1) + `","customerId":"c"}`
	snapshotKeys := []string{"c_c:r_r", "c_c:r_r:metadata", "c_c:r_r:f_f"}
	for name, c := range map[string]struct {
		options                Options
		snapshot, usage, purge []string
	}{
		"default":          {Options{}, nil, nil, nil},
		"update_if_exists": {Options{UpdateIfExists: true}, snapshotKeys, []string{"c_c:f_f", "c_c"}, nil},
		"usage if cached":  {Options{UsageIfCached: true}, nil, []string{"c_c"}, nil},
		"both":             {Options{UpdateIfExists: true, UsageIfCached: true}, snapshotKeys, []string{"c_c"}, nil},
	} {
		for body, want := range map[string][]string{snapshot: c.snapshot, usage: c.usage, purge: c.purge} {
			writes, _, err := decoder(t, c.options).Decode(Input{Body: []byte(body), Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range writes {
				if !reflect.DeepEqual(w.IfAnyExists, want) {
					t.Errorf("%s: %s: %v, want %v", name, w.Key, w.IfAnyExists, want)
				}
			}
		}
	}
}

func TestDecoder_lockIsTheForeignWriters(t *testing.T) {
	for body, want := range map[string]string{
		`{"customerId":"客户","entitlements":[]}`:                              "客户",
		`{"customerId":"c","resourceId":"r:1","entitlements":[]}`:            "c:r:1",
		`{"customerId":"c","featureId":"f","currentUsage":1}`:                "c",
		`{"type":"customer.deleted","customerId":"c","resource":{"id":"r"}}`: "c:r",
	} {
		writes, _, err := decoder(t, Options{}).Decode(Input{Body: []byte(body), Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range writes {
			if w.Lock != want {
				t.Errorf("%s: lock %q, want %q", w.Key, w.Lock, want)
			}
		}
	}
}

func TestDecoder_hashTagsAreAllThatChanges(t *testing.T) {
	for name, body := range samples(t) {
		plain, _, err := decoder(t, Options{}).Decode(Input{Body: body, Now: clock})
		tagged, _, errTagged := decoder(t, Options{HashTags: true}).Decode(Input{Body: body, Now: clock})
		if fmt.Sprint(err) != fmt.Sprint(errTagged) || len(plain) != len(tagged) {
			t.Fatalf("%s: %d writes, %v, with tags %d, %v", name, len(plain), err, len(tagged), errTagged)
		}
		for i, w := range plain {
			_, rest, _ := strings.Cut(tagged[i].Key, "c_{")
			customer, _, _ := strings.Cut(rest, "}")
			if w.Lock != customer && !strings.HasPrefix(w.Lock, customer+":") || customer == "" {
				t.Errorf("%s: the tag of %s is not the customer of %s", name, tagged[i].Key, w.Lock)
			}
			w.Key = strings.Replace(w.Key, "c_"+customer, "c_{"+customer+"}", 1)
			w.Lock = ""
			if !reflect.DeepEqual(w, tagged[i]) {
				t.Errorf("%s: got  %s\nwant %s", name, cache.Append(nil, tagged[i]), cache.Append(nil, w))
			}
		}
	}
	for body, want := range map[string]string{
		`{"type":"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED","timestamp":"` + iso(1) + `","customerId":"a}b","resourceId":"r"}`: `c_{a}b}:r_r v1 a1 delete | c_{a}b}:r_r:metadata v1 a1 delete`,
		`{"type":"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED","timestamp":"` + iso(1) + `","customerId":"}"}`:                    `error: customerId: begins with }, which can't be in a hash tag: "}"`,
	} {
		if got := brief(t, Options{HashTags: true}, body, nil); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestDecoder_typesAndFieldsOfTheUsersOwn(t *testing.T) {
	o := Options{
		Layout: LayoutV4,
		Types:  map[string]Kind{"acme.Usage-Changed": KindUsage, "ACME_NOISE": KindIgnored, "customer.deleted": KindIgnored},
		Fields: Fields{
			Type: "$.head.kind", Customer: "$.who", Resource: "$.where[0].id", Timestamp: "$.head.at", Entitlements: "$.list",
			AccessDeniedReason: "$.reason", Feature: "$.what", Currency: "$.coin", CurrentUsage: "$.n", UsageUpdatedAt: "$.head.used",
			UsagePeriodStart: "$.from", UsagePeriodEnd: "$.to", TotalConsumed: "$.spent",
		},
	}
	for name, c := range map[string]struct{ body, want string }{
		"usage": {
			`{"head":{"kind":"AcmeUsageChanged","used":"` + iso(4) + `"},"who":{"id":"c"},"where":[{"id":"r"}],"what":"f","n":1.50,"from":5,"to":"` + iso(6) + `"}`,
			`c_c:r_r:f_f v4 {"currentUsage":1.50,"usagePeriodStart":5,"usagePeriodEnd":1795169730006}`,
		},
		"entitlements": {
			`{"head":{"kind":"entitlements.updated","at":"` + iso(4) + `"},"who":"c","list":[],"reason":"NoActiveSubscription"}`,
			`c_c v4 a4 {} | c_c:metadata v4 a4 {"accessDeniedReason":"NoActiveSubscription"}`,
		},
		"credit":                     {`{"head":{"kind":"credit.balance.low","at":"` + iso(4) + `"},"who":"c","coin":"x","spent":3}`, `c_c:credit_x v4 {"currentUsage":3,"usagePeriodStart":null,"usagePeriodEnd":null}`},
		"known spellings still work": {`{"type":"usage.updated","timestamp":"` + iso(4) + `","customerId":"c","featureId":"f","currentUsage":1}`, `c_c:f_f v4 {"currentUsage":1,"usagePeriodStart":null,"usagePeriodEnd":null}`},
		"a field beats a spelling":   {`{"type":"usage.updated","timestamp":"` + iso(4) + `","customerId":"x","who":"c","featureId":"f","currentUsage":1}`, `c_c:f_f v4 {"currentUsage":1,"usagePeriodStart":null,"usagePeriodEnd":null}`},
		"null is no field":           {`{"type":"usage.updated","timestamp":"` + iso(4) + `","customerId":"c","who":null,"featureId":"f","currentUsage":1}`, `c_c:f_f v4 {"currentUsage":1,"usagePeriodStart":null,"usagePeriodEnd":null}`},
		"own ignored type":           {`{"type":"acme.noise"}`, `filtered: event type "acme.noise" changes nothing in the cache`},
		"own meaning of a known one": {`{"type":"customer.deleted"}`, `filtered: event type "customer.deleted" changes nothing in the cache`},
		"wrong kind in a field":      {`{"type":"usage.updated","n":"1"}`, `error: $.n: want a number, got a string (byte 29)`},
		"path through a scalar":      {`{"type":"acme.noise","head":7,"where":{}}`, `filtered: event type "acme.noise" changes nothing in the cache`},
	} {
		if got := brief(t, o, c.body, nil); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

func TestNewDecoder_reportsAllMistakes(t *testing.T) {
	_, err := NewDecoder(Options{
		Layout: "v5", Types: map[string]Kind{"x": "y", "z": KindRefresh},
		Fields: Fields{Customer: "a", Resource: "$a", Type: "$..a", Timestamp: "$.a[1", Feature: "$.a[-1]", Currency: "$"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`layout: want dual, v3 or v4, got "v5"`,
		`types.x: want entitlements, usage, credit, purge, ignore or refresh, got "y"`,
		`types.z: refresh: there is nobody to ask`,
		`customer: want a path such as $.a.b, got "a"`,
		`resource: path "$a": want . or [ before "a"`,
		`type: path "$..a" has an empty name`,
		`timestamp: path "$.a[1" lacks a closing bracket`,
		`feature: path "$.a[-1]": want an index such as [0], got [-1]`,
		`currency: want a path such as $.a.b, got "$"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestDecoder_tellsUndatedAndAmbiguous(t *testing.T) {
	for body, want := range map[string]Event{
		`{"customerId":"c","entitlements":[]}`:                                                        {Kind: KindEntitlements, Writes: 2, Time: clock.UnixMilli(), Undated: true},
		`{"customerId":"c","featureId":"f","currentUsage":1}`:                                         {Kind: KindUsage, Writes: 1, Time: clock.UnixMilli(), Undated: true},
		`{"customerId":"c","timestamp":"` + iso(0) + `","type":"customer.deleted"}`:                   {Kind: KindPurge, Writes: 2, Time: base},
		`{"customerId":"a:r_b","timestamp":"` + iso(0) + `","entitlements":[]}`:                       {Kind: KindEntitlements, Writes: 2, Time: base, Ambiguous: "a:r_b"},
		`{"customerId":"a","resourceId":"x:metadata","timestamp":"` + iso(0) + `","entitlements":[]}`: {Kind: KindEntitlements, Writes: 2, Time: base, Ambiguous: "x:metadata"},
		`{"customerId":"a","timestamp":"` + iso(0) + `","featureId":"f#timestamp","currentUsage":1}`:  {Kind: KindUsage, Writes: 1, Time: base, Ambiguous: "f#timestamp"},
		`{"customerId":"a:b#c","timestamp":"` + iso(0) + `","entitlements":[]}`:                       {Kind: KindEntitlements, Writes: 2, Time: base},
		`{"type":"customer.created"}`:                                                                 {Kind: KindIgnored, Filtered: `event type "customer.created" changes nothing in the cache`},
	} {
		_, ev, err := decoder(t, Options{}).Append(nil, Input{Body: []byte(body), Now: clock})
		if err != nil || ev != want {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", body, ev, err, want)
		}
	}
	for id, want := range map[string]bool{"a": false, "a:b": false, "a:r": false, "a:r_": true, "a:f_": true, "a:credit_x": true, "a:metadata": true, "#timestamp": true} {
		if AmbiguousID(id) != want {
			t.Errorf("%s: %v", id, !want)
		}
	}
}

func TestDecoder_leavesNoTraceOfTheEventBefore(t *testing.T) {
	d := decoder(t, Options{})
	all := samples(t)
	want := map[string]string{}
	for name, body := range all {
		out, _, err := decoder(t, Options{}).Append(nil, Input{Body: body, Now: clock})
		want[name] = fmt.Sprint(string(out), err)
	}
	for range 3 {
		for name, body := range all {
			out, _, err := d.Append(nil, Input{Body: body, Now: clock})
			if got := fmt.Sprint(string(out), err); got != want[name] {
				t.Fatalf("%s: %s\nwant %s", name, got, want[name])
			}
		}
	}
	out, _, err := d.Append([]byte("before"), Input{Body: []byte("{"), Now: clock})
	var e *Error
	if !errors.As(err, &e) || string(out) != "before" {
		t.Errorf("%s, %v", out, err)
	}
}

func FuzzDecoder(f *testing.F) {
	for _, body := range samples(f) {
		f.Add(body)
	}
	f.Add([]byte(`{"type":"x","customer":{"id":"\ud83d\ude00"},"entitlements":[{"feature":{"id":"a\u0000"},"enumValues":["x"]}]}`))
	var decoders []*Decoder
	for _, layout := range layouts {
		decoders = append(decoders, decoder(f, Options{Layout: layout}))
	}
	mapped := decoder(f, Options{Fields: Fields{Customer: "$.a[0].b", Entitlements: "$.c", Type: "$.d"}})
	decoders = append(decoders, mapped)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		for _, d := range decoders {
			payload, ev, err := d.Append(nil, Input{Body: body, Now: clock})
			if !bytes.Equal(body, before) {
				t.Fatal("body changed")
			}
			if err != nil {
				if len(payload) != 0 {
					t.Fatalf("%v, and yet %s", err, payload)
				}
				continue
			}
			if !json.Valid(body) || !utf8.Valid(body) {
				t.Fatalf("accepted what is not JSON: %q", body)
			}
			writes, err := cache.Parse(nil, payload)
			if err != nil {
				t.Fatalf("%q: %v", payload, err)
			}
			if (len(writes) == 0) != (ev.Filtered != "") {
				t.Fatalf("%d writes, filtered %q", len(writes), ev.Filtered)
			}
			for _, w := range writes {
				if w.Version < 1 || w.Version > clock.UnixMilli()+maxAhead || w.AsOf > clock.UnixMilli()+maxAhead || w.Lock == "" {
					t.Fatalf("%+v", w)
				}
				if !w.Delete && !json.Valid(w.Value) {
					t.Fatalf("value is not JSON: %q", w.Value)
				}
			}
		}
	})
}

func TestDecoder_isSafeForConcurrentUse(t *testing.T) {
	d := decoder(t, Options{Types: map[string]Kind{"x": KindIgnored}, UpdateIfExists: true})
	all := samples(t)
	want := map[string]string{}
	for name, body := range all {
		out, _, err := d.Append(nil, Input{Body: body, Now: clock})
		want[name] = fmt.Sprint(string(out), err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				for name, body := range all {
					out, _, err := d.Append(nil, Input{Body: body, Now: clock})
					if got := fmt.Sprint(string(out), err); got != want[name] {
						t.Errorf("%s: %s\nwant %s", name, got, want[name])
					}
				}
			}
		})
	}
	wg.Wait()
}
