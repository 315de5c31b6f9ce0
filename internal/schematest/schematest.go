// Package schematest holds YAML files against a JSON Schema, as an editor does, with a validator that is not ours. It
// is for tests.
package schematest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// ErrNotYAML says that a file has no value that a schema could judge.
var ErrNotYAML = errors.New("not YAML")

// Beyond reads a list of the files that a schema can't refuse: one a line, as "name: reason".
func Beyond(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, reason, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok || reason == "" || all[name] != "" {
			return nil, fmt.Errorf("%s: want \"name: reason\", each name once, got %q", file, line)
		}
		all[name] = reason
	}
	return all, nil
}

// Compile returns a function that judges YAML files by a schema. The error of Compile says that it is no JSON Schema,
// that of the function what the schema refuses.
func Compile(schema any) (judge func(file []byte) error, err error) {
	encoded, err := json.Marshal(schema)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("pipeline.schema.json", document); err != nil {
		return nil, err
	}
	compiled, err := compiler.Compile("pipeline.schema.json")
	if err != nil {
		return nil, err
	}
	return func(file []byte) error {
		value, err := values(file)
		if err != nil {
			return err
		}
		return compiled.Validate(value)
	}, nil
}

// values are the YAML's as JSON has them.
func values(file []byte) (any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(file))
	var node yaml.Node
	if err := decoder.Decode(&node); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrNotYAML, err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: a second document", ErrNotYAML)
	}
	timesAreText(&node, map[*yaml.Node]bool{})
	var v any
	if err := node.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotYAML, err)
	}
	encoded, err := json.Marshal(named(v))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotYAML, err)
	}
	return jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
}

// timesAreText: YAML 1.2, which editors speak, has no times.
func timesAreText(n *yaml.Node, seen map[*yaml.Node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, child := range n.Content {
		timesAreText(child, seen)
	}
}

// named makes text of the keys that are numbers and booleans.
func named(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := map[string]any{}
		for key, value := range v {
			m[fmt.Sprint(key)] = named(value)
		}
		return m
	case map[string]any:
		for key, value := range v {
			v[key] = named(value)
		}
	case []any:
		for i, value := range v {
			v[i] = named(value)
		}
	}
	return v
}
