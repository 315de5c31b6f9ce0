package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/penstock-dev/penstock/internal/inside"
)

// explainField explains a setting by its path, such as sinks.redis.ttl or retry.max_attempts.
func (p *Program) explainField(path string) error {
	w := p.text()
	d, rest, err := p.described(path)
	if err != nil {
		return err
	}
	if rest == "" {
		writeComponent(w, p.textWidth(), d)
		return nil
	}
	var names []string
	for _, f := range flat(d.Fields) {
		name := strings.NewReplacer("[]", "", ".*", "").Replace(f.Path)
		if f.Path != rest && name != rest {
			names = append(names, name)
			continue
		}
		_, _ = fmt.Fprintf(w, "%s\n\n", path)
		writeWrapped(w, p.textWidth(), "  ", f.Doc)
		_, _ = fmt.Fprintf(w, "\n  type     %s\n  unit     %s\n  default  %s\n  range    %s\n  example  %s: %s\n",
			f.Type, unitOf(f), defaultOf(f), rangeOf(f), f.Name, exampleOf(f))
		return nil
	}
	return usagef("no setting is called %q%s", path, didYouMean(rest, names))
}

// described finds the component, or the pipeline itself, that a path leads into, and what is left of the path there.
func (p *Program) described(path string) (d inside.Description, rest string, err error) {
	first, rest, _ := strings.Cut(path, ".")
	for _, kind := range kinds {
		if first != string(kind) && first != string(kind)+"s" || rest == "" {
			continue
		}
		name, rest, _ := strings.Cut(rest, ".")
		var names []string
		for _, reg := range p.Registry.Components(kind) {
			if reg.Name == name {
				d, err = inside.Describe(p.Registry, string(kind), name)
				return d, rest, err
			}
			names = append(names, reg.Name)
		}
		return d, "", usagef("no %s is called %q%s", kind, name, didYouMean(name, names))
	}
	d, err = inside.DescribePipeline(p.Registry)
	return d, path, err
}

// unitOf says what the numbers of a setting count, or need behind them.
func unitOf(f inside.Field) string {
	switch {
	case f.Unit != "":
		return f.Unit
	case f.Type == "duration":
		return "behind each number: ns, us, ms, s, m or h"
	case f.Type == "size":
		return "bytes, or behind the number: KB, MB, GB (powers of 1000), KiB, MiB, GiB (powers of 1024)"
	}
	return "none"
}

func defaultOf(f inside.Field) string {
	switch {
	case f.Required:
		return "none: it is required"
	case f.Default != "":
		return f.Default
	}
	return "none"
}

// rangeOf says what a setting may be.
func rangeOf(f inside.Field) string {
	switch {
	case f.Range != "":
		return f.Range
	case len(f.Enum) > 0:
		return strings.Join(f.Enum, ", ")
	}
	return "any " + f.Type
}

// exampleOf is a value that a setting may have. Settings whose type doesn't give one, nor their default, declare it: a
// test holds the shipped components to that.
func exampleOf(f inside.Field) string {
	switch {
	case f.Example != "":
		return f.Example
	case f.Default != "":
		return f.Default
	case len(f.Enum) > 0 && strings.HasPrefix(f.Type, "list"):
		return "[" + f.Enum[0] + "]"
	case len(f.Enum) > 0:
		return f.Enum[0]
	case f.Type == "secret":
		return "${file:/run/secrets/" + f.Name + "}"
	case f.Type == "true or false":
		return "true"
	case f.Type == "duration":
		return "30s"
	case f.Type == "size":
		return "64MiB"
	case f.Type == "source":
		return "{generate: {}}"
	case f.Type == "sink":
		return "{drop: {}}"
	case f.Type == "list of transforms":
		return "[{unwrap: {}}]"
	case f.Type == "settings":
		for _, inner := range f.Fields {
			if example := exampleOf(inner); example != "" {
				return "{" + inner.Name + ": " + example + "}"
			}
		}
		return "{}"
	}
	return ""
}

// fieldJSON is a setting as components --format json prints it.
type fieldJSON struct {
	Path     string   `json:"path"`
	Type     string   `json:"type"`
	Required bool     `json:"required"`
	Default  string   `json:"default,omitempty"`
	Enum     []string `json:"enum,omitempty"`
	Range    string   `json:"range,omitempty"`
	Unit     string   `json:"unit,omitempty"`
	Example  string   `json:"example,omitempty"`
	Doc      string   `json:"doc"`
}

type componentJSON struct {
	Kind    string      `json:"kind"`
	Name    string      `json:"name"`
	Type    string      `json:"type"`
	Summary string      `json:"summary"`
	Doc     string      `json:"doc"`
	Fields  []fieldJSON `json:"fields"`
}

// writeComponentsJSON writes an array of components, each with all its settings in the order of the reference.
func writeComponentsJSON(w io.Writer, all []inside.Description) error {
	out := make([]componentJSON, 0, len(all))
	for _, d := range all {
		c := componentJSON{Kind: d.Kind, Name: d.Name, Type: d.Type, Summary: d.Summary, Doc: d.Doc, Fields: []fieldJSON{}}
		for _, f := range flat(d.Fields) {
			c.Fields = append(c.Fields, fieldJSON{f.Path, f.Type, f.Required, f.Default, f.Enum, f.Range, f.Unit, exampleOf(f), f.Doc})
		}
		out = append(out, c)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

// isField tells a path of settings from a code.
func (p *Program) isField(name string) bool {
	if strings.Contains(name, ".") {
		return true
	}
	d, err := inside.DescribePipeline(p.Registry)
	if err != nil {
		return false
	}
	for _, f := range d.Fields {
		if f.Name == name {
			return true
		}
	}
	return false
}
