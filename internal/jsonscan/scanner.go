package jsonscan

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/reason"
)

// Scanner walks over a JSON text once, from left to right. Its methods skip the blanks before what they read. One
// that fails returns false, with Err set and At at the place; then the scanner is of no more use. The zero value
// with a Text is ready to use; it is not safe for concurrent use.
type Scanner struct {
	// Text is what is read. What the methods return is a part of it.
	Text []byte
	// At is the place of the next byte, or, after a failure, of the fault.
	At int
	// Err is what is wrong, without the place; nil while nothing is. Its reason holds no part of Text.
	Err *reason.Error
	// AnyBytes lets strings hold bytes that are not valid UTF-8.
	AnyBytes bool
	// FiniteOnly refuses numbers that are not [Finite] in what Value and Number read.
	FiniteOnly bool
}

// Fail says what is wrong at the place where the scanner stands. It always returns false.
func (s *Scanner) Fail(err *reason.Error) bool {
	s.Err = err
	return false
}

// Want says what should stand at the place, and what stands there. It always returns false.
func (s *Scanner) Want(what reason.Text) bool {
	return s.Fail(reason.Errorf("want %s, got %s", what, s.got()))
}

var (
	anObject  = reason.Const("an object")
	anArray   = reason.Const("an array")
	aString   = reason.Const("a string")
	aNumber   = reason.Const("a number")
	aBoolean  = reason.Const("a boolean")
	aNull     = reason.Const("null")
	theEnd    = reason.Const("the end")
	errNoUTF8 = reason.New("string is not valid UTF-8")
)

func (s *Scanner) fault(f Fault) bool {
	switch f {
	case WantName, WantColon, WantCommaOrBrace, WantCommaOrBracket:
		return s.Want(faults[f])
	case NotJSON:
		return s.Fail(reason.Errorf("%s: %s", faults[f], s.got()))
	}
	return s.Fail(reason.Errorf("%s", faults[f]))
}

// got describes what stands at the place: a [reason.Text], or a byte of the text in words.
func (s *Scanner) got() any {
	switch c := s.Peek(); {
	case s.At == len(s.Text):
		return theEnd
	case c == '"':
		return aString
	case c == '{':
		return anObject
	case c == '[':
		return anArray
	case c == '-' || c >= '0' && c <= '9':
		return aNumber
	case bytes.HasPrefix(s.Text[s.At:], []byte("null")):
		return aNull
	case bytes.HasPrefix(s.Text[s.At:], []byte("true")), bytes.HasPrefix(s.Text[s.At:], []byte("false")):
		return aBoolean
	case c < 0x80:
		return strconv.QuoteRune(rune(c))
	default:
		return fmt.Sprintf("byte 0x%02x", c)
	}
}

// OK reports whether nothing has failed: it tells the end of a loop over members or elements from a failure.
func (s *Scanner) OK() bool { return s.Err == nil }

// Peek returns the next byte that is no blank, which At then is the place of, or 0 at the end.
func (s *Scanner) Peek() byte {
	if s.At < len(s.Text) && s.Text[s.At] > ' ' {
		return s.Text[s.At]
	}
	s.At = Space(s.Text, s.At)
	if s.At < len(s.Text) {
		return s.Text[s.At]
	}
	return 0
}

// Is steps over c if it comes next.
func (s *Scanner) Is(c byte) bool {
	if s.Peek() != c || s.At == len(s.Text) {
		return false
	}
	s.At++
	return true
}

// Object enters an object.
func (s *Scanner) Object() bool { return s.Is('{') || s.Want(anObject) }

// Array enters an array.
func (s *Scanner) Array() bool { return s.Is('[') || s.Want(anArray) }

// Member moves to the value of an object's next member and returns its name, with escapes resolved. At the end of the
// object, and on a failure, ok is false: [Scanner.OK] tells the one from the other. first is true before the first
// member.
func (s *Scanner) Member(first *bool) (name []byte, ok bool) {
	switch c := s.Peek(); {
	case c == '}':
		s.At++
		return nil, false
	case *first:
		*first = false
	case c == ',':
		s.At++
		s.Peek()
	default:
		return nil, s.fault(WantCommaOrBrace)
	}
	if s.At >= len(s.Text) || s.Text[s.At] != '"' {
		return nil, s.fault(WantName)
	}
	from := s.At
	end, form, fault := String(s.Text, from)
	if s.At = end; form != 0 || fault != None {
		if name, ok = s.resolve(from, form, fault); !ok {
			return nil, false
		}
	} else {
		name = s.Text[from+1 : end-1]
	}
	if s.At < len(s.Text) && s.Text[s.At] == ':' || s.Peek() == ':' {
		s.At++
		return name, true
	}
	return nil, s.fault(WantColon)
}

