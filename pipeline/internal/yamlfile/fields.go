package yamlfile

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/code"
)

// Language is what the decoder has to know of the configs that it decodes, beside their tags.
type Language struct {
	// Kinds are the kinds of component.
	Kinds []string
	// Components are the types of the fields that hold a component, with its kind.
	Components map[reflect.Type]string
	// TypeNames are what messages call the types whose kind in Go says too little.
	TypeNames map[reflect.Type]string
	// Reread, when set, is given what a text with expansions was decoded into, and how to resolve them again.
	Reread func(target any, reread func() (string, error))
	// SetComponent stores a component in v, which is of one of the types in Components.
	SetComponent func(v reflect.Value, name string, config any, path string)
	// FieldOf takes an error apart that says which field breaks a rule; ok is false for every other error.
	FieldOf func(err error) (field string, inner error, ok bool)

	fields sync.Map // of struct types: []Field
}

// Field is one key of a config struct, as its tags declare it.
type Field struct {
	Name     string // in YAML
	GoName   string
	Owner    reflect.Type // the struct that declares it, which differs from the outer one for inlined fields
	Index    []int
	Type     reflect.Type
	Required bool
	Enum     []string
	// Range is what a number, a duration or a size may be, and Pattern what a text or each of a list must match, in words
	// Want; nil means anything. Code is that of what breaks them, or the relations below; "" the usual one.
	Range   *Range
	Pattern *regexp.Regexp
	Want    string
	// Hidden tells that messages must not quote the value.
	Hidden bool
	Code   code.Code
	// Note stands behind every message about a broken rule of the field.
	Note string
	// Example is a value that the field may have, as YAML, and Unit what its numbers count, or "".
	Example, Unit string
	// Relations are what the field needs and excludes. Either are what may stand in place of the field: it, or one of
	// them, must be there.
	Relations []Relation
	Either    []Condition
	// Default is what an absent value means, as YAML, if HasDefault.
	Default    string
	HasDefault bool
	// FreeText tells that a text may hold anything, also what can't be seen: see package plaintext.
	FreeText bool
	// Says is a code, and the message about the relations in place of one that is made of them.
	Says string
	// Unique tells that no element of a list may stand in it twice.
	Unique bool
	// Single tells that one element may stand in place of a list, Verbatim that ${…} in the value is plain text.
	Single, Verbatim bool
	// Component tells that the field is a component among the keys of its struct, which has no name of its own.
	Component bool
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// Fields lists the keys of a config struct in the order of the source, those of inlined structs in their place.
// It panics on tags that make no sense: a mistake in the program.
func (l *Language) Fields(t reflect.Type) []Field {
	if known, ok := l.fields.Load(t); ok {
		return slices.Clone(known.([]Field))
	}
	fields := l.readFields(t)
	l.fields.Store(t, slices.Clone(fields))
	return fields
}

func (l *Language) readFields(t reflect.Type) []Field {
	var fields []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		if !sf.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		f := l.fromTags(t, sf)
		if f.Name = name; f.Name == "" {
			f.Name = strings.ToLower(sf.Name)
		}
		f.Relations = parseRelations(f.Name, sf.Tag.Get("when"), sf.Tag.Get("needs"), sf.Tag.Get("excludes"))
		if strings.Contains(","+options+",", ",inline,") {
			if _, ok := l.Components[sf.Type]; ok {
				f.Name, f.Component = "", true
				fields = append(fields, f)
				continue
			}
			if sf.Type.Kind() != reflect.Struct {
				panic(fmt.Sprintf("%s.%s: only structs and components can be inline", t, sf.Name))
			}
			for _, inner := range l.Fields(sf.Type) {
				inner.Index = append([]int{i}, inner.Index...)
				fields = append(fields, inner)
			}
			continue
		}
		fields = append(fields, f)
	}
	return fields
}

// fromTags reads the tags of a field.
func (l *Language) fromTags(owner reflect.Type, sf reflect.StructField) Field {
	tag := sf.Tag.Get
	f := Field{
		GoName: sf.Name, Owner: owner, Index: sf.Index, Type: sf.Type,
		Required: tag("required") == "true", FreeText: tag("text") == "free",
		Unique: tag("unique") == "true", Single: tag("single") == "true", Verbatim: tag("verbatim") == "true",
		Want: tag("want"), Hidden: tag("hidden") == "true", Code: code.Code(tag("code")), Note: tag("note"), Says: tag("says"), Example: tag("example"), Unit: tag("unit"),
		Either: parseConditions(tag("either"), ""),
	}
	f.Default, f.HasDefault = sf.Tag.Lookup("default")
	if enum := tag("enum"); enum != "" {
		f.Enum = strings.Split(enum, ",")
	}
	if pattern := tag("pattern"); pattern != "" {
		f.Pattern = compiled(pattern)
	}
	if tag("range")+tag("step") != "" {
		var err error
		if f.Range, err = l.parseRange(&f, tag("range"), tag("step")); err != nil {
			panic(fmt.Sprintf("%s.%s: range: %v", owner, sf.Name, err))
		}
	}
	return f
}

