// Package inside is what package pipeline shows to the rest of this module and to nobody else: what the command line,
// the error reports and the reference need to know of it, and a component's author doesn't.
//
// The functions that are variables are set by package pipeline when the program starts: they reach into its types,
// which this package can't name. Their any is what the comment says, or they panic.
package inside

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-dev/penstock/internal/complaint"
)

// StageError says in which stage of a pipeline an error arose.
type StageError struct {
	// Stage is such as "transforms[1].unwrap" or "sink.redis": names of the configuration only, nothing of a message.
	Stage string
	Err   error
}

func (e *StageError) Error() string { return e.Stage + ": " + e.Err.Error() }
func (e *StageError) Unwrap() error { return e.Err }

// Stage returns where in a pipeline err arose, or "" when err doesn't tell.
func Stage(err error) string {
	if e, ok := errors.AsType[*StageError](err); ok {
		return e.Stage
	}
	return ""
}

// releaseError is what Release makes.
type releaseError struct{ error }

func (e releaseError) Unwrap() error { return e.error }

// Release says that the message of err shall be given back to its source at once, without further attempts.
func Release(err error) error { return releaseError{err} }

// IsRelease reports whether err, or an error it wraps, was made by Release.
func IsRelease(err error) bool {
	_, ok := errors.AsType[releaseError](err)
	return ok
}

// PanicError is a panic of a component, as an error of the message that it was given.
type PanicError struct {
	Value any
	// Stack is the stack of the panic, as runtime/debug prints it.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// PanicStack returns the stack of the panic that the engine made err of, or nil when err is no panic.
func PanicStack(err error) []byte {
	if e, ok := errors.AsType[*PanicError](err); ok {
		return e.Stack
	}
	return nil
}

// Observe has observe told of everything that goes wrong in pipelines that are built and run with settings, a
// *pipeline.Settings: every time, whether the log shows it or not. It is called on the path of messages and must not
// block.
var Observe func(settings any, observe func(complaint.Incident))

// CheckTogether reports what keeps pipelines, a []*pipeline.Config, from running in one process: two of one name, or
// more than one service. The error is a *pipeline.ConfigError.
var CheckTogether func(configs any) error

// LoadTests decodes the tests of a pipeline file, whatever the rest of the file says, or, with beside, of a file of
// tests beside one. They are pipeline.TestCases; place says where in the file a path such as "tests[0].output" stands,
// or the nearest part of it. The error is a *pipeline.ConfigError.
var LoadTests func(file string, data []byte, beside bool) (tests any, place func(path string) (line, column int), err error)

// Describe describes a component of a *pipeline.Registry. The error says that there is none of that kind and name (and
// which was likely meant), or that the source given to Registry.Document is not Go. It may be called concurrently.
var Describe func(registry any, kind, name string) (Description, error)

// DescribePipeline describes the pipeline itself: the top-level keys and what is in them.
var DescribePipeline func(registry any) (Description, error)

// Schema is the JSON Schema (2020-12) of pipeline files with the components of a *pipeline.Registry, to be encoded. The
// error says that the source given to Registry.Document is not Go.
var Schema func(registry any) (map[string]any, error)

// TestsSchema is the JSON Schema of a file of tests beside a pipeline. See [Schema].
var TestsSchema func(registry any) (map[string]any, error)

// Description is what a reader needs to know to write a component, or the pipeline itself, in YAML.
type Description struct {
	// Kind and Name are the component's; both are empty for the pipeline itself.
	Kind, Name string
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
	// Range says what its numbers may be, or what form its texts have, such as "1 to 10"; "" when that is anything.
	Range string
	// Unit is what a number counts, and Example a value as YAML; "" when the declaration doesn't say.
	Unit, Example string
	// Doc is the field's doc comment, as plain text.
	Doc string
	// Fields are the settings inside this one.
	Fields []Field
}

type answeredKey struct{}

// WithAnswered returns a context for a ping whose parts tell that the backend answers: see [Answered].
func WithAnswered(ctx context.Context, answered func()) context.Context {
	return context.WithValue(ctx, answeredKey{}, answered)
}

// Answered is called in a ping that makes several requests, after each that was answered: a backend that is slow and
// answers is not away.
func Answered(ctx context.Context) {
	if answered, ok := ctx.Value(answeredKey{}).(func()); ok {
		answered()
	}
}
