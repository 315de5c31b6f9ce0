package yamlfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline/internal/expand"
	"github.com/penstock-dev/penstock/pipeline/internal/suggest"
)

// decoder turns yaml nodes into config values and gathers everything that is wrong on the way.
//
// It exists because yaml.Node.Decode ignores KnownFields, stops at the first error of a value, and knows nothing of
// components, defaults, required values and positions of what is missing.
type decoder struct {
	lang     *Language
	catalog  Catalog
	expander expand.Expander
	// literal leaves ${…} alone.
	literal bool
	// verbatim leaves ${…} alone where a file is decoded.
	verbatim      bool
	skip          []string // top-level keys to leave out
	ignoreUnknown bool     // of top-level keys

	problems []Problem
	warnings []Problem
	places   Places
	// broken holds the paths that did not decode, so that what follows from it is not reported too.
	broken map[string]bool
	// ruled holds the paths of values that break a rule of the tags: Validate may say the same in other words.
	ruled map[string]bool

	// following holds the anchors whose aliases are being decoded; copied counts the nodes seen through aliases.
	following map[*yaml.Node]bool
	copied    int
}

// maxCopied bounds what aliases may blow a file up to.
const maxCopied = 10_000

var errTooManyCopies = fmt.Errorf("aliases (*name) copy more than %d values", maxCopied)

func placeOf(n *yaml.Node) Place { return Place{n.Line, n.Column} }

func (d *decoder) report(c code.Code, at Place, path, format string, args ...any) {
	d.reportHint(c, at, path, fmt.Sprintf(format, args...), "")
}

// reportHint reports a problem with a hint, which comes with its brackets, as DidYouMean makes it.
func (d *decoder) reportHint(c code.Code, at Place, path, what, hint string) {
	d.problems = append(d.problems, Problem{Place: at, Path: path, What: what + hint, Code: c, Hint: bare(hint)})
	if d.broken == nil {
		d.broken = map[string]bool{}
	}
	d.broken[path] = true
}

// bare is a hint without its brackets.
func bare(hint string) string {
	hint = strings.TrimPrefix(hint, ": ")
	if inner, ok := strings.CutPrefix(hint, " ("); ok {
		return strings.TrimSuffix(inner, ")")
	}
	return hint
}

// reportRule reports a value that breaks a rule of the tags.
func (d *decoder) reportRule(c code.Code, at Place, path, what string) {
	d.problems = append(d.problems, Problem{Place: at, Path: path, What: what, Code: c})
	if d.ruled == nil {
		d.ruled = map[string]bool{}
	}
	d.ruled[path] = true
}

func (d *decoder) setPlace(path string, at Place) {
	if d.places == nil {
		d.places = Places{}
	}
	d.places[path] = at
}

// pair is an entry of a mapping.
type pair struct {
	name       string
	key, value *yaml.Node
}

// place is where an entry stands for whoever reads about it: its value when that is on the line, else its key.
func (p pair) place() Place {
	if p.value.Kind == yaml.ScalarNode && p.value.ShortTag() != "!!null" || p.value.Kind == yaml.AliasNode {
		return placeOf(p.value)
	}
	return placeOf(p.key)
}

// follow calls f with the node that n stands for, which is another one when n is an alias.
func (d *decoder) follow(n *yaml.Node, path string, f func(*yaml.Node)) {
	if n.Kind != yaml.AliasNode {
		if len(d.following) > 0 {
			if d.copied++; d.copied > maxCopied {
				if d.copied == maxCopied+1 {
					d.report(code.TooManyCopies, placeOf(n), path, "%v", errTooManyCopies)
				}
				return
			}
		}
		f(n)
		return
	}
	if d.following[n.Alias] {
		d.report(code.AliasCycle, placeOf(n), path, "alias *%s stands inside what it stands for", n.Value)
		return
	}
	if d.following == nil {
		d.following = map[*yaml.Node]bool{}
	}
	d.following[n.Alias] = true
	defer delete(d.following, n.Alias)
	d.follow(n.Alias, path, f)
}

// pairs lists the entries of a mapping, those that merge keys (<<) bring in last; an entry of its own wins over a
// merged one. Duplicate keys are reported.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	var pairs []pair
	seen := map[string]*yaml.Node{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			d.report(code.KeyNotName, placeOf(key), path, "want a name as the key, got %s", describe(key))
			continue
		}
		name := key.Value
		if first, ok := seen[name]; ok {
			d.report(code.DuplicateKey, placeOf(key), Join(path, name), "duplicate key: it is on line %d already", first.Line)
			d.expandAll(value, Join(path, name))
			continue
		}
		seen[name] = key
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		pairs = append(pairs, pair{name: name, key: key, value: value})
	}
	for _, m := range merged {
		pairs = d.merge(pairs, m, path, true)
	}
	return pairs
}

