// Package code is the table of the codes that messages of penstock carry: PS012 is what it tells of an unknown key,
// in this version and in those to come. A code says what kind of mistake or incident it is, whatever the words of the
// message; penstock explain, the list in docs/codes.md and the messages themselves are made of this table.
//
// A code is never given to something else. One that is not needed any more stays unused.
package code

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Code is "PS" and three digits; "" is no code.
type Code string

// Kind is what a code stands for.
type Kind string

// The kinds of code.
const (
	// Mistake keeps a pipeline file from being loaded, or pipelines from being run together.
	Mistake Kind = "mistake"
	// Warning is in a file that works and may not be what was meant.
	Warning Kind = "warning"
	// Finding is something that penstock doctor has found; Means says what to look at, or is empty.
	Finding Kind = "finding"
	// Incident happens while a pipeline runs.
	Incident Kind = "incident"
	// End ends a pipeline with an error.
	End Kind = "end"
)

// Entry is what the table says of a code.
type Entry struct {
	Code  Code
	Kind  Kind
	Title string // a few words
	Means string // what it means, and what to do: one paragraph or more
	// Wrong and Right are a pipeline file with the mistake, and the same without it; nothing more is wrong with them than
	// the one thing. A text that begins with "$ penstock " is a command instead. Incidents have none.
	Wrong, Right string
	// Secret is a file that the examples name: its name and what it holds.
	Secret [2]string
}

// All returns the table, in the order of the codes.
func All() []Entry {
	all := slices.Concat(fileEntries, keyEntries, valueEntries, ruleEntries, warningEntries, doctorEntries, incidentEntries, endEntries)
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return all
}

// Lookup returns what the table says of a code, in whatever case it is written.
func Lookup(text string) (Entry, bool) {
	all := All()
	i := slices.IndexFunc(all, func(e Entry) bool { return strings.EqualFold(string(e.Code), text) })
	if i < 0 {
		return Entry{}, false
	}
	return all[i], true
}

// Error is an error with a code: its text is that of Err.
type Error struct {
	Code Code
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Mark gives an error a code. It returns nil when err is nil.
func Mark(c Code, err error) error {
	if err == nil {
		return nil
	}
	return &Error{c, err}
}

// Markf is fmt.Errorf with a code.
func Markf(c Code, format string, args ...any) error { return Mark(c, fmt.Errorf(format, args...)) }

// Of returns the innermost code of err, which says most, or "" when it has none.
func Of(err error) Code {
	var c Code
	for {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return c
		}
		c, err = e.Code, e.Err
	}
}

// Shown is an example as a person can read it: without bytes that can't be seen, and with its long lines cut.
func Shown(example string) string {
	const widest = 100
	var b strings.Builder
	for line := range strings.Lines(example) {
		runes := []rune(Visible(strings.TrimSuffix(line, "\n")))
		if len(runes) > widest {
			runes = append(runes[:widest], '…')
		}
		b.WriteString(string(runes) + "\n")
	}
	return b.String()
}

// Visible is a line in which every character can be seen: the others are escaped as Go does it.
func Visible(line string) string {
	var b strings.Builder
	for line != "" {
		r, size := utf8.DecodeRuneInString(line)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, line[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(fmt.Sprintf("%+q", r), "'"))
		}
		line = line[size:]
	}
	return b.String()
}
