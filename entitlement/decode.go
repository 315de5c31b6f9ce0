package entitlement

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/rfc3339"
)

// Options say how events become writes. The zero value of a field is its default.
type Options struct {
	// Layout is the set of keys and values to write; "" is [LayoutDual].
	Layout Layout
	// UpdateIfExists makes every write conditional: it is carried out only when one of the event's keys has a stored
	// version. It gives up independence of the order of arrival.
	UpdateIfExists bool
	// UsageIfCached makes the writes of usage and credit events conditional on the version of the customer's (or its
	// resource's) entitlements. It gives up independence of the order of arrival.
	UsageIfCached bool
	// HashTags makes the customer's id a hash tag in all keys: see [TaggedCustomerKey].
	HashTags bool
	// Types are event types beyond those that are known, in any spelling, and what they mean. They come before the known
	// ones.
	Types map[string]Kind
	// Fields are places of what the decoder needs, beyond those that are known.
	Fields Fields
	// Refresh tells that somebody can ask for a customer's entitlements ([Refresher]). Events that name a customer
	// and don't say enough make no writes then, and are no errors: [Event.Refresh].
	Refresh bool
}

// Decoder turns events into cache writes. It is immutable and safe for concurrent use.
type Decoder struct {
	layout         Layout
	updateIfExists bool
	usageIfCached  bool
	hashTags       bool
	refresh        bool
	types          map[string]Kind
	fields         []mapping
	subjectFields  []mapping // those of the ids
	pool           sync.Pool
}

// NewDecoder returns a decoder, or an error that says everything that is wrong with the options.
func NewDecoder(o Options) (*Decoder, error) {
	d := &Decoder{
		layout: o.Layout, updateIfExists: o.UpdateIfExists, usageIfCached: o.UsageIfCached, hashTags: o.HashTags, refresh: o.Refresh,
	}
	var errs []error
	switch o.Layout {
	case "":
		d.layout = LayoutDual
	case LayoutDual, LayoutV3, LayoutV4:
	default:
		errs = append(errs, fmt.Errorf("layout: want dual, v3 or v4, got %q", o.Layout))
	}
	for name, kind := range o.Types {
		norm := normalType(name)
		switch {
		case kind == KindRefresh && !o.Refresh:
			errs = append(errs, fmt.Errorf("types.%s: refresh: there is nobody to ask", name))
		case !slices.Contains(Kinds(), kind):
			errs = append(errs, fmt.Errorf("types.%s: want entitlements, usage, credit, purge, ignore or refresh, got %q", name, kind))
		}
		if norm == "" || len(norm) > 63 {
			errs = append(errs, fmt.Errorf("types: want a name of 1 to 63 characters, got %q", name))
		}
		if d.types == nil {
			d.types = map[string]Kind{}
		}
		d.types[norm] = kind
	}
	fields, err := o.Fields.mappings()
	if err != nil {
		errs = append(errs, fmt.Errorf("fields: %w", err))
	}
	d.fields = fields
	d.subjectFields, _ = Fields{Customer: o.Fields.Customer, Resource: o.Fields.Resource}.mappings()
	d.pool.New = func() any { return &scratch{d: d} }
	return d, errors.Join(errs...)
}

// Input is one event and what came with it.
type Input struct {
	// Body is the event: one JSON object, out of its envelopes. It is not changed and not kept.
	Body []byte
	// Metadata is what the source and the envelopes told; it may be nil. These keys are looked at, where the body doesn't
	// say it itself: envelope_type (the event's type), and for its time, in this order, envelope_time, sqs_first_sent_at,
	// sqs_sent_at, recorded_at; times are RFC 3339, or epoch milliseconds. What is neither is passed over.
	Metadata map[string]string
	// Now is the clock: the time of an event that has none, and what is too far in the future.
	Now time.Time
}

// Event is what became of one body.
type Event struct {
	// Kind of the event.
	Kind Kind
	// Writes is how many writes it made; 0 when it is filtered.
	Writes int
	// Filtered says why it made no writes, such as `event type "customer.created" changes nothing in the cache`; ""
	// when it made some.
	Filtered string
	// Time is when the event was true, in epoch milliseconds; 0 when it is filtered.
	Time int64
	// Undated tells that the time is the clock's, because the event and what came with it have none.
	Undated bool
	// Ambiguous is an id in it whose key may be that of something else, or "" (see [AmbiguousID]).
	Ambiguous string
	// Refresh says why the entitlements of Subject are to be asked for, such as `entitlements: missing`; "" when the
	// event says enough. Only with [Options.Refresh]. Time then is when the event was sent, 0 when that isn't known.
	Refresh string
	// Subject is whom the event is about; only with Refresh.
	Subject Subject
	// Undecoded tells that the event doesn't decode, as Refresh says; otherwise it is one that is refreshed by rule.
	Undecoded bool
}