var patterns sync.Map // of the tags: *regexp.Regexp by their text

func compiled(pattern string) *regexp.Regexp {
	if known, ok := patterns.Load(pattern); ok {
		return known.(*regexp.Regexp)
	}
	made := regexp.MustCompile(pattern)
	patterns.Store(pattern, made)
	return made
}

// CheckTags reports what is wrong with the tags of a config type and the types in it: two fields of one key, a default
// or an example that is not of its field's type or not allowed by its other tags, more than one component among the
// keys, a setting that is named and is not there.
func (l *Language) CheckTags(t reflect.Type) error { return l.checkTags(t, nil) }

func (l *Language) checkTags(t reflect.Type, outer []reflect.Type) (err error) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if !l.HasKeys(t) || slices.Contains(outer, t) {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	seen := map[string]bool{}
	for _, f := range l.Fields(t) {
		if seen[f.Name] {
			return fmt.Errorf("%s.%s: the key %q is taken", t, f.GoName, f.Name)
		}
		seen[f.Name] = true
		if f.HasDefault {
			l.applyDefault(f, reflect.New(f.Type).Elem())
		}
		if f.Example != "" {
			l.applyDefault(Field{Owner: f.Owner, GoName: f.GoName, Name: f.Name, Type: f.Type, Enum: f.Enum, Range: f.Range, Pattern: f.Pattern, Want: f.Want, Single: f.Single, Default: f.Example}, reflect.New(f.Type).Elem())
		}
		if f.Pattern != nil && f.Want == "" {
			return fmt.Errorf("%s.%s: pattern wants want, which says what it is", t, f.GoName)
		}
		for _, c := range f.conditions() {
			if _, ok := l.Lookup(t, c.Path); !ok && !f.Component {
				return fmt.Errorf("%s.%s: there is no setting %q", t, f.GoName, c.Path)
			}
		}
		if err := l.checkTags(f.Type, append(outer, t)); err != nil {
			return err
		}
	}
	return nil
}

// inlineStructs calls f with every struct that is inlined in v, however deep.
func (l *Language) inlineStructs(v reflect.Value, f func(reflect.Value)) {
	t := v.Type()
	for i := range t.NumField() {
		sf := t.Field(i)
		_, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if _, spec := l.Components[sf.Type]; spec || !sf.IsExported() || !strings.Contains(","+options+",", ",inline,") {
			continue
		}
		l.inlineStructs(v.Field(i), f)
		f(v.Field(i))
	}
}

// HasKeys reports whether a type is a struct that YAML gives as a mapping of its fields.
func (l *Language) HasKeys(t reflect.Type) bool {
	_, spec := l.Components[t]
	return t.Kind() == reflect.Struct && !spec && !reflect.PointerTo(t).Implements(textUnmarshalerType)
}

// SetDefaults fills the zero fields of v with their defaults: nested structs, and what pointers and lists in it hold,
// included. It panics on a default that does not parse: a mistake in the program.
func (l *Language) SetDefaults(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			l.SetDefaults(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			l.SetDefaults(v.Index(i))
		}
	case reflect.Struct:
		if !l.HasKeys(v.Type()) {
			return
		}
		for _, f := range l.Fields(v.Type()) {
			if f.Component {
				continue
			}
			fv := v.FieldByIndex(f.Index)
			if f.HasDefault && fv.IsZero() {
				l.applyDefault(f, fv)
			}
			l.SetDefaults(fv)
		}
	}
}

func (l *Language) applyDefault(f Field, v reflect.Value) {
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Default}
	switch t := f.Type; {
	case t == durationType, t.Implements(textUnmarshalerType), reflect.PointerTo(t).Implements(textUnmarshalerType):
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Map, t.Kind() == reflect.Interface, deref(t).Kind() == reflect.Struct:
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(f.Default), &document); err != nil || len(document.Content) != 1 {
			panic(fmt.Sprintf("%s.%s: default %q: %v", f.Owner, f.GoName, f.Default, err))
		}
		node = document.Content[0]
	}
	d := decoder{lang: l, literal: true}
	d.value(node, v, f.Name, &Field{Enum: f.Enum, Range: f.Range, Pattern: f.Pattern, Want: f.Want, Single: f.Single})
	if len(d.problems) > 0 {
		panic(fmt.Sprintf("%s.%s: default %q: %s", f.Owner, f.GoName, f.Default, d.problems[0].What))
	}
}

// MinItems is how many elements a list must have: what its type says of it.
func MinItems(t reflect.Type) int {
	if list, ok := reflect.New(t).Interface().(interface{ MinItems() int }); ok {
		return list.MinItems()
	}
	return 0
}

// literal decodes a scalar without expansions into v.
func (l *Language) literal(text string, v reflect.Value) error {
	d := decoder{lang: l, literal: true}
	d.value(&yaml.Node{Kind: yaml.ScalarNode, Value: text}, v, "", nil)
	if len(d.problems) > 0 {
		return errors.New(d.problems[0].What)
	}
	return nil
}
