// Package reason makes errors that can say why something failed without saying anything that came from outside. Such
// an error has a text, for logs and people, and a reason: the constants that the text was made of. A reason may leave
// the process, in an error report or a trace, whatever the text holds: the types of the parameters take constants of
// the source only, and the compiler refuses everything else.
package reason

import (
	"errors"
	"fmt"
	"strings"
)

// constant is a type that other packages can't name: what they pass for it are constants.
type constant string

// Text is a constant of the source, for a part of a reason.
type Text struct{ text constant }

// Const makes a Text.
func Const(text constant) Text { return Text{text} }

// Consts makes several.
func Consts(texts ...constant) []Text {
	all := make([]Text, len(texts))
	for i, t := range texts {
		all[i] = Text{t}
	}
	return all
}

// Join puts texts together.
func Join(texts ...Text) (joined Text) {
	for _, t := range texts {
		joined.text += t.text
	}
	return joined
}

// String returns the constant.
func (t Text) String() string { return string(t.text) }

// Error is an error with a reason.
type Error struct {
	format constant
	err    error  // nil: the format is the text
	texts  []Text // the arguments of the format, those empty that are no Text; nil when none is
}

// New makes an error whose text is its reason. Each is another one, as with errors.New.
func New(text constant) *Error { return &Error{format: text} }

// Errorf is fmt.Errorf; the format is the reason, and of the arguments those that are a [Text].
func Errorf(format constant, args ...any) *Error {
	e := &Error{format: format, err: fmt.Errorf(string(format), args...)}
	for i, arg := range args {
		if t, ok := arg.(Text); ok {
			if e.texts == nil {
				e.texts = make([]Text, len(args))
			}
			e.texts[i] = t
		}
	}
	return e
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

// Reason is the text with … in place of every value that is no [Text], and without an error at its end: that has
// reasons of its own.
func (e *Error) Reason() string {
	if e.err == nil {
		return string(e.format)
	}
	format := strings.TrimSuffix(string(e.format), ": %w")
	var b strings.Builder
	for verbs := 0; ; {
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
		if verbs < len(e.texts) && e.texts[verbs].text != "" {
			b.WriteString(e.texts[verbs].String())
		} else {
			b.WriteString("…")
		}
		verbs++
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
