package entitlement

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/cache"
)

// store is a cache in memory that keeps the greatest write of each key, with its version beside it.
type store map[string]string

func (s store) Get(_ context.Context, keys ...string) ([]cache.Entry, error) {
	entries := make([]cache.Entry, len(keys))
	for i, key := range keys {
		if value, ok := s[key]; ok {
			entries[i] = cache.Entry{Value: []byte(value), Found: true, TTL: time.Hour}
		}
	}
	return entries, nil
}

func (store) Close() error { return nil }

// filled returns a store that holds what the samples become.
func filled(t *testing.T, layout Layout, names ...string) store {
	t.Helper()
	d := decoder(t, Options{Layout: layout})
	all := samples(t)
	s := store{}
	latest := map[string]cache.Write{}
	for _, name := range names {
		found := false
		for sample, body := range all {
			if !strings.HasPrefix(sample, name) {
				continue
			}
			found = true
			writes, _, err := d.Decode(Input{Body: body, Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range writes {
				if old, ok := latest[w.Key]; ok && cache.Compare(old, w) > 0 {
					continue
				}
				latest[w.Key] = w
				s[w.Key], s[w.Key+versionSuffix] = string(w.Value), strconv.FormatInt(w.Version, 10)
				if w.Delete {
					delete(s, w.Key)
					delete(s, w.Key+versionSuffix)
				}
			}
		}
		if !found {
			t.Fatalf("no sample %s", name)
		}
	}
	return s
}

func inspect(t *testing.T, s cache.Reader, customer, resource string) Report {
	t.Helper()
	r, err := Inspect(t.Context(), s, Subject{Customer: customer, Resource: resource}, clock)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (row Row) short() string {
	s := fmt.Sprintf("%s %s", row.ID, row.Type)
	if row.Access {
		s += " yes"
	} else {
		s += " no " + row.Denied
	}
	if row.Usage != "" {
		s += " usage " + row.Usage
	}
	if row.Limit != "" {
		s += " limit " + row.Limit
	}
	if row.Soft {
		s += " soft"
	}
	if len(row.Values) > 0 {
		s += fmt.Sprint(" ", row.Values)
	}
	if !row.Resets.IsZero() {
		s += " resets " + row.Resets.Format(time.RFC3339)
	}
	return s
}

func TestInspect_showsWhatTheSamplesGrant(t *testing.T) {
	const resets = " resets 2036-12-15T00:00:00Z"
	cases := map[string]struct {
		samples            []string
		customer, resource string
		want               []string
	}{
		"boolean": {[]string{"01"}, "customer-acorn", "", []string{"feature-sso BOOLEAN yes"}},
		"numeric": {[]string{"02"}, "customer-acorn", "", []string{"feature-projects NUMBER yes limit 25"}},
		"metered": {[]string{"03"}, "customer-birch", "", []string{"feature-api-calls METERED yes usage 4211 limit 10000" + resets}},
		"usage event": {
			[]string{"03", "17"}, "customer-birch", "",
			[]string{"feature-api-calls METERED yes usage 4300 limit 10000 resets 2036-12-16T00:00:00Z"},
		},
		"enum": {[]string{"05"}, "customer-cedar", "", []string{"feature-regions ENUM yes [eu-west us-east]"}},
		"unlimited": {
			[]string{"06"}, "customer-cedar", "",
			[]string{"feature-api-calls METERED yes usage 990001 limit unlimited" + resets, "feature-projects NUMBER yes limit unlimited"},
		},
		"soft limit": {[]string{"07"}, "customer-dogwood", "", []string{"feature-api-calls METERED yes usage 163 limit 100 soft" + resets}},
		"denied": {
			[]string{"11"}, "customer-gum", "",
			[]string{"feature-projects NUMBER yes limit 5", "feature-sso BOOLEAN no Revoked"},
		},
		"unicode": {
			[]string{"15"}, "客户:müller/😀", "ресурс 1",
			[]string{"feature-données:α METERED yes usage 4 limit 9" + resets, "feature-sso BOOLEAN yes"},
		},
	}
	for name, c := range cases {
		for _, layout := range layouts {
			t.Run(name+"/"+string(layout), func(t *testing.T) {
				s := filled(t, layout, c.samples...)
				if c.resource != "" {
					s["c_"+c.customer+"#timestamp"] = "1"
				}
				r := inspect(t, s, c.customer, c.resource)
				var got []string
				for _, row := range r.Rows {
					got = append(got, row.short())
					if row.TTL != time.Hour || row.V3.String() != "HIT" || row.V4.String() != "HIT" {
						t.Errorf("%s: TTL %s, %s, %s", row.ID, row.TTL, row.V3, row.V4)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("got  %q\nwant %q", got, c.want)
				}
				if r.V3.String() != "HIT" || r.V4.String() != "HIT" || r.TTL != time.Hour {
					t.Errorf("%s, %s, TTL %s", r.V3, r.V4, r.TTL)
				}
				if want := time.UnixMilli(1795169730250).UTC(); !r.Updated.Equal(want) {
					t.Errorf("updated %s", r.Updated)
				}
			})
		}
	}
}

func TestInspect_showsCreditsInV4(t *testing.T) {
	r := inspect(t, filled(t, LayoutV4, "21", "22"), "customer-elm", "")
	want := "[credit_cred-tokens CREDIT yes usage 130 limit 500 feature-api-calls METERED yes usage 40 limit 10000]"
	if got := fmt.Sprint([]string{r.Rows[0].short(), r.Rows[1].short()}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r.V3.String() != "HIT" || r.V4.String() != "HIT" || r.Rows[0].V3.Hit || !r.Rows[0].V4.Hit {
		t.Errorf("%s, %s; credit: %s, %s", r.V3, r.V4, r.Rows[0].V3, r.Rows[0].V4)
	}
}

// TestInspect_judgesAsTheReadersDo is the table of the contract: what each reader does with missing data.
func TestInspect_judgesAsTheReadersDo(t *testing.T) {
	const c, f = "c_customer-birch", "c_customer-birch:f_feature-api-calls"
	const r = "c_customer-fir:r_site-berlin"
	cases := map[string]struct {
		customer, resource string
		change             func(store)
		v3, v4             string
		rowV3, rowV4       string // of feature-api-calls
	}{
		"all there": {"customer-birch", "", func(store) {}, "HIT", "HIT", "HIT", "HIT"},
		"unknown customer": {
			"customer-x", "", func(store) {},
			"MISS: c_customer-x is absent", "MISS: c_customer-x is absent", "", "",
		},
		"empty value": {
			"customer-birch", "", func(s store) { s[c] = "" },
			"MISS: " + c + " is empty", "MISS: " + c + " is empty", "", "",
		},
		"no entitlements, no reason": {
			"customer-birch", "", func(s store) { s[c] = "{}" },
			"HIT: no entitlements: SDK 3.x answers CustomerNotFound", "HIT: no entitlements, without a reason", "", "",
		},
		"no entitlements, reason": {
			"customer-birch", "", func(s store) { s[c] = "{}"; s[c+":metadata"] = `{"accessDeniedReason":"NoActiveSubscription"}` },
			"HIT: no entitlements: SDK 3.x answers CustomerNotFound", "HIT: no entitlements: NoActiveSubscription", "", "",
		},
		"no version": {
			"customer-birch", "", func(s store) { delete(s, c+"#timestamp") },
			"HIT", "MISS: " + c + "#timestamp is absent", "HIT", "MISS: " + c + "#timestamp is absent",
		},
		"version is no number": {
			"customer-birch", "", func(s store) { s[c+"#timestamp"] = "soon" },
			"HIT", "MISS: " + c + "#timestamp is absent", "HIT", "MISS: " + c + "#timestamp is absent",
		},
		"no metadata": {"customer-birch", "", func(s store) { delete(s, c+":metadata") }, "HIT", "HIT", "HIT", "HIT"},
		"no usage": {
			"customer-birch", "", func(s store) { delete(s, f) },
			"MISS: " + f + " is absent", "MISS: " + f + " is absent", "MISS: " + f + " is absent", "MISS: " + f + " is absent",
		},
		"no version of the usage": {
			"customer-birch", "", func(s store) { delete(s, f+"#timestamp") },
			"HIT", "MISS: " + f + "#timestamp is absent", "HIT", "MISS: " + f + "#timestamp is absent",
		},
		"usage is no JSON": {
			"customer-birch", "", func(s store) { s[f] = "{" },
			"MISS: " + f + " is not readable: unexpected end of JSON input", "MISS: " + f + " is not readable: unexpected end of JSON input",
			"MISS: " + f + " is not readable: unexpected end of JSON input", "MISS: " + f + " is not readable: unexpected end of JSON input",
		},
		"value is no JSON": {
			"customer-birch", "", func(s store) { s[c] = "{" },
			"MISS: " + c + " is not readable: unexpected end of JSON input", "MISS: " + c + " is not readable: unexpected end of JSON input", "", "",
		},
		"resource":                {"customer-fir", "site-berlin", func(store) {}, "HIT", "HIT", "HIT", "HIT"},
		"resource, global absent": {"customer-fir", "site-berlin", func(s store) { delete(s, "c_customer-fir") }, "HIT", "HIT", "HIT", "HIT"},
		"resource, no global version": {
			"customer-fir", "site-berlin", func(s store) { delete(s, "c_customer-fir#timestamp") },
			"MISS: c_customer-fir#timestamp is absent: the customer is refetched too", "MISS: c_customer-fir#timestamp is absent: the customer is refetched too",
			"MISS: c_customer-fir#timestamp is absent: the customer is refetched too", "MISS: c_customer-fir#timestamp is absent: the customer is refetched too",
		},
		"resource, global newer": {
			"customer-fir", "site-berlin", func(s store) { s["c_customer-fir#timestamp"] = "1795169730251" },
			"MISS: the resource is older than its customer: the customer is refetched too", "MISS: the resource is older than its customer: the customer is refetched too",
			"MISS: the resource is older than its customer: the customer is refetched too", "MISS: the resource is older than its customer: the customer is refetched too",
		},
		"resource, no version": {
			"customer-fir", "site-berlin", func(s store) { delete(s, r+"#timestamp") },
			"MISS: the resource has no version: the customer is refetched too", "MISS: the resource has no version: the customer is refetched too",
			"MISS: the resource has no version: the customer is refetched too", "MISS: the resource has no version: the customer is refetched too",
		},
		"resource absent, global too": {
			"customer-fir", "site-x", func(s store) { delete(s, "c_customer-fir#timestamp") },
			"MISS: c_customer-fir:r_site-x is absent; c_customer-fir#timestamp is absent: the customer is refetched too",
			"MISS: c_customer-fir:r_site-x is absent; c_customer-fir#timestamp is absent: the customer is refetched too", "", "",
		},
		"expired": {
			"customer-hazel", "", func(store) {},
			"HIT: feature-sso expired: the SDK asks the API on every read until it is rewritten",
			"HIT: feature-sso expired: the SDK asks the API on every read until it is rewritten", "", "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := filled(t, LayoutDual, "03", "09", "10", "12")
			c.change(s)
			r := inspect(t, s, c.customer, c.resource)
			if r.V3.String() != c.v3 || r.V4.String() != c.v4 {
				t.Errorf("3.x: %s\nwant %s\n4.x: %s\nwant %s", r.V3, c.v3, r.V4, c.v4)
			}
			for _, row := range r.Rows {
				if c.rowV3 != "" && row.ID == "feature-api-calls" && (row.V3.String() != c.rowV3 || row.V4.String() != c.rowV4) {
					t.Errorf("row: 3.x: %s\nwant %s\n4.x: %s\nwant %s", row.V3, c.rowV3, row.V4, c.rowV4)
				}
				if name == "expired" && (!row.V3.Refetch || !row.V4.Refetch || !r.V3.Refetch) {
					t.Error("an expired entitlement is not refetched")
				}
			}
		})
	}
}

func TestInspect_missingUsageSparesTheOtherFeatures(t *testing.T) {
	s := filled(t, LayoutDual, "16")
	delete(s, "c_customer-juniper:f_feature-seats")
	r := inspect(t, s, "customer-juniper", "")
	if r.V3.Hit || r.V4.Hit {
		t.Errorf("%s, %s", r.V3, r.V4)
	}
	for _, row := range r.Rows {
		if want := row.ID != "feature-seats"; row.V3.Hit != want || row.V4.Hit != want {
			t.Errorf("%s: %s, %s", row.ID, row.V3, row.V4)
		}
	}
}

func TestInspect_afterAPurge(t *testing.T) {
	s := filled(t, LayoutDual, "09", "10")
	for _, key := range []string{"c_customer-fir", "c_customer-fir:metadata"} {
		delete(s, key)
		delete(s, key+"#timestamp")
	}
	if r := inspect(t, s, "customer-fir", ""); r.V3.Hit || r.V4.Hit || len(r.Rows) != 0 || r.TTL != 0 {
		t.Errorf("%+v", r)
	}
	if r := inspect(t, s, "customer-fir", "site-berlin"); r.V3.Hit || r.V4.Hit {
		t.Errorf("resource: %+v", r)
	}
}

func TestInspect_appliesTheRollOverOfUsagePeriods(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	cases := map[string]struct{ anchor, now, period, want string }{
		"month":              {"2026-01-15T00:00:00Z", "2026-11-21T00:00:00Z", "MONTH", "2026-12-15T00:00:00Z"},
		"month, at the edge": {"2026-01-15T00:00:00Z", "2026-11-15T00:00:00Z", "MONTH", "2026-12-15T00:00:00Z"},
		"month, just before": {"2026-01-15T00:00:01Z", "2026-11-15T00:00:00Z", "MONTH", "2026-11-15T00:00:01Z"},
		"month, last day":    {"2026-01-31T00:00:00Z", "2026-02-10T00:00:00Z", "MONTH", "2026-02-28T00:00:00Z"},
		"month, after it":    {"2026-01-31T00:00:00Z", "2026-02-28T12:00:00Z", "MONTH", "2026-03-31T00:00:00Z"},
		"month, future":      {"2027-03-15T00:00:00Z", "2026-11-21T00:00:00Z", "MONTH", "2026-12-15T00:00:00Z"},
		"year":               {"2024-02-29T00:00:00Z", "2026-11-21T00:00:00Z", "YEAR", "2027-02-28T00:00:00Z"},
		"week":               {"2026-11-01T00:00:00Z", "2026-11-21T00:00:00Z", "WEEK", "2026-11-22T00:00:00Z"},
		"day":                {"2026-11-01T06:00:00Z", "2026-11-21T00:00:00Z", "DAY", "2026-11-21T06:00:00Z"},
		"hour":               {"2026-11-01T06:30:00Z", "2026-11-21T00:00:00Z", "HOUR", "2026-11-21T00:30:00Z"},
		"hour, future":       {"2026-12-01T06:30:00Z", "2026-11-21T00:00:00Z", "HOUR", "2026-11-21T00:30:00Z"},
	}
	for name, c := range cases {
		if got := periodEnd(at(c.anchor), at(c.now), c.period).Format(time.RFC3339); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	if !periodEnd(at("2026-01-15T00:00:00Z"), clock, "").IsZero() || !periodEnd(time.Time{}, clock, "MONTH").IsZero() {
		t.Error("a period out of nothing")
	}

	// In a row: usage counts from 0 again, whatever is stored.
	for _, layout := range layouts {
		s := filled(t, layout, "03")
		s["c_customer-birch:f_feature-api-calls"] = `{"currentUsage":99999,"usagePeriodStart":1,"usagePeriodEnd":1795000000000}`
		row := inspect(t, s, "customer-birch", "").Rows[0]
		want := "feature-api-calls METERED yes usage 0 limit 10000 resets 2026-12-15T00:00:00Z"
		if row.short() != want {
			t.Errorf("%s: got %s, want %s", layout, row.short(), want)
		}
	}
}

func TestInspect_legacyUsageAndLimits(t *testing.T) {
	s := filled(t, LayoutV3, "03")
	s["c_customer-birch:f_feature-api-calls"] = `{"currentUsage":10000.5,"nextResetDate":2112912000000}`
	row := inspect(t, s, "customer-birch", "").Rows[0]
	want := "feature-api-calls METERED no RequestedUsageExceedingLimit usage 10000.5 limit 10000 resets 2036-12-15T00:00:00Z"
	if row.short() != want {
		t.Errorf("got %s, want %s", row.short(), want)
	}
	s["c_customer-birch:f_feature-api-calls"] = `{"currentUsage":10000}`
	if row = inspect(t, s, "customer-birch", "").Rows[0]; !row.Access {
		t.Error("no access at the limit: the SDK denies only beyond it")
	}
}

type brokenReader struct{ store }

func (brokenReader) Get(context.Context, ...string) ([]cache.Entry, error) {
	return nil, errors.New("connection refused")
}

func TestInspect_errors(t *testing.T) {
	if _, err := Inspect(t.Context(), brokenReader{}, Subject{Customer: "c"}, clock); err == nil || err.Error() != "read cache: connection refused" {
		t.Errorf("got %v", err)
	}
	if _, err := Inspect(t.Context(), store{}, Subject{}, clock); err == nil {
		t.Error("no error without a customer")
	}
}