// merge adds the entries of what stands behind a merge key: a mapping or, at the top, a list of mappings.
func (d *decoder) merge(pairs []pair, n *yaml.Node, path string, list bool) []pair {
	d.follow(n, path, func(n *yaml.Node) {
		switch {
		case n.Kind == yaml.MappingNode:
			for _, p := range d.pairs(n, path) {
				if !slices.ContainsFunc(pairs, func(q pair) bool { return q.name == p.name }) {
					pairs = append(pairs, p)
				}
			}
		case n.Kind == yaml.SequenceNode && list:
			for _, item := range n.Content {
				pairs = d.merge(pairs, item, path, false)
			}
		default:
			d.report(code.MergeKey, placeOf(n), path, "the merge key << wants an alias of a mapping, or a list of them, got %s", describe(n))
		}
	})
	return pairs
}

// value decodes a node into v, and reports whether there was a value: null and scalars that are empty after their
// expansions count as absent and leave v alone. What did not decode was there.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, f *Field) (present bool) {
	present = true
	d.follow(n, path, func(n *yaml.Node) {
		if !d.checkTag(n, path) {
			return
		}
		present = d.node(n, v, path, f)
		if present {
			d.validate(v, path)
		}
	})
	return present
}

// checkTag refuses what would be misread: YAML tags, and values that begin like YAML's own signs.
func (d *decoder) checkTag(n *yaml.Node, path string) bool {
	if n.Kind == yaml.ScalarNode && n.Anchor != "" && n.Value == "" && n.Style == 0 {
		d.report(code.AnchorOnly, placeOf(n), path, "nothing but an anchor: a value that begins with & needs quotes")
		return false
	}
	switch n.ShortTag() {
	case "", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!map", "!!seq", "!!merge":
		return true
	}
	d.report(code.Tag, placeOf(n), path, "YAML tags are not supported here: a value that begins with ! needs quotes")
	return false
}

func (d *decoder) node(n *yaml.Node, v reflect.Value, path string, f *Field) (present bool) {
	t := v.Type()
	if kind, ok := d.lang.Components[t]; ok {
		return d.spec(n, v, kind, path)
	}
	if t.Kind() == reflect.Pointer && !t.Implements(textUnmarshalerType) {
		target := reflect.New(t.Elem())
		d.lang.SetDefaults(target.Elem())
		// The pointer is set first: what is broken inside is still there for those who look at it afterwards.
		present = d.node(n, target.Elem(), path, f)
		if present {
			d.validate(target.Elem(), path)
			v.Set(target)
		}
		return present
	}
	switch {
	case t == durationType, t.Implements(textUnmarshalerType), reflect.PointerTo(t).Implements(textUnmarshalerType):
		return d.scalar(n, v, path, f)
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.structure(n, v, path)
	case reflect.Slice:
		return d.list(n, v, path, f)
	case reflect.Map:
		return d.mapping(n, v, path, f)
	case reflect.Interface:
		if t.NumMethod() == 0 {
			x, present := d.anything(n, path)
			if present {
				v.Set(reflect.ValueOf(&x).Elem())
			}
			return present
		}
	}
	return d.scalar(n, v, path, f)
}

// absent reports whether a node that should be a mapping or a list is nothing at all, and reports other scalars, with
// the hint that is theirs.
func (d *decoder) absent(n *yaml.Node, path string, c code.Code, kind yaml.Kind, want, hint string) (absent, wrong bool) {
	if n.Kind == kind {
		return false, false
	}
	if n.Kind == yaml.ScalarNode {
		if n.ShortTag() == "!!null" {
			return true, false
		}
		if s, ok := d.text(n, path); !ok || s.Text == "" && s.Count > 0 {
			return ok, !ok
		}
	}
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") && !d.literal {
		c = code.SettingsFromOneVar
	}
	d.reportHint(c, d.placeAt(path, n), path, fmt.Sprintf("want %s, got %s", want, describe(n)), hint)
	d.expandAll(n, path)
	return false, true
}

// placeAt is where a path stands, or where n does when that is not known.
func (d *decoder) placeAt(path string, n *yaml.Node) Place {
	if m, ok := d.places[path]; ok {
		return m
	}
	return placeOf(n)
}

