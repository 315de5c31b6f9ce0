package sources

import "strconv"

// The shapes of the provider's events, as made up by the generate source.

// feature is a feature as the two kinds of event describe it.
type feature struct {
	id      string
	graphql string // the feature object of GraphQL events
	webhook string // the feature object of webhooks
}

var (
	apiCalls = feature{
		id:      "feature-api-calls",
		graphql: `{"__typename":"EntitlementFeature","featureType":"NUMBER","meterType":"Incremental","featureUnits":"call","featureUnitsPlural":"calls","description":null,"displayName":"API calls","refId":"feature-api-calls","unitTransformation":null}`,
		webhook: `{"entityId":"f-1","id":"feature-api-calls","name":"API calls","description":"","featureType":"NUMBER","meterType":"INCREMENTAL","unit":"call","units":"calls","status":"ACTIVE","enumConfiguration":null}`,
	}
	seats = feature{
		id:      "feature-seats",
		graphql: `{"__typename":"EntitlementFeature","featureType":"NUMBER","meterType":"Fluctuating","featureUnits":"seat","featureUnitsPlural":"seats","description":null,"displayName":"Seats","refId":"feature-seats","unitTransformation":null}`,
		webhook: `{"entityId":"f-2","id":"feature-seats","name":"Seats","description":"","featureType":"NUMBER","meterType":"FLUCTUATING","unit":"seat","units":"seats","status":"ACTIVE","enumConfiguration":null}`,
	}
	sso = feature{
		id:      "feature-sso",
		graphql: `{"__typename":"EntitlementFeature","featureType":"BOOLEAN","meterType":"None","featureUnits":null,"featureUnitsPlural":null,"description":null,"displayName":"Single sign-on","refId":"feature-sso","unitTransformation":null}`,
		webhook: `{"entityId":"f-3","id":"feature-sso","name":"Single sign-on","description":"","featureType":"BOOLEAN","meterType":"NONE","unit":null,"units":null,"status":"ACTIVE","enumConfiguration":null}`,
	}
	regions = feature{
		id:      "feature-regions",
		graphql: `{"__typename":"EntitlementFeature","featureType":"ENUM","meterType":"None","featureUnits":null,"featureUnitsPlural":null,"description":null,"displayName":"Regions","refId":"feature-regions","unitTransformation":null}`,
		webhook: `{"entityId":"f-4","id":"feature-regions","name":"Regions","description":"","featureType":"ENUM","meterType":"NONE","unit":null,"units":null,"status":"ACTIVE","enumConfiguration":[{"value":"eu-west","displayName":"EU"},{"value":"us-east","displayName":"US"}]}`,
	}
)

// entitled calls f for each feature of the customer's plan.
func (c *customer) entitled(f func(*feature)) {
	f(&apiCalls)
	f(&seats)
	if plans[c.plan].sso {
		f(&sso)
	}
	if plans[c.plan].areas {
		f(&regions)
	}
}