// Append decodes one event and appends its writes to dst, one a line in the wire form of [cache.Append], in this order:
// entitlements, metadata, usage. It returns the extended slice.
//
// An event that changes nothing in the cache by a rule appends nothing and says so in [Event.Filtered]. Everything else
// that doesn't decode, as a whole, is an [*Error], and nothing is appended.
func (d *Decoder) Append(dst []byte, in Input) ([]byte, Event, error) {
	s := d.pool.Get().(*scratch)
	s.reset(in)
	ev, err := s.decode()
	if d.refresh {
		ev, err = s.orRefresh(ev, err)
	}
	if err == nil {
		dst = s.appendWrites(dst)
		ev.Writes = len(s.writes)
	}
	s.Text, s.meta = nil, nil
	d.pool.Put(s)
	if err != nil {
		return dst, Event{}, err
	}
	return dst, ev, nil
}

// Decode is [Decoder.Append] for programs that want the writes themselves. They share memory of their own.
func (d *Decoder) Decode(in Input) ([]cache.Write, Event, error) {
	payload, ev, err := d.Append(nil, in)
	if err != nil {
		return nil, ev, err
	}
	writes, err := cache.Parse(nil, payload)
	return writes, ev, err
}

// scratch is the memory of one decoding at a time.
type scratch struct {
	d *Decoder
	parser
	meta map[string]string

	keys, values []byte // that the spans point into
	writes       []pending
	conditions   []span
	conditionBuf []string
	lock         span
	ids          map[string]int // of a long list, to find those that come twice
}

// pending is a write whose strings still are spans of keys and values.
type pending struct {
	key, value    span
	version, asOf int64
	delete        bool
}

func (s *scratch) reset(in Input) {
	s.lexer = lex(in.Body)
	s.now = in.Now.UnixMilli()
	s.meta = in.Metadata
	s.ev.reset()
	s.keys, s.values = s.keys[:0], s.values[:0]
	s.writes, s.conditions = s.writes[:0], s.conditions[:0]
}

func (s *scratch) decode() (Event, error) {
	ok := s.body()
	for i := 0; ok && i < len(s.d.fields); i++ {
		ok = s.d.fields[i].apply(&s.parser)
	}
	if !ok {
		failed := s.failure()
		if name, ignored := s.ignoredAllTheSame(); ignored {
			return filteredType(name), nil
		}
		return Event{}, failed
	}
	t, err := s.kind()
	if err != nil {
		return Event{}, err
	}
	switch t.kind {
	case KindEntitlements:
		return s.entitlements(t.v2)
	case KindUsage:
		return s.usage()
	case KindCredit:
		return s.credit(t.grant)
	case KindPurge:
		return s.purge(Event{Kind: KindPurge})
	case KindRefresh:
		return Event{Kind: KindRefresh}, nil
	default:
		return filteredType(s.typeName()), nil
	}
}

func filteredType(name []byte) Event {
	return Event{Kind: KindIgnored, Filtered: "event type " + strconv.Quote(jsonscan.Clip(name)) + " changes nothing in the cache"}
}

func (s *scratch) typeName() []byte {
	switch {
	case len(s.ev.typ) > 0:
		return s.ev.typ
	case len(s.ev.typename) > 0:
		return s.ev.typename
	case s.ev.packageSeen && s.ev.migrationSeen:
		return []byte("PackagePublished")
	}
	return []byte(s.meta["envelope_type"])
}

// ignoredAllTheSame looks whether a body that doesn't read as an event of ours is of an ignored type: those may have
// any members, but must be JSON.
func (s *scratch) ignoredAllTheSame() (name []byte, ignored bool) {
	l := lex(s.Text)
	if _, ok := l.skip(); !ok || !l.end() {
		return nil, false
	}
	l.At = 0
	if l.Peek() != '{' {
		return nil, false
	}
	l.At++
	var typ, typename []byte
	for first := true; ; {
		member, ok := l.Member(&first)
		if !ok {
			break
		}
		switch {
		case string(member) == "type" && l.Peek() == '"':
			ok = l.str(&typ)
		case string(member) == "__typename" && l.Peek() == '"':
			ok = l.str(&typename)
		default:
			_, ok = l.skip()
		}
		if !ok {
			return nil, false
		}
	}
	for _, name := range [][]byte{typ, typename} {
		if t, known := s.d.lookupType(name); known {
			return name, t.kind == KindIgnored
		}
	}
	return nil, false
}