// switchHint says how to switch on or off what is switched by a setting, where "tls: yes" stands for the settings.
func (d *decoder) switchHint(n *yaml.Node, fields []Field, path string) string {
	i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == "enabled" && f.Type.Kind() == reflect.Bool })
	if i < 0 || n.Kind != yaml.ScalarNode {
		return ""
	}
	name := path[strings.LastIndexByte(path, '.')+1:]
	switch word := strings.ToLower(n.Value); {
	case slices.Contains([]string{"true", "yes", "on", "1"}, word):
		return fmt.Sprintf(": write %s: {enabled: true}", name)
	case slices.Contains([]string{"false", "no", "off", "0"}, word):
		return fmt.Sprintf(": write %s: {enabled: false}", name)
	case strings.HasPrefix(word, "${"):
		return fmt.Sprintf(": write enabled: %s on a line of its own below %s:", n.Value, name)
	}
	return ""
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) (present bool) {
	fields := d.lang.Fields(v.Type())
	if absent, wrong := d.absent(n, path, code.WrongShape, yaml.MappingNode, "settings (key: value)", d.switchHint(n, fields, path)); absent || wrong {
		return wrong
	}
	var names []string
	var component *Field
	for i := range fields {
		if fields[i].Component {
			component = &fields[i]
		} else {
			names = append(names, fields[i].Name)
		}
	}
	there := map[string]bool{}
	var unknown []pair
	for _, p := range d.pairs(n, path) {
		i := slices.IndexFunc(fields, func(f Field) bool { return !f.Component && f.Name == p.name })
		switch {
		case path == "" && (strings.HasPrefix(p.name, "x-") || slices.Contains(d.skip, p.name)):
			continue
		case i < 0 && path == "" && d.ignoreUnknown:
			continue
		case i < 0:
			unknown = append(unknown, p)
			continue
		}
		f, child := fields[i], Join(path, p.name)
		d.setPlace(child, p.place())
		fv := v.FieldByIndex(f.Index)
		there[f.Name] = d.field(p.value, fv, child, &f)
		if !there[f.Name] && f.HasDefault && !fv.IsZero() && writtenEmpty(p.value) {
			d.warnings = append(d.warnings, Problem{
				Place: placeOf(p.value), Path: child, Code: code.EmptyIsAbsent,
				What: fmt.Sprintf("an empty value counts as absent: the default %q applies", f.Default),
			})
		}
	}
	if component != nil {
		kind := d.lang.Components[component.Type]
		d.component(d.settingsMeant(unknown, path, names, kind), v.FieldByIndex(component.Index), kind, path, placeOf(n))
	} else {
		for _, p := range unknown {
			hint := suggest.DidYouMean(p.name, names)
			if len(names) == 0 {
				hint = ": there are no settings here"
			}
			if err := plaintext.Check(p.name); err != nil {
				hint = fmt.Sprintf(": the key %s", err)
			}
			d.reportHint(code.UnknownKey, placeOf(p.key), Join(path, p.name), "unknown key", hint)
			d.expandAll(p.value, Join(path, p.name))
		}
	}
	for _, f := range fields {
		if f.Required && !f.Component && !there[f.Name] && !(path == "" && slices.Contains(d.skip, f.Name)) {
			d.missing(Join(path, f.Name), n, v.FieldByIndex(f.Index).Type())
		}
	}
	d.checkRelations(v, path, component == nil && len(unknown) > 0)
	d.lang.inlineStructs(v, func(inner reflect.Value) { d.validate(inner, path) })
	return true
}

// checkRelations reports settings that exclude or need others, but for those of which one did not even decode, or may
// be there under a name that is misspelled.
func (d *decoder) checkRelations(v reflect.Value, path string, misspelled bool) {
	if d.literal {
		return
	}
	unknown := func(below string) bool {
		top, _, _ := strings.Cut(below, ".")
		_, there := d.places[Join(path, below)]
		return path == "" && slices.Contains(d.skip, top) || d.isBroken(Join(path, below)) || misspelled && !there
	}
	for _, r := range d.lang.relations(v, unknown) {
		at := Join(path, r.Path)
		d.reportRule(r.Code, d.places.Nearest(at), at, r.What)
	}
}

// field decodes the value of a field.
func (d *decoder) field(n *yaml.Node, v reflect.Value, path string, f *Field) (present bool) {
	if f.Verbatim {
		defer func(outer bool) { d.verbatim = outer }(d.verbatim)
		d.verbatim = true
	}
	return d.value(n, v, path, f)
}

// writtenEmpty reports whether a node is a literal "".
func writtenEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Style != 0
}

