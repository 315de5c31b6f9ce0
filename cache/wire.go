package cache

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/reason"
)

// Compare is the total order of writes to one key: by when the fact was true (AsOf, or Version where AsOf is 0), then
// by Version, then a delete before a value, then by the bytes of the values. It returns -1 when a comes before b, 0
// when they are the same write and +1 when a comes after b. Of all writes to a key the greatest wins.
//
// Compare looks at neither Key, IfAnyExists, Lock nor TTL. Writes without a Version have no order: the last arrival
// wins.
func Compare(a, b Write) int {
	if c := cmp.Compare(a.When(), b.When()); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Version, b.Version); c != 0 {
		return c
	}
	if a.Delete != b.Delete {
		if a.Delete {
			return -1
		}
		return 1
	}
	return bytes.Compare(a.Value, b.Value)
}

// When returns when the fact was true, in epoch milliseconds: AsOf, or Version where AsOf is 0; 0 when the write has
// neither.
func (w *Write) When() int64 {
	if w.AsOf != 0 {
		return w.AsOf
	}
	return w.Version
}

// Append appends w in its wire form and a line break to dst and returns the extended slice. The wire form is one line
// of compact JSON, without the fields that are zero, value last:
//
//	{"key":"c_x","version":1,"as_of":2,"delete":true,"if_any_exists":["c_x"],"lock":"x","ttl":90000,"value":{"n":1}}
//
// TTL is in milliseconds, -1 for every negative one.
// Value is copied as it stands: it must be one JSON text without line breaks, which [Parse] checks. Strings are written
// byte for byte apart from what JSON must escape, so that ids come back as they went in.
func Append(dst []byte, w Write) []byte {
	dst = append(dst, `{"key":`...)
	dst = jsonscan.AppendQuoted(dst, w.Key)
	if w.Version != 0 {
		dst = append(dst, `,"version":`...)
		dst = strconv.AppendInt(dst, w.Version, 10)
	}
	if w.AsOf != 0 {
		dst = append(dst, `,"as_of":`...)
		dst = strconv.AppendInt(dst, w.AsOf, 10)
	}
	if w.Delete {
		dst = append(dst, `,"delete":true`...)
	}
	if len(w.IfAnyExists) > 0 {
		dst = append(dst, `,"if_any_exists":[`...)
		for i, key := range w.IfAnyExists {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = jsonscan.AppendQuoted(dst, key)
		}
		dst = append(dst, ']')
	}
	if w.Lock != "" {
		dst = append(dst, `,"lock":`...)
		dst = jsonscan.AppendQuoted(dst, w.Lock)
	}
	if w.TTL != 0 {
		dst = append(dst, `,"ttl":`...)
		ms := w.TTL.Milliseconds()
		if w.TTL < 0 {
			ms = -1
		}
		dst = strconv.AppendInt(dst, ms, 10)
	}
	if !w.Delete {
		dst = append(dst, `,"value":`...)
		dst = append(dst, w.Value...)
	}
	return append(dst, '}', '\n')
}

// ParseError says what is wrong with a payload of writes, and where.
type ParseError struct {
	// Line and Byte count from 1; Byte is the place in the line.
	Line, Byte int
	// What is wrong, such as `unknown field "vlaue"`.
	What string

	reason error // the same for error reports: without a part of the payload
}

// Unwrap returns an error that says what is wrong, too, and holds no part of the payload where Parse made e. It is nil
// otherwise.
func (e *ParseError) Unwrap() error { return e.reason }

func (e *ParseError) Error() string {
	return fmt.Sprintf("cache writes: line %d, byte %d: %s", e.Line, e.Byte, e.What)
}

// Parse appends the writes of a payload, one a line as [Append] makes them, to dst and returns the extended slice. On a
// [*ParseError] nothing is appended. An empty payload holds no writes; the last line's line break may be missing.
//
// Parse is strict: the fields before value may come in any order, and there may be blanks between tokens, but an
// unknown or repeated field, a value that is not JSON or not last, or that holds a number beyond a double such as
// 1e400, a missing or empty key, a version that is no whole number from 1 to 2^63-1, a TTL beyond 100 years, a delete
// with a value or a write with neither is an error.
//
// Every Value is a part of payload, not a copy: don't change payload while the writes are in use. Strings are copies.
func Parse(dst []Write, payload []byte) ([]Write, error) {
	n := len(dst)
	for line, start := 1, 0; start < len(payload); line++ {
		end := len(payload)
		if i := bytes.IndexByte(payload[start:], '\n'); i >= 0 {
			end = start + i
		}
		dst = append(dst, Write{})
		if w := &dst[len(dst)-1]; !canonical(payload[start:end], w) {
			if p := parserOf(payload[start:end]); !p.write(w) {
				clear(dst[n:])
				return dst[:n], &ParseError{Line: line, Byte: p.At + 1, What: p.Err.Error(), reason: p.Err}
			}
		}
		start = end + 1
	}
	return dst, nil
}

// maxDepth bounds the nesting of a value: readers in other languages recurse.
const maxDepth = 200

// parser reads one line. Its keys and values may hold any bytes, as ids do that nobody looked at.
type parser struct{ jsonscan.Scanner }

