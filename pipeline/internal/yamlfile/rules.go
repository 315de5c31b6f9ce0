package yamlfile

import (
	"cmp"
	"errors"
	"reflect"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
)

// validator is a config with rules that tags can't say.
type validator interface{ Validate() error }

// validate calls the Validate of v, if it has one, and reports what it says where it stands in the file. What concerns
// something that did not even decode is left out: it would be about a value that nobody wrote.
func (d *decoder) validate(v reflect.Value, path string) {
	if d.literal || !v.CanAddr() {
		return
	}
	config, ok := v.Addr().Interface().(validator)
	if !ok {
		return
	}
	for _, e := range d.lang.Rules(d.runValidate(config, path), path) {
		if e.tag || d.isBroken(e.Path) || d.ruled[e.Path] {
			continue
		}
		d.problems = append(d.problems, Problem{Place: d.places.Nearest(e.Path), Path: e.Path, What: e.What, Code: cmp.Or(e.Code, code.OwnRule)})
	}
}

// runValidate shields the report from a Validate that relies on values which did not decode.
func (d *decoder) runValidate(v validator, path string) error {
	if d.brokenBelow(path) {
		defer func() { _ = recover() }()
	}
	return v.Validate()
}

// Nearest returns the place of path, or of the nearest part of it that stands in the file.
func (p Places) Nearest(path string) Place {
	for {
		if at, ok := p[path]; ok || path == "" {
			return at
		}
		path = parentPath(path)
	}
}

// isBroken reports whether a path, something above it or something below it did not decode.
func (d *decoder) isBroken(path string) bool {
	for p := path; p != ""; p = parentPath(p) {
		if d.broken[p] {
			return true
		}
	}
	return d.broken[""] || d.brokenBelow(path)
}

func (d *decoder) brokenBelow(path string) bool {
	for p := range d.broken {
		if p == path || path == "" || strings.HasPrefix(p, path) && (p[len(path)] == '.' || p[len(path)] == '[') {
			return true
		}
	}
	return false
}

// Rule is a broken rule: the path of the value that breaks it, what is wrong, and the code that the error has, if any.
type Rule struct {
	Path, What string
	Code       code.Code
	tag        bool // what the tags say
}

// TagError is what is wrong with a config by its tags: the decoder has told it already when Validate says it again.
type TagError string

func (e TagError) Error() string { return string(e) }

// Rules takes apart what the Validate of the value at path returned: joined errors, and errors of fields inside
// errors of fields.
func (l *Language) Rules(err error, path string) []Rule {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Rule
		for _, e := range joined.Unwrap() {
			all = append(all, l.Rules(e, path)...)
		}
		return all
	}
	if marked, ok := err.(*code.Error); ok { //nolint:errorlint // what is inside is looked at next
		all := l.Rules(marked.Err, path)
		for i := range all {
			all[i].Code = cmp.Or(all[i].Code, marked.Code)
		}
		return all
	}
	if field, inner, ok := l.FieldOf(err); ok {
		for u := errors.Unwrap(inner); u != nil && u.Error() == inner.Error() && code.Of(inner) == ""; u = errors.Unwrap(inner) {
			inner = u
		}
		return l.Rules(inner, Join(path, field))
	}
	if u := errors.Unwrap(err); u != nil && u.Error() == err.Error() {
		return l.Rules(u, path)
	}
	_, tag := err.(TagError) //nolint:errorlint // what wraps one says more
	return []Rule{{Path: path, What: err.Error(), tag: tag}}
}
