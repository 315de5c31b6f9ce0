// Package expression is the language in which people select and change messages: jq, as github.com/itchyny/gojq has
// it, compiled once and run over values such as {"metadata": {…}, "payload": …}.
//
// Whole numbers keep their value however big they are; fractions are doubles. An expression sees nothing but its value:
// no environment, no files, no modules.
package expression

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// The most that one evaluation may take. What a message needs is far below; an endless loop ends.
const (
	MaxSteps = 10_000_000
	MaxTime  = 5 * time.Second
)

// ErrLimit says that an evaluation took more than MaxSteps or MaxTime.
var ErrLimit = errors.New("the expression takes too long")

// Expression is a compiled expression. It is safe for concurrent use.
type Expression struct {
	source string
	code   *gojq.Code
}

// Error is a mistake in the text of an expression.
type Error struct {
	// Line and Column say where, both from 1; the column counts characters.
	Line, Column int
	What         string
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.What)
}

// Compile reads an expression that may use the variables of these names, such as "$metadata". The error is an [*Error].
func Compile(source string, variables ...string) (*Expression, error) {
	if strings.TrimSpace(source) == "" {
		return nil, &Error{Line: 1, Column: 1, What: "the expression is empty"}
	}
	if i := invalid(source); i >= 0 {
		return nil, at(source, i, "the expression is not valid UTF-8")
	}
	query, err := gojq.Parse(source)
	if err != nil {
		return nil, syntaxError(source, err)
	}
	code, err := gojq.Compile(query, gojq.WithVariables(variables))
	if err != nil {
		return nil, at(source, named(source, err.Error()), err.Error())
	}
	return &Expression{source: source, code: code}, nil
}

// String returns the text that the expression was made from.
func (x *Expression) String() string { return x.source }

// Values returns all values that the expression makes of input: nil, bool, int, float64, *big.Int, string, []any and
// map[string]any, of which input must also consist. Numbers of other types are normalised in place; no two goroutines
// may evaluate one input at a time. The error is what the expression raised, [ErrLimit], or ctx's.
func (x *Expression) Values(ctx context.Context, input any, variables ...any) ([]any, error) {
	var all []any
	err := x.each(ctx, input, variables, func(v any) bool {
		all = append(all, v)
		return true
	})
	return all, err
}

// Matches reports whether any value that the expression makes of input is neither false nor null. Input and variables
// are as with Values.
func (x *Expression) Matches(ctx context.Context, input any, variables ...any) (bool, error) {
	matches := false
	err := x.each(ctx, input, variables, func(v any) bool {
		matches = v != nil && v != false
		return !matches
	})
	return matches, err
}

// each hands on values until next returns false.
func (x *Expression) each(ctx context.Context, input any, variables []any, next func(any) bool) error {
	budget := &budget{Context: ctx, deadline: time.Now().Add(MaxTime)}
	values := x.code.RunWithContext(budget, input, variables...)
	for {
		v, ok := values.Next()
		if !ok {
			return nil
		}
		if err, failed := v.(error); failed {
			if halt, ok := errors.AsType[*gojq.HaltError](err); ok && halt.Value() == nil {
				return nil // halt ends the values, without an error
			}
			return err
		}
		if !next(v) {
			return nil
		}
	}
}

// budget is a context that ends after so many steps or so much time. The interpreter asks for Done before every step:
// counting these calls makes the limit the same on every machine, without a timer per message.
type budget struct {
	context.Context
	steps    int
	deadline time.Time
	err      error
}

// closed is what Done returns at the limit.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// timeEvery is how many steps lie between two looks at the clock.
const timeEvery = 1024

func (b *budget) Done() <-chan struct{} {
	if b.err != nil {
		return closed
	}
	b.steps++
	switch {
	case b.steps > MaxSteps:
		b.err = fmt.Errorf("%w: more than %d steps", ErrLimit, MaxSteps)
	case b.steps%timeEvery != 0:
	case time.Now().After(b.deadline):
		b.err = fmt.Errorf("%w: more than %s", ErrLimit, MaxTime)
	default:
		return b.Context.Done()
	}
	if b.err != nil {
		return closed
	}
	return nil
}

func (b *budget) Err() error {
	if b.err != nil {
		return b.err
	}
	return b.Context.Err()
}

// Message is the value of a message: metadata and payload. Further members may be added to it.
func Message(metadata map[string]string, payload []byte) map[string]any {
	body, _ := Payload(payload)
	return map[string]any{"metadata": Metadata(metadata), "payload": body}
}

// Metadata is the value of a message's metadata: texts by name, in which bytes that are not UTF-8 are U+FFFD.
func Metadata(metadata map[string]string) map[string]any {
	members := make(map[string]any, len(metadata))
	for k, v := range metadata {
		members[strings.ToValidUTF8(k, "\ufffd")] = strings.ToValidUTF8(v, "\ufffd")
	}
	return members
}

// Payload is the value of a payload: the JSON value that it is, or else its text, in which bytes that are not UTF-8 are
// U+FFFD; isJSON tells which.
func Payload(payload []byte) (value any, isJSON bool) {
	value, err := Decode(payload)
	if err != nil {
		return strings.ToValidUTF8(string(payload), "\ufffd"), false
	}
	return value, true
}

// Decode reads one JSON value. Whole numbers keep their value; of members that stand there twice the last counts.
func Decode(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return numbers(v), nil
}

// numbers replaces json.Number by what the interpreter calculates with, once and not at every evaluation.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

func number(n json.Number) any {
	if i, err := strconv.Atoi(n.String()); err == nil {
		return i
	}
	if i, ok := new(big.Int).SetString(n.String(), 10); ok {
		return i
	}
	f, _ := n.Float64() // beyond a double it is infinite
	return f
}

// Encode is a value as compact JSON, its members sorted by name.
func Encode(v any) ([]byte, error) { return gojq.Marshal(v) }

func syntaxError(source string, err error) *Error {
	what, offset := err.Error(), len(source)
	if parse, ok := errors.AsType[*gojq.ParseError](err); ok {
		// The offset lies behind the token.
		offset = min(max(parse.Offset-len(parse.Token), 0), len(source))
	}
	if what == "unexpected EOF" {
		what = "the expression ends too early"
	}
	return at(source, offset, what)
}

// named is where the name stands that a message of the compiler ends with, such as "function not defined: size/0": the
// compiler itself gives no place.
func named(source, message string) int {
	_, name, _ := strings.Cut(message, ": ")
	name, _, _ = strings.Cut(name, "/")
	for from := 0; name != ""; {
		i := strings.Index(source[from:], name)
		if i < 0 {
			break
		}
		i += from
		if end := i + len(name); (i == 0 || !partOfName(source[i-1])) && (end == len(source) || !partOfName(source[end])) {
			return i
		}
		from = i + 1
	}
	return 0
}

func partOfName(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// at is a mistake at a byte of the source.
func at(source string, offset int, what string) *Error {
	before := source[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return &Error{Line: 1 + strings.Count(before, "\n"), Column: 1 + utf8.RuneCountInString(before[start:]), What: what}
}

// invalid is where source is not UTF-8, or -1.
func invalid(source string) int {
	for i, r := range source {
		if r == utf8.RuneError && !strings.HasPrefix(source[i:], "\ufffd") {
			return i
		}
	}
	return -1
}