func parserOf(line []byte) parser {
	return parser{jsonscan.Scanner{Text: line, AnyBytes: true, FiniteOnly: true}}
}

const (
	fieldKey = 1 << iota
	fieldVersion
	fieldAsOf
	fieldDelete
	fieldIfAnyExists
	fieldLock
	fieldTTL
	fieldValue
)

// next reads the byte c, which must come next.
func (p *parser) next(c byte) bool { return p.Is(c) || p.Want(quoted[c]) }

var quoted = map[byte]reason.Text{
	'{': reason.Const("'{'"), '}': reason.Const("'}'"), '[': reason.Const("'['"), ']': reason.Const("']'"), ':': reason.Const("':'"),
}

func (p *parser) write(w *Write) bool {
	*w = Write{}
	if !p.next('{') {
		return false
	}
	var seen int
	for {
		p.Peek()
		at := p.At
		name, ok := p.RawString()
		if !ok || !p.next(':') {
			return false
		}
		p.Peek()
		var field int
		switch string(name) {
		case "key":
			field = fieldKey
			w.Key, ok = p.string()
			if ok && w.Key == "" {
				p.At = at
				return p.Fail(reason.New("key is empty"))
			}
		case "version":
			field = fieldVersion
			w.Version, ok = p.version()
		case "as_of":
			field = fieldAsOf
			w.AsOf, ok = p.version()
		case "delete":
			field = fieldDelete
			w.Delete = true
			if ok = bytes.HasPrefix(p.Text[p.At:], []byte("true")); ok {
				p.At += len("true")
			} else {
				p.Fail(reason.New("delete must be true, or left out"))
			}
		case "if_any_exists":
			field = fieldIfAnyExists
			w.IfAnyExists, ok = p.strings()
		case "lock":
			field = fieldLock
			w.Lock, ok = p.string()
		case "ttl":
			field = fieldTTL
			w.TTL, ok = p.ttl()
		case "value":
			field = fieldValue
			var value []byte
			if value, ok = p.Value(maxDepth); ok {
				w.Value = value[:len(value):len(value)]
			}
		default:
			p.At = at
			return p.Fail(reason.Errorf("unknown field %q", name))
		}
		if !ok {
			return false
		}
		if seen&field != 0 {
			p.At = at
			return p.Fail(reason.Errorf("field %s comes twice", name))
		}
		seen |= field
		if p.Peek() == ',' {
			if seen&fieldValue != 0 {
				return p.Fail(reason.New("value must be the last field"))
			}
			p.At++
			continue
		}
		if !p.next('}') {
			return false
		}
		break
	}
	if p.Peek(); p.At != len(p.Text) {
		return p.Fail(reason.New("text after the write's closing brace"))
	}
	switch {
	case seen&fieldKey == 0:
		return p.Fail(reason.New("no key"))
	case seen&(fieldDelete|fieldValue) == fieldDelete|fieldValue:
		return p.Fail(reason.New("a delete has no value"))
	case seen&(fieldDelete|fieldValue) == 0:
		return p.Fail(reason.New("neither value nor delete"))
	case w.AsOf != 0 && w.Version == 0:
		return p.Fail(reason.New("as_of without version"))
	}
	return true
}

func (p *parser) string() (string, bool) {
	text, ok := p.String()
	return string(text), ok
}

func (p *parser) strings() ([]string, bool) {
	if !p.next('[') {
		return nil, false
	}
	var list []string
	for {
		p.Peek()
		s, ok := p.string()
		if !ok {
			return nil, false
		}
		list = append(list, s)
		if p.Peek() == ',' {
			p.At++
			continue
		}
		return list, p.next(']')
	}
}

// version reads a whole number from 1 to 2^63-1 in its canonical form.
func (p *parser) version() (int64, bool) {
	var n uint64
	from := p.At
	for ; p.At < len(p.Text) && p.Text[p.At] >= '0' && p.Text[p.At] <= '9'; p.At++ {
		if p.At-from == 19 {
			n = 0
			break
		}
		n = n*10 + uint64(p.Text[p.At]-'0')
	}
	if p.At == from || p.Text[from] == '0' || n == 0 || n > 1<<63-1 {
		p.At = from
		return 0, p.Fail(reason.New("want a whole number from 1 to 2^63-1"))
	}
	if p.At < len(p.Text) && (p.Text[p.At] == '.' || p.Text[p.At]|0x20 == 'e') {
		return 0, p.Fail(reason.New("want a whole number"))
	}
	return int64(n), true
}

// maxTTL is the longest TTL in milliseconds: 100 years.
const maxTTL = 100 * 365 * 24 * 60 * 60 * 1000

func (p *parser) ttl() (time.Duration, bool) {
	if bytes.HasPrefix(p.Text[p.At:], []byte("-1")) {
		p.At += len("-1")
		return -1, true
	}
	from := p.At
	n, ok := p.version()
	if !ok || n > maxTTL {
		p.At = from
		return 0, p.Fail(reason.Errorf("want a TTL of 1 to %d ms, or -1 for none", int64(maxTTL)))
	}
	return time.Duration(n) * time.Millisecond, true
}
