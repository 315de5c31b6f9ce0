// Package entitlement is the domain: it turns an entitlement provider's events into cache writes ([Decoder]), in the
// key layouts that the provider's SDKs read ([Layout]), and reads a cache the way those SDKs do ([Inspect]).
//
// docs/events.md describes the events, docs/cache-layout.md the keys and values.
package entitlement

import (
	"strconv"
	"strings"

	"github.com/penstock-dev/penstock/internal/reason"
)

// Error says why an event doesn't decode, and where. It is about the event: trying again gives the same error.
type Error struct {
	// Path is the place in the event, such as "entitlements[2].feature.refId"; "" is the event as a whole.
	Path string
	// What is wrong, such as "want a string, got a number".
	What string
	// Byte is the place in the text, from 1; 0 when the fault has no place, such as a missing member.
	Byte int

	reason error // the same for error reports: without a part of the event
}

// Unwrap returns an error that says what is wrong, too, and holds no part of the event where the package itself made e.
// It is nil otherwise.
func (e *Error) Unwrap() error { return e.reason }

func (e *Error) Error() string {
	s := e.What
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Byte > 0 {
		s += " (byte " + strconv.Itoa(e.Byte) + ")"
	}
	return s
}

func errorAt(path string, err *reason.Error) *Error {
	e := &Error{Path: path, What: err.Error(), reason: err}
	if place := placeOf(path); place != (reason.Text{}) {
		e.reason = reason.Errorf("at %s: %w", place, err)
	}
	return e
}

var errMissing = reason.New("missing")

// members are the members that the parser knows, each under its name.
var members = func() map[string]reason.Text {
	all := make(map[string]reason.Text)
	for _, t := range reason.Consts(
		"__typename", "accessDeniedReason", "amount", "creditRate", "currency",
		"currencyId", "currentUsage", "customer", "customerId", "description", "displayName", "entitlement",
		"entitlementReference", "entitlementUpdatedAt", "entitlements", "entitlementsUpdatedAt", "enumValues", "feature",
		"featureId", "featureType", "featureUnits", "featureUnitsPlural", "hasSoftLimit", "hasUnlimitedUsage", "id",
		"isGranted", "meterType", "migrationType", "name", "nextResetDate", "packageRefId", "refId", "resetPeriod",
		"resetPeriodConfiguration", "resource", "resourceId", "timestamp", "totalConsumed", "type", "unit",
		"unitTransformation", "units", "usage", "usageLimit", "usagePeriodAnchor", "usagePeriodEnd", "usagePeriodStart",
		"usageUpdatedAt", "validUntil", "metadata",
	) {
		all[t.String()] = t
	}
	return all
}()

// placeOf is a path in an event without the numbers in it, put together from constants: reports may tell it. It is
// empty for a path with a member that the parser doesn't know, whose name is a part of the event.
func placeOf(path string) (place reason.Text) {
	for part := range strings.SplitSeq(path, ".") {
		name, _, indexed := strings.Cut(part, "[")
		member, known := members[name]
		if !known {
			return reason.Text{}
		}
		if place != (reason.Text{}) {
			place = reason.Join(place, reason.Const("."))
		}
		if place = reason.Join(place, member); indexed {
			place = reason.Join(place, reason.Const("[]"))
		}
	}
	return place
}

// Layout is a set of keys and values that a generation of SDKs reads.
type Layout string

// The layouts.
const (
	// LayoutDual is read by SDKs 3.x and 4.x: the layout of 3.x, complete, with what 4.x needs beside it.
	LayoutDual Layout = "dual"
	// LayoutV3 is what the 3.x SDK itself writes.
	LayoutV3 Layout = "v3"
	// LayoutV4 is the layout of SDK 4.12 and later, credits included, as far as it is known.
	LayoutV4 Layout = "v4"
)