// kind says what the event is: by its type in the body, else by the type that its envelope told, else by its shape.
func (s *scratch) kind() (t typeOf, err error) {
	e := &s.ev
	known := false
	for _, name := range [2][]byte{e.typ, e.typename} {
		if len(name) == 0 {
			continue
		}
		if t, known = s.d.lookupType(name); known {
			break
		}
	}
	v1 := fold(e.typename, "ENTITLEMENTSUPDATED")
	if !known {
		if name := s.typeNameInBody(); name != nil {
			return t, errorAt(s.typePath(), reason.Errorf("unknown event type %q", jsonscan.Clip(name)))
		}
		if hint := s.meta["envelope_type"]; hint != "" {
			t, known = s.d.lookupType([]byte(hint))
			v1 = fold([]byte(hint), "ENTITLEMENTSUPDATED")
		}
	}
	if !known {
		switch {
		case e.listSeen:
			t.kind = KindEntitlements
		case e.usageSeen || e.currentUsage != nil && e.feature != nil:
			t.kind = KindUsage
		case e.totalConsumed != nil && e.currency != nil:
			t.kind = KindCredit
		case e.packageSeen && e.migrationSeen:
			t.kind = KindIgnored
		default:
			return t, errorAt("", reason.New("neither an event type nor the shape of a known event"))
		}
	}
	// GraphQL's V1 event says so by its name; where the name leaves it open, the members that only V2 has decide.
	t.v2 = t.v2 || e.itemsV2 || e.reasonSeen && !v1
	return t, nil
}

func (s *scratch) typeNameInBody() []byte {
	if len(s.ev.typ) > 0 {
		return s.ev.typ
	}
	if len(s.ev.typename) > 0 {
		return s.ev.typename
	}
	return nil
}

func (s *scratch) typePath() string {
	if len(s.ev.typ) > 0 {
		return "type"
	}
	return "__typename"
}

