package transforms

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline"
)

// DecodeEntitlementsConfig turns an entitlement provider's events into cache writes: the payload becomes one write a
// line (package cache). Events that change nothing in the cache by a rule are filtered; docs/events.md lists them.
// Everything else that doesn't decode is a permanent error that says what is wrong and where.
//
// It writes what the event says, with the event's own clocks, so the order of arrival and duplicates don't matter,
// unless update_policy or usage make writes depend on what is cached.
type DecodeEntitlementsConfig struct {
	// Keys and values to write: "dual" is read by the provider's SDKs 3.x and 4.x, "v3" is what SDK 3.x itself
	// writes, "v4" is the layout of SDK 4.12 and later, credits included, as far as it is known.
	Layout string `yaml:"layout" default:"dual" enum:"dual,v3,v4"`
	// Which events are written: all ("upsert"), or only those of which some key is cached ("update_if_exists"; then the
	// order of arrival matters).
	UpdatePolicy string `yaml:"update_policy" default:"upsert" enum:"upsert,update_if_exists"`
	// Which usage events are written: all ("always"), or only those of customers, or resources, whose entitlements are
	// cached ("if_customer_cached", as SDK 4.x does; then the order of arrival matters).
	Usage string `yaml:"usage" default:"always" enum:"always,if_customer_cached"`
	// Whether the customer's id is a hash tag in all keys, c_{customer}, so that in a Redis Cluster all keys of a
	// customer are in one hash slot. For readers of your own, such as penstock inspect: the provider's SDKs don't
	// look for such keys.
	HashTags bool `yaml:"hash_tags" default:"false"`
	// Event types beyond the known ones, in any spelling, and what they mean: entitlements, usage, credit, purge,
	// ignore, or, in refresh_entitlements, refresh.
	Types map[string]string `yaml:"types" enum:"entitlements,usage,credit,purge,ignore,refresh" example:"{plan.changed: entitlements}"`
	// Where events keep what the decoder needs, for spellings beyond the known ones.
	Fields DecodeEntitlementsFields `yaml:"fields" example:"{customer: $.data.customer}"`
}

// DecodeEntitlementsFields are places in an event: paths from its top, such as "$.a.b" or "$.a[0].b". Where a path
// leads to nothing, the known spellings are used.
type DecodeEntitlementsFields struct {
	// Path of the event's type.
	Type string `yaml:"type" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.type"`
	// Path of the customer's id, or of an object with an id.
	Customer string `yaml:"customer" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.customer"`
	// Path of the resource's id, or of an object with an id.
	Resource string `yaml:"resource" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.resource"`
	// Path of the event's own time: ISO 8601 or epoch milliseconds.
	Timestamp string `yaml:"timestamp" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.timestamp"`
	// Path of the list of entitlements.
	Entitlements string `yaml:"entitlements" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.entitlements"`
	// Path of the reason why a customer has no entitlements.
	AccessDeniedReason string `yaml:"access_denied_reason" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.access_denied_reason"`
	// Path of the id of a usage event's feature.
	Feature string `yaml:"feature" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.feature"`
	// Path of the id of a credit event's currency.
	Currency string `yaml:"currency" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.currency"`
	// Path of the number that is the current usage.
	CurrentUsage string `yaml:"current_usage" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.current_usage"`
	// Path of the time of the usage: ISO 8601 or epoch milliseconds.
	UsageUpdatedAt string `yaml:"usage_updated_at" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.usage_updated_at"`
	// Path of the begin of the usage period: ISO 8601 or epoch milliseconds.
	UsagePeriodStart string `yaml:"usage_period_start" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.usage_period_start"`
	// Path of the end of the usage period: ISO 8601 or epoch milliseconds.
	UsagePeriodEnd string `yaml:"usage_period_end" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.usage_period_end"`
	// Path of the number that is what has been consumed of a credit.
	TotalConsumed string `yaml:"total_consumed" pattern:"^\\$((\\.[^.\\[]+)|(\\[[0-9]+\\]))+$" want:"a path such as $.a.b or $.a[0].b" example:"$.data.total_consumed"`
}