// metered returns the limit (0: unlimited), usage, and time of the last change of a metered feature.
func (c *customer) metered(f *feature) (limit, usage, at int64, ok bool) {
	switch f {
	case &apiCalls:
		return plans[c.plan].calls, c.calls, c.callsAt, true
	case &seats:
		return plans[c.plan].seats, c.seats, c.seatsAt, true
	}
	return 0, 0, 0, false
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

func appendLimit(b []byte, limit int64, metered bool) []byte {
	if !metered || limit == 0 {
		b = append(b, `null`...)
	} else {
		b = appendInt(b, limit)
	}
	if metered && limit == 0 {
		return append(b, `,"hasUnlimitedUsage":true`...)
	}
	return append(b, `,"hasUnlimitedUsage":false`...)
}

// usageV2 is UsageUpdatedV2.
func (g *generator) usageV2(b []byte, c *customer, f *feature, now int64) []byte {
	_, usage, _, _ := c.metered(f)
	b = append(b, `{"__typename":"UsageUpdatedV2","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"`...)
	b = append(b, c.id...)
	b = append(b, `","resourceId":null,"entitlementReference":{"type":"FEATURE","id":"`...)
	b = append(b, f.id...)
	b = append(b, `"},"usage":{"currentUsage":`...)
	b = appendInt(b, usage)
	b = append(b, `,"usageUpdatedAt":"`...)
	b = g.iso.append(b, now)
	if f != &apiCalls {
		return append(b, `","usagePeriodStart":null,"usagePeriodEnd":null}}`...)
	}
	b = append(b, `","usagePeriodStart":"`...)
	b = append(b, g.period.startText...)
	b = append(b, `","usagePeriodEnd":"`...)
	b = append(b, g.period.endText...)
	return append(b, `"}}`...)
}

// usageV1 is UsageUpdated, whose usage has epoch milliseconds and whose entitlement has ISO times.
func (g *generator) usageV1(b []byte, c *customer, f *feature, now int64) []byte {
	_, usage, _, _ := c.metered(f)
	b = append(b, `{"__typename":"UsageUpdated","usage":{"__typename":"UsageMeasurementUpdated","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"`...)
	b = append(b, c.id...)
	b = append(b, `","resourceId":null,"featureId":"`...)
	b = append(b, f.id...)
	b = append(b, `","currentUsage":`...)
	b = appendInt(b, usage)
	if f == &apiCalls {
		b = append(b, `,"usagePeriodStart":`...)
		b = append(b, g.period.startMillis...)
		b = append(b, `,"usagePeriodEnd":`...)
		b = append(b, g.period.endMillis...)
		b = append(b, `,"nextResetDate":`...)
		b = append(b, g.period.endMillis...)
	} else {
		b = append(b, `,"usagePeriodStart":null,"usagePeriodEnd":null,"nextResetDate":null`...)
	}
	b = append(b, `},"entitlement":`...)
	b = g.item(b, c, f, now, false)
	return append(b, '}')
}

// measurement is the webhook measurement.reported.
func (g *generator) measurement(b []byte, c *customer, f *feature, now int64) []byte {
	limit, usage, _, _ := c.metered(f)
	b = g.webhook(b, "measurement.reported", now)
	b = append(b, `,"currentChange":1,"usageUsedPercentage":`...)
	if limit > 0 {
		b = appendInt(b, usage*100/limit)
	} else {
		b = append(b, `null`...)
	}
	b = append(b, `,"currentUsage":`...)
	b = appendInt(b, usage)
	b = append(b, `,"usageLimit":`...)
	b = appendLimit(b, limit, true)
	b = g.webhookPeriod(b, f)
	b = append(b, `,"feature":`...)
	b = append(b, f.webhook...)
	b = append(b, `,"customer":{"entityId":"c-`...)
	b = append(b, c.number...)
	b = append(b, `","id":"`...)
	b = append(b, c.id...)
	b = append(b, `","name":"Customer `...)
	b = append(b, c.number...)
	return append(b, `","email":null},"resource":null,"activeSubscriptions":[]}`...)
}

// entitlementsWebhook is the webhook entitlements.updated, which has no times but its own.
func (g *generator) entitlementsWebhook(b []byte, c *customer, now int64) []byte {
	b = g.webhook(b, "entitlements.updated", now)
	b = append(b, `,"trigger":"subscription_updated","customer":{"id":"`...)
	b = append(b, c.id...)
	b = append(b, `","name":"Customer `...)
	b = append(b, c.number...)
	b = append(b, `","email":"ops@`...)
	b = append(b, c.id...)
	b = append(b, `.example","billingId":null},"resource":null,"entitlements":[`...)
	c.entitled(func(f *feature) {
		limit, usage, _, metered := c.metered(f)
		if f != &apiCalls {
			b = append(b, ',')
		}
		b = append(b, `{"feature":`...)
		b = append(b, f.webhook...)
		b = append(b, `,"usageLimit":`...)
		b = appendLimit(b, limit, metered)
		b = append(b, `,"hasSoftLimit":false,"currentUsage":`...)
		if metered {
			b = appendInt(b, usage)
		} else {
			b = append(b, `null`...)
		}
		b = g.webhookPeriod(b, f)
		if f == &regions {
			b = append(b, `,"enumValues":["eu-west","us-east"],"creditBalance":null}`...)
		} else {
			b = append(b, `,"enumValues":null,"creditBalance":null}`...)
		}
	})
	b = append(b, `],"environmentId":"env-2b40","entitlementsUpdatedAt":"`...)
	b = g.iso.append(b, now)
	return append(b, `","actor":{"type":"SYSTEM"}}`...)
}

// webhook begins a webhook's object.
func (g *generator) webhook(b []byte, kind string, now int64) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, kind...)
	b = append(b, `","messageId":"`...)
	b = g.hex(b)
	b = append(b, `","traceId":"`...)
	b = g.hex(b)
	b = append(b, `","timestamp":"`...)
	b = g.iso.append(b, now)
	return append(b, '"')
}

