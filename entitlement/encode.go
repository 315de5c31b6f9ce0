package entitlement

import (
	"strconv"

	"github.com/penstock-dev/penstock/internal/jsonscan"
)

// span is a part of a scratch buffer; buffers may move while they grow.
type span struct{ from, to int }

var meterTypes = [...]struct{ upper, want string }{
	{"INCREMENTAL", "Incremental"}, {"FLUCTUATING", "Fluctuating"}, {"NONE", "None"},
}

// meter returns the meter type as readers compare it: the webhooks spell it in upper case, which the SDKs don't
// recognise.
func (it *item) meter() []byte {
	for i := range meterTypes {
		if fold(it.meterType, meterTypes[i].upper) {
			return []byte(meterTypes[i].want)
		}
	}
	return it.meterType
}

// metered reports whether readers see a metered feature, which needs a usage key.
func (it *item) metered() bool {
	return !it.credit && it.id != nil && fold(it.featureType, "NUMBER") &&
		(fold(it.meterType, "INCREMENTAL") || fold(it.meterType, "FLUCTUATING"))
}

var (
	featureTypes = [...]string{"BOOLEAN", "NUMBER", "ENUM"}
	resetPeriods = [...]string{"MONTH", "YEAR", "WEEK", "DAY", "HOUR"}
)

// appendEnum appends s as a JSON string, in upper case when it is one of the known names.
func appendEnum(dst, s []byte, known []string) []byte {
	for _, name := range known {
		if fold(s, name) {
			dst = append(dst, '"')
			dst = append(dst, name...)
			return append(dst, '"')
		}
	}
	return jsonscan.AppendQuoted(dst, s)
}

func appendOr(dst, raw []byte, otherwise string) []byte {
	if raw == nil {
		return append(dst, otherwise...)
	}
	return append(dst, raw...)
}

func appendInstant(dst []byte, name string, t instant) []byte {
	if !t.ok {
		return dst
	}
	dst = append(dst, name...)
	return strconv.AppendInt(dst, t.ms, 10)
}

func appendInstantOrNull(dst []byte, name string, t instant) []byte {
	dst = append(dst, name...)
	if !t.ok {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, t.ms, 10)
}

