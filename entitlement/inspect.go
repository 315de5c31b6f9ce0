package entitlement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/cache"
)

// Report is what readers see of a customer, or of one of its resources, at a moment.
type Report struct {
	Customer string `json:"customer"`
	// Resource is "" for the customer itself.
	Resource string `json:"resource,omitempty"`
	// Key of the entitlements, without the store's prefix.
	Key string `json:"key"`
	// At is the moment that the report is about.
	At time.Time `json:"at"`
	// V3 and V4 tell what happens when an SDK of that generation asks for all entitlements.
	V3 Verdict `json:"sdk_3"`
	V4 Verdict `json:"sdk_4"`
	// Updated is the version of the entitlements; zero when there is none.
	Updated time.Time `json:"updated,omitzero"`
	// TTL is how long the entitlements will stay: -1 without expiry, 0 when there are none.
	TTL time.Duration `json:"-"`
	// AccessDeniedReason is what the metadata say; "" is no reason, or no metadata.
	AccessDeniedReason string `json:"access_denied_reason,omitempty"`
	// Rows are the entitlements, sorted by id. There are none when the value is absent, empty or not readable.
	Rows []Row `json:"rows"`
}

// Verdict is what happens on a read.
type Verdict struct {
	// Hit tells that the cache answers.
	Hit bool `json:"hit"`
	// Refetch tells that the SDK counts a hit and yet asks the API on every read.
	Refetch bool `json:"refetch,omitempty"`
	// Why it is a miss, or what is remarkable about a hit; "" for an ordinary hit.
	Why string `json:"why,omitempty"`
}

// Cached reports whether anything is in the cache for the subject.
func (r Report) Cached() bool { return !r.Updated.IsZero() || r.TTL != 0 || len(r.Rows) > 0 }

// MarshalJSON gives the TTL in seconds, as ttl_seconds; -1 means that the entry does not expire.
func (r Report) MarshalJSON() ([]byte, error) {
	type members Report
	return json.Marshal(struct {
		members
		TTL float64 `json:"ttl_seconds"`
	}{members(r), seconds(r.TTL)})
}

// MarshalJSON gives the TTL in seconds, as ttl_seconds; -1 means that the entry does not expire.
func (r Row) MarshalJSON() ([]byte, error) {
	type members Row
	return json.Marshal(struct {
		members
		TTL float64 `json:"ttl_seconds"`
	}{members(r), seconds(r.TTL)})
}

func seconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return d.Seconds()
}

// String returns "HIT" or "MISS" and why.
func (v Verdict) String() string {
	s := "MISS"
	if v.Hit {
		s = "HIT"
	}
	if v.Why != "" {
		s += ": " + v.Why
	}
	return s
}

// Row is one entitlement as a reader sees it.
type Row struct {
	// ID is the feature's or the credit's.
	ID string `json:"id"`
	// Type is BOOLEAN, NUMBER, ENUM, METERED or CREDIT; "" when the entry says none.
	Type string `json:"type"`
	// Access tells whether the SDK lets the customer use it, without asking for more than what is used already.
	Access bool `json:"access"`
	// Denied is the reason without Access.
	Denied string `json:"denied,omitempty"`
	// Usage is the current usage, 0 when its period is over; "" when nothing is metered.
	Usage string `json:"usage,omitempty"`
	// Limit is the limit, "unlimited", or "" when there is none to speak of.
	Limit string `json:"limit,omitempty"`
	// Soft tells that the limit doesn't stop anyone.
	Soft bool `json:"soft,omitempty"`
	// Values are those of an ENUM.
	Values []string `json:"values,omitempty"`
	// Resets is when the usage period ends, the next one when the stored one is over; zero without one.
	Resets time.Time `json:"resets,omitzero"`
	// ValidUntil is when the entitlement ends; zero without an end.
	ValidUntil time.Time `json:"valid_until,omitzero"`
	// Updated is the version of the usage, or of the entitlements where nothing is metered.
	Updated time.Time `json:"updated,omitzero"`
	// TTL is how long the entry behind Updated will stay: -1 without expiry, 0 when it is absent.
	TTL time.Duration `json:"-"`
	// V3 and V4 tell what happens when an SDK of that generation asks for this entitlement alone.
	V3 Verdict `json:"sdk_3"`
	V4 Verdict `json:"sdk_4"`
}

