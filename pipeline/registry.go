package pipeline

import (
	"fmt"
	"io/fs"
	"reflect"
	"sort"
	"sync"

	"github.com/penstock-dev/penstock/pipeline/internal/docs"
)

// SourceConfig is what the config struct of a source implements: it makes the source.
//
// A config struct carries on every field a yaml tag and a doc comment (unit and range), and where they apply the tags
//
//	default:"10s"        the value when it is absent, as YAML
//	required:"true"      must be there, and not empty
//	enum:"fast,safe"     the values that are allowed, also of the elements of a list
//	text:"free"          a text that may hold anything: line ends, blanks at its ends, quotes around it, which are
//	                     refused in every other text and secret
//	single:"true"        of a list: an element may stand in place of a list of one
//	verbatim:"true"      expansions (${…}) in it are left alone
//	range:"1..100"       where a number, a duration or a size lies: also "1..", ">0", "<0,1ms..1h"; with step:"1s" what
//	                     it is a multiple of
//	pattern:"^[a-z]+$"   what a text, or each of a list, must match, and want:"a to z" what that is, in words; with
//	                     hidden:"true" messages don't quote the text
//	needs:"key_file"     settings that must be there when this one is, or with when:"enabled=true" when that is so: paths
//	                     below the struct, each set to something else than its default, or to the value behind "="
//	excludes:"host,port" settings that must not be there then
//	either:"queue"       settings that may stand in its place: it, or one of them, must be there
//	note:"…"             what stands behind the message about a broken one of these rules
//	unique:"true"        of a list: nothing may stand in it twice
//	example:"500/s"      a value, as YAML; unit:"messages" what a number counts
//
// Fields may be text, booleans, numbers, [time.Duration], [ByteSize], [Secret], anything with UnmarshalText, any,
// structs, pointers, lists and mappings of these, and components ([SinkSpec]). The tag yaml:",inline" makes the
// fields of a struct fields of the outer one. UnmarshalYAML is not called. All of this is checked when a file is
// loaded, told by penstock explain and the reference, and known to the JSON Schema of pipeline files.
//
// The config, and every struct in it, may be a [Validator].
type SourceConfig interface {
	NewSource(env Env) (Source, error)
}

// TransformConfig is what the config struct of a transform implements. See [SourceConfig].
type TransformConfig interface {
	NewTransform(env Env) (Transform, error)
}

// SinkConfig is what the config struct of a sink implements. See [SourceConfig].
type SinkConfig interface {
	NewSink(env Env) (Sink, error)
}

// Validator is implemented by configs, and structs and lists in them, with rules that tags can't say. Validate
// reports all problems at once, joined by errors.Join, each made by [Invalid]; it does no I/O. [Load] calls the inner
// ones too: the outer one does not. It is called for what stands in the file, after defaults and expansions; what it
// says about fields that could not be decoded is not reported.
type Validator interface {
	Validate() error
}

// Checker is implemented by configs with rules about the rest of their pipeline. Check is asked when every part of
// the file has proven right by itself; whole is the pipeline that the component is part of, without the keys that
// [LoadOptions].Skip names. It reports all problems at once, as Validate does.
type Checker interface {
	Check(whole *Config) error
}

// Warner is implemented by configs whose settings may be valid and yet not what was meant. Warnings is asked when
// everything in the file has proven right; whole is the pipeline that the component is part of. Each warning is made
// by [Invalid].
type Warner interface {
	Warnings(whole *Config) []error
}

// Summarizer is implemented by configs that say what they are in a few words, such as the host of a store: Summary
// stands in the one line that run and validate print of a pipeline, in place of the component's name. It holds no
// secret.
type Summarizer interface {
	Summary() string
}

// Kind is what a component is: a source, a transform or a sink.
type Kind string

// The kinds of component.
const (
	KindSource    Kind = "source"
	KindTransform Kind = "transform"
	KindSink      Kind = "sink"
)

// Registration is one component that a registry knows.
type Registration struct {
	// Kind and Name identify the component: a source and a sink may share a name.
	Kind Kind
	Name string
	// ConfigType is the config struct (or slice) type, not a pointer to it.
	ConfigType reflect.Type
}

// New returns a pointer to a new zero config of the component. Defaults come from its tags when it is decoded.
func (r Registration) New() any { return reflect.New(r.ConfigType).Interface() }

// Registry knows components by kind and name. It is a value: two registries share nothing. The zero value is not
// usable; make one with [NewRegistry]. A registry is filled first and read afterwards; it is not safe for concurrent
// filling.
type Registry struct {
	components map[Kind]map[string]Registration
	sources    []fs.FS

	docsMu sync.Mutex
	docs   docs.Index // made of sources when it is asked for
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{components: map[Kind]map[string]Registration{
		KindSource: {}, KindTransform: {}, KindSink: {},
	}}
}

// AddSource registers the source whose config is C under name and returns the registry. It panics when the name is
// taken or not snake_case, or when the tags of C make no sense: that is a mistake in the program.
func AddSource[C any, P interface {
	*C
	SourceConfig
}](r *Registry, name string) *Registry {
	return r.add(KindSource, name, reflect.TypeFor[C]())
}

// AddTransform registers the transform whose config is C under name. See [AddSource].
func AddTransform[C any, P interface {
	*C
	TransformConfig
}](r *Registry, name string) *Registry {
	return r.add(KindTransform, name, reflect.TypeFor[C]())
}

// AddSink registers the sink whose config is C under name. See [AddSource].
func AddSink[C any, P interface {
	*C
	SinkConfig
}](r *Registry, name string) *Registry {
	return r.add(KindSink, name, reflect.TypeFor[C]())
}

// Document gives the registry Go source files (embedded with go:embed) in which to find the doc comments of
// registered config types, and returns the registry. The comments become the reference documentation and the help of
// the command line. Files are parsed when documentation is asked for, not before.
func (r *Registry) Document(goFiles fs.FS) *Registry {
	r.docsMu.Lock()
	defer r.docsMu.Unlock()
	r.sources, r.docs = append(r.sources, goFiles), nil
	return r
}

// Lookup returns the component of that kind and name.
func (r *Registry) Lookup(kind Kind, name string) (Registration, bool) {
	reg, ok := r.components[kind][name]
	return reg, ok
}

// Components returns all components of a kind, sorted by name.
func (r *Registry) Components(kind Kind) []Registration {
	regs := make([]Registration, 0, len(r.components[kind]))
	for _, reg := range r.components[kind] {
		regs = append(regs, reg)
	}
	sort.Slice(regs, func(i, j int) bool { return regs[i].Name < regs[j].Name })
	return regs
}

func (r *Registry) add(kind Kind, name string, config reflect.Type) *Registry {
	if !validComponentName(name) {
		panic(fmt.Sprintf("pipeline: %s name %q: want snake_case, a-z first", kind, name))
	}
	if _, taken := r.components[kind][name]; taken {
		panic(fmt.Sprintf("pipeline: %s %q is registered twice", kind, name))
	}
	if err := language.CheckTags(config); err != nil {
		panic(fmt.Sprintf("pipeline: %s %q: %v", kind, name, err))
	}
	r.components[kind][name] = Registration{Kind: kind, Name: name, ConfigType: config}
	return r
}

func validComponentName(name string) bool {
	for i, c := range name {
		if c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_') {
			continue
		}
		return false
	}
	return name != ""
}
