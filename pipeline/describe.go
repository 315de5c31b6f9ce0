package pipeline

import (
	"embed"
	"fmt"
	"io/fs"
	"reflect"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline/internal/docs"
	"github.com/penstock-dev/penstock/pipeline/internal/suggest"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

func init() {
	inside.CheckTogether = func(configs any) error { return checkTogether(configs.([]*Config)...) }
	inside.Describe = func(registry any, kind, name string) (inside.Description, error) {
		return registry.(*Registry).describeComponent(Kind(kind), name)
	}
	inside.DescribePipeline = func(registry any) (inside.Description, error) {
		return registry.(*Registry).describe(reflect.TypeFor[Config]())
	}
}

func (r *Registry) describeComponent(kind Kind, name string) (inside.Description, error) {
	reg, ok := r.Lookup(kind, name)
	if !ok {
		var names []string
		for _, reg := range r.Components(kind) {
			names = append(names, reg.Name)
		}
		return inside.Description{}, fmt.Errorf("no %s is called %s%s", kind, name, suggest.DidYouMean(name, names))
	}
	d, err := r.describe(reg.ConfigType)
	d.Kind, d.Name = string(kind), name
	return d, err
}

func (r *Registry) describe(t reflect.Type) (inside.Description, error) {
	index, err := r.documentation()
	if err != nil {
		return inside.Description{}, err
	}
	d := inside.Description{Type: language.TypeName(t), Fields: describeFields(index, t, "", nil)}
	d.Doc, d.Summary = index.Type(t)
	return d, nil
}

// describeFields describes the settings of a type, however deep: of a struct, or of what a list or mapping holds.
// Types that contain themselves are described once.
func describeFields(index docs.Index, t reflect.Type, prefix string, outer []reflect.Type) []inside.Field {
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
	var fields []inside.Field
	for _, f := range language.Fields(t) {
		name := f.Name
		if f.Component {
			name = fmt.Sprintf("<%s>", language.Components[f.Type])
		}
		field := inside.Field{
			Path: yamlfile.Join(prefix, name), Name: name, Type: language.TypeName(f.Type), Required: f.Required || f.Component, Enum: f.Enum,
			Default: f.Default, Doc: index.Field(f.Owner, f.GoName), Range: f.Want, Unit: f.Unit, Example: f.Example,
		}
		if f.Range != nil {
			field.Range = f.Range.String()
		}
		field.Fields = describeFields(index, f.Type, field.Path, append(outer, t))
		fields = append(fields, field)
	}
	return fields
}

//go:embed config.go sinkfunc.go tests.go
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
