package entitlement

import (
	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/reason"
)

// event is what one scan of a body finds: tokens as they stand in it, and strings without their quotes. nil is absent
// or null.
type event struct {
	typ, typename      []byte
	customer, resource []byte
	feature, currency  []byte

	// isCredit and isFeature tell which one an entitlementReference names.
	isCredit, isFeature bool

	timestamp, entitlementsUpdatedAt instant
	usageUpdatedAt                   instant // of the usage itself
	entitlementUsageUpdatedAt        instant // of the entitlement beside the usage

	reason     []byte // accessDeniedReason, a JSON string
	reasonSeen bool

	listSeen bool
	items    []item
	itemsV2  bool // an item says that it is of a V2 event

	usageSeen             bool
	currentUsage          []byte
	periodStart           instant
	periodEnd, resetsNext instant
	totalConsumed         []byte

	packageSeen, migrationSeen bool
}

// item is one entitlement of a list.
type item struct {
	credit      bool
	featureSeen bool
	id          []byte // of the feature or the credit
	idAtByte    int

	featureType, meterType             []byte // strings without quotes
	displayName, description           []byte // JSON strings
	units, unitsPlural                 []byte
	unitTransformation                 []byte // JSON
	resource                           []byte // JSON string
	usageLimit, currentUsage           []byte // numbers
	unlimited, soft, granted           bool
	reason                             []byte // JSON string
	enumValues                         []byte // JSON
	validUntil                         instant
	rateSeen                           bool
	rateAmount, rateCurrency           []byte
	resetPeriod                        []byte // string without quotes
	resetConfig                        []byte // JSON
	accordingTo                        []byte // string without quotes
	anchor, start, end, resetsNext     instant
	entitlementUpdatedAt, usageUpdated instant
}

// reset empties the event and keeps its memory.
func (e *event) reset() {
	items := e.items[:0]
	*e = event{items: items}
}

// parser reads events. Its methods return false on a failure, like those of the lexer.
type parser struct {
	lexer
	// now is the clock, in epoch milliseconds.
	now int64
	ev  event
}

// maxAhead is how far ahead of the clock an event may be: one bad clock must not freeze a key.
const maxAhead = 24 * 60 * 60 * 1000

// firstPlausible is March 1973 in milliseconds, and the year 5138 in seconds: what is smaller was not counted in
// milliseconds.
const firstPlausible = 100_000_000_000

// ofToday is September 2001 in milliseconds: what is later once it is taken for another unit was probably meant in that
// one. The year 9999, which some use for never, is not.
const ofToday = 1_000_000_000_000

// fine is nothing that is wrong.
var fine reason.Text

// checkClock says what is wrong with a version or a time, or [fine]. A clock of another unit would be older than
// everything, or newer for ever.
func checkClock(ms, now int64) reason.Text {
	meant := func(ms int64) bool { return ms >= ofToday && ms <= now+maxAhead }
	switch {
	case ms < 1:
		return reason.Const("time is before 1970")
	case ms >= firstPlausible && ms <= now+maxAhead:
		return fine
	case ms < firstPlausible && meant(ms*1000):
		return reason.Const("time is in 1970: it looks like seconds, and must be milliseconds")
	case ms < firstPlausible:
		return reason.Const("time is before 1973: it can't be a clock of today in milliseconds")
	case meant(ms / 1000):
		return reason.Const("time is far ahead of the clock: it looks like microseconds, and must be milliseconds")
	case meant(ms / 1_000_000):
		return reason.Const("time is far ahead of the clock: it looks like nanoseconds, and must be milliseconds")
	}
	return reason.Const("time is more than 24 hours ahead of the clock")
}

// clock reads a time that may become a version.
func (p *parser) clock(t *instant) bool {
	p.Peek()
	from := p.At
	if !p.time(t) {
		return false
	}
	if t.ok {
		if what := checkClock(t.ms, p.now); what != fine {
			p.At = from
			return p.Fail(reason.Errorf("%s", what))
		}
	}
	return true
}

// id reads an id that may be spelled in several places, which must agree.
func (p *parser) id(id *[]byte) bool {
	p.Peek()
	from := p.At
	var found []byte
	if !p.str(&found) {
		return false
	}
	return p.setID(id, found, from)
}

func (p *parser) setID(id *[]byte, found []byte, from int) bool {
	if len(found) == 0 {
		return true
	}
	if *id != nil && string(*id) != string(found) {
		p.At = from
		return p.Fail(reason.Errorf("another id than elsewhere in the event: %s, %s", jsonscan.Clip(found), jsonscan.Clip(*id)))
	}
	*id = found
	return true
}

// entity reads an id that is a string, or an object with an id.
func (p *parser) entity(id *[]byte) bool {
	if p.Peek() != '{' {
		return p.id(id)
	}
	p.At++
	from := p.At
	var found []byte
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			break
		}
		switch string(name) {
		case "id", "refId":
			ok = p.id(&found)
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
	if !p.OK() {
		return false
	}
	if found == nil {
		p.At = from - 1
		return p.Fail(reason.New("no id"))
	}
	return p.setID(id, found, from-1)
}

