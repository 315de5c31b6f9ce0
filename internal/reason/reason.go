// Package reason makes errors that can say why something failed without saying anything that came from outside. Such
// an error has a text, for logs and people, and a reason: the constant that the text was made of. A reason may leave
// the process, in an error report or a trace, whatever the text holds: the type of the parameter takes constants of
// the source only, and the compiler refuses everything else.
package reason

import (
	"errors"
	"fmt"
	"strings"
)

// constant is a type that other packages can't name: what they pass for it are constants.
type constant string

// Error is an error with a reason.
type Error struct {
	format constant
	err    error // nil: the format is the text
}

// New makes an error whose text is its reason. Each is another one, as with errors.New.
func New(text constant) error { return &Error{format: text} }

// Errorf is fmt.Errorf; the format is the reason.
func Errorf(format constant, args ...any) error {
	return &Error{format: format, err: fmt.Errorf(string(format), args...)}
}

func (e *Error) Error() string {
	if e.err == nil {
		return string(e.format)
	}
	return e.err.Error()
}

// Unwrap returns what %w in the format stands for: one error, or several joined.
func (e *Error) Unwrap() []error {
	switch err := e.err.(type) { //nolint:errorlint // it is what Errorf made
	case interface{ Unwrap() []error }:
		return err.Unwrap()
	case interface{ Unwrap() error }:
		return []error{err.Unwrap()}
	}
	return nil
}

// Reason is the text with … in place of every value, and without an error at its end: that has reasons of its own.
func (e *Error) Reason() string {
	if e.err == nil {
		return string(e.format)
	}
	format := strings.TrimSuffix(string(e.format), ": %w")
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(format, "%")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if strings.HasPrefix(rest, "%") {
			b.WriteByte('%')
			format = rest[1:]
			continue
		}
		b.WriteString("…")
		verb := strings.IndexFunc(rest, func(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' })
		format = rest[verb+1:]
	}
}

// Of returns the outermost reason of err, or "" when it has none.
func Of(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason()
	}
	return ""
}