// Validate reports all broken rules at once.
func (c *DecodeEntitlementsConfig) Validate() error {
	var errs []error
	for name, kind := range c.Types {
		if !slices.Contains(entitlement.Kinds(), entitlement.Kind(kind)) {
			errs = append(errs, code.Mark(code.BadForm, pipeline.Invalid("types."+name, "want entitlements, usage, credit, purge, ignore or refresh, got %q", plaintext.Cut(kind))))
		}
	}
	for _, f := range []struct{ name, path string }{
		{"type", c.Fields.Type},
		{"customer", c.Fields.Customer},
		{"resource", c.Fields.Resource},
		{"timestamp", c.Fields.Timestamp},
		{"entitlements", c.Fields.Entitlements},
		{"access_denied_reason", c.Fields.AccessDeniedReason},
		{"feature", c.Fields.Feature},
		{"currency", c.Fields.Currency},
		{"current_usage", c.Fields.CurrentUsage},
		{"usage_updated_at", c.Fields.UsageUpdatedAt},
		{"usage_period_start", c.Fields.UsagePeriodStart},
		{"usage_period_end", c.Fields.UsagePeriodEnd},
		{"total_consumed", c.Fields.TotalConsumed},
	} {
		if f.path == "" {
			continue
		}
		if err := entitlement.ParsePath(f.path); err != nil {
			errs = append(errs, code.Mark(code.BadForm, pipeline.Invalid("fields."+f.name, "%w", err)))
		}
	}
	return errors.Join(errs...)
}

// Check reports types that are to be refreshed, when there is nobody to ask.
func (c *DecodeEntitlementsConfig) Check(*pipeline.Config) error {
	var errs []error
	for name, kind := range c.Types {
		if entitlement.Kind(kind) == entitlement.KindRefresh {
			errs = append(errs, code.Mark(code.NobodyToAsk, pipeline.Invalid("types."+name, "refresh needs an API to ask: refresh_entitlements, with an api_key")))
		}
	}
	return errors.Join(errs...)
}

// HashTagged reports whether the keys of a customer share a hash tag: sinks into a cluster ask.
func (c *DecodeEntitlementsConfig) HashTagged() bool { return c.HashTags }

var _ configfacts.HashTagger = (*DecodeEntitlementsConfig)(nil)

func (c *DecodeEntitlementsConfig) options() entitlement.Options {
	o := entitlement.Options{
		Layout:         entitlement.Layout(c.Layout),
		UpdateIfExists: c.UpdatePolicy == "update_if_exists",
		UsageIfCached:  c.Usage == "if_customer_cached",
		HashTags:       c.HashTags,
		Fields:         entitlement.Fields(c.Fields),
	}
	if len(c.Types) > 0 {
		o.Types = map[string]entitlement.Kind{}
	}
	for name, kind := range c.Types {
		o.Types[name] = entitlement.Kind(kind)
	}
	return o
}

// NewTransform makes the transform. It is safe for concurrent use.
func (c *DecodeEntitlementsConfig) NewTransform(env pipeline.Env) (pipeline.Transform, error) {
	t, err := newDecodeEntitlements(c.options(), env)
	if err != nil {
		return nil, err
	}
	return t.transform, nil
}

func newDecodeEntitlements(options entitlement.Options, env pipeline.Env) (*decodeEntitlements, error) {
	decoder, err := entitlement.NewDecoder(options)
	if err != nil {
		return nil, err
	}
	logger := env.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	t := &decodeEntitlements{
		decoder: decoder,
		logger:  logger,
		layout:  string(options.Layout),
		undated: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "penstock_undated_events_total",
			Help: "Events that carry no time, nor does what came with them: only their arrival orders them.",
		})),
		ambiguous: map[string]struct{}{},
	}
	t.buffers.New = func() any { return new([]byte) }
	return t, nil
}

