package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// allowed are the differences to the reference writer that are there on purpose, by their names in
// docs/reference-writer.md, which gives the reasons.
var allowed = []string{"own_keys", "tie", "empty", "newest", "no_time", "usage_time", "usage_unread", "next_reset", "exact_numbers", "meter_case", "valid_until"}

// referenceCases are events, in the order in which both writers get them, and how the states then differ: "+key" is a
// key that only penstock has, "-key" one that only the reference has, "=key" one whose value differs, with the
// difference's name. Keys are without prefix. The keys of penstock's own, which every case has, are left out.
var referenceCases = map[string]struct {
	events      func(t *testing.T) []event
	differences map[string]string
	// complaints are what the reference logs as errors.
	complaints []string
}{
	"every kind of entitlement, and usage": {
		func(t *testing.T) []event {
			return samplesAt(t, sampleTime, "02", "03", "06", "07", "08", "10", "09", "11", "12", "15", "16", "17", "18")
		},
		nil, nil,
	},
	"a newer event after an older one": {
		func(t *testing.T) []event {
			return []event{{projects(t, "customer-acorn", 1, moment(1, 0)), sampleTime}, {projects(t, "customer-acorn", 2, moment(2, 0)), sampleTime}}
		},
		nil, nil,
	},
	"an older event after a newer one": {
		func(t *testing.T) []event {
			return []event{{projects(t, "customer-acorn", 2, moment(2, 0)), sampleTime}, {projects(t, "customer-acorn", 1, moment(1, 0)), sampleTime}}
		},
		nil, nil,
	},
	"usage older than the snapshot's": {
		func(t *testing.T) []event {
			return []event{{sample(t, "03"), sampleTime}, {strings.Replace(sample(t, "17"), "2026-11-20T11:00:00.000Z", "2026-11-20T09:00:00.000Z", 1), sampleTime}}
		},
		nil, nil,
	},
	"usage of a resource without its customer's entitlements": {
		// The reference reads before it writes, and a resource without its customer is a miss.
		func(t *testing.T) []event { return samplesAt(t, sampleTime, "09", "18") },
		map[string]string{
			"=c_customer-fir:r_site-berlin:f_feature-seats":           "usage_unread",
			"=c_customer-fir:r_site-berlin:f_feature-seats#timestamp": "usage_unread",
		}, nil,
	},
	"usage of a customer that is not cached": {
		func(t *testing.T) []event { return samplesAt(t, sampleTime, "17") },
		map[string]string{
			"+c_customer-birch:f_feature-api-calls":           "usage_unread",
			"+c_customer-birch:f_feature-api-calls#timestamp": "usage_unread",
		}, nil,
	},
	"two values with the same times": {
		func(t *testing.T) []event {
			return []event{{projects(t, "customer-acorn", 9, moment(1, 0)), sampleTime}, {projects(t, "customer-acorn", 8, moment(1, 0)), sampleTime}}
		},
		map[string]string{"=c_customer-acorn": "tie"}, nil,
	},
	"two values with the same times, the greater one last": {
		func(t *testing.T) []event {
			return []event{{projects(t, "customer-acorn", 8, moment(1, 0)), sampleTime}, {projects(t, "customer-acorn", 9, moment(1, 0)), sampleTime}}
		},
		nil, nil,
	},
	"no entitlements": {
		func(t *testing.T) []event { return samplesAt(t, sampleTime, "13", "14") },
		map[string]string{"=c_customer-ivy#timestamp": "empty", "=c_customer-ivy:r_site-oslo#timestamp": "empty"}, nil,
	},
	"no entitlements, then an older event": {
		func(t *testing.T) []event {
			return []event{{sample(t, "13"), sampleTime}, {projects(t, "customer-ivy", 1, sampleTime.Add(-time.Hour)), sampleTime}}
		},
		map[string]string{"=c_customer-ivy": "empty", "=c_customer-ivy#timestamp": "empty"}, nil,
	},
	"items of different times": {
		func(t *testing.T) []event {
			return []event{{twoItems(t, "2026-11-20T10:15:30.250Z", "2026-11-20T10:15:30.900Z"), sampleTime}}
		},
		map[string]string{"=c_customer-cedar#timestamp": "newest"}, nil,
	},
	"items of different times, the newest first": {
		func(t *testing.T) []event {
			return []event{{twoItems(t, "2026-11-20T10:15:30.900Z", "2026-11-20T10:15:30.250Z"), sampleTime}}
		},
		nil, nil,
	},
	"no item has a time": {
		func(t *testing.T) []event {
			return []event{{strings.Replace(sample(t, "02"), `"2026-11-20T10:15:30.250Z"`, "null", 1), sampleTime}}
		},
		map[string]string{"=c_customer-acorn#timestamp": "no_time"},
		[]string{"Failed to find entitlements updated at timestamp for customer"},
	},
	"a metered feature without the time of its usage": {
		func(t *testing.T) []event {
			return []event{{strings.Replace(sample(t, "03"), `"2026-11-20T10:15:31.900Z"`, "null", 1), sampleTime}}
		},
		map[string]string{
			"+c_customer-birch:f_feature-api-calls":           "usage_time",
			"+c_customer-birch:f_feature-api-calls#timestamp": "usage_time",
		},
		[]string{"Usage timestamp for feature is missing"},
	},
	"usage that names its next reset only": {
		func(t *testing.T) []event {
			return []event{{sample(t, "03"), sampleTime}, {strings.Replace(sample(t, "17"), `"usagePeriodEnd": 2112998400000`, `"usagePeriodEnd": null`, 1), sampleTime}}
		},
		map[string]string{"=c_customer-birch:f_feature-api-calls": "next_reset"}, nil,
	},
	"a number beyond 2^53": {
		func(t *testing.T) []event {
			return []event{{strings.Replace(sample(t, "02"), `"usageLimit": 25`, `"usageLimit": 9007199254740993`, 1), sampleTime}}
		},
		map[string]string{"=c_customer-acorn": "exact_numbers"}, nil,
	},
	"a meter type in upper case": {
		func(t *testing.T) []event {
			return []event{{strings.Replace(sample(t, "03"), `"Incremental"`, `"INCREMENTAL"`, 1), sampleTime}}
		},
		map[string]string{
			"=c_customer-birch":                               "meter_case",
			"+c_customer-birch:f_feature-api-calls":           "meter_case",
			"+c_customer-birch:f_feature-api-calls#timestamp": "meter_case",
		}, nil,
	},
	"an end of validity that is a text": {
		func(t *testing.T) []event {
			return []event{{strings.Replace(sample(t, "12"), `"validUntil": 1700000000000`, `"validUntil": "2023-11-14T22:13:20.000Z"`, 1), sampleTime}}
		},
		map[string]string{"=c_customer-hazel": "valid_until"}, nil,
	},
}

