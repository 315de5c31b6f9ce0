package sources

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/feed"
	"github.com/penstock-dev/penstock/pipeline"
)

// GenerateConfig makes up customers and the events of their lives, in the shapes in which the provider sends them:
// usage grows and hits its limits, plans change, now and then a customer is purged.
//
// The customers are customer-1, customer-2, …; their features feature-api-calls (metered, reset every month),
// feature-seats (metered, goes up and down), feature-sso (boolean, from the team plan on) and feature-regions (enum,
// enterprise plan). customer-3 begins with the team plan. First comes a snapshot of every customer. Of 10,000 events
// then, some 8,940 are usage events of about 350 bytes, 1,000 are snapshots of about 1.6 KB, 40 are of a type that
// says nothing about a cache, 10 are purges (the next event is a snapshot of that customer), and 10 are malformed.
//
// The times of one customer's events grow strictly, so that each is newer than the ones before it. Faster than 1,000
// events a second and customer, they run ahead of the clock, by an hour at most; from there on times may be equal.
//
// A nack means that the message is offered again, at once and redeliveries times at most; then it is unresolved. With
// order: source on the pipeline it is offered again before the next message is made. Every event is handed on once,
// except for those that are released; after a stop none is made.
type GenerateConfig struct {
	// Messages in a unit of time, such as "50/s" or "30/m"; "max" for as many as the pipeline takes.
	Rate Rate `yaml:"rate" default:"50/s" pattern:"^\\s*(max|0|0*([1-9][0-9]*(\\.[0-9]*)?|0?\\.[0-9]+)([eE][+-]?[0-9]+)?\\s*(/\\s*[smh])?)\\s*$" want:"a rate such as 500/s, 30/m or max" code:"PS036"`
	// How many messages to make before the source comes to its end; 0 for no end.
	Count int64 `yaml:"count" default:"0" range:"0.." unit:"messages" example:"10000"`
	// How many customers there are; 1 to 1000000.
	Customers int `yaml:"customers" default:"40" range:"1..1000000" unit:"customers"`
	// Seed of the random choices: the same seed, start and rate make the same bodies.
	Seed uint64 `yaml:"seed" default:"1"`
	// Time of the first event (RFC 3339), from which the others follow at the distance that rate tells (1 ms at max),
	// whatever the clock says. Without it, an event happens when it is made.
	Start time.Time `yaml:"start" pattern:"^(197[4-9]|19[89][0-9]|[2-9][0-9]{3})-" want:"a time (RFC 3339) in 1974 or later" code:"PS051" example:"2026-11-01T00:00:00Z"`
	// How often a released message is offered again before it is unresolved; at least 0.
	Redeliveries int `yaml:"redeliveries" default:"3" range:"0.." unit:"redeliveries"`
}

// Validate reports broken rules.
func (c *GenerateConfig) Validate() error {
	errs := []error{pipeline.CheckTags(c)}
	if c.Rate < 0 { // only in Go
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("rate", "must not be negative")))
	}
	if !c.Start.IsZero() && c.Start.Year() < 1974 {
		// The clocks of events before March 1973 are refused: they look like another unit.
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("start", "must not be before 1974, got %s", c.Start.Format(time.RFC3339))))
	}
	return errors.Join(errs...)
}

// NewSource makes the source. Its Subscriber is a [pipeline.Drainer] and [pipeline.Finite].
func (c *GenerateConfig) NewSource(env pipeline.Env) (pipeline.Source, error) {
	g := newGenerator(c)
	return pipeline.Source{Subscriber: feed.New(feed.Settings{
		Next: g.next, Late: true, Rate: float64(c.Rate), Redeliveries: c.Redeliveries, OneByOne: env.MaxInFlight == 1,
	})}, nil
}

// generator makes the events. All of it belongs to the feed's loop.
type generator struct {
	count    int64
	start    int64         // ms; 0: the clock
	interval time.Duration // between events when start is set
	rand     *rand.Rand
	idPrefix string

	customers []customer
	made      int64
	due       int // customer whose snapshot comes next, or -1
	buf       []byte
	iso       isoClock
	period    period
}

type customer struct {
	id, number string
	plan       int
	calls      int64 // usage of feature-api-calls
	seats      int64
	callsAt    int64 // ms of the last change of either
	seatsAt    int64
	last       int64 // ms of the last event
}

