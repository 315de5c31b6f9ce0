package pipeline

import (
	"math"
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// A range of numbers is minimum and maximum in a JSON Schema. Durations and sizes are texts there, so that their ranges
// become patterns: exact for one number with its unit, and open for several ("1m30s").

// unit is a unit of durations or sizes: how it is written, as a pattern, and what it counts.
type unit struct {
	pattern string
	factor  int64
}

var durationUnits = []unit{
	{"ns", 1},
	{"(us|µs|μs)", int64(time.Microsecond)},
	{"ms", int64(time.Millisecond)},
	{"s", int64(time.Second)},
	{"m", int64(time.Minute)},
	{"h", int64(time.Hour)},
}

// sizeUnits are the units of sizes, as ByteSize reads them.
func sizeUnits() []unit {
	units := make([]unit, len(byteUnits))
	for i, u := range byteUnits {
		units[i] = unit{u.suffix, u.factor}
	}
	return units
}

// numbers adds the bounds of a range to the schema of a number.
func numbers(schema object, r *yamlfile.Range) object {
	if r == nil {
		return schema
	}
	var parts []any
	for _, i := range r.Parts {
		part := object{}
		bound := func(n *big.Rat, open bool, inclusive, exclusive string) {
			if n == nil {
				return
			}
			if value, _ := n.Float64(); open {
				part[exclusive] = value
			} else {
				part[inclusive] = value
			}
		}
		bound(i.Low, i.Above, "minimum", "exclusiveMinimum")
		bound(i.High, i.Below, "maximum", "exclusiveMaximum")
		parts = append(parts, part)
	}
	if r.Step != nil {
		schema["multipleOf"], _ = r.Step.Float64()
	}
	if len(parts) == 1 {
		for key, value := range parts[0].(object) {
			schema[key] = value
		}
		return schema
	}
	schema["anyOf"] = parts
	return schema
}

// durationRange is the pattern of the durations in a range.
func durationRange(r *yamlfile.Range) string {
	var all []string
	longest := new(big.Rat).SetInt64(math.MaxInt64) // that a duration can hold
	for _, i := range r.Parts {
		if i.High == nil {
			i.High = longest
		}
		if i.Low == nil {
			i.Low = new(big.Rat).Neg(longest)
		}
		if below, ok := magnitudes(i, false); ok {
			all = append(all, `\+?(`+alternatives(below, r.Step, durationUnits, true)+`)`)
		}
		if above, ok := magnitudes(i, true); ok {
			all = append(all, `-(`+alternatives(above, r.Step, durationUnits, true)+`)`)
		}
	}
	if len(r.Parts) == 0 {
		return durationPattern
	}
	return `^\s*(` + strings.Join(all, "|") + `)\s*$`
}

// sizeRange is the pattern of the sizes in a range.
func sizeRange(r *yamlfile.Range) string {
	var all []string
	for _, i := range r.Parts {
		if part, ok := magnitudes(i, false); ok {
			all = append(all, alternatives(part, r.Step, sizeUnits(), false))
		}
	}
	return `^\s*(` + strings.Join(all, "|") + `)\s*$`
}

// span is an interval of numbers that are not negative; a nil high is no end.
type span struct {
	low, high *big.Rat
	above     bool // low itself is left out
	below     bool // high itself is
}

// magnitudes are the positive part of an interval, or its negative part turned around; false when there is none.
func magnitudes(i yamlfile.Interval, negative bool) (span, bool) {
	zero := new(big.Rat)
	s := span{low: zero}
	low, high, above, below := i.Low, i.High, i.Above, i.Below
	if negative {
		low, high, above, below = nil, nil, i.Below, i.Above
		if i.High != nil {
			low = new(big.Rat).Neg(i.High)
		}
		if i.Low != nil {
			high = new(big.Rat).Neg(i.Low)
		}
	}
	if low != nil && low.Cmp(zero) >= 0 {
		s.low, s.above = low, above
	}
	if high != nil {
		if c := high.Cmp(zero); c < 0 || c == 0 && below {
			return s, false
		}
		s.high, s.below = high, below
	}
	return s, true
}

// alternatives is a pattern of what lies in a span: a whole number and a unit, or, where decimals are allowed, a
// decimal one or several with their units.
func alternatives(s span, step *big.Rat, units []unit, decimals bool) string {
	var all []string
	for _, u := range units {
		factor := new(big.Rat).SetInt64(u.factor)
		every := int64(1)
		if step != nil {
			if n := new(big.Rat).Quo(step, factor); n.IsInt() {
				every = n.Num().Int64()
				factor = step
			}
		}
		low, high := new(big.Rat).Quo(s.low, factor), (*big.Rat)(nil)
		if s.high != nil {
			high = new(big.Rat).Quo(s.high, factor)
		}
		if whole := wholeNumbers(low, high, s.above, s.below); whole != "" {
			if zeros := strings.Count(strconv.FormatInt(every, 10), "0"); zeros > 0 {
				whole = "(" + whole + strings.Repeat("0", zeros)
				if low.Sign() == 0 && !s.above {
					whole += "|0+"
				}
				whole += ")"
			}
			blank := `(\.0*)?`
			if !decimals {
				blank = `\s*`
			}
			all = append(all, whole+blank+u.pattern)
		}
		if decimals && every == 1 && !(step != nil && step.Cmp(factor) == 0) {
			if whole := wholeNumbers(floor(low), high, false, false); whole != "" {
				all = append(all, whole+`\.[0-9]*`+u.pattern)
			}
			if low.Cmp(big.NewRat(1, 1)) < 0 {
				all = append(all, `\.[0-9]+`+u.pattern)
			}
		}
	}
	if decimals {
		if s.low.Sign() == 0 && !s.above {
			all = append(all, "0")
		}
		all = append(all, `(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)){2,}`)
	}
	return strings.Join(all, "|")
}

func floor(n *big.Rat) *big.Rat {
	return new(big.Rat).SetInt(new(big.Int).Div(n.Num(), n.Denom()))
}

// wholeNumbers is a pattern of the whole numbers between two bounds, or "" when there are none.
func wholeNumbers(low, high *big.Rat, above, below bool) string {
	one := big.NewInt(1)
	first := floor(low).Num()
	if !low.IsInt() || above {
		first = new(big.Int).Add(first, one)
	}
	if high == nil {
		text := first.String()
		pattern := "[1-9][0-9]{" + strconv.Itoa(len(text)) + ",}"
		return "0*(" + digits(text, strings.Repeat("9", len(text))) + "|" + pattern + ")"
	}
	last := floor(high).Num()
	if high.IsInt() && below {
		last = new(big.Int).Sub(last, one)
	}
	if first.Cmp(last) > 0 {
		return ""
	}
	var all []string
	from, to := first.String(), last.String()
	for len(from) < len(to) {
		all = append(all, digits(from, strings.Repeat("9", len(from))))
		from = "1" + strings.Repeat("0", len(from))
	}
	return "0*(" + strings.Join(append(all, digits(from, to)), "|") + ")"
}

// digits is a pattern of the numbers from one to another that has as many digits.
func digits(from, to string) string {
	switch {
	case from == "":
		return ""
	case from[0] == to[0]:
		return from[:1] + digits(from[1:], to[1:])
	}
	rest := len(from) - 1
	between := func(a, b byte) string {
		pattern := "[" + string(a) + "-" + string(b) + "]"
		if a == b {
			pattern = string(a)
		}
		switch rest {
		case 0:
			return pattern
		case 1:
			return pattern + "[0-9]"
		}
		return pattern + "[0-9]{" + strconv.Itoa(rest) + "}"
	}
	zeros, nines := strings.Repeat("0", rest), strings.Repeat("9", rest)
	first, last := from[0], to[0]
	var all []string
	if from[1:] != zeros {
		all = append(all, from[:1]+digits(from[1:], nines))
		first++
	}
	highest := ""
	if to[1:] != nines {
		highest = to[:1] + digits(zeros, to[1:])
		last--
	}
	if first <= last {
		all = append(all, between(first, last))
	}
	if highest != "" {
		all = append(all, highest)
	}
	if len(all) == 1 {
		return all[0]
	}
	return "(" + strings.Join(all, "|") + ")"
}

// relations is what the settings of a struct exclude and need. A value with an expansion may be anything, so that
// nothing follows from it.
func (s schemaWriter) relations(t reflect.Type) []any {
	var all []any
	for _, f := range language.Fields(t) {
		if len(f.Either) > 0 {
			choices := []any{s.maybe(t, yamlfile.Condition{Path: f.Name})}
			for _, c := range f.Either {
				choices = append(choices, s.maybe(t, c))
			}
			all = append(all, object{"anyOf": choices})
		}
		for _, r := range f.Relations {
			var then []any
			for _, c := range r.Needs {
				then = append(then, s.maybe(t, c))
			}
			for _, c := range r.Excludes {
				then = append(then, object{"not": s.surely(t, c)})
			}
			all = append(all, object{"if": s.surely(t, r.When), "then": object{"allOf": then}})
		}
	}
	return all
}

// surely is met by settings for which a condition holds, whatever the environment.
func (s schemaWriter) surely(t reflect.Type, c yamlfile.Condition) object {
	return s.anyOf(t, c, func(f yamlfile.Field, value string) object {
		return object{"type": "object", "required": []any{f.Name}, "properties": object{f.Name: s.surelyIs(f, value)}}
	})
}

// maybe is met by settings for which a condition may hold in some environment.
func (s schemaWriter) maybe(t reflect.Type, c yamlfile.Condition) object {
	return s.anyOf(t, c, func(f yamlfile.Field, value string) object {
		there := object{"not": object{"enum": []any{"", nil}}}
		if value != "" {
			there = object{"anyOf": []any{s.is(f, value), s.expansion()}}
			if kindOfValue(f) == reflect.Bool {
				there = object{"not": object{"const": value != "true"}}
			}
		}
		schema := object{"type": "object", "properties": object{f.Name: there}}
		if value == "" || f.Default != value {
			schema["required"] = []any{f.Name}
		}
		return schema
	})
}

// anyOf puts what at makes of the last part of each path of a condition where it stands.
func (s schemaWriter) anyOf(t reflect.Type, c yamlfile.Condition, at func(yamlfile.Field, string) object) object {
	var all []any
	for _, one := range append([]yamlfile.Condition{c}, c.Or...) {
		f, _ := language.Lookup(t, one.Path)
		schema := at(f, one.Value)
		names := strings.Split(one.Path, ".")
		for i := len(names) - 2; i >= 0; i-- {
			schema = object{"type": "object", "required": []any{names[i]}, "properties": object{names[i]: schema}}
		}
		all = append(all, schema)
	}
	if len(all) == 1 {
		return all[0].(object)
	}
	return object{"anyOf": all}
}

func kindOfValue(f yamlfile.Field) reflect.Kind {
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind()
}

// surelyIs is met by values that differ from the absent one in every environment, or that are value.
func (s schemaWriter) surelyIs(f yamlfile.Field, value string) object {
	if value != "" {
		return s.is(f, value)
	}
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	never := object{"not": object{}}
	if _, ok := language.Components[t]; ok || t.Kind() == reflect.Map || t.Kind() == reflect.Struct && !isText(t) {
		return object{"type": "object", "minProperties": 1}
	}
	switch {
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "minItems": 1}
	case t.Kind() == reflect.Bool:
		return object{"const": f.Default != "true"}
	case (t == reflect.TypeFor[time.Duration]() || t == reflect.TypeFor[ByteSize]() || isText(t) && t.Kind() != reflect.String && t != reflect.TypeFor[Secret]()) && f.HasDefault:
		if f.Default != "max" { // rates and speeds: the other way to write it is 0
			return never
		}
		return object{"not": object{"anyOf": []any{object{"enum": []any{"", nil, "max", "0", 0}}, s.expansion()}}}
	}
	absent := []any{"", nil}
	if f.Default != "" {
		absent = append(absent, defaultValue(f))
	}
	if !f.HasDefault && t.Kind() != reflect.String && t.Kind() != reflect.Interface && !isText(t) {
		absent = append(absent, 0)
	}
	return object{"not": object{"anyOf": []any{object{"enum": absent}, s.expansion()}}}
}

// is is met by what is value as it stands.
func (s schemaWriter) is(f yamlfile.Field, value string) object {
	if begin, ok := strings.CutSuffix(value, "*"); ok {
		return object{"type": "string", "pattern": "^" + regexp.QuoteMeta(begin)}
	}
	if kindOfValue(f) == reflect.Bool {
		return object{"const": value == "true"}
	}
	return object{"const": value}
}

// expansion is met by texts with an expansion in them.
func (s schemaWriter) expansion() object {
	if s.verbatim {
		return object{"not": object{}}
	}
	return object{"$ref": "#/$defs/expansion"}
}