// body reads the event as a whole.
func (p *parser) body() bool {
	p.skipByteOrderMark()
	if foreign := p.foreign(); foreign != nil {
		return p.Fail(foreign)
	}
	if !p.Object() || !p.members(false) {
		return false
	}
	return p.end()
}

// members reads the members of the event, or of the usage object in it. Members that mean nothing here are skipped.
func (p *parser) members(inUsage bool) bool {
	e := &p.ev
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			return p.OK()
		}
		switch string(name) {
		case "type", "__typename":
			switch {
			case inUsage:
				_, ok = p.skip()
			case name[0] == 't':
				ok = p.str(&e.typ)
			default:
				ok = p.str(&e.typename)
			}
		case "customerId":
			ok = p.id(&e.customer)
		case "customer":
			ok = p.entity(&e.customer)
		case "resourceId":
			ok = p.id(&e.resource)
		case "resource":
			ok = p.entity(&e.resource)
		case "entitlements":
			ok = p.list()
		case "timestamp":
			ok = p.clock(&e.timestamp)
		case "entitlementsUpdatedAt":
			ok = p.clock(&e.entitlementsUpdatedAt)
		case "accessDeniedReason":
			e.reasonSeen = true
			ok = p.strToken(&e.reason)
		case "usage":
			if inUsage || p.Peek() != '{' {
				_, ok = p.skip()
				break
			}
			p.At++
			e.usageSeen = true
			ok = p.members(true)
		case "entitlement":
			ok = p.entitlementBesideUsage()
		case "entitlementReference":
			ok = p.reference()
		case "featureId":
			ok = p.id(&e.feature)
		case "feature":
			ok = p.entity(&e.feature)
		case "currency":
			ok = p.currency(&e.currency)
		case "currencyId":
			ok = p.id(&e.currency)
		case "currentUsage":
			ok = p.number(&e.currentUsage)
		case "totalConsumed":
			ok = p.number(&e.totalConsumed)
		case "usageUpdatedAt":
			ok = p.clock(&e.usageUpdatedAt)
		case "usagePeriodStart":
			ok = p.time(&e.periodStart)
		case "usagePeriodEnd":
			ok = p.time(&e.periodEnd)
		case "nextResetDate":
			ok = p.time(&e.resetsNext)
		case "packageRefId":
			e.packageSeen = true
			_, ok = p.skip()
		case "migrationType":
			e.migrationSeen = true
			_, ok = p.skip()
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
}

// currency reads a credit's currency: an id, or an object with a currencyId or an id.
func (p *parser) currency(id *[]byte) bool {
	if p.Peek() != '{' {
		return p.id(id)
	}
	p.At++
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			return p.OK()
		}
		switch string(name) {
		case "currencyId", "id":
			ok = p.id(id)
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
}

// entitlementBesideUsage reads what a usage event needs of the entitlement that comes with it: its time.
func (p *parser) entitlementBesideUsage() bool {
	if p.Peek() != '{' {
		_, ok := p.skip()
		return ok
	}
	p.At++
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			return p.OK()
		}
		if string(name) == "usageUpdatedAt" {
			ok = p.clock(&p.ev.entitlementUsageUpdatedAt)
		} else {
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
}

// reference reads {"type": "FEATURE" or "CREDIT", "id": …}.
func (p *parser) reference() bool {
	if p.Null() {
		return true
	}
	if !p.Object() {
		return false
	}
	e := &p.ev
	var kind, id []byte
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			break
		}
		switch string(name) {
		case "type":
			if ok = p.str(&kind); ok {
				e.isFeature, e.isCredit = fold(kind, "FEATURE"), fold(kind, "CREDIT")
				if !e.isFeature && !e.isCredit {
					ok = p.Fail(reason.Errorf("want FEATURE or CREDIT, got %s", jsonscan.Clip(kind)))
				}
			}
		case "id":
			ok = p.str(&id)
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
	if !p.OK() {
		return false
	}
	if kind == nil || len(id) == 0 {
		return p.Fail(reason.New("want a type and an id"))
	}
	if e.isCredit {
		return p.setID(&e.currency, id, p.At)
	}
	return p.setID(&e.feature, id, p.At)
}

// list reads a list of entitlements.
func (p *parser) list() bool {
	e := &p.ev
	e.items, e.listSeen, e.itemsV2 = e.items[:0], false, false
	if p.Null() {
		return true
	}
	if !p.Array() {
		return false
	}
	e.listSeen = true
	for first := true; p.Element(&first); {
		n := len(e.items)
		if n < cap(e.items) {
			e.items = e.items[:n+1]
			e.items[n] = item{}
		} else {
			e.items = append(e.items, item{})
		}
		if !p.item(&e.items[n]) {
			return p.atIndex(n)
		}
	}
	return p.OK()
}