// appendSnapshot appends the value of a customer key: a map from feature to entitlement.
func appendSnapshot(dst []byte, layout Layout, items []item, eventTime int64) []byte {
	dst = append(dst, '{')
	n := 0
	for i := range items {
		it := &items[i]
		if it.credit && layout != LayoutV4 {
			continue
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		n++
		if it.credit {
			dst = appendCredit(dst, it, eventTime)
		} else {
			dst = appendFeature(dst, layout, it, eventTime)
		}
	}
	return append(dst, '}')
}

func appendFeature(dst []byte, layout Layout, it *item, eventTime int64) []byte {
	dst = jsonscan.AppendQuoted(dst, it.id)
	dst = append(dst, `:{"calculatedEntitlement":{`...)
	if layout != LayoutV3 {
		dst = append(dst, `"type":"FEATURE",`...)
	}
	if it.featureSeen {
		dst = append(dst, `"feature":{"id":`...)
		dst = jsonscan.AppendQuoted(dst, it.id)
		if it.featureType != nil {
			dst = append(dst, `,"featureType":`...)
			dst = appendEnum(dst, it.featureType, featureTypes[:])
		}
		if len(it.meterType) > 0 {
			dst = append(dst, `,"meterType":`...)
			dst = jsonscan.AppendQuoted(dst, it.meter())
		}
		dst = append(dst, `,"units":`...)
		dst = appendOr(dst, it.units, `""`)
		dst = append(dst, `,"unitsPlural":`...)
		dst = appendOr(dst, it.unitsPlural, `""`)
		if layout != LayoutV3 && it.displayName != nil {
			dst = append(dst, `,"displayName":`...)
			dst = append(dst, it.displayName...)
		}
		if layout == LayoutV4 && it.description != nil {
			dst = append(dst, `,"description":`...)
			dst = append(dst, it.description...)
		}
		if layout == LayoutV4 && it.unitTransformation != nil {
			dst = append(dst, `,"unitTransformation":`...)
			dst = jsonscan.AppendCompact(dst, it.unitTransformation)
		}
		dst = append(dst, '}', ',')
	}
	if len(it.resource) > len(`""`) {
		dst = append(dst, `"resourceId":`...)
		dst = append(dst, it.resource...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"usageLimit":`...)
	dst = appendOr(dst, it.usageLimit, "null")
	dst = append(dst, `,"hasUnlimitedUsage":`...)
	dst = strconv.AppendBool(dst, it.unlimited)
	dst = append(dst, `,"hasSoftLimit":`...)
	dst = strconv.AppendBool(dst, it.soft)
	dst = appendReason(dst, it)
	dst = append(dst, `,"enumValues":`...)
	if it.enumValues == nil {
		dst = append(dst, '[', ']')
	} else {
		dst = jsonscan.AppendCompact(dst, it.enumValues)
	}
	if it.validUntil.ms != 0 {
		dst = appendInstant(dst, `,"validUntil":`, it.validUntil)
	}
	if it.rateSeen {
		dst = append(dst, `,"creditRate":{"amount":`...)
		dst = appendOr(dst, it.rateAmount, "null")
		dst = append(dst, `,"currencyId":`...)
		dst = appendOr(dst, it.rateCurrency, "null")
		dst = append(dst, '}')
	}
	reset := span{}
	if layout != LayoutV3 {
		dst = append(dst, ',')
		reset.from = len(dst)
		dst = appendReset(dst, it)
		reset.to = len(dst)
		dst = appendInstant(dst, `,"usagePeriodAnchor":`, it.anchor)
	}
	if layout == LayoutV4 {
		dst = append(dst, `},"usageData":`...)
		dst = appendUsageData(dst, it, eventTime)
		return append(dst, '}')
	}
	dst = append(dst, `},"featureUsage":{`...)
	if reset.to > 0 {
		dst = append(dst, dst[reset.from:reset.to]...)
	} else {
		dst = appendReset(dst, it)
	}
	dst = append(dst, `,"currentUsage":`...)
	dst = appendOr(dst, it.currentUsage, "0")
	dst = appendInstant(dst, `,"usagePeriodAnchor":`, it.anchor)
	dst = appendInstant(dst, `,"usagePeriodStart":`, it.start)
	dst = appendInstant(dst, `,"usagePeriodEnd":`, it.end)
	return append(dst, '}', '}')
}

func appendReason(dst []byte, it *item) []byte {
	if len(it.reason) > len(`""`) {
		dst = append(dst, `,"accessDeniedReason":`...)
		dst = append(dst, it.reason...)
	}
	return dst
}

// appendCredit appends a credit's entry of the v4 layout. Its key and its members are a best guess: they are not public
// (docs/cache-layout.md).
func appendCredit(dst []byte, it *item, eventTime int64) []byte {
	dst = append(dst, '"')
	dst = append(dst, creditPart[1:]...)
	quote := len(dst)
	dst = jsonscan.AppendQuoted(dst, it.id)
	dst = append(dst[:quote], dst[quote+1:]...)
	dst = append(dst, `:{"calculatedEntitlement":{"type":"CREDIT","currency":{"currencyId":`...)
	dst = jsonscan.AppendQuoted(dst, it.id)
	dst = append(dst, `},"isGranted":`...)
	dst = strconv.AppendBool(dst, it.granted)
	dst = append(dst, `,"usageLimit":`...)
	dst = appendOr(dst, it.usageLimit, "null")
	dst = append(dst, `,"hasSoftLimit":`...)
	dst = strconv.AppendBool(dst, it.soft)
	dst = appendReason(dst, it)
	if it.validUntil.ms != 0 {
		dst = appendInstant(dst, `,"validUntil":`, it.validUntil)
	}
	dst = appendInstant(dst, `,"usagePeriodEnd":`, it.end)
	dst = append(dst, `},"usageData":`...)
	dst = appendUsageData(dst, it, eventTime)
	return append(dst, '}')
}

func appendUsageData(dst []byte, it *item, eventTime int64) []byte {
	dst = append(dst, `{"currentUsage":`...)
	dst = appendOr(dst, it.currentUsage, "0")
	dst = appendInstantOrNull(dst, `,"usagePeriodStart":`, it.start)
	dst = appendInstantOrNull(dst, `,"usagePeriodEnd":`, it.end)
	dst = append(dst, `,"updatedAt":`...)
	dst = strconv.AppendInt(dst, it.usageTime(eventTime), 10)
	return append(dst, '}')
}

// usageTime is when the item's usage was true.
func (it *item) usageTime(eventTime int64) int64 {
	if it.usageUpdated.ok {
		return it.usageUpdated.ms
	}
	return eventTime
}

func appendReset(dst []byte, it *item) []byte {
	dst = append(dst, `"resetPeriod":`...)
	if len(it.resetPeriod) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = appendEnum(dst, it.resetPeriod, resetPeriods[:])
	}
	dst = append(dst, `,"resetPeriodConfiguration":`...)
	switch {
	case it.resetConfig == nil:
		return append(dst, "null"...)
	case it.accordingTo == nil:
		return jsonscan.AppendCompact(dst, it.resetConfig)
	}
	for i := range accordingTo {
		if fold(it.resetPeriod, accordingTo[i].period) {
			dst = append(dst, accordingTo[i].before...)
			dst = appendAnchor(dst, it.accordingTo)
			return append(dst, '}')
		}
	}
	return jsonscan.AppendCompact(dst, it.resetConfig)
}

// accordingTo says how the webhooks' {"accordingTo": …} is spelled in GraphQL, by reset period.
var accordingTo = [...]struct{ period, before string }{
	{"MONTH", `{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":`},
	{"WEEK", `{"__typename":"WeeklyResetPeriodConfig","weeklyAccordingTo":`},
	{"YEAR", `{"__typename":"YearlyResetPeriodConfig","yearlyAccordingTo":`},
}

var anchors = [...]string{
	"SubscriptionStart", "StartOfTheMonth",
	"EverySunday", "EveryMonday", "EveryTuesday", "EveryWednesday", "EveryThursday", "EveryFriday", "EverySaturday",
}

// appendAnchor appends the name of a reset anchor as GraphQL spells it, when it is one in any spelling.
func appendAnchor(dst, name []byte) []byte {
	norm := normalType(string(name))
	for _, anchor := range anchors {
		if norm == normalType(anchor) {
			return jsonscan.AppendQuoted(dst, []byte(anchor))
		}
	}
	return jsonscan.AppendQuoted(dst, name)
}

// appendUsage appends the value of a usage key. What is null is left out, as the 3.x SDK does; v4 spells it out.
func appendUsage(dst []byte, layout Layout, currentUsage []byte, start, end instant) []byte {
	dst = append(dst, `{"currentUsage":`...)
	dst = appendOr(dst, currentUsage, "0")
	if layout == LayoutV4 {
		dst = appendInstantOrNull(dst, `,"usagePeriodStart":`, start)
		dst = appendInstantOrNull(dst, `,"usagePeriodEnd":`, end)
	} else {
		dst = appendInstant(dst, `,"usagePeriodStart":`, start)
		dst = appendInstant(dst, `,"usagePeriodEnd":`, end)
	}
	return append(dst, '}')
}

// appendMetadata appends the value of a metadata key.
func appendMetadata(dst, reason []byte) []byte {
	dst = append(dst, `{"accessDeniedReason":`...)
	if len(reason) <= len(`""`) {
		reason = nil
	}
	dst = appendOr(dst, reason, "null")
	return append(dst, '}')
}
