package yamlfile

import (
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// describe names what a node is, for a message: what was written, not what it resolves to.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "the alias *" + n.Value
	}
	if n.ShortTag() == "!!null" {
		return "nothing"
	}
	text := plaintext.Cut(n.Value)
	if n.ShortTag() == "!!str" {
		return strconv.Quote(text)
	}
	return text
}

// TypeName is how messages and documentation call a type.
func (l *Language) TypeName(t reflect.Type) string {
	if kind, ok := l.Components[t]; ok {
		return kind
	}
	if name, ok := l.TypeNames[t]; ok {
		return name
	}
	if t == durationType {
		return "duration"
	}
	if t.Kind() == reflect.Pointer {
		return l.TypeName(t.Elem())
	}
	if reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return "text"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + plural(l.TypeName(t.Elem()))
	case reflect.Map:
		return "mapping of " + plural(l.TypeName(t.Elem()))
	case reflect.Struct:
		return "settings"
	}
	return "anything"
}

func article(noun string) string {
	switch noun {
	case "text", "true or false", "settings", "anything":
		return noun
	}
	return "a " + noun
}

func plural(noun string) string {
	switch noun {
	case "text", "settings", "anything":
		return noun
	case "true or false":
		return "booleans"
	}
	if before, after, ok := strings.Cut(noun, " of "); ok {
		return before + "s of " + after
	}
	return noun + "s"
}

func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}