// entry is an entitlement as it is stored, in any layout.
type entry struct {
	Calculated struct {
		Type    string `json:"type"`
		Feature *struct {
			ID          string `json:"id"`
			FeatureType string `json:"featureType"`
			MeterType   string `json:"meterType"`
		} `json:"feature"`
		Currency struct {
			ID string `json:"currencyId"`
		} `json:"currency"`
		UsageLimit         *json.Number `json:"usageLimit"`
		HasUnlimitedUsage  bool         `json:"hasUnlimitedUsage"`
		HasSoftLimit       bool         `json:"hasSoftLimit"`
		IsGranted          bool         `json:"isGranted"`
		AccessDeniedReason string       `json:"accessDeniedReason"`
		EnumValues         []string     `json:"enumValues"`
		ValidUntil         float64      `json:"validUntil"`
		UsagePeriodAnchor  float64      `json:"usagePeriodAnchor"`
		ResetPeriod        string       `json:"resetPeriod"`
	} `json:"calculatedEntitlement"`
	FeatureUsage *usageEntry `json:"featureUsage"`
	UsageData    *usageEntry `json:"usageData"`
}

// usageEntry is a usage as it is stored under a key of its own, or in an entitlement.
type usageEntry struct {
	CurrentUsage      *json.Number `json:"currentUsage"`
	UsagePeriodAnchor float64      `json:"usagePeriodAnchor"`
	UsagePeriodEnd    float64      `json:"usagePeriodEnd"`
	NextResetDate     float64      `json:"nextResetDate"`
	ResetPeriod       string       `json:"resetPeriod"`
}

// metered is the SDK's own test, upper and lower case included.
func (e *entry) metered() bool {
	f := e.Calculated.Feature
	return f != nil && f.FeatureType == "NUMBER" && (f.MeterType == "Incremental" || f.MeterType == "Fluctuating")
}

func (e *entry) credit() bool { return e.Calculated.Type == "CREDIT" }

// Subject is whose entitlements a reader asks for.
type Subject struct {
	// Customer is the customer's id.
	Customer string
	// Resource is the id of one of its resources; "" for the customer itself.
	Resource string
	// HashTags tells that the keys are those of [TaggedCustomerKey].
	HashTags bool
}

// key returns the key of the entitlements.
func (s Subject) key() string {
	if s.HashTags {
		return TaggedCustomerKey(s.Customer, s.Resource)
	}
	return CustomerKey(s.Customer, s.Resource)
}

// Inspect reads what the cache holds for a customer, or for one of its resources, and tells what SDKs 3.x and 4.x
// make of it at the time now; with HashTags, what they would if they looked there. It judges by the rules of the
// provider's SDKs (docs/cache-layout.md), not by penstock's. It fails when reading fails or the customer id is missing;
// an absent customer is a report of misses.
func Inspect(ctx context.Context, r cache.Reader, of Subject, now time.Time) (Report, error) {
	if of.Customer == "" {
		return Report{}, errors.New("inspect: no customer id")
	}
	key := of.key()
	global := Subject{Customer: of.Customer, HashTags: of.HashTags}.key()
	report := Report{Customer: of.Customer, Resource: of.Resource, Key: key, At: now, Rows: []Row{}}
	got, err := get(ctx, r, key, key+versionSuffix, MetadataKey(key), global+versionSuffix)
	if err != nil {
		return Report{}, err
	}
	value, version, metadata, globalVersion := got[0], parseVersion(got[1]), got[2], parseVersion(got[3])
	report.TTL, report.Updated = value.TTL, version.time()
	if !value.Found {
		report.TTL = 0
	}
	var meta struct {
		AccessDeniedReason string `json:"accessDeniedReason"`
	}
	if json.Unmarshal(metadata.Value, &meta) == nil {
		report.AccessDeniedReason = meta.AccessDeniedReason
	}

	entries := map[string]*entry{}
	v3 := missing(key, value, &entries)
	if of.Resource != "" {
		if why := resourceMiss(version, globalVersion, global); why != "" {
			v3 = v3.miss(why)
		}
	}
	v4 := v3
	if v4.Why == "" && !version.ok {
		v4 = v4.miss(key + versionSuffix + " is absent")
	}
	v3, v4 = v3.orHit(), v4.orHit()
	if v3.Hit && len(entries) == 0 {
		v3.Why = "no entitlements: SDK 3.x answers CustomerNotFound"
	}
	if v4.Hit && len(entries) == 0 {
		v4.Why = "no entitlements, without a reason"
		if report.AccessDeniedReason != "" {
			v4.Why = "no entitlements: " + report.AccessDeniedReason
		}
	}
	report.V3, report.V4 = v3, v4
	if err := report.addRows(ctx, r, entries, version); err != nil {
		return Report{}, err
	}
	return report, nil
}