// settingsMeant reports, where a component stands among settings, those unknown keys that are nearer to a setting than
// to a component, and returns the others.
func (d *decoder) settingsMeant(unknown []pair, path string, settings []string, kind string) []pair {
	return slices.DeleteFunc(unknown, func(p pair) bool {
		if _, ok := d.catalog.ConfigType(kind, p.name); ok || suggest.Nearest(p.name, d.catalog.Names(kind)) != "" {
			return false
		}
		near := suggest.Nearest(p.name, settings)
		if near == "" {
			return false
		}
		d.reportHint(code.UnknownKey, placeOf(p.key), Join(path, p.name), "unknown key", " (did you mean "+near+"?)")
		return true
	})
}

func (d *decoder) missing(path string, parent *yaml.Node, t reflect.Type) {
	if d.isBroken(path) {
		return
	}
	at, ok := d.places[path] // the key is there, its value is not
	if !ok {
		at = d.placeAt(parentPath(path), parent)
	}
	what, hint := "is required", ""
	if kind, ok := d.lang.Components[t]; ok {
		what, hint = what+": one "+kind, suggest.DidYouMean("", d.catalog.Names(kind))
	}
	d.reportHint(code.Required, at, path, what, hint)
}

func (d *decoder) spec(n *yaml.Node, v reflect.Value, kind string, path string) (present bool) {
	want := fmt.Sprintf("one %s and its settings, such as %s: {}", kind, d.exampleName(n, kind))
	if absent, wrong := d.absent(n, path, code.NoComponent, yaml.MappingNode, want, ""); absent || wrong {
		return wrong
	}
	d.component(d.pairs(n, path), v, kind, path, placeOf(n))
	return true
}

func (d *decoder) exampleName(n *yaml.Node, kind string) string {
	if _, ok := d.catalog.ConfigType(kind, n.Value); ok {
		return n.Value
	}
	if names := d.catalog.Names(kind); len(names) > 0 {
		return names[0]
	}
	return "name"
}

// component decodes the one component that the pairs should hold. What stands beside it is checked all the same, so
// that all problems are reported at once.
func (d *decoder) component(pairs []pair, v reflect.Value, kind string, path string, at Place) {
	if len(pairs) == 0 {
		if m, ok := d.places[path]; ok {
			at = m
		}
		d.reportHint(code.NoComponent, at, path, "want one "+kind, suggest.DidYouMean("", d.catalog.Names(kind)))
		return
	}
	for i, p := range pairs {
		child := Join(path, p.name)
		d.setPlace(child, placeOf(p.key))
		configType, ok := d.catalog.ConfigType(kind, p.name)
		if !ok {
			d.unknownComponent(p, kind, child)
			continue
		}
		if i > 0 {
			what := fmt.Sprintf("more than one %s in this place: %s is on line %d", kind, pairs[0].name, pairs[0].key.Line)
			hint := ""
			if _, ok := d.catalog.ConfigType(kind, "fan_out"); ok {
				hint = " (fan_out feeds several)"
			}
			d.reportHint(code.SecondComponent, placeOf(p.key), child, what, hint)
		}
		config := reflect.New(configType)
		d.lang.SetDefaults(config.Elem())
		if !d.value(p.value, config.Elem(), child, nil) {
			// Without settings a component has its defaults, and may lack what it requires.
			empty := &yaml.Node{Kind: yaml.MappingNode, Line: p.key.Line, Column: p.key.Column}
			if configType.Kind() == reflect.Slice {
				empty.Kind = yaml.SequenceNode
			}
			d.value(empty, config.Elem(), child, nil)
		}
		d.lang.SetComponent(v, p.name, config.Interface(), child)
	}
}

