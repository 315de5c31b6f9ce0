package reference_test

import (
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reference"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

func builtins() *pipeline.Registry {
	return sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry())))
}

func TestReference_isUpToDate(t *testing.T) {
	var b strings.Builder
	if err := reference.Write(&b, builtins()); err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), "../../docs/reference.md")
}

// Doc comments are the documentation: there is no other place for it.
func TestBuiltins_everySettingIsDocumented(t *testing.T) {
	r := builtins()
	for _, kind := range []pipeline.Kind{pipeline.KindSource, pipeline.KindTransform, pipeline.KindSink} {
		for _, reg := range r.Components(kind) {
			d, err := inside.Describe(r, string(kind), reg.Name)
			if err != nil {
				t.Fatal(err)
			}
			if d.Doc == "" {
				t.Errorf("%s %s has no doc comment", kind, reg.Name)
			}
			checkDocs(t, string(kind)+" "+reg.Name, d.Fields)
		}
	}
}

func checkDocs(t *testing.T, component string, fields []inside.Field) {
	for _, f := range fields {
		if f.Doc == "" {
			t.Errorf("%s: %s has no doc comment", component, f.Path)
		}
		checkDocs(t, component, f.Fields)
	}
}
