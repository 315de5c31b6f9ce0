package yamlfile

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
)

// Condition is a setting by its path below a struct, and what it is: Value, or set to something else than its default
// when there is none. A Value that ends in * is the beginning of a text. Or are conditions that will do instead.
type Condition struct {
	Path, Value string
	Or          []Condition
}

// String is the condition as messages tell it.
func (c Condition) String() string {
	text := c.Path
	if c.Value != "" {
		text += ": " + strings.Replace(c.Value, "*", "…", 1)
	}
	for _, or := range c.Or {
		text += " or " + or.String()
	}
	return text
}

// Relation is what a field has to do with others: when it is set, or When says what else, all of Needs must be there,
// and none of Excludes.
type Relation struct {
	When            Condition
	Needs, Excludes []Condition
}

// parseConditions reads a list such as "host,tls.enabled=true|url"; below is put before every path.
func parseConditions(text, below string) []Condition {
	var all []Condition
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		var c Condition
		for i, one := range strings.Split(part, "|") {
			path, value, _ := strings.Cut(one, "=")
			if next := (Condition{Path: Join(below, path), Value: value}); i == 0 {
				c = next
			} else {
				c.Or = append(c.Or, next)
			}
		}
		all = append(all, c)
	}
	return all
}

// parseRelations reads the tags when, needs and excludes of a field. Each may hold several, with semicolons between
// them.
func parseRelations(name, when, needs, excludes string) []Relation {
	if needs+excludes == "" {
		return nil
	}
	whens, need, exclude := strings.Split(when, ";"), strings.Split(needs, ";"), strings.Split(excludes, ";")
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	var all []Relation
	for i := range max(len(whens), len(need), len(exclude)) {
		r := Relation{When: Condition{Path: name}, Needs: parseConditions(at(need, i), ""), Excludes: parseConditions(at(exclude, i), "")}
		if when := parseConditions(at(whens, i), name); len(when) == 1 {
			r.When = when[0]
		}
		all = append(all, r)
	}
	return all
}

// rule is a broken relation at a path, in the words of the tag says if there is one, which begin with a code.
func (f *Field) rule(path, what string, kind code.Code) Rule {
	if c, says, ok := strings.Cut(f.Says, " "); ok {
		return Rule{Path: path, What: says, Code: code.Code(c)}
	}
	return Rule{Path: path, What: what, Code: kind}
}

// conditions are all that a field's tags name.
func (f *Field) conditions() []Condition {
	all := slices.Clone(f.Either)
	for _, r := range f.Relations {
		all = slices.Concat(all, []Condition{r.When}, r.Needs, r.Excludes)
	}
	for _, c := range all {
		all = append(all, c.Or...)
	}
	return all
}

// Lookup finds the field at a path below a struct; ok is false when there is none. Tags are checked when a component is
// registered, so that those that they name are there.
func (l *Language) Lookup(t reflect.Type, path string) (f Field, ok bool) {
	name, rest, more := strings.Cut(path, ".")
	for _, f := range l.Fields(t) {
		if f.Component || f.Name != name {
			continue
		}
		if !more {
			return f, true
		}
		if inner := deref(f.Type); l.HasKeys(inner) {
			return l.Lookup(inner, rest)
		}
	}
	return Field{}, false
}

// holds returns whether a condition is met in v, a struct, and where.
func (l *Language) holds(v reflect.Value, c Condition) (path string, ok bool) {
	for _, one := range append([]Condition{c}, c.Or...) {
		if l.holdsAt(v, one) {
			return one.Path, true
		}
	}
	return "", false
}

func (l *Language) holdsAt(v reflect.Value, c Condition) bool {
	name, rest, more := strings.Cut(c.Path, ".")
	for _, f := range l.Fields(v.Type()) {
		if f.Component || f.Name != name {
			continue
		}
		fv := v.FieldByIndex(f.Index)
		for fv.Kind() == reflect.Pointer {
			if fv.IsNil() {
				return false
			}
			fv = fv.Elem()
		}
		switch {
		case more:
			return l.HasKeys(fv.Type()) && l.holdsAt(fv, Condition{Path: rest, Value: c.Value})
		case c.Value != "":
			return matches(fv.Interface(), c.Value)
		}
		return l.isSet(f, fv)
	}
	return false
}

func matches(v any, want string) bool {
	text := fmt.Sprint(v)
	if secret, ok := v.(interface{ Reveal() string }); ok {
		text = secret.Reveal()
	}
	if begin, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(text, begin)
	}
	return text == want
}