type plan struct {
	name       string
	calls      int64 // 0: unlimited
	seats      int64
	sso, areas bool
}

var plans = []plan{
	{name: "free", calls: 1_000, seats: 3},
	{name: "team", calls: 10_000, seats: 12, sso: true},
	{name: "enterprise", seats: 50, sso: true, areas: true},
}

const (
	free       = 0
	team       = 1
	enterprise = 2
)

// firstPlans are the plans that customer-1, customer-2, … begin with, over and over: mostly small ones.
var firstPlans = [...]int{free, free, team, free, free, free, team, free, free, enterprise, free, free, team}

func newGenerator(c *GenerateConfig) *generator {
	g := &generator{
		count: c.Count, interval: time.Millisecond, rand: rand.New(rand.NewPCG(c.Seed, 0x70656e73746f636b)), due: -1,
		idPrefix: "generate-" + strconv.FormatUint(c.Seed, 10) + "-", customers: make([]customer, max(c.Customers, 1)),
	}
	if !c.Start.IsZero() {
		g.start = c.Start.UnixMilli()
	}
	if c.Rate > 0 {
		g.interval = time.Duration(float64(time.Second) / float64(c.Rate))
	}
	for i := range g.customers {
		number := strconv.Itoa(i + 1)
		cust := customer{id: "customer-" + number, number: number, plan: firstPlans[i%len(firstPlans)]}
		p := plans[cust.plan]
		limit := p.calls
		if limit == 0 {
			limit = 100_000
		}
		cust.calls, cust.seats = g.rand.Int64N(limit*9/10), 1+g.rand.Int64N(p.seats)
		g.customers[i] = cust
	}
	return g
}

// next makes the next message.
func (g *generator) next() (feed.Item, error) {
	if g.count > 0 && g.made == g.count {
		return feed.Item{}, io.EOF
	}
	g.buf = g.event(g.buf[:0])
	g.made++
	var space [64]byte
	id := strconv.AppendInt(append(space[:0], g.idPrefix...), g.made, 10)
	return feed.Item{Message: message.NewMessage(string(id), bytes.Clone(g.buf)), File: "generated", Line: g.made}, nil
}

// now returns the time of the next event of a customer, in ms.
func (g *generator) now(c *customer) int64 {
	var now, limit int64
	if g.start != 0 {
		now = g.start + int64(float64(g.made)*float64(g.interval)/1e6)
		limit = 1 << 62
	} else {
		now = time.Now().UnixMilli()
		limit = now + time.Hour.Milliseconds()
	}
	c.last = max(now, min(c.last+1, limit))
	if c.last >= g.period.end {
		first := g.period.end == 0
		g.period = periodOf(c.last)
		for i := range g.customers {
			if !first {
				g.customers[i].calls, g.customers[i].callsAt = 0, g.period.start
			}
		}
	}
	return c.last
}

func (g *generator) event(b []byte) []byte {
	if g.made < int64(len(g.customers)) {
		c := &g.customers[g.made]
		now := g.now(c)
		c.callsAt, c.seatsAt = now, now
		return g.snapshot(b, c, now)
	}
	if g.due >= 0 {
		c := &g.customers[g.due]
		g.due = -1
		return g.snapshot(b, c, g.now(c))
	}
	i := g.rand.IntN(len(g.customers))
	c := &g.customers[i]
	now := g.now(c)
	switch n := g.rand.IntN(10_000); {
	case n < 10:
		g.due = i
		b = append(b, `{"type":"PURGE_CUSTOMER_PERSISTENT_CACHE_REQUESTED","timestamp":"`...)
		b = g.iso.append(b, now)
		b = append(b, `","traceId":"`...)
		b = g.hex(b)
		b = append(b, `","environmentId":"env-2b40","customerId":"`...)
		b = append(b, c.id...)
		return append(b, `"}`...)
	case n < 20:
		return g.malformed(b, c, now)
	case n < 60:
		return g.ignored(b, c, now)
	case n < 1060:
		g.changePlan(c)
		return g.snapshot(b, c, now)
	default:
		return g.usage(b, c, now)
	}
}