// missing says why a customer's value can't be used, if it can't, and decodes it.
func missing(key string, value cache.Entry, entries *map[string]*entry) Verdict {
	switch {
	case !value.Found:
		return Verdict{Why: key + " is absent"}
	case len(value.Value) == 0:
		return Verdict{Why: key + " is empty"}
	}
	if err := json.Unmarshal(value.Value, entries); err != nil {
		clear(*entries)
		return Verdict{Why: key + " is not readable: " + err.Error()}
	}
	for id, e := range *entries {
		if e == nil {
			delete(*entries, id)
		}
	}
	return Verdict{}
}

func resourceMiss(version, globalVersion storedVersion, global string) string {
	switch {
	case !globalVersion.ok:
		return global + versionSuffix + " is absent: the customer is refetched too"
	case !version.ok:
		return "the resource has no version: the customer is refetched too"
	case version.ms < globalVersion.ms:
		return "the resource is older than its customer: the customer is refetched too"
	}
	return ""
}

func (v Verdict) miss(why string) Verdict {
	if v.Why != "" {
		why = v.Why + "; " + why
	}
	return Verdict{Why: why}
}

// orHit makes a hit of what has no reason to be a miss.
func (v Verdict) orHit() Verdict { v.Hit = v.Why == ""; return v }

// addRows reads the usage that belongs to the entries, and completes the verdicts.
func (report *Report) addRows(ctx context.Context, r cache.Reader, entries map[string]*entry, version storedVersion) error {
	ids := make([]string, 0, len(entries))
	for id := range entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var keys []string
	for _, id := range ids {
		switch e := entries[id]; {
		case e.metered():
			k := FeatureUsageKey(report.Key, e.Calculated.Feature.ID)
			keys = append(keys, k, k+versionSuffix)
		case e.credit():
			k := CreditUsageKey(report.Key, e.Calculated.Currency.ID)
			keys = append(keys, k, k+versionSuffix)
		}
	}
	var usages []cache.Entry
	if len(keys) > 0 {
		var err error
		if usages, err = get(ctx, r, keys...); err != nil {
			return err
		}
	}
	allV3, allV4 := report.V3, report.V4
	for _, id := range ids {
		e := entries[id]
		row := Row{ID: id, V3: report.V3, V4: report.V4, Updated: version.time(), TTL: report.TTL}
		usage := e.FeatureUsage
		if usage == nil {
			usage = e.UsageData
		}
		if usage == nil {
			usage = &usageEntry{}
		}
		if e.metered() || e.credit() {
			stored, at := usages[0], parseVersion(usages[1])
			key := keys[0]
			usages, keys = usages[2:], keys[2:]
			why := ""
			switch merged, err := usage.with(stored.Value); {
			case !stored.Found:
				why = key + " is absent"
			case err != nil:
				why = key + " is not readable: " + err.Error()
			default:
				usage = merged
			}
			row.Updated, row.TTL = at.time(), stored.TTL
			if !stored.Found {
				row.TTL = 0
			}
			if e.credit() { // 3.x knows no credits and never asks for their usage
				row.V3 = Verdict{Why: "SDK 3.x knows no credits"}
			} else if why != "" && row.V3.Hit {
				row.V3, allV3 = Verdict{Why: why}, allV3.worse(why)
			}
			if why == "" && !at.ok {
				why = key + versionSuffix + " is absent"
			}
			if why != "" && row.V4.Hit {
				row.V4, allV4 = Verdict{Why: why}, allV4.worse(why)
			}
		}
		row.fill(e, usage, report.At)
		if end := row.ValidUntil; !end.IsZero() && !end.After(report.At) {
			why := "expired: the SDK asks the API on every read until it is rewritten"
			row.V3, row.V4 = row.V3.refetch(why), row.V4.refetch(why)
			allV3, allV4 = allV3.refetch(id+" "+why), allV4.refetch(id+" "+why)
		}
		report.Rows = append(report.Rows, row)
	}
	report.V3, report.V4 = allV3, allV4
	return nil
}

// worse makes a miss of a hit.
func (v Verdict) worse(why string) Verdict {
	if v.Hit {
		return Verdict{Why: why}
	}
	return v.miss(why)
}

func (v Verdict) refetch(why string) Verdict {
	if v.Hit && !v.Refetch {
		v.Refetch, v.Why = true, why
	}
	return v
}

// with returns the usage as readers merge it: what is stored under the usage key wins.
func (u *usageEntry) with(stored []byte) (*usageEntry, error) {
	merged := *u
	if len(stored) == 0 {
		return &merged, errors.New("empty")
	}
	if err := json.Unmarshal(stored, &merged); err != nil {
		return u, err
	}
	var own usageEntry
	_ = json.Unmarshal(stored, &own) // it has just been read
	if own.UsagePeriodEnd == 0 && own.NextResetDate != 0 {
		merged.UsagePeriodEnd = own.NextResetDate
	}
	return &merged, nil
}

