package entitlement

import (
	"encoding/json"
	"testing"

	segmentio "github.com/segmentio/encoding/json"
)

// usageBody is a usage event of about 300 bytes, snapshotBody an entitlements event of about 1.5 KB: nine tenths and
// one tenth of real traffic.
var (
	usageBody = []byte(`{"__typename":"UsageUpdatedV2","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"customer-000123","resourceId":null,"entitlementReference":{"type":"FEATURE","id":"feature-api-calls"},"usage":{"currentUsage":4300,"usageUpdatedAt":"2026-11-20T11:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z"}}`)

	snapshotBody = []byte(`{"__typename":"EntitlementsUpdated","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"customer-000123","resourceId":null,"entitlements":[` +
		`{"__typename":"Entitlement","isGranted":true,"accessDeniedReason":null,"customerId":null,"resourceId":null,"usageLimit":10000,"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":4211,"requestedUsage":null,"requestedValues":null,"enumValues":null,"entitlementUpdatedAt":"2026-11-20T10:15:30.250Z","usageUpdatedAt":"2026-11-20T10:15:31.900Z","usagePeriodAnchor":"2026-01-15T00:00:00.000Z","usagePeriodStart":"2026-11-15T00:00:00.000Z","usagePeriodEnd":"2036-12-15T00:00:00.000Z","nextResetDate":"2036-12-15T00:00:00.000Z","resetPeriod":"MONTH","resetPeriodConfiguration":{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"},"feature":{"__typename":"EntitlementFeature","featureType":"NUMBER","meterType":"Incremental","featureUnits":"call","featureUnitsPlural":"calls","description":null,"displayName":"API calls","refId":"feature-api-calls","unitTransformation":null},"creditRate":null,"validUntil":null},` +
		`{"__typename":"Entitlement","isGranted":true,"accessDeniedReason":null,"usageLimit":null,"hasUnlimitedUsage":false,"hasSoftLimit":null,"currentUsage":null,"enumValues":null,"entitlementUpdatedAt":"2026-11-20T10:15:30.250Z","usageUpdatedAt":null,"resetPeriod":null,"resetPeriodConfiguration":null,"feature":{"__typename":"EntitlementFeature","featureType":"BOOLEAN","meterType":"None","featureUnits":null,"featureUnitsPlural":null,"description":null,"displayName":"Single sign-on","refId":"feature-sso","unitTransformation":null},"creditRate":null,"validUntil":null}]}`)
)

var benchBodies = map[string][]byte{"usage": usageBody, "snapshot": snapshotBody}

func BenchmarkAppend(b *testing.B) {
	for name, body := range benchBodies {
		b.Run(name, func(b *testing.B) {
			d := decoder(b, Options{})
			in := Input{Body: body, Now: clock, Metadata: map[string]string{"sqs_sent_at": "1795172401000"}}
			var dst []byte
			var err error
			for b.Loop() {
				if dst, _, err = d.Append(dst[:0], in); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
		})
	}
}

// snapshotDoc is the least a general JSON package has to decode for the same result: what is copied stays raw.
type snapshotDoc struct {
	Type     string  `json:"__typename"`
	Customer string  `json:"customerId"`
	Resource *string `json:"resourceId"`
	Items    []struct {
		Feature struct {
			RefID       string          `json:"refId"`
			FeatureType string          `json:"featureType"`
			MeterType   string          `json:"meterType"`
			Units       json.RawMessage `json:"featureUnits"`
			UnitsPlural json.RawMessage `json:"featureUnitsPlural"`
			DisplayName json.RawMessage `json:"displayName"`
		} `json:"feature"`
		UsageLimit   json.RawMessage `json:"usageLimit"`
		Unlimited    bool            `json:"hasUnlimitedUsage"`
		Soft         *bool           `json:"hasSoftLimit"`
		CurrentUsage json.RawMessage `json:"currentUsage"`
		EnumValues   json.RawMessage `json:"enumValues"`
		ValidUntil   json.RawMessage `json:"validUntil"`
		CreditRate   json.RawMessage `json:"creditRate"`
		Reason       json.RawMessage `json:"accessDeniedReason"`
		ResetPeriod  *string         `json:"resetPeriod"`
		ResetConfig  json.RawMessage `json:"resetPeriodConfiguration"`
		UpdatedAt    *string         `json:"entitlementUpdatedAt"`
		UsageAt      *string         `json:"usageUpdatedAt"`
		Anchor       *string         `json:"usagePeriodAnchor"`
		Start        *string         `json:"usagePeriodStart"`
		End          *string         `json:"usagePeriodEnd"`
	} `json:"entitlements"`
	Reference struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"entitlementReference"`
	Usage struct {
		CurrentUsage json.RawMessage `json:"currentUsage"`
		UpdatedAt    string          `json:"usageUpdatedAt"`
		Start        *string         `json:"usagePeriodStart"`
		End          *string         `json:"usagePeriodEnd"`
	} `json:"usage"`
}

// BenchmarkRead compares the ways of reading a body, without making writes of it.
func BenchmarkRead(b *testing.B) {
	for name, body := range benchBodies {
		b.Run(name+"/lexer", func(b *testing.B) {
			var p parser
			for b.Loop() {
				p.lexer, p.now = lex(body), clock.UnixMilli()
				p.ev.reset()
				if !p.body() {
					b.Fatal(p.failure())
				}
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
		})
		for lib, unmarshal := range map[string]func([]byte, any) error{
			"segmentio":     segmentio.Unmarshal,
			"encoding-json": json.Unmarshal,
		} {
			b.Run(name+"/"+lib, func(b *testing.B) {
				for b.Loop() {
					var doc snapshotDoc
					if err := unmarshal(body, &doc); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
			})
		}
		b.Run(name+"/segmentio-no-copy", func(b *testing.B) {
			for b.Loop() {
				var doc snapshotDoc
				if _, err := segmentio.Parse(body, &doc, segmentio.ZeroCopy|segmentio.DontMatchCaseInsensitiveStructFields); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
		})
	}
}