// isSet reports whether a value differs from the one that it has when it is absent.
func (l *Language) isSet(f Field, v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() > 0
	}
	if !f.HasDefault {
		return !v.IsZero()
	}
	absent := reflect.New(f.Type).Elem()
	l.applyDefault(f, absent)
	for absent.Kind() == reflect.Pointer {
		absent = absent.Elem()
	}
	return !reflect.DeepEqual(absent.Interface(), v.Interface())
}

// relations reports the settings of a struct that exclude or need others. Paths are below it. What unknown says of a
// path is that what stands there can't be judged.
func (l *Language) relations(v reflect.Value, unknown func(path string) bool) []Rule {
	var all []Rule
	missing := func(c Condition) bool {
		_, there := l.holds(v, c)
		return !there && !unknown(c.Path)
	}
	for _, f := range l.Fields(v.Type()) {
		if either := append([]Condition{{Path: f.Name}}, f.Either...); len(f.Either) > 0 && !slices.ContainsFunc(either, func(c Condition) bool { return !missing(c) }) {
			var others []string
			for _, c := range f.Either {
				others = append(others, c.Path)
			}
			all = append(all, Rule{Path: f.Name, What: "is required, or " + strings.Join(others, ", or "), Code: code.Required})
		}
		for _, r := range f.Relations {
			at, holds := l.holds(v, r.When)
			if !holds || unknown(at) {
				continue
			}
			who := ""
			if r.When.Value != "" && r.When.Value != "true" {
				who = r.When.Value + " "
			}
			kind, note := code.Contradiction, ""
			if f.Range == nil && f.Pattern == nil { // whose they are else
				kind, note = cmp.Or(f.Code, kind), f.note()
			}
			for _, c := range r.Needs {
				if missing(c) {
					all = append(all, f.rule(at, who+"needs "+c.String()+note, kind))
				}
			}
			var excluded []string
			for _, c := range r.Excludes {
				if _, there := l.holds(v, c); there {
					excluded = append(excluded, c.String())
				}
			}
			if len(excluded) > 0 {
				all = append(all, f.rule(at, who+"can't be combined with "+oneOf(excluded)+note, kind))
			}
		}
	}
	return all
}

// Broken reports what breaks the rules that the tags of a config declare, the structs in it included; v is the config.
// A field without a value and without a default counts as absent.
func (l *Language) Broken(v reflect.Value, skip ...string) []Rule {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	var all []Rule
	below := func(name string, rules []Rule) {
		for _, r := range rules {
			r.Path = Join(name, r.Path)
			all = append(all, r)
		}
	}
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			below("["+strconv.Itoa(i)+"]", l.Broken(v.Index(i)))
		}
		return all
	}
	if !l.HasKeys(v.Type()) {
		return nil
	}
	for _, f := range l.Fields(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		if f.Component {
			continue
		}
		if f.HasDefault || !fv.IsZero() {
			if what := f.outOfRange(fv); what != "" {
				all = append(all, Rule{Path: f.Name, What: what, Code: cmp.Or(f.Code, code.OutOfRange)})
			}
		}
		for i := 0; f.Unique && fv.Kind() == reflect.Slice && i < fv.Len(); i++ {
			if j := firstEqual(fv, i); j < i {
				all = append(all, Rule{Path: f.Name + "[" + strconv.Itoa(i) + "]", What: twice(j), Code: code.NamedTwice})
			}
		}
		for i, text := range texts(fv) {
			if what := f.breaksPattern(text, strconv.Quote(plaintext.Cut(text))); what != "" {
				path := f.Name
				if fv.Kind() == reflect.Slice {
					path += "[" + strconv.Itoa(i) + "]"
				}
				all = append(all, Rule{Path: path, What: what, Code: cmp.Or(f.Code, code.BadForm)})
			}
		}
		below(f.Name, l.Broken(fv))
	}
	return append(all, l.relations(v, func(path string) bool {
		top, _, _ := strings.Cut(path, ".")
		return slices.Contains(skip, top)
	})...)
}

// firstEqual is the index of the first element of a list that equals the one at i.
func firstEqual(list reflect.Value, i int) int {
	j := 0
	for j < i && !reflect.DeepEqual(list.Index(j).Interface(), list.Index(i).Interface()) {
		j++
	}
	return j
}

func twice(first int) string {
	return fmt.Sprintf("is [%d] already: each may stand in the list once", first)
}

// texts are the texts that a field's pattern is for: itself, or the elements of a list.
func texts(v reflect.Value) []string {
	switch {
	case v.Kind() == reflect.String:
		return []string{v.String()}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		var all []string
		for i := range v.Len() {
			all = append(all, v.Index(i).String())
		}
		return all
	}
	return nil
}