// twoItems is sample 06, whose two items then have these times.
func twoItems(t testing.TB, first, second string) string {
	parts := strings.SplitN(sample(t, "06"), `"entitlementUpdatedAt": "2026-11-20T10:15:30.250Z"`, 3)
	if len(parts) != 3 {
		t.Fatal("sample 06 has no two items")
	}
	return parts[0] + `"entitlementUpdatedAt": "` + first + `"` + parts[1] + `"entitlementUpdatedAt": "` + second + `"` + parts[2]
}

func TestReference_differencesAreThoseInTheDocs(t *testing.T) {
	t.Parallel()
	addr := testserver.Redis(t)
	reference := startWriter(t, addr)
	var seen []string
	for name, c := range referenceCases {
		t.Run(name, func(t *testing.T) {
			begun, client := time.Now(), dial(t, addr, 0)
			if err := client.FlushDB(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			events := c.events(t)
			if got := reference.write("reference", events...); !slices.Equal(got, c.complaints) {
				t.Errorf("the reference complains of %q, want %q", got, c.complaints)
			}
			fill(t, map[string]string{"REDIS": addr, "LAYOUT": "v3", "PREFIX": "ours"}, events...)
			state := dump(t, client)
			ours, theirs := under(state, "ours:"), under(state, "reference:")
			if len(ours)+len(theirs) != len(state) {
				t.Errorf("there are keys under neither prefix: %q", slices.Sorted(maps.Keys(state)))
			}
			want := maps.Clone(c.differences)
			for _, d := range differences(t, ours, theirs) {
				if strings.HasPrefix(d, "+penstock:") {
					seen = append(seen, "own_keys")
					continue
				}
				difference, ok := want[d]
				delete(want, d)
				if !ok {
					t.Errorf("not allowed: %s\n     ours: %s\nreference: %s", d, ours[d[1:]].value, theirs[d[1:]].value)
				}
				seen = append(seen, difference)
			}
			for d, name := range want {
				t.Errorf("%s (%s) is allowed, but not there", d, name)
			}
			for key, e := range state {
				ttl := 7 * 24 * time.Hour
				if strings.HasPrefix(key, "ours:penstock:") {
					ttl = 15 * 24 * time.Hour
				}
				if e.ttl > ttl || e.ttl < ttl-time.Since(begun)-time.Second {
					t.Errorf("%q lives %s, want %s", key, e.ttl, ttl)
				}
			}
		})
	}
	if t.Failed() {
		return
	}
	unique := func(names []string) []string { slices.Sort(names); return slices.Compact(names) }
	text, err := os.ReadFile(root(t, "docs", "reference-writer.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	if got, want := unique(documented), unique(slices.Clone(allowed)); !slices.Equal(got, want) {
		t.Errorf("docs/reference-writer.md lists %q, the test allows %q", got, want)
	}
	if got, want := unique(seen), unique(slices.Clone(allowed)); !slices.Equal(got, want) {
		t.Errorf("the cases show %q, the test allows %q", got, want)
	}
}

// TestReference_timeToLiveIsRenewedByTheSameWrites compares what a skipped and what a repeated write do to a key's
// time to live.
func TestReference_timeToLiveIsRenewedByTheSameWrites(t *testing.T) {
	t.Parallel()
	addr := testserver.Redis(t)
	client := dial(t, addr, 0)
	reference := startWriter(t, addr)
	newer := event{projects(t, "customer-acorn", 2, moment(2, 0)), sampleTime}
	older := event{projects(t, "customer-acorn", 1, moment(1, 0)), sampleTime}
	for writer, apply := range map[string]func(e event){
		"reference": func(e event) { reference.write("reference", e) },
		"ours":      func(e event) { fill(t, map[string]string{"REDIS": addr, "LAYOUT": "v3", "PREFIX": "ours"}, e) },
	} {
		t.Run(writer, func(t *testing.T) {
			keys := []string{writer + ":c_customer-acorn", writer + ":c_customer-acorn#timestamp"}
			ttl := func(key string) time.Duration { return client.PTTL(context.Background(), key).Val() }
			apply(newer)
			for _, key := range keys {
				if err := client.Expire(context.Background(), key, time.Hour).Err(); err != nil {
					t.Fatal(err)
				}
			}
			apply(older)
			for _, key := range keys {
				if got := ttl(key); got <= 0 || got > time.Hour {
					t.Errorf("after an older write %q lives %s, want it left at an hour", key, got)
				}
			}
			apply(newer)
			for _, key := range keys {
				if got := ttl(key); got < 7*24*time.Hour-time.Hour {
					t.Errorf("after the same write again %q lives %s, want 7 days", key, got)
				}
			}
		})
	}
}

// under returns the entries whose keys have the prefix, without it.
func under(state map[string]entry, prefix string) map[string]entry {
	entries := map[string]entry{}
	for key, e := range state {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			entries[name] = e
		}
	}
	return entries
}

func differences(t testing.TB, ours, reference map[string]entry) []string {
	t.Helper()
	var all []string
	for key, e := range ours {
		switch r, ok := reference[key]; {
		case !ok:
			all = append(all, "+"+key)
		case !sameJSON(t, e.value, r.value):
			all = append(all, "="+key)
		}
	}
	for key := range reference {
		if _, ok := ours[key]; !ok {
			all = append(all, "-"+key)
		}
	}
	return all
}

// sameJSON compares values, the order of members aside, and numbers exactly.
func sameJSON(t testing.TB, a, b string) bool {
	t.Helper()
	parse := func(text string) any {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return v
	}
	return equal(parse(a), parse(b))
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, okX := new(big.Rat).SetString(a.String())
		y, okY := new(big.Rat).SetString(b.String())
		return okX && okY && x.Cmp(y) == 0
	default:
		return a == b
	}
}
