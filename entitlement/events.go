package entitlement

import (
	"bytes"
	"strings"
)

// Kind is what an event means for the cache, whatever its type is called.
type Kind string

// The kinds of event.
const (
	// KindEntitlements is a snapshot of what a customer, or a resource of a customer, is entitled to.
	KindEntitlements Kind = "entitlements"
	// KindUsage is the usage of one metered feature or credit.
	KindUsage Kind = "usage"
	// KindCredit is the balance of one credit.
	KindCredit Kind = "credit"
	// KindPurge removes a customer, or a resource of a customer, from the cache.
	KindPurge Kind = "purge"
	// KindIgnored is an event that changes nothing in the cache by itself.
	KindIgnored Kind = "ignore"
	// KindRefresh is an event after which a customer's entitlements are to be asked for: only with [Options.Refresh].
	KindRefresh Kind = "refresh"
)

// Kinds returns the kinds that [Options.Types] may map to, sorted. [KindRefresh] needs [Options.Refresh].
func Kinds() []Kind {
	return []Kind{KindCredit, KindEntitlements, KindIgnored, KindPurge, KindRefresh, KindUsage}
}

// handled are the event types that make cache writes, in their internal spelling. [normalType] makes webhook, GraphQL
// and internal spellings one.
var handled = map[string]Kind{
	"ENTITLEMENTS_UPDATED":                      KindEntitlements,
	"ENTITLEMENTS_UPDATED_V2":                   KindEntitlements,
	"USAGE_UPDATED":                             KindUsage,
	"USAGE_UPDATED_V2":                          KindUsage,
	"MEASUREMENT_REPORTED":                      KindUsage,
	"CREDIT_BALANCE_UPDATED":                    KindCredit,
	"CREDIT_BALANCE_DEPLETED":                   KindCredit,
	"CREDIT_BALANCE_LOW":                        KindCredit,
	"CREDIT_GRANT_CREATED":                      KindCredit,
	"CREDIT_GRANT_UPDATED":                      KindCredit,
	"CREDIT_GRANT_DEPLETED":                     KindCredit,
	"CREDIT_GRANT_EXPIRED":                      KindCredit,
	"CREDIT_GRANT_LOW":                          KindCredit,
	"CREDIT_GRANT_VOIDED":                       KindCredit,
	"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED": KindPurge,
	"CUSTOMER_DELETED":                          KindPurge,
}

// ignored are the event types that change nothing in the cache by themselves: where they have consequences for it, the
// provider sends entitlement events or purges too. Nothing else is ignored.
var ignored = []string{
	"PACKAGE_PUBLISHED",
	"MIGRATE_SUBSCRIPTIONS",
	"SUBSCRIPTIONS_MIGRATED",
	"SUBSCRIPTIONS_MIGRATION_TRIGGERED",
	"RECALCULATE_MIGRATED_ENTITLEMENTS_BATCH",
	"ENVIRONMENT_DELETED",

	"CUSTOMER_CREATED",
	"CUSTOMER_UPDATED",
	"CUSTOMER_PAYMENT_FAILED",

	"SUBSCRIPTION_CREATED",
	"SUBSCRIPTION_UPDATED",
	"SUBSCRIPTION_CANCELED",
	"SUBSCRIPTION_EXPIRED",
	"SUBSCRIPTION_USAGE_UPDATED",
	"SUBSCRIPTION_TRIAL_STARTED",
	"SUBSCRIPTION_TRIAL_EXPIRED",
	"SUBSCRIPTION_TRIAL_CONVERTED",
	"SUBSCRIPTION_TRIAL_ENDED",
	"SUBSCRIPTION_TRIAL_ENDS_SOON",
	"TRIAL_STARTED",
	"TRIAL_EXPIRED",
	"TRIAL_CONVERTED",
	"TRIAL_ENDED",
	"TRIAL_ENDS_SOON",

	"PROMOTIONAL_ENTITLEMENT_GRANTED",
	"PROMOTIONAL_ENTITLEMENT_UPDATED",
	"PROMOTIONAL_ENTITLEMENT_REVOKED",
	"PROMOTIONAL_ENTITLEMENT_EXPIRED",
	"PROMOTIONAL_ENTITLEMENT_ENDS_SOON",

	"ENTITLEMENT_USAGE_EXCEEDED",
	"ENTITLEMENT_REQUESTED",
	"ENTITLEMENT_DENIED",
	"ENTITLEMENT_GRANTED",

	"PLAN_CREATED", "PLAN_UPDATED", "PLAN_DELETED", "PLAN_ARCHIVED", "PLAN_PUBLISHED",
	"ADDON_CREATED", "ADDON_UPDATED", "ADDON_DELETED", "ADDON_ARCHIVED", "ADDON_PUBLISHED",
	"FEATURE_CREATED", "FEATURE_UPDATED", "FEATURE_DELETED", "FEATURE_ARCHIVED",
	"COUPON_CREATED", "COUPON_UPDATED", "COUPON_DELETED", "COUPON_ARCHIVED",
}

// kinds knows both lists by their normal spelling.
var kinds = func() map[string]Kind {
	m := map[string]Kind{}
	for name, kind := range handled {
		m[normalType(name)] = kind
	}
	for _, name := range ignored {
		m[normalType(name)] = KindIgnored
	}
	return m
}()

// normalType makes one of the spellings of an event type: ENTITLEMENTS_UPDATED, entitlements.updated,
// EntitlementsUpdated and entitlementsUpdated are "entitlementsupdated".
func normalType(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.' || c == '_' || c == '-' || c == ' ':
		case c >= 'A' && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// appendNormalType is normalType without allocations, for names of up to cap(dst) bytes.
func appendNormalType(dst, name []byte) []byte {
	for _, c := range name {
		switch {
		case len(dst) == cap(dst):
			return dst
		case c == '.' || c == '_' || c == '-' || c == ' ':
		case c >= 'A' && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// typeOf is an event type as the decoder knows it.
type typeOf struct {
	kind Kind
	// v2 is true when the name itself says that it is a V2 event.
	v2 bool
	// grant is true for the events of credit grants.
	grant bool
}

func typed(kind Kind, norm []byte) typeOf {
	return typeOf{kind: kind, v2: bytes.HasSuffix(norm, []byte("v2")), grant: bytes.HasPrefix(norm, []byte("creditgrant"))}
}

// lookupType finds an event type by its name in any spelling.
func (d *Decoder) lookupType(name []byte) (typeOf, bool) {
	var buf [64]byte
	norm := appendNormalType(buf[:0], name)
	if len(norm) == len(buf) {
		return typeOf{}, false
	}
	if d.types != nil {
		if kind, ok := d.types[string(norm)]; ok {
			return typed(kind, norm), true
		}
	}
	// Those that make up nearly all traffic are spared the map.
	switch string(norm) {
	case "usageupdated", "usageupdatedv2", "measurementreported":
		return typeOf{kind: KindUsage}, true
	case "entitlementsupdated":
		return typeOf{kind: KindEntitlements}, true
	}
	kind, ok := kinds[string(norm)]
	return typed(kind, norm), ok
}
