package entitlement

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Fields says where an event keeps what the decoder needs, for spellings that it doesn't know. A field is a path from
// the event's top, such as "$.a.b" or "$.items[0].id"; "" means the known spellings alone. Where a path leads to
// nothing, or to null, the known spellings are used.
type Fields struct {
	// Type of the event, a string in a known spelling (or one of [Options.Types]).
	Type string
	// Customer and Resource are ids: strings, or objects with an id.
	Customer, Resource string
	// Timestamp is the event's own time: ISO 8601 or epoch milliseconds.
	Timestamp string
	// Entitlements is the list of entitlements.
	Entitlements string
	// AccessDeniedReason is the reason why a customer has no entitlements: a string.
	AccessDeniedReason string
	// Feature and Currency are the ids that a usage or credit event is about.
	Feature, Currency string
	// CurrentUsage is a number.
	CurrentUsage string
	// UsageUpdatedAt is the time of a usage: ISO 8601 or epoch milliseconds.
	UsageUpdatedAt string
	// UsagePeriodStart and UsagePeriodEnd bound the usage's period: ISO 8601 or epoch milliseconds.
	UsagePeriodStart, UsagePeriodEnd string
	// TotalConsumed is a credit's consumption: a number.
	TotalConsumed string
}

// mapping is a parsed field: where it is, and how it is read.
type mapping struct {
	name string
	path []step
	read func(p *parser) bool
}

// step is one member name, or one index, of a path.
type step struct {
	name  string
	index int // -1 for a name
}

// ParsePath checks the path of one of the [Fields]. The error says what is wrong with it.
func ParsePath(path string) error {
	_, err := parsePath(path)
	return err
}

func parsePath(path string) ([]step, error) {
	rest, ok := strings.CutPrefix(path, "$")
	if !ok || rest == "" {
		return nil, fmt.Errorf("want a path such as $.a.b, got %q", path)
	}
	var steps []step
	for rest != "" {
		var part string
		switch rest[0] {
		case '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			part, rest = rest[1:1+end], rest[1+end:]
			if part == "" {
				return nil, fmt.Errorf("path %q has an empty name", path)
			}
			steps = append(steps, step{name: part, index: -1})
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("path %q lacks a closing bracket", path)
			}
			part, rest = rest[1:end], rest[end+1:]
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("path %q: want an index such as [0], got [%s]", path, part)
			}
			steps = append(steps, step{index: n})
		default:
			return nil, fmt.Errorf("path %q: want . or [ before %q", path, rest)
		}
	}
	return steps, nil
}

func (f Fields) mappings() ([]mapping, error) {
	var list []mapping
	var errs []error
	for _, m := range []struct {
		name, path string
		read       func(p *parser) bool
	}{
		{"type", f.Type, func(p *parser) bool { return p.str(&p.ev.typ) }},
		{"customer", f.Customer, func(p *parser) bool { p.ev.customer = nil; return p.entity(&p.ev.customer) }},
		{"resource", f.Resource, func(p *parser) bool { p.ev.resource = nil; return p.entity(&p.ev.resource) }},
		{"timestamp", f.Timestamp, func(p *parser) bool { return p.clock(&p.ev.timestamp) }},
		{"entitlements", f.Entitlements, func(p *parser) bool { return p.list() }},
		{"access_denied_reason", f.AccessDeniedReason, func(p *parser) bool { p.ev.reasonSeen = true; return p.strToken(&p.ev.reason) }},
		{"feature", f.Feature, func(p *parser) bool { p.ev.feature = nil; return p.entity(&p.ev.feature) }},
		{"currency", f.Currency, func(p *parser) bool { p.ev.currency = nil; return p.currency(&p.ev.currency) }},
		{"current_usage", f.CurrentUsage, func(p *parser) bool { return p.number(&p.ev.currentUsage) }},
		{"usage_updated_at", f.UsageUpdatedAt, func(p *parser) bool { return p.clock(&p.ev.usageUpdatedAt) }},
		{"usage_period_start", f.UsagePeriodStart, func(p *parser) bool { return p.time(&p.ev.periodStart) }},
		{"usage_period_end", f.UsagePeriodEnd, func(p *parser) bool { return p.time(&p.ev.periodEnd) }},
		{"total_consumed", f.TotalConsumed, func(p *parser) bool { return p.number(&p.ev.totalConsumed) }},
	} {
		if m.path == "" {
			continue
		}
		steps, err := parsePath(m.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, err))
			continue
		}
		list = append(list, mapping{m.path, steps, m.read})
	}
	return list, errors.Join(errs...)
}

// apply reads the field where the event has it. The event has been read once, so it is known to be JSON.
func (m *mapping) apply(p *parser) bool {
	p.At = 0
	for _, s := range m.path {
		if !p.descend(s) {
			return p.OK()
		}
	}
	if p.Null() {
		return true
	}
	if !m.read(p) {
		return p.at(m.name)
	}
	return true
}

// descend moves to the value of a member or an element, if there is one.
func (p *parser) descend(s step) bool {
	if s.index < 0 {
		if p.Peek() != '{' {
			return false
		}
		p.At++
		for first := true; ; {
			name, ok := p.Member(&first)
			if !ok {
				return false
			}
			if string(name) == s.name {
				return true
			}
			if _, ok := p.skip(); !ok {
				return false
			}
		}
	}
	if p.Peek() != '[' {
		return false
	}
	p.At++
	n := 0
	for first := true; p.Element(&first); n++ {
		if n == s.index {
			return true
		}
		if _, ok := p.skip(); !ok {
			return false
		}
	}
	return false
}