func (d *decoder) unknownComponent(p pair, kind string, path string) {
	c, what, hint := code.UnknownComponent, "unknown "+kind, suggest.DidYouMean(p.name, d.catalog.Names(kind))
	for _, other := range d.lang.Kinds {
		if _, ok := d.catalog.ConfigType(other, p.name); ok {
			c, what, hint = code.OtherKind, fmt.Sprintf("%s is a %s, want a %s", p.name, other, kind), ""
		}
	}
	d.reportHint(c, placeOf(p.key), path, what, hint)
	d.expandAll(p.value, path)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, f *Field) (present bool) {
	if f != nil && f.Single && n.Kind == yaml.MappingNode {
		n = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{n}, Line: n.Line, Column: n.Column}
	}
	if absent, wrong := d.absent(n, path, code.WrongShape, yaml.SequenceNode, "a list", ""); absent || wrong {
		return wrong
	}
	list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		child := fmt.Sprintf("%s[%d]", path, i)
		d.setPlace(child, placeOf(item))
		element := reflect.New(v.Type().Elem()).Elem()
		d.lang.SetDefaults(element)
		if d.value(item, element, child, elementField(f)) {
			list = reflect.Append(list, element)
			if j := firstEqual(list, list.Len()-1); f != nil && f.Unique && j < list.Len()-1 {
				d.reportRule(code.NamedTwice, placeOf(item), child, twice(j))
			}
		} else if item.Kind != yaml.ScalarNode || !strings.Contains(item.Value, "${") {
			d.report(code.EmptyItem, placeOf(item), child, "is empty")
		}
	}
	if f != nil && f.Required && list.Len() == 0 && !d.brokenBelow(path) {
		d.report(code.Required, d.placeAt(path, n), path, "is required: at least one")
	}
	if least := MinItems(v.Type()); list.Len() < least && !d.brokenBelow(path) {
		d.reportRule(code.Required, d.placeAt(path, n), path, fmt.Sprintf("must have at least %d, got %d", least, list.Len()))
	}
	v.Set(list)
	return true
}

// elementField is what a field's tags say about the elements of its list or map.
func elementField(f *Field) *Field {
	if f == nil {
		return nil
	}
	return &Field{Enum: f.Enum, FreeText: f.FreeText, Range: f.Range, Pattern: f.Pattern, Want: f.Want, Hidden: f.Hidden, Code: f.Code, Note: f.Note}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, f *Field) (present bool) {
	if absent, wrong := d.absent(n, path, code.WrongShape, yaml.MappingNode, "a mapping (key: value)", ""); absent || wrong {
		return wrong
	}
	t := v.Type()
	m := reflect.MakeMap(t)
	for _, p := range d.pairs(n, path) {
		child := Join(path, p.name)
		d.setPlace(child, p.place())
		key := reflect.New(t.Key()).Elem()
		// The key's place is its own: problems of keys must not hide those of values.
		keyNode := &yaml.Node{Kind: yaml.ScalarNode, Value: p.name, Line: p.key.Line, Column: p.key.Column}
		literal := d.literal
		d.literal = true
		ok := d.scalar(keyNode, key, child, nil)
		d.literal = literal
		if !ok {
			d.report(code.EmptyItem, placeOf(p.key), child, "the key is empty")
		}
		element := reflect.New(t.Elem()).Elem()
		d.lang.SetDefaults(element)
		if d.value(p.value, element, child, elementField(f)) {
			m.SetMapIndex(key, element)
		}
	}
	if f != nil && f.Required && m.Len() == 0 && !d.brokenBelow(path) {
		d.report(code.Required, d.placeAt(path, n), path, "is required: at least one")
	}
	v.Set(m)
	return true
}

// anything decodes into the types of encoding/json, except that whole numbers are int (or uint64, when larger).
func (d *decoder) anything(n *yaml.Node, path string) (x any, present bool) {
	present = true
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for _, p := range d.pairs(n, path) {
			child := Join(path, p.name)
			d.setPlace(child, p.place())
			d.follow(p.value, child, func(n *yaml.Node) {
				if d.checkTag(n, child) {
					m[p.name], _ = d.anything(n, child)
				}
			})
		}
		return m, true
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			child := fmt.Sprintf("%s[%d]", path, i)
			d.setPlace(child, placeOf(item))
			d.follow(item, child, func(n *yaml.Node) {
				if d.checkTag(n, child) {
					list[i], _ = d.anything(n, child)
				}
			})
		}
		return list, true
	}
	s, ok := d.text(n, path)
	switch {
	case !ok:
		return nil, true
	case s.Whole:
		return untyped(s.Text), true
	case s.Count > 0 || n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp":
		return s.Text, true
	case n.ShortTag() == "!!null":
		return nil, false
	}
	if tag := n.ShortTag(); (tag == "!!int" || tag == "!!float") && !plaintext.IsDecimal(n.Value, true) {
		d.report(code.WrongType, placeOf(n), path, "want a number in decimal, or text in quotes, got %s%s", describe(n), plaintext.DecimalHint(n.Value))
		return nil, true
	}
	if err := n.Decode(&x); err != nil {
		d.report(code.WrongType, placeOf(n), path, "want a value, got %s", describe(n))
	}
	return x, true
}

// Join appends a name, or an index such as "[0]", to a path.
func Join(path, name string) string {
	if path == "" || name == "" || strings.HasPrefix(name, "[") {
		return path + name
	}
	return path + "." + name
}

func parentPath(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}
