package pipeline

import (
	"fmt"
	"reflect"

	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// language is what the decoder of YAML files has to know of pipelines.
var language = &yamlfile.Language{
	Kinds: []string{string(KindSource), string(KindTransform), string(KindSink)},
	Components: map[reflect.Type]string{
		reflect.TypeFor[SourceSpec]():    string(KindSource),
		reflect.TypeFor[TransformSpec](): string(KindTransform),
		reflect.TypeFor[SinkSpec]():      string(KindSink),
	},
	TypeNames: map[reflect.Type]string{reflect.TypeFor[Secret](): "secret", reflect.TypeFor[ByteSize](): "size"},
	SetComponent: func(v reflect.Value, name string, config any, path string) {
		v.Field(0).Set(reflect.ValueOf(Component{Name: name, Config: config, Path: path}))
	},
	Reread: func(target any, reread func() (string, error)) {
		if s, ok := target.(*Secret); ok {
			s.rereads(reread)
		}
	},
	FieldOf: func(err error) (field string, inner error, ok bool) {
		fe, ok := err.(*FieldError) //nolint:errorlint // an error that wraps one says more than the one inside
		if !ok {
			return "", nil, false
		}
		return fe.Field, fe.Err, true
	},
}

// catalog is a registry as the decoder sees it.
type catalog struct{ registry *Registry }

func (c catalog) ConfigType(kind, name string) (reflect.Type, bool) {
	reg, ok := c.registry.Lookup(Kind(kind), name)
	return reg.ConfigType, ok
}

func (c catalog) Names(kind string) []string {
	var names []string
	for _, reg := range c.registry.Components(Kind(kind)) {
		names = append(names, reg.Name)
	}
	return names
}

// SetDefaults fills the zero fields of a config, a pointer to a struct with the tags that [SourceConfig] describes,
// with their defaults: nested structs, and what pointers and lists in it hold, included. So components built in Go get
// the defaults that components read from a file have. A field whose zero value differs from its default can
// only be set to zero afterwards. It panics when config is not a pointer or a default does not parse: that is a
// mistake in the program.
func SetDefaults(config any) {
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("pipeline: SetDefaults(%T): want a pointer", config))
	}
	language.SetDefaults(v.Elem())
}

// DefaultConfig returns a pipeline's config with all its defaults, to be filled by a program.
func DefaultConfig() Config {
	var c Config
	SetDefaults(&c)
	return c
}