func (g *generator) webhookPeriod(b []byte, f *feature) []byte {
	if f != &apiCalls {
		return append(b, `,"usagePeriodAnchor":null,"usagePeriodStart":null,"usagePeriodEnd":null,"resetPeriod":null,"resetPeriodConfiguration":null`...)
	}
	b = append(b, `,"usagePeriodAnchor":"`...)
	b = append(b, g.period.startText...)
	b = append(b, `","usagePeriodStart":"`...)
	b = append(b, g.period.startText...)
	b = append(b, `","usagePeriodEnd":"`...)
	b = append(b, g.period.endText...)
	return append(b, `","resetPeriod":"MONTH","resetPeriodConfiguration":{"accordingTo":"StartOfTheMonth"}`...)
}

// entitlements is EntitlementsUpdatedV2 or EntitlementsUpdated.
func (g *generator) entitlements(b []byte, c *customer, now int64, v2 bool) []byte {
	if v2 {
		b = append(b, `{"__typename":"EntitlementsUpdatedV2"`...)
	} else {
		b = append(b, `{"__typename":"EntitlementsUpdated"`...)
	}
	b = append(b, `,"accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"`...)
	b = append(b, c.id...)
	b = append(b, `","resourceId":null`...)
	if v2 {
		b = append(b, `,"accessDeniedReason":null`...)
	}
	b = append(b, `,"entitlements":[`...)
	c.entitled(func(f *feature) {
		if f != &apiCalls {
			b = append(b, ',')
		}
		b = g.item(b, c, f, now, v2)
	})
	return append(b, `]}`...)
}

// item is a FeatureEntitlement or an Entitlement. Its usage is as old as it is.
func (g *generator) item(b []byte, c *customer, f *feature, now int64, v2 bool) []byte {
	limit, usage, at, metered := c.metered(f)
	if v2 {
		b = append(b, `{"__typename":"FeatureEntitlement","isGranted":true,"accessDeniedReason":null,"usageLimit":`...)
	} else {
		b = append(b, `{"__typename":"Entitlement","isGranted":true,"accessDeniedReason":null,"customerId":null,"resourceId":null,"usageLimit":`...)
	}
	b = appendLimit(b, limit, metered)
	b = append(b, `,"hasSoftLimit":false,"currentUsage":`...)
	if metered {
		b = appendInt(b, usage)
	} else {
		b = append(b, `null`...)
	}
	if !v2 {
		b = append(b, `,"requestedUsage":null,"requestedValues":null`...)
	}
	if f == &regions {
		b = append(b, `,"enumValues":["eu-west","us-east"]`...)
	} else {
		b = append(b, `,"enumValues":null`...)
	}
	b = append(b, `,"entitlementUpdatedAt":"`...)
	b = g.iso.append(b, now)
	if metered {
		b = append(b, `","usageUpdatedAt":"`...)
		b = g.iso.append(b, at)
		b = append(b, '"')
	} else {
		b = append(b, `","usageUpdatedAt":null`...)
	}
	if f == &apiCalls {
		b = append(b, `,"usagePeriodAnchor":"`...)
		b = append(b, g.period.startText...)
		b = append(b, `","usagePeriodStart":"`...)
		b = append(b, g.period.startText...)
		b = append(b, `","usagePeriodEnd":"`...)
		b = append(b, g.period.endText...)
		if !v2 {
			b = append(b, `","nextResetDate":"`...)
			b = append(b, g.period.endText...)
		}
		b = append(b, `","resetPeriod":"MONTH","resetPeriodConfiguration":{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"StartOfTheMonth"}`...)
	} else {
		b = append(b, `,"usagePeriodAnchor":null,"usagePeriodStart":null,"usagePeriodEnd":null`...)
		if !v2 {
			b = append(b, `,"nextResetDate":null`...)
		}
		b = append(b, `,"resetPeriod":null,"resetPeriodConfiguration":null`...)
	}
	b = append(b, `,"feature":`...)
	b = append(b, f.graphql...)
	return append(b, `,"creditRate":null,"validUntil":null}`...)
}