func (p *parser) item(it *item) bool {
	p.Peek()
	from := p.At
	if !p.Object() {
		return false
	}
	var typename, currency []byte
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			break
		}
		switch string(name) {
		case "__typename":
			ok = p.str(&typename)
		case "feature":
			ok = p.feature(it)
		case "currency":
			ok = p.currency(&currency)
		case "resourceId":
			ok = p.strToken(&it.resource)
		case "usageLimit":
			ok = p.number(&it.usageLimit)
		case "currentUsage":
			ok = p.number(&it.currentUsage)
		case "hasUnlimitedUsage":
			ok = p.boolean(&it.unlimited)
		case "hasSoftLimit":
			ok = p.boolean(&it.soft)
		case "isGranted":
			ok = p.boolean(&it.granted)
		case "accessDeniedReason":
			ok = p.strToken(&it.reason)
		case "enumValues":
			ok = p.stringsToken(&it.enumValues)
		case "validUntil":
			ok = p.time(&it.validUntil)
		case "creditRate":
			ok = p.creditRate(it)
		case "resetPeriod":
			ok = p.str(&it.resetPeriod)
		case "resetPeriodConfiguration":
			ok = p.resetConfig(it)
		case "usagePeriodAnchor":
			ok = p.time(&it.anchor)
		case "usagePeriodStart":
			ok = p.time(&it.start)
		case "usagePeriodEnd":
			ok = p.time(&it.end)
		case "nextResetDate":
			ok = p.time(&it.resetsNext)
		case "entitlementUpdatedAt":
			ok = p.clock(&it.entitlementUpdatedAt)
		case "usageUpdatedAt":
			ok = p.clock(&it.usageUpdated)
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
	if !p.OK() {
		return false
	}
	if !it.end.ok {
		it.end = it.resetsNext
	}
	switch string(typename) {
	case "FeatureEntitlement":
		p.ev.itemsV2 = true
	case "CreditEntitlement":
		p.ev.itemsV2 = true
		it.credit = true
	default:
		it.credit = !it.featureSeen && currency != nil
	}
	if it.credit {
		if it.id = currency; it.id == nil {
			p.At = from
			return p.Fail(reason.New("credit without currency.currencyId"))
		}
	}
	return true
}

// feature reads an entitlement's feature in the spellings of GraphQL and of the webhooks.
func (p *parser) feature(it *item) bool {
	if p.Null() {
		return true
	}
	p.Peek()
	from := p.At
	if !p.Object() {
		return false
	}
	it.featureSeen = true
	it.idAtByte = from
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			break
		}
		switch string(name) {
		case "refId", "id":
			ok = p.id(&it.id)
		case "featureType":
			ok = p.str(&it.featureType)
		case "meterType":
			ok = p.str(&it.meterType)
		case "displayName", "name":
			ok = p.strToken(&it.displayName)
		case "description":
			ok = p.strToken(&it.description)
		case "featureUnits", "unit":
			ok = p.strToken(&it.units)
		case "featureUnitsPlural", "units":
			ok = p.strToken(&it.unitsPlural)
		case "unitTransformation":
			ok = p.json(&it.unitTransformation)
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
	if !p.OK() {
		return false
	}
	if it.id == nil {
		p.At = from
		return p.Fail(reason.New("no refId or id"))
	}
	return true
}

func (p *parser) creditRate(it *item) bool {
	if p.Null() {
		return true
	}
	if !p.Object() {
		return false
	}
	it.rateSeen = true
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			return p.OK()
		}
		switch string(name) {
		case "amount":
			ok = p.number(&it.rateAmount)
		case "currencyId":
			ok = p.strToken(&it.rateCurrency)
		default:
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
}

// resetConfig reads a reset period's configuration: what the webhooks spell accordingTo is told apart.
func (p *parser) resetConfig(it *item) bool {
	if p.Null() {
		return true
	}
	p.Peek()
	from := p.At
	if !p.Object() {
		return false
	}
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			it.resetConfig = p.Text[from:p.At]
			return p.OK()
		}
		if string(name) == "accordingTo" {
			ok = p.str(&it.accordingTo)
		} else {
			_, ok = p.skip()
		}
		if !ok {
			return p.at(string(name))
		}
	}
}

// json reads any value but null as it stands.
func (p *parser) json(raw *[]byte) bool {
	if p.Null() {
		*raw = nil
		return true
	}
	p.FiniteOnly = true
	var ok bool
	*raw, ok = p.skip()
	p.FiniteOnly = false
	return ok
}

// stringsToken reads an array of strings, or null, as it stands.
func (p *parser) stringsToken(raw *[]byte) bool {
	if p.Null() {
		*raw = nil
		return true
	}
	p.Peek()
	from := p.At
	if !p.Array() {
		return false
	}
	n := 0
	for first := true; p.Element(&first); n++ {
		if _, ok := p.RawString(); !ok {
			return p.atIndex(n)
		}
	}
	*raw = p.Text[from:p.At]
	return p.OK()
}

// fold reports whether s is upper, whatever the case of s. upper is ASCII in upper case.
func fold(s []byte, upper string) bool {
	if len(s) != len(upper) {
		return false
	}
	for i := range s {
		c := s[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