// hinted reads the time that the source or an envelope told.
func (s *scratch) hinted() (int64, bool) {
	if len(s.meta) == 0 {
		return 0, false
	}
	for _, key := range [...]string{"envelope_time", "sqs_first_sent_at", "sqs_sent_at", "recorded_at"} {
		text, ok := s.meta[key]
		if !ok {
			continue
		}
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
			return ms, true
		}
		if t, ok := rfc3339.Parse(text); ok {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

// eventTime is when the event was true (AsOf): its own time, else the newest time in it, else what the envelope and the
// source told, else the clock.
func (s *scratch) eventTime(newest instant) (ms int64, undated bool, err error) {
	e := &s.ev
	switch {
	case e.timestamp.ok:
		return e.timestamp.ms, false, nil
	case e.entitlementsUpdatedAt.ok:
		return e.entitlementsUpdatedAt.ms, false, nil
	case newest.ok:
		return newest.ms, false, nil
	}
	ms, ok := s.hinted()
	if !ok {
		return s.now, true, nil
	}
	if what := checkClock(ms, s.now); what != fine {
		return 0, false, errorAt("metadata", reason.Errorf("%s: %d", what, ms))
	}
	return ms, false, nil
}

// customerKey begins the keys of the event with that of the customer or its resource, and sets the lock.
func (s *scratch) customerKey(ev *Event) (span, error) {
	e := &s.ev
	if e.customer == nil {
		return span{}, errorAt("customerId", errMissing)
	}
	s.ambiguous(ev, e.customer)
	s.ambiguous(ev, e.resource)
	from := len(s.keys)
	s.keys = append(s.keys, customerPrefix...)
	if s.d.hashTags {
		if bytes.HasPrefix(e.customer, []byte("}")) {
			return span{}, errorAt("customerId", reason.Errorf("begins with }, which can't be in a hash tag: %q", e.customer))
		}
		s.keys = append(s.keys, '{')
	}
	s.keys = append(s.keys, e.customer...)
	to := len(s.keys)
	if s.d.hashTags {
		s.keys = append(s.keys, '}')
	}
	if e.resource != nil {
		s.keys = append(s.keys, resourcePart...)
		s.keys = append(s.keys, e.resource...)
	}
	key := span{from, len(s.keys)}
	if s.d.hashTags {
		return key, nil // no SDK writes these keys, so none locks them
	}
	if e.resource == nil {
		s.lock = span{to - len(e.customer), to}
		return key, nil
	}
	s.lock.from = len(s.keys)
	s.keys = append(s.keys, e.customer...)
	s.keys = append(s.keys, ':')
	s.keys = append(s.keys, e.resource...)
	s.lock.to = len(s.keys)
	return key, nil
}

// under makes a key of base and what comes after it.
func (s *scratch) under(base span, part string, id []byte) span {
	from := len(s.keys)
	s.keys = append(s.keys, s.keys[base.from:base.to]...)
	s.keys = append(s.keys, part...)
	s.keys = append(s.keys, id...)
	return span{from, len(s.keys)}
}

func (s *scratch) valueSince(from int) span { return span{from, len(s.values)} }

func (s *scratch) ambiguous(ev *Event, id []byte) {
	if ev.Ambiguous == "" && (bytes.IndexByte(id, ':') >= 0 || bytes.IndexByte(id, '#') >= 0) && AmbiguousID(string(id)) {
		ev.Ambiguous = string(id)
	}
}

// AmbiguousID reports whether a key made of the id may be that of something else too: customer "a:r_b" and resource
// "b" of customer "a" share one key. The provider's layout has no escape for it.
func AmbiguousID(id string) bool {
	for _, part := range [...]string{resourcePart, featurePart, creditPart, metadataSuffix, versionSuffix} {
		if strings.Contains(id, part) {
			return true
		}
	}
	return false
}

func (s *scratch) entitlements(v2 bool) (Event, error) {
	e := &s.ev
	ev := Event{Kind: KindEntitlements}
	if !e.listSeen {
		return ev, errorAt("entitlements", errMissing)
	}
	if len(e.items) == 0 && v2 && len(e.reason) <= len(`""`) {
		return s.purge(ev)
	}
	s.dropRepeated()
	// The newest times are looked for in all items, credits that the layout leaves out included.
	var newestEntitlement, newest instant
	for i := range e.items {
		it := &e.items[i]
		if it.entitlementUpdatedAt.ok && it.entitlementUpdatedAt.ms > newestEntitlement.ms {
			newestEntitlement = it.entitlementUpdatedAt
		}
		if it.usageUpdated.ok && it.usageUpdated.ms > newest.ms {
			newest = it.usageUpdated
		}
	}
	if newestEntitlement.ms > newest.ms {
		newest = newestEntitlement
	}
	asOf, undated, err := s.eventTime(newest)
	if err != nil {
		return ev, err
	}
	ev.Time, ev.Undated = asOf, undated
	version := asOf
	switch {
	case newestEntitlement.ok:
		version = newestEntitlement.ms
	case e.entitlementsUpdatedAt.ok:
		version = e.entitlementsUpdatedAt.ms
	}
	base, err := s.customerKey(&ev)
	if err != nil {
		return ev, err
	}
	s.values = appendSnapshot(s.values, s.d.layout, e.items, asOf)
	s.writes = append(s.writes, pending{key: base, value: s.valueSince(0), version: version, asOf: asOf})
	if s.d.layout != LayoutV3 {
		from := len(s.values)
		s.values = appendMetadata(s.values, e.reason)
		s.writes = append(s.writes, pending{
			key: s.under(base, metadataSuffix, nil), value: s.valueSince(from), version: version, asOf: asOf,
		})
	}
	for i := range e.items {
		it := &e.items[i]
		part := featurePart
		switch {
		case it.credit && s.d.layout == LayoutV4:
			part = creditPart
		case !it.metered():
			continue
		}
		s.ambiguous(&ev, it.id)
		from := len(s.values)
		start := it.start
		if it.credit {
			start = instant{}
		}
		s.values = appendUsage(s.values, s.d.layout, it.currentUsage, start, it.end)
		s.writes = append(s.writes, pending{
			key: s.under(base, part, it.id), value: s.valueSince(from), version: it.usageTime(asOf),
		})
	}
	if s.d.updateIfExists {
		for i := range s.writes {
			s.conditions = append(s.conditions, s.writes[i].key)
		}
	}
	return ev, nil
}

// dropRepeated keeps the last of several items with one id, as a reader's map would.
func (s *scratch) dropRepeated() {
	items := s.ev.items
	const few = 32
	repeated := false
	if len(items) <= few {
		for i := range items {
			for j := i + 1; j < len(items); j++ {
				if items[i].credit == items[j].credit && bytes.Equal(items[i].id, items[j].id) {
					repeated = true
				}
			}
		}
		if !repeated {
			return
		}
	}
	if s.ids == nil {
		s.ids = map[string]int{}
	}
	clear(s.ids)
	name := func(it *item) string {
		if it.credit {
			return "c" + string(it.id)
		}
		return "f" + string(it.id)
	}
	for i := range items {
		s.ids[name(&items[i])] = i
	}
	kept := items[:0]
	for i := range items {
		if s.ids[name(&items[i])] == i {
			kept = append(kept, items[i])
		}
	}
	s.ev.items = kept
}

func (s *scratch) usage() (Event, error) {
	e := &s.ev
	if e.isCredit || e.feature == nil && e.currency != nil {
		return s.creditUsage(Event{Kind: KindUsage}, e.currentUsage, "currentUsage")
	}
	ev := Event{Kind: KindUsage}
	switch {
	case e.feature == nil:
		return ev, errorAt("featureId", errMissing)
	case e.currentUsage == nil:
		return ev, errorAt("currentUsage", errMissing)
	}
	return s.usageWrite(ev, featurePart, e.feature, e.currentUsage)
}

// credit handles the events of credits alone: balances and grants. A grant that doesn't tell what has been consumed
// changes nothing under the usage key; the entitlements that follow it tell the new limit.
func (s *scratch) credit(grant bool) (Event, error) {
	if grant && s.ev.totalConsumed == nil {
		return Event{Kind: KindCredit, Filtered: "a credit grant without totalConsumed changes no usage"}, nil
	}
	return s.creditUsage(Event{Kind: KindCredit}, s.ev.totalConsumed, "totalConsumed")
}

func (s *scratch) creditUsage(ev Event, consumed []byte, member string) (Event, error) {
	e := &s.ev
	if s.d.layout != LayoutV4 {
		ev.Filtered = "layout " + string(s.d.layout) + " has no keys for credits"
		return ev, nil
	}
	switch {
	case e.currency == nil:
		return ev, errorAt("currencyId", errMissing)
	case consumed == nil:
		return ev, errorAt(member, errMissing)
	}
	e.periodStart = instant{}
	return s.usageWrite(ev, creditPart, e.currency, consumed)
}

// usageWrite writes one usage key. Its version is both clocks: the usage's own time, else the event's.
func (s *scratch) usageWrite(ev Event, part string, id, current []byte) (Event, error) {
	e := &s.ev
	switch {
	case e.usageUpdatedAt.ok:
		ev.Time = e.usageUpdatedAt.ms
	case e.entitlementUsageUpdatedAt.ok:
		ev.Time = e.entitlementUsageUpdatedAt.ms
	default:
		var err error
		if ev.Time, ev.Undated, err = s.eventTime(instant{}); err != nil {
			return ev, err
		}
	}
	base, err := s.customerKey(&ev)
	if err != nil {
		return ev, err
	}
	s.ambiguous(&ev, id)
	end := e.periodEnd
	if !end.ok {
		end = e.resetsNext
	}
	s.values = appendUsage(s.values, s.d.layout, current, e.periodStart, end)
	key := s.under(base, part, id)
	s.writes = append(s.writes, pending{key: key, value: s.valueSince(0), version: ev.Time})
	switch {
	case s.d.usageIfCached:
		s.conditions = append(s.conditions, base)
	case s.d.updateIfExists:
		s.conditions = append(s.conditions, key, base)
	}
	return ev, nil
}

// purge removes a customer or a resource, metadata included. Usage stays, as in the provider's own purge.
func (s *scratch) purge(ev Event) (Event, error) {
	at, undated, err := s.eventTime(instant{})
	if err != nil {
		return ev, err
	}
	ev.Time, ev.Undated = at, undated
	base, err := s.customerKey(&ev)
	if err != nil {
		return ev, err
	}
	s.writes = append(s.writes,
		pending{key: base, version: at, asOf: at, delete: true},
		pending{key: s.under(base, metadataSuffix, nil), version: at, asOf: at, delete: true})
	return ev, nil
}

// appendWrites appends what has been decoded in the wire form. All strings are parts of one copy of the keys.
func (s *scratch) appendWrites(dst []byte) []byte {
	if len(s.writes) == 0 {
		return dst
	}
	keys := string(s.keys)
	s.conditionBuf = s.conditionBuf[:0]
	for _, c := range s.conditions {
		s.conditionBuf = append(s.conditionBuf, keys[c.from:c.to])
	}
	lock := keys[s.lock.from:s.lock.to]
	for i := range s.writes {
		p := &s.writes[i]
		w := cache.Write{Key: keys[p.key.from:p.key.to], Version: p.version, AsOf: p.asOf, Delete: p.delete, Lock: lock}
		if !p.delete {
			w.Value = s.values[p.value.from:p.value.to]
			w.IfAnyExists = s.conditionBuf
		}
		dst = cache.Append(dst, w)
	}
	clear(s.conditionBuf)
	return dst
}
