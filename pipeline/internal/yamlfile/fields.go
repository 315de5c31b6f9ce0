package yamlfile

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
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
	// Default is what an absent value means, as YAML, if HasDefault.
	Default    string
	HasDefault bool
	// FreeText tells that a text may hold anything, also what can't be seen: see package plaintext.
	FreeText bool
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
		f := Field{
			Name: name, GoName: sf.Name, Owner: t, Index: sf.Index, Type: sf.Type,
			Required: sf.Tag.Get("required") == "true", FreeText: sf.Tag.Get("text") == "free",
			Single: sf.Tag.Get("single") == "true", Verbatim: sf.Tag.Get("verbatim") == "true",
		}
		f.Default, f.HasDefault = sf.Tag.Lookup("default")
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.Enum = strings.Split(enum, ",")
		}
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
		if f.Name == "" {
			f.Name = strings.ToLower(sf.Name)
		}
		fields = append(fields, f)
	}
	return fields
}

// CheckTags reports what is wrong with the tags of a config type and the types in it: two fields of one key, a default
// that is not of its field's type or not allowed by its enum, more than one component among the keys.
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
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Map, t.Kind() == reflect.Interface:
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(f.Default), &document); err != nil || len(document.Content) != 1 {
			panic(fmt.Sprintf("%s.%s: default %q: %v", f.Owner, f.GoName, f.Default, err))
		}
		node = document.Content[0]
	}
	d := decoder{lang: l, literal: true}
	d.value(node, v, f.Name, &Field{Enum: f.Enum})
	if len(d.problems) > 0 {
		panic(fmt.Sprintf("%s.%s: default %q: %s", f.Owner, f.GoName, f.Default, d.problems[0].What))
	}
}
