package pipeline

import (
	"embed"
	"fmt"
	"io/fs"
	"reflect"

	"github.com/penstock-dev/penstock/pipeline/internal/docs"
	"github.com/penstock-dev/penstock/pipeline/internal/suggest"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// Description is what a reader needs to know to write a component, or the pipeline itself, in YAML.
type Description struct {
	// Kind and Name are the component's; both are empty for the pipeline itself.
	Kind Kind
	Name string
	// Type is "settings", or for configs that are lists "list of sinks" and the like.
	Type string
	// Summary is the first sentence of Doc. Both are plain text, empty when the registry was not given the source.
	Summary string
	// Doc is the doc comment of the config type, without the name of the type.
	Doc string
	// Fields are the settings, in the order of the source.
	Fields []Field
}

// Field is one setting of a component or of the pipeline.
type Field struct {
	// Path is the setting's place in the component, such as "tls.ca_file", "rules[].name" for the elements of a list, and
	// "headers.*.name" for those of a mapping.
	Path string
	// Name is the last part of Path; "<sink>" for a component that stands among the settings.
	Name string
	// Type in the words of the error messages: "text", "whole number", "duration", "list of sinks".
	Type string
	// Default is what an absent value means, as YAML; "" when that is nothing.
	Default string
	// Required tells that the value must be there and must not be empty.
	Required bool
	// Enum lists the values that are allowed; empty means any.
	Enum []string
	// Doc is the field's doc comment, as plain text.
	Doc string
	// Fields are the settings inside this one.
	Fields []Field
}

// Describe describes a component. The error says that there is none of that kind and name (and which was likely meant),
// or that the source given to [Registry.Document] is not Go. It may be called concurrently.
func (r *Registry) Describe(kind Kind, name string) (Description, error) {
	reg, ok := r.Lookup(kind, name)
	if !ok {
		var names []string
		for _, reg := range r.Components(kind) {
			names = append(names, reg.Name)
		}
		return Description{}, fmt.Errorf("no %s is called %s%s", kind, name, suggest.DidYouMean(name, names))
	}
	d, err := r.describe(reg.ConfigType)
	d.Kind, d.Name = kind, name
	return d, err
}

// DescribePipeline describes the pipeline itself: the top-level keys and what is in them.
func (r *Registry) DescribePipeline() (Description, error) {
	return r.describe(reflect.TypeFor[Config]())
}

func (r *Registry) describe(t reflect.Type) (Description, error) {
	index, err := r.documentation()
	if err != nil {
		return Description{}, err
	}
	d := Description{Type: language.TypeName(t), Fields: describeFields(index, t, "", nil)}
	d.Doc, d.Summary = index.Type(t)
	return d, nil
}

// describeFields describes the settings of a type, however deep: of a struct, or of what a list or mapping holds. Types that
// contain themselves are described once.
func describeFields(index docs.Index, t reflect.Type, prefix string, outer []reflect.Type) []Field {
	for {
		if _, ok := language.Components[t]; ok {
			return nil
		}
		switch t.Kind() {
		case reflect.Pointer:
			t = t.Elem()
			continue
		case reflect.Slice:
			t, prefix = t.Elem(), prefix+"[]"
			continue
		case reflect.Map:
			t, prefix = t.Elem(), yamlfile.Join(prefix, "*")
			continue
		}
		break
	}
	if !language.HasKeys(t) {
		return nil
	}
	for _, o := range outer {
		if o == t {
			return nil
		}
	}
	var fields []Field
	for _, f := range language.Fields(t) {
		name := f.Name
		if f.Component {
			name = fmt.Sprintf("<%s>", language.Components[f.Type])
		}
		field := Field{
			Path: yamlfile.Join(prefix, name), Name: name, Type: language.TypeName(f.Type), Required: f.Required || f.Component, Enum: f.Enum,
			Default: f.Default, Doc: index.Field(f.Owner, f.GoName),
		}
		field.Fields = describeFields(index, f.Type, field.Path, append(outer, t))
		fields = append(fields, field)
	}
	return fields
}

//go:embed config.go sinkfunc.go
var ownSource embed.FS

// documentation parses the source on the first call.
func (r *Registry) documentation() (docs.Index, error) {
	r.docsMu.Lock()
	defer r.docsMu.Unlock()
	if r.docs == nil {
		index, err := docs.Read(append([]fs.FS{ownSource}, r.sources...)...)
		if err != nil {
			return nil, err
		}
		r.docs = index
	}
	return r.docs, nil
}