type decodeEntitlements struct {
	decoder *entitlement.Decoder
	logger  *zap.Logger
	layout  string
	undated prometheus.Counter
	buffers sync.Pool
	rate    failureRate
	refresh func(*message.Message, entitlement.Event) ([]*message.Message, error) // what doesn't say enough; nil: nobody can

	creditsTold sync.Once

	mu        sync.Mutex
	ambiguous map[string]struct{} // ids that have been logged
}

// undatedKey remembers when an event without a time was received, so that its attempts agree.
type undatedKey struct{ uuid string }

func (t *decodeEntitlements) transform(msg *message.Message) ([]*message.Message, error) {
	buffer := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buffer)
	in := entitlement.Input{Body: msg.Payload, Metadata: msg.Metadata, Now: pipeline.Now(msg.Context())}
	payload, event, err := t.decoder.Append((*buffer)[:0], in)
	if err == nil && event.Undated {
		first := in.Now
		in.Now = pipeline.DeliveryValue(msg.Context(), undatedKey{msg.UUID}, func() any {
			t.undated.Inc()
			return first
		}).(time.Time)
		if !in.Now.Equal(first) {
			payload, event, err = t.decoder.Append(payload[:0], in)
		}
	}
	*buffer = payload
	n := t.rate.bodies.Add(1)
	if err != nil {
		if t.rate.failed(n, in.Now) {
			complaint.Warn(t.logger, "more than 1 % of the last 1000 bodies don't decode", zap.NamedError("last", err))
		}
		return nil, pipeline.Permanent(err)
	}
	if event.Ambiguous != "" {
		t.tellAmbiguous(event.Ambiguous)
	}
	if event.Refresh != "" {
		if event.Undecoded && t.rate.failed(n, in.Now) {
			complaint.Warn(t.logger, "more than 1 % of the last 1000 bodies don't decode, and are refreshed", zap.String("last", event.Refresh))
		}
		return t.refresh(msg, event)
	}
	if event.Filtered != "" {
		if event.Kind != entitlement.KindIgnored {
			t.creditsTold.Do(func() {
				t.logger.Info("credit events are filtered", zap.String("why", event.Filtered), zap.String("layout", t.layout))
			})
		}
		return nil, nil
	}
	msg.Payload = bytes.Clone(payload)
	return []*message.Message{msg}, nil
}

// mostAmbiguous bounds the memory for ids that have been logged.
const mostAmbiguous = 1000

// tellAmbiguous logs an id once whose keys may be those of something else too.
func (t *decodeEntitlements) tellAmbiguous(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, told := t.ambiguous[id]; told || len(t.ambiguous) > mostAmbiguous {
		return
	}
	t.ambiguous[id] = struct{}{}
	if len(t.ambiguous) > mostAmbiguous {
		complaint.Warn(t.logger, "too many ambiguous ids: further ones are not logged")
		return
	}
	complaint.Warn(t.logger, "id makes keys ambiguous: another id's key may be the same", zap.String("id", id))
}

// failureRate tells when more than 1 % of the last 1,000 bodies failed. Bodies that decode cost one atomic addition.
type failureRate struct {
	bodies atomic.Int64

	mu     sync.Mutex
	recent [11]int64 // numbers of the last failures, a ring
	next   int
	told   time.Time
}

// failed notes that body number n failed, and reports whether to log: at most once a minute.
func (r *failureRate) failed(n int64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent[r.next] = n
	r.next = (r.next + 1) % len(r.recent)
	// The oldest of eleven failures: with it, 11 of the last 1,000 failed if it is one of those.
	oldest := r.recent[r.next]
	if oldest == 0 || n-oldest >= 1000 || !r.told.IsZero() && now.Sub(r.told) < time.Minute {
		return false
	}
	r.told = now
	return true
}
