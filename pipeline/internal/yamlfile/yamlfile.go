// Package yamlfile decodes a YAML file into config structs by the tags of their fields, and gathers everything that is
// wrong with it, each problem with its place.
//
// It knows nothing of pipelines: which types hold components, and which components there are, a [Language] and a
// [Catalog] tell.
package yamlfile

import (
	"reflect"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/pipeline/internal/expand"
)

// Catalog tells which components there are.
type Catalog interface {
	// ConfigType returns the config type of a component, a struct or a slice.
	ConfigType(kind, name string) (reflect.Type, bool)
	// Names returns the names of all components of a kind, sorted.
	Names(kind string) []string
}

// Options are what decoding a file depends on besides the file.
type Options struct {
	Catalog  Catalog
	Expander expand.Expander
	// Skip names top-level keys that are left out, as if they did not exist: neither decoded nor required.
	Skip []string
	// IgnoreUnknown leaves unknown top-level keys alone.
	IgnoreUnknown bool
}

// Place is a place in a file. Line and Column count from 1; 0 means that there is none.
type Place struct{ Line, Column int }

// Places says where the values of a config stand, by path.
type Places map[string]Place

// Problem is one thing that is wrong with a file.
type Problem struct {
	Place
	// Path is the place in the config, such as "sink.redis.host", or "".
	Path string
	What string
	// Code is what package code calls it.
	Code code.Code
	// Hint is the part of What that says what may have been meant, or what to do, without its brackets, or "".
	Hint string
	// Variable is the environment variable that is missing, if that is the problem.
	Variable string
}

// Result is what came of a file. The config is whole only without Problems.
type Result struct {
	Problems, Warnings []Problem
	Places             Places
}

// Decode decodes the one document of a file into config, a pointer to a struct that has its defaults already.
func (l *Language) Decode(data []byte, config any, opts Options) Result {
	root, problem := parse(data)
	if problem != nil {
		return Result{Problems: []Problem{*problem}}
	}
	d := decoder{lang: l, catalog: opts.Catalog, expander: opts.Expander, skip: opts.Skip, ignoreUnknown: opts.IgnoreUnknown}
	d.setPlace("", placeOf(root))
	if !d.value(root, reflect.ValueOf(config).Elem(), "", nil) {
		d.report(code.FileEmpty, placeOf(root), "", "the file is empty: want a pipeline")
	}
	return Result{Problems: d.problems, Warnings: d.warnings, Places: d.places}
}