// fill tells what the SDK would answer.
func (row *Row) fill(e *entry, usage *usageEntry, now time.Time) {
	c := &e.Calculated
	row.Values, row.ValidUntil, row.Soft = c.EnumValues, millis(c.ValidUntil), c.HasSoftLimit
	if len(row.Values) == 0 {
		row.Values = nil
	}
	limit := 0.0
	switch {
	case c.HasUnlimitedUsage:
		row.Limit = "unlimited"
	case c.UsageLimit != nil:
		row.Limit = c.UsageLimit.String()
		limit, _ = c.UsageLimit.Float64() // a json.Number always is a number, if not always a finite one
	}
	current := 0.0
	if e.metered() || e.credit() {
		row.Usage = "0"
		row.Resets = millis(usage.UsagePeriodEnd)
		switch {
		case !row.Resets.IsZero() && row.Resets.Before(now):
			anchor, period := usage.UsagePeriodAnchor, usage.ResetPeriod
			if anchor == 0 {
				anchor = c.UsagePeriodAnchor
			}
			if period == "" {
				period = c.ResetPeriod
			}
			row.Resets = periodEnd(millis(anchor), now, period)
		case usage.CurrentUsage != nil:
			row.Usage = usage.CurrentUsage.String()
			current, _ = usage.CurrentUsage.Float64()
		}
	}
	switch {
	case e.credit():
		row.Type = "CREDIT"
		row.Access = c.AccessDeniedReason == "" && c.IsGranted
	case c.Feature == nil:
		row.Denied = "NoFeatureEntitlementInSubscription"
		return
	case e.metered():
		row.Type = "METERED"
		row.Access = c.HasUnlimitedUsage || c.HasSoftLimit || current <= limit
	default:
		row.Type = c.Feature.FeatureType
		row.Access = true
	}
	if c.AccessDeniedReason != "" {
		row.Access, row.Denied = false, c.AccessDeniedReason
	} else if !row.Access && e.metered() {
		row.Denied = "RequestedUsageExceedingLimit"
	}
}

// periodEnd is when the period ends that now lies in: periods begin at the anchor. Zero without an anchor or a period.
func periodEnd(anchor, now time.Time, period string) time.Time {
	if anchor.IsZero() {
		return time.Time{}
	}
	var step time.Duration
	months := 0
	switch strings.ToUpper(period) {
	case "HOUR":
		step = time.Hour
	case "DAY":
		step = 24 * time.Hour
	case "WEEK":
		step = 7 * 24 * time.Hour
	case "MONTH":
		months = 1
	case "YEAR":
		months = 12
	default:
		return time.Time{}
	}
	if step > 0 {
		n := int64(math.Floor(float64(now.UnixMilli()-anchor.UnixMilli()) / float64(step.Milliseconds())))
		return anchor.Add(time.Duration(n+1) * step)
	}
	n := ((now.Year()-anchor.Year())*12 + int(now.Month()-anchor.Month())) / months
	for n--; !addMonths(anchor, n*months).After(now); n++ {
	}
	return addMonths(anchor, n*months)
}

// addMonths keeps the day of the month, or takes the month's last.
func addMonths(t time.Time, n int) time.Time {
	year, month, day := t.Date()
	first := time.Date(year, month+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(day, last)-1)
}

// storedVersion is a version key's number as readers parse it: base 10, with anything after the digits.
type storedVersion struct {
	ms int64
	ok bool
}

func parseVersion(e cache.Entry) storedVersion {
	s := strings.TrimLeft(string(e.Value), " \t\r\n")
	digits := 0
	for digits < len(s) && (s[digits] >= '0' && s[digits] <= '9' || digits == 0 && (s[0] == '-' || s[0] == '+')) {
		digits++
	}
	var v storedVersion
	if _, err := fmt.Sscanf(s[:digits], "%d", &v.ms); err == nil {
		v.ok = true
	}
	return v
}

func (v storedVersion) time() time.Time {
	if !v.ok {
		return time.Time{}
	}
	return time.UnixMilli(v.ms).UTC()
}

func millis(ms float64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

func get(ctx context.Context, r cache.Reader, keys ...string) ([]cache.Entry, error) {
	entries, err := r.Get(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	if len(entries) != len(keys) {
		return nil, fmt.Errorf("read cache: asked for %d keys, got %d", len(keys), len(entries))
	}
	return entries, nil
}