// changePlan moves a customer who has hit a limit up, and now and then one of the largest plan back to the smallest,
// where everything begins anew.
func (g *generator) changePlan(c *customer) {
	p := plans[c.plan]
	switch {
	case p.calls > 0 && c.calls >= p.calls && g.rand.IntN(2) == 0:
		c.plan++
	case c.plan == enterprise && g.rand.IntN(2) == 0:
		c.plan, c.calls, c.callsAt = free, 0, c.last
		c.seats, c.seatsAt = min(c.seats, plans[free].seats), c.last
	}
}

func (g *generator) usage(b []byte, c *customer, now int64) []byte {
	p := plans[c.plan]
	f := &apiCalls
	if g.rand.IntN(10) < 3 {
		f = &seats
		if g.rand.IntN(2) == 0 {
			c.seats = min(c.seats+1, p.seats)
		} else {
			c.seats = max(c.seats-1, 0)
		}
		c.seatsAt = now
	} else {
		step := p.calls / 100
		if step == 0 {
			step = 1000
		}
		c.calls += 1 + g.rand.Int64N(step)
		if p.calls > 0 {
			c.calls = min(c.calls, p.calls)
		}
		c.callsAt = now
	}
	switch n := g.rand.IntN(100); {
	case n < 97:
		return g.usageV2(b, c, f, now)
	case n < 99:
		return g.measurement(b, c, f, now)
	default:
		return g.usageV1(b, c, f, now)
	}
}

func (g *generator) snapshot(b []byte, c *customer, now int64) []byte {
	switch n := g.rand.IntN(100); {
	case n < 85:
		return g.entitlementsWebhook(b, c, now)
	case n < 97:
		return g.entitlements(b, c, now, true)
	default:
		return g.entitlements(b, c, now, false)
	}
}

// malformed makes what can't be decoded: torn, not JSON, nobody's, of an unknown type.
func (g *generator) malformed(b []byte, c *customer, now int64) []byte {
	switch g.rand.IntN(4) {
	case 0:
		b = g.usageV2(b, c, &apiCalls, now)
		return b[:len(b)*2/3]
	case 1:
		return append(b, "<html><body>502 Bad Gateway</body></html>"...)
	case 2:
		b = append(b, `{"type":"entitlements.updated","timestamp":"`...)
		b = g.iso.append(b, now)
		return append(b, `","customer":{"id":null},"entitlements":[]}`...)
	default:
		b = append(b, `{"type":"customer.teleported","timestamp":"`...)
		b = g.iso.append(b, now)
		b = append(b, `","customer":{"id":"`...)
		b = append(b, c.id...)
		return append(b, `"}}`...)
	}
}

var ignoredTypes = [...]string{"customer.updated", "subscription.updated", "SUBSCRIPTION_UPDATED", "promotionalEntitlement.granted"}

func (g *generator) ignored(b []byte, c *customer, now int64) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, ignoredTypes[g.rand.IntN(len(ignoredTypes))]...)
	b = append(b, `","messageId":"`...)
	b = g.hex(b)
	b = append(b, `","traceId":"`...)
	b = g.hex(b)
	b = append(b, `","timestamp":"`...)
	b = g.iso.append(b, now)
	b = append(b, `","environmentId":"env-2b40","customer":{"id":"`...)
	b = append(b, c.id...)
	return append(b, `"}}`...)
}

func (g *generator) hex(b []byte) []byte {
	const digits = "0123456789abcdef"
	n := g.rand.Uint64()
	for range 16 {
		b = append(b, digits[n&15])
		n >>= 4
	}
	return b
}

// period is a calendar month in UTC.
type period struct {
	start, end             int64 // ms
	startText, endText     string
	startMillis, endMillis string
}

func periodOf(ms int64) period {
	t := time.UnixMilli(ms).UTC()
	start := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(0, 1, 0)
	return period{
		start: start.UnixMilli(), end: end.UnixMilli(), startText: start.Format(isoMillis), endText: end.Format(isoMillis),
		startMillis: strconv.FormatInt(start.UnixMilli(), 10), endMillis: strconv.FormatInt(end.UnixMilli(), 10),
	}
}

const isoMillis = "2006-01-02T15:04:05.000Z"

// isoClock formats times and remembers the second: formatting is much of the work of making an event.
type isoClock struct {
	second int64
	text   []byte
}

func (c *isoClock) append(b []byte, ms int64) []byte {
	if second := ms / 1000; second != c.second || c.text == nil {
		c.second = second
		c.text = time.Unix(second, 0).UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, c.text...)
	n := ms % 1000
	return append(b, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10), 'Z')
}
