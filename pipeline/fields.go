package pipeline

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// configField is one key of a config struct, as its tags declare it.
type configField struct {
	name       string // in YAML
	goName     string
	owner      reflect.Type // the struct that declares it, which differs from the outer one for inlined fields
	index      []int
	typ        reflect.Type
	required   bool
	enum       []string
	def        string
	hasDefault bool
	// inlined tells that the field is a component among the keys of its struct, which has no name of its own.
	inlined bool
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	secretType          = reflect.TypeFor[Secret]()
	byteSizeType        = reflect.TypeFor[ByteSize]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	specKinds           = map[reflect.Type]Kind{
		reflect.TypeFor[SourceSpec]():    KindSource,
		reflect.TypeFor[TransformSpec](): KindTransform,
		reflect.TypeFor[SinkSpec]():      KindSink,
	}
)

// configFields lists the keys of a config struct in the order of the source, those of inlined structs in their place.
// It panics on tags that make no sense: a mistake in the program.
func configFields(t reflect.Type) []configField {
	var fields []configField
	for i := range t.NumField() {
		sf := t.Field(i)
		if !sf.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		f := configField{
			name: name, goName: sf.Name, owner: t, index: sf.Index, typ: sf.Type,
			required: sf.Tag.Get("required") == "true",
		}
		f.def, f.hasDefault = sf.Tag.Lookup("default")
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.enum = strings.Split(enum, ",")
		}
		if strings.Contains(","+options+",", ",inline,") {
			if _, ok := specKinds[sf.Type]; ok {
				f.name, f.inlined = "", true
				fields = append(fields, f)
				continue
			}
			if sf.Type.Kind() != reflect.Struct {
				panic(fmt.Sprintf("%s.%s: only structs and components can be inline", t, sf.Name))
			}
			for _, inner := range configFields(sf.Type) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
			continue
		}
		if f.name == "" {
			f.name = strings.ToLower(sf.Name)
		}
		fields = append(fields, f)
	}
	return fields
}

// checkTags reports what is wrong with the tags of a config type and the types in it: two fields of one key, a default
// that is not of its field's type or not allowed by its enum, more than one component among the keys.
func checkTags(t reflect.Type, outer []reflect.Type) (err error) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if !hasKeys(t) || slices.Contains(outer, t) {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	seen := map[string]bool{}
	for _, f := range configFields(t) {
		if seen[f.name] {
			return fmt.Errorf("%s.%s: the key %q is taken", t, f.goName, f.name)
		}
		seen[f.name] = true
		if f.hasDefault {
			applyDefault(f, reflect.New(f.typ).Elem())
		}
		if err := checkTags(f.typ, append(outer, t)); err != nil {
			return err
		}
	}
	return nil
}

// inlineStructs calls f with every struct that is inlined in v, however deep.
func inlineStructs(v reflect.Value, f func(reflect.Value)) {
	t := v.Type()
	for i := range t.NumField() {
		sf := t.Field(i)
		_, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if _, spec := specKinds[sf.Type]; spec || !sf.IsExported() || !strings.Contains(","+options+",", ",inline,") {
			continue
		}
		inlineStructs(v.Field(i), f)
		f(v.Field(i))
	}
}

// hasKeys reports whether a type is a struct that YAML gives as a mapping of its fields.
func hasKeys(t reflect.Type) bool {
	_, spec := specKinds[t]
	return t.Kind() == reflect.Struct && !spec && !reflect.PointerTo(t).Implements(textUnmarshalerType)
}

// SetDefaults fills the zero fields of a config, a pointer to a struct with the tags that [SourceConfig] describes, with
// their defaults: nested structs, and what pointers and lists in it hold, included. Components built in Go get by it the
// defaults that components read from a file have. A field whose zero value differs from its default can only be set
// to zero afterwards. It panics when config is not a pointer or a default does not parse: that is a mistake in the
// program.
func SetDefaults(config any) {
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("pipeline: SetDefaults(%T): want a pointer", config))
	}
	setDefaults(v.Elem())
}

// DefaultConfig returns a pipeline's config with all its defaults, to be filled by a program.
func DefaultConfig() Config {
	var c Config
	SetDefaults(&c)
	return c
}

func setDefaults(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			setDefaults(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			setDefaults(v.Index(i))
		}
	case reflect.Struct:
		if !hasKeys(v.Type()) {
			return
		}
		for _, f := range configFields(v.Type()) {
			if f.inlined {
				continue
			}
			fv := v.FieldByIndex(f.index)
			if f.hasDefault && fv.IsZero() {
				applyDefault(f, fv)
			}
			setDefaults(fv)
		}
	}
}

func applyDefault(f configField, v reflect.Value) {
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: f.def}
	switch t := f.typ; {
	case t == durationType, t.Implements(textUnmarshalerType), reflect.PointerTo(t).Implements(textUnmarshalerType):
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Map, t.Kind() == reflect.Interface:
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(f.def), &document); err != nil || len(document.Content) != 1 {
			panic(fmt.Sprintf("%s.%s: default %q: %v", f.owner, f.goName, f.def, err))
		}
		node = document.Content[0]
	}
	d := decoder{registry: NewRegistry(), literal: true}
	d.value(node, v, f.name, &configField{enum: f.enum})
	if len(d.problems) > 0 {
		panic(fmt.Sprintf("%s.%s: default %q: %s", f.owner, f.goName, f.def, d.problems[0].What))
	}
}
