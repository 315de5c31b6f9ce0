package pipeline

import (
	"math"
	"math/big"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline/internal/docs"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

func init() {
	inside.Schema = func(registry any) (map[string]any, error) { return registry.(*Registry).schema() }
	inside.TestsSchema = func(registry any) (map[string]any, error) { return registry.(*Registry).testsSchema() }
}

// object is a JSON Schema, or a part of one.
type object = map[string]any

// Patterns are written so that Go and JavaScript, in which editors run them, read them alike.
const (
	expansionPattern = `(^|[^$])\$\{`
	wholePattern     = `^\s*\$\{[\s\S]*\}\s*$`
	durationPattern  = `^\s*[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)\s*$`
	sizePattern      = `^\s*[0-9]+\s*(B|KB|MB|GB|KiB|MiB|GiB)?\s*$`
	// booleanPattern are the words that the decoder takes for booleans and YAML 1.2 for text.
	booleanPattern = `^(y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)$`
	timePattern    = `^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$`
	// badExpansionPattern are the expansions that are refused in every environment: without their end, without a name,
	// with something else behind the name than the signs that may stand there. notFile is a name that is not "file".
	badExpansionPattern = `(^|[^$])\$\{([^}]*$|[^A-Za-z0-9_]|[A-Za-z0-9_]+[^A-Za-z0-9_}:?+-]|` + notFile + `:[^?+-]|file:\})`
	notFile             = `([A-Za-eg-z0-9_][A-Za-z0-9_]*|f([A-Za-hj-z0-9_][A-Za-z0-9_]*)?|fi([A-Za-km-z0-9_][A-Za-z0-9_]*)?|` +
		`fil([A-Za-df-z0-9_][A-Za-z0-9_]*)?|file[A-Za-z0-9_]+)`
	// seenPattern is a text without line ends, tabs, and blanks at its ends.
	seenPattern = `^([^\s]|[^\s][^\t\r\n]*[^\s])?$`
)

// schema is the JSON Schema (2020-12) of a pipeline file whose components are those of the registry. It refuses what
// the types and tags of configs refuse; rules that components check by themselves are not in it.
func (r *Registry) schema() (map[string]any, error) {
	index, err := r.documentation()
	if err != nil {
		return nil, err
	}
	s := schemaWriter{registry: r, index: index}
	root := s.settings(reflect.TypeFor[Config](), nil)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "A penstock pipeline"
	root["patternProperties"] = object{"^x-": true}
	defs := expansions()
	for _, kind := range language.Kinds {
		component := object{"type": "object"}
		s.addComponent(component, kind)
		defs[kind] = component
		for _, reg := range r.Components(Kind(kind)) {
			// Without settings a component has its defaults, if it requires nothing.
			config := s.value(reg.ConfigType, nil, language.HasKeys(reg.ConfigType) && s.requires(reg.ConfigType), nil)
			if doc, _ := index.Type(reg.ConfigType); doc != "" {
				config["description"] = doc
			}
			defs[kind+"."+reg.Name] = config
		}
	}
	root["$defs"] = defs
	return root, nil
}

// expansions are the definitions that other parts of a schema refer to.
func expansions() object {
	return object{
		"expansion": object{
			"description": "A text with ${NAME}, ${NAME:-default}, ${NAME:?message} or ${file:path} in it.",
			"type":        "string", "pattern": expansionPattern, "not": object{"pattern": badExpansionPattern},
		},
		"whole_expansion": object{
			"description": "Nothing but ${NAME}, ${NAME:-default}, ${NAME:?message} or ${file:path}.",
			"type":        "string", "pattern": wholePattern, "not": object{"pattern": badExpansionPattern},
		},
	}
}

// testsSchema is the JSON Schema of a file of tests beside a pipeline, NAME_test.yaml.
func (r *Registry) testsSchema() (map[string]any, error) {
	index, err := r.documentation()
	if err != nil {
		return nil, err
	}
	s := schemaWriter{registry: r, index: index}
	tests := s.settings(reflect.TypeFor[testsFile](), nil)
	tests["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	tests["title"] = "Tests of a penstock pipeline"
	tests["patternProperties"] = object{"^x-": true}
	tests["$defs"] = expansions()
	return tests, nil
}

type schemaWriter struct {
	registry *Registry
	index    docs.Index
	verbatim bool // ${…} is plain text
}

func (s schemaWriter) requires(t reflect.Type) bool {
	for _, f := range language.Fields(t) {
		if f.Required || f.Component || len(f.Either) > 0 {
			return true
		}
	}
	return false
}

// addComponent adds to a schema of settings that exactly one component of a kind stands among them.
func (s schemaWriter) addComponent(to object, kind string) {
	properties, _ := to["properties"].(object)
	if properties == nil {
		properties = object{}
	}
	var one []any
	for _, reg := range s.registry.Components(Kind(kind)) {
		properties[reg.Name] = object{"$ref": "#/$defs/" + kind + "." + reg.Name}
		one = append(one, object{"required": []any{reg.Name}})
	}
	to["properties"], to["additionalProperties"] = properties, false
	if len(one) == 0 {
		to["minProperties"] = 1 // and there is nothing that it could be
		return
	}
	to["oneOf"] = one
}

// settings is the schema of a struct. outer are the structs that it stands in: one that contains itself is not
// followed further.
func (s schemaWriter) settings(t reflect.Type, outer []reflect.Type) object {
	for _, o := range outer {
		if o == t {
			return object{"type": "object"}
		}
	}
	outer = append(outer[:len(outer):len(outer)], t)
	schema, properties := object{"type": "object", "additionalProperties": false}, object{}
	var required []any
	component := ""
	for _, f := range language.Fields(t) {
		if f.Component {
			component = language.Components[f.Type]
			continue
		}
		field := s
		field.verbatim = s.verbatim || f.Verbatim
		value := field.value(f.Type, &f, f.Required, outer)
		if doc := s.index.Field(f.Owner, f.GoName); doc != "" {
			value["description"] = doc
		}
		if f.HasDefault && f.Default != "" {
			value["default"] = defaultValue(f)
		}
		if example, ok := exampleValue(f); ok {
			value["examples"] = []any{example}
		}
		properties[f.Name] = value
		if f.Required {
			required = append(required, f.Name)
		}
	}
	schema["properties"] = properties
	if relations := s.relations(t); len(relations) > 0 {
		schema["allOf"] = relations
	}
	if len(required) > 0 {
		schema["required"] = required
	}
	if component != "" {
		s.addComponent(schema, component)
	}
	return schema
}

// defaultValue is a default as JSON has it.
func defaultValue(f yamlfile.Field) any {
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if isText(t) {
		return f.Default
	}
	var v any
	if err := yaml.Unmarshal([]byte(f.Default), &v); err != nil {
		return f.Default
	}
	return v
}

// exampleValue is an example as JSON has it.
func exampleValue(f yamlfile.Field) (any, bool) {
	if f.Example == "" {
		return nil, false
	}
	f.Default = f.Example
	return defaultValue(f), true
}

var durationOrText = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()

// isText reports whether a type is written as text: strings, durations, sizes, secrets and what else parses text.
func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t == reflect.TypeFor[time.Duration]() || t.Implements(durationOrText) ||
		reflect.PointerTo(t).Implements(durationOrText)
}

// value is the schema of a value. Where it is not required, nothing and an empty text count as absent.
func (s schemaWriter) value(t reflect.Type, f *yamlfile.Field, required bool, outer []reflect.Type) object {
	if kind, ok := language.Components[t]; ok {
		return orNothing(object{"$ref": "#/$defs/" + kind}, required)
	}
	if t.Kind() == reflect.Pointer && !t.Implements(durationOrText) {
		return s.value(t.Elem(), f, required, outer)
	}
	if !isText(t) {
		element := &yamlfile.Field{}
		if f != nil {
			element.Enum, element.FreeText, element.Range, element.Pattern = f.Enum, f.FreeText, f.Range, f.Pattern
		}
		switch t.Kind() {
		case reflect.Struct:
			return orNothing(s.settings(t, outer), required)
		case reflect.Slice, reflect.Array:
			list := object{"type": "array", "items": s.value(t.Elem(), element, true, outer)}
			if least := yamlfile.MinItems(t); required || least > 0 {
				list["minItems"] = max(least, 1)
				required = true
			}
			if f != nil && f.Unique {
				list["uniqueItems"] = true
			}
			if f != nil && f.Single {
				list = object{"anyOf": []any{list, list["items"]}}
			}
			return orNothing(list, required)
		case reflect.Map:
			mapping := object{"type": "object", "additionalProperties": s.value(t.Elem(), element, false, outer)}
			if required {
				mapping["minProperties"] = 1
			}
			return orNothing(mapping, required)
		case reflect.Interface:
			return object{}
		}
	}
	choices := s.scalarChoices(t, f)
	if !required {
		choices = append(choices, object{"enum": []any{"", nil}})
	}
	schema := object{"anyOf": choices}
	if t == reflect.TypeFor[Secret]() {
		schema["writeOnly"] = true
	}
	return schema
}

func orNothing(schema object, required bool) object {
	if required {
		return schema
	}
	return object{"anyOf": []any{schema, object{"enum": []any{"", nil}}}}
}

// scalarChoices are the ways to write a scalar, an expansion among them.
func (s schemaWriter) scalarChoices(t reflect.Type, f *yamlfile.Field) []any {
	choices, numeric := s.plainChoices(t, f)
	switch {
	case s.verbatim:
		return choices
	case numeric:
		return append(choices, object{"$ref": "#/$defs/whole_expansion"})
	}
	return append(choices, object{"$ref": "#/$defs/expansion"})
}

// plainChoices are the ways to write a scalar without an expansion. numeric tells that an expansion would have to be
// the whole value.
func (s schemaWriter) plainChoices(t reflect.Type, f *yamlfile.Field) (choices []any, numeric bool) {
	if f == nil {
		f = &yamlfile.Field{}
	}
	switch {
	case len(f.Enum) > 0:
		values := make([]any, len(f.Enum))
		for i, v := range f.Enum {
			values[i] = v
		}
		return []any{object{"enum": values}}, false
	case t == reflect.TypeFor[time.Duration]():
		pattern := durationPattern
		if f.Range != nil {
			pattern = durationRange(f.Range)
		}
		choices = []any{object{"type": "string", "pattern": pattern}}
		if f.Range == nil || f.Range.Has(new(big.Rat)) {
			choices = append(choices, object{"const": 0})
		}
		return choices, false
	case t == reflect.TypeFor[ByteSize]():
		pattern, bytes := sizePattern, object{"type": "integer", "minimum": 0}
		if f.Range != nil {
			pattern, bytes = sizeRange(f.Range), numbers(bytes, f.Range)
		}
		return []any{bytes, object{"type": "string", "pattern": pattern}}, false
	case isText(t):
		return s.textChoices(t, f), false
	}
	switch t.Kind() {
	case reflect.Bool:
		return []any{object{"type": "boolean"}, object{"type": "string", "pattern": booleanPattern}}, true
	case reflect.Float32, reflect.Float64:
		return []any{numbers(object{"type": "number"}, f.Range)}, true
	}
	number := object{"type": "integer"}
	switch bits := t.Bits(); {
	case strings.HasPrefix(t.Kind().String(), "uint"):
		number["minimum"] = 0
		number["maximum"] = uint64(math.MaxUint64) >> (64 - bits)
	case bits == 64:
		number["minimum"], number["maximum"] = math.MinInt64, math.MaxInt64
	case bits < 64:
		number["minimum"], number["maximum"] = -math.Exp2(float64(bits-1)), math.Exp2(float64(bits-1))-1
	}
	return []any{numbers(number, f.Range)}, true
}

// textChoices are the ways to write a text: as a string, or as a number or a boolean that YAML makes of it.
func (s schemaWriter) textChoices(t reflect.Type, f *yamlfile.Field) []any {
	text := object{"type": "string", "minLength": 1}
	if !f.FreeText {
		text["pattern"] = seenPattern
	}
	if !s.verbatim {
		text["not"] = object{"pattern": expansionPattern} // which stands beside it
	}
	if t == reflect.TypeFor[time.Time]() {
		text["format"], text["pattern"] = "date-time", timePattern
	}
	if f.Pattern == nil {
		return []any{text, object{"type": []any{"number", "boolean"}}}
	}
	if strings.Contains(f.Pattern.String(), "https?://") && t.Kind() == reflect.String {
		text["format"] = "uri"
	}
	text["allOf"] = []any{object{"pattern": f.Pattern.String()}}
	choices := []any{text}
	if f.Pattern.MatchString("1") {
		choices = append(choices, object{"type": "number"})
	}
	if f.Pattern.MatchString("true") {
		choices = append(choices, object{"type": "boolean"})
	}
	return choices
}