// Element moves to an array's next element. See [Scanner.Member].
func (s *Scanner) Element(first *bool) bool {
	switch c := s.Peek(); {
	case c == ']':
		s.At++
		return false
	case *first:
		*first = false
		return true
	case c == ',':
		s.At++
		return true
	default:
		return s.fault(WantCommaOrBracket)
	}
}

// End checks that nothing follows the text's only value; behind is what is wrong otherwise.
func (s *Scanner) End(behind *reason.Error) bool {
	if s.Peek(); s.At != len(s.Text) {
		return s.Fail(behind)
	}
	return true
}

// RawString reads a string and returns what stands between its quotes.
func (s *Scanner) RawString() (raw []byte, ok bool) {
	if s.Peek() != '"' {
		return nil, s.Want(aString)
	}
	from := s.At
	end, form, fault := String(s.Text, from)
	if s.At = end; fault != None {
		return nil, s.fault(fault)
	}
	raw = s.Text[from+1 : end-1]
	return raw, form&Foreign == 0 || s.utf8(raw, from+1)
}

// String reads a string and returns what it says: a part of the text, or new bytes where it has escapes.
func (s *Scanner) String() (text []byte, ok bool) {
	if s.Peek() != '"' {
		return nil, s.Want(aString)
	}
	from := s.At
	end, form, fault := String(s.Text, from)
	if s.At = end; form != 0 || fault != None {
		return s.resolve(from, form, fault)
	}
	return s.Text[from+1 : end-1], true
}

// resolve returns what a string says that began at from, ends where the scanner stands, and is not plain.
func (s *Scanner) resolve(from int, form Form, fault Fault) (text []byte, ok bool) {
	if fault != None {
		return nil, s.fault(fault)
	}
	text = s.Text[from+1 : s.At-1]
	if form&Foreign != 0 && !s.utf8(text, from+1) {
		return nil, false
	}
	if form&Escaped == 0 {
		return text, true
	}
	text, end, fault := AppendString(make([]byte, 0, len(text)+8), s.Text, from)
	if s.At = end; fault != None {
		return nil, s.fault(fault)
	}
	return text, true
}

// utf8 checks a part of the text that begins at from.
func (s *Scanner) utf8(raw []byte, from int) bool {
	if s.AnyBytes || utf8.Valid(raw) {
		return true
	}
	for s.At = from; ; {
		r, n := utf8.DecodeRune(s.Text[s.At:])
		if r == utf8.RuneError && n == 1 {
			return s.Fail(errNoUTF8)
		}
		s.At += n
	}
}

// Number reads a number and returns it as it stands.
func (s *Scanner) Number() (raw []byte, ok bool) {
	if c := s.Peek(); c != '-' && c-'0' > 9 {
		return nil, s.Want(aNumber)
	}
	from := s.At
	if s.At, ok = Number(s.Text, from); !ok {
		return nil, s.fault(BadNumber)
	}
	raw = s.Text[from:s.At]
	return raw, !s.FiniteOnly || Finite(raw) || s.infinite(raw, from)
}

// Null reads null, if that is what comes.
func (s *Scanner) Null() bool {
	if s.Peek() == 'n' && s.At+4 <= len(s.Text) && string(s.Text[s.At:s.At+4]) == "null" {
		s.At += 4
		return true
	}
	return false
}

// Bool reads true or false.
func (s *Scanner) Bool() (v, ok bool) {
	c := s.Peek()
	if c != 't' && c != 'f' {
		return false, s.Want(aBoolean)
	}
	end := Literal(s.Text, s.At)
	if end < 0 {
		return false, s.fault(NotJSON)
	}
	s.At = end
	return c == 't', true
}

// Value reads one value of any kind, nested no deeper than maxDepth, and returns it as it stands.
func (s *Scanner) Value(maxDepth int) (raw []byte, ok bool) {
	s.Peek()
	from := s.At
	end, form, fault := Value(s.Text, from, maxDepth)
	if s.At = end; fault != None {
		return nil, s.fault(fault)
	}
	raw = s.Text[from:end]
	if form&Foreign != 0 && !s.utf8(raw, from) || form&Infinite != 0 && s.FiniteOnly {
		return nil, s.OK() && s.infinite(raw, from)
	}
	return raw, true
}

// infinite fails at the number in raw, which begins at from, that is too large for a double. It always returns false.
func (s *Scanner) infinite(raw []byte, from int) bool {
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			i, _, _ = String(raw, i)
		case c == '-' || c-'0' <= 9:
			end, _ := Number(raw, i)
			if number := raw[i:end]; !Finite(number) {
				s.At = from + i
				return s.Fail(reason.Errorf("number is too large: readers would take it for Infinity: %s", Clip(number)))
			}
			i = end
		default:
			i++
		}
	}
	return false
}

// Clip returns a part of a text for a message, which it keeps short.
func Clip(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}
