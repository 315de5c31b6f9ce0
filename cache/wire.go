package cache

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Compare is the total order of writes to one key: by when the fact was true (AsOf, or Version where AsOf is 0), then by
// Version, then a delete before a value, then by the bytes of the values. It returns -1 when a comes before b, 0 when
// they are the same write and +1 when a comes after b. Of all writes to a key the greatest wins.
//
// Compare looks at neither Key, IfAnyExists, Lock nor TTL. Writes without a Version have no order: the last arrival wins.
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

// Append appends w in its wire form and a line break to dst and returns the extended slice. The wire form is one line of
// compact JSON, without the fields that are zero, value last:
//
//	{"key":"c_x","version":1,"as_of":2,"delete":true,"if_any_exists":["c_x"],"lock":"x","ttl":90000,"value":{"n":1}}
//
// TTL is in milliseconds, -1 for every negative one.
// Value is copied as it stands: it must be one JSON text without line breaks, which [Parse] checks. Strings are written
// byte for byte apart from what JSON must escape, so that ids come back as they went in.
func Append(dst []byte, w Write) []byte {
	dst = append(dst, `{"key":`...)
	dst = appendString(dst, w.Key)
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
			dst = appendString(dst, key)
		}
		dst = append(dst, ']')
	}
	if w.Lock != "" {
		dst = append(dst, `,"lock":`...)
		dst = appendString(dst, w.Lock)
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

const hexDigits = "0123456789abcdef"

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// ParseError says what is wrong with a payload of writes, and where.
type ParseError struct {
	// Line and Byte count from 1; Byte is the place in the line.
	Line, Byte int
	// What is wrong, such as `unknown field "vlaue"`.
	What string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("cache writes: line %d, byte %d: %s", e.Line, e.Byte, e.What)
}

// Parse appends the writes of a payload, one a line as [Append] makes them, to dst and returns the extended slice. On a
// [*ParseError] nothing is appended. An empty payload holds no writes; the last line's line break may be missing.
//
// Parse is strict: the fields before value may come in any order, and there may be blanks between tokens, but an unknown
// or repeated field, a value that is not JSON or not last, or that holds a number beyond a double such as 1e400, a missing
// or empty key, a version that is no whole number from 1 to 2^63-1, a TTL beyond 100 years, a delete with a value or a
// write with neither is an error.
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
		p := parser{b: payload[start:end]}
		if w := &dst[len(dst)-1]; !canonical(p.b, w) && !p.write(w) {
			clear(dst[n:])
			return dst[:n], &ParseError{Line: line, Byte: p.i + 1, What: p.what}
		}
		start = end + 1
	}
	return dst, nil
}

// maxDepth bounds the nesting of a value: readers in other languages recurse.
const maxDepth = 200

// parser reads one line. A method that fails sets what and leaves i where the fault is.
type parser struct {
	b    []byte
	i    int
	what string
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

func (p *parser) fail(what string) bool { p.what = what; return false }

func (p *parser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\t' || p.b[p.i] == '\r') {
		p.i++
	}
}

// next skips blanks and reads the byte c.
func (p *parser) next(c byte) bool {
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	p.space()
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	if p.i == len(p.b) {
		return p.fail("the line ends where " + strconv.QuoteRune(rune(c)) + " should be")
	}
	return p.fail("want " + strconv.QuoteRune(rune(c)) + ", got " + strconv.QuoteRune(rune(p.b[p.i])))
}

func (p *parser) peek() byte {
	if p.i < len(p.b) && p.b[p.i] > ' ' {
		return p.b[p.i]
	}
	p.space()
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

func (p *parser) write(w *Write) bool {
	*w = Write{}
	if !p.next('{') {
		return false
	}
	var seen int
	for {
		p.space()
		at := p.i
		name, ok := p.rawString()
		if !ok || !p.next(':') {
			return false
		}
		p.space()
		var field int
		switch string(name) {
		case "key":
			field = fieldKey
			w.Key, ok = p.string()
			if ok && w.Key == "" {
				p.i = at
				return p.fail("key is empty")
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
			if ok = bytes.HasPrefix(p.b[p.i:], []byte("true")); ok {
				p.i += len("true")
			} else {
				p.fail("delete must be true, or left out")
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
			from := p.i
			if ok = p.value(); ok {
				w.Value = p.b[from:p.i:p.i]
			}
		default:
			p.i = at
			return p.fail("unknown field " + strconv.Quote(string(name)))
		}
		if !ok {
			return false
		}
		if seen&field != 0 {
			p.i = at
			return p.fail("field " + string(name) + " comes twice")
		}
		seen |= field
		if p.peek() == ',' {
			if seen&fieldValue != 0 {
				return p.fail("value must be the last field")
			}
			p.i++
			continue
		}
		if !p.next('}') {
			return false
		}
		break
	}
	if p.space(); p.i != len(p.b) {
		return p.fail("text after the write's closing brace")
	}
	switch {
	case seen&fieldKey == 0:
		return p.fail("no key")
	case seen&(fieldDelete|fieldValue) == fieldDelete|fieldValue:
		return p.fail("a delete has no value")
	case seen&(fieldDelete|fieldValue) == 0:
		return p.fail("neither value nor delete")
	case w.AsOf != 0 && w.Version == 0:
		return p.fail("as_of without version")
	}
	return true
}

// rawString reads a string and returns what is between its quotes, escapes and all.
func (p *parser) rawString() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	from := p.i
	for p.i < len(p.b) {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return p.b[from : p.i-1], true
		case c == '\\':
			if !p.escape() {
				return nil, false
			}
		case c < ' ':
			return nil, p.fail("control character in a string")
		default:
			p.i++
		}
	}
	return nil, p.fail("the line ends inside a string")
}

func (p *parser) escape() bool {
	if p.i+1 >= len(p.b) {
		return p.fail("the line ends inside a string")
	}
	switch p.b[p.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.i += 2
		return true
	case 'u':
		if p.i+6 <= len(p.b) && hex4(p.b[p.i+2:]) >= 0 {
			p.i += 6
			return true
		}
	}
	return p.fail("bad escape in a string")
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func (p *parser) string() (string, bool) {
	from := p.i + 1
	raw, ok := p.rawString()
	if !ok {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		return p.unescape(from, raw)
	}
	return string(raw), true
}

func (p *parser) unescape(from int, raw []byte) (string, bool) {
	s := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			s = append(s, raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			r := hex4(raw[i+1:])
			at := i - 1
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					low = hex4(raw[i+3:])
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					p.i = from + at
					return "", p.fail("half a surrogate pair in a string")
				}
				i += 6
			}
			s = utf8.AppendRune(s, r)
		default:
			s = append(s, c)
		}
	}
	return string(s), true
}

func (p *parser) strings() ([]string, bool) {
	if !p.next('[') {
		return nil, false
	}
	var list []string
	for {
		p.space()
		s, ok := p.string()
		if !ok {
			return nil, false
		}
		list = append(list, s)
		if p.peek() == ',' {
			p.i++
			continue
		}
		return list, p.next(']')
	}
}

// version reads a whole number from 1 to 2^63-1 in its canonical form.
func (p *parser) version() (int64, bool) {
	var n uint64
	from := p.i
	for ; p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9'; p.i++ {
		if p.i-from == 19 {
			n = 0
			break
		}
		n = n*10 + uint64(p.b[p.i]-'0')
	}
	if p.i == from || p.b[from] == '0' || n == 0 || n > 1<<63-1 {
		p.i = from
		return 0, p.fail("want a whole number from 1 to 2^63-1")
	}
	if p.i < len(p.b) && (p.b[p.i] == '.' || p.b[p.i]|0x20 == 'e') {
		return 0, p.fail("want a whole number")
	}
	return int64(n), true
}

// maxTTL is the longest TTL in milliseconds: 100 years.
const maxTTL = 100 * 365 * 24 * 60 * 60 * 1000

func (p *parser) ttl() (time.Duration, bool) {
	if bytes.HasPrefix(p.b[p.i:], []byte("-1")) {
		p.i += len("-1")
		return -1, true
	}
	from := p.i
	n, ok := p.version()
	if !ok || n > maxTTL {
		p.i = from
		return 0, p.fail("want a TTL of 1 to " + strconv.Itoa(maxTTL) + " ms, or -1 for none")
	}
	return time.Duration(n) * time.Millisecond, true
}

// value skips one JSON text and checks that it is one. Nesting is kept as bits, a 1 for an object.
func (p *parser) value() bool {
	var nest [(maxDepth + 63) / 64]uint64
	depth := 0
	for {
		// Here a value begins.
		switch c := p.peek(); {
		case c == '{' || c == '[':
			p.i++
			if depth == maxDepth {
				return p.fail("value is nested too deeply")
			}
			word, bit := depth>>6, uint64(1)<<(depth&63)
			if c == '{' {
				nest[word] |= bit
			} else {
				nest[word] &^= bit
			}
			depth++
			if next := p.peek(); next == c+2 { // '{'+2 is '}', '['+2 is ']'
				p.i++
				depth--
				break
			}
			if c == '{' && !p.name() {
				return false
			}
			continue
		case c == '"':
			if _, ok := p.rawString(); !ok {
				return false
			}
		case c == '-' || c >= '0' && c <= '9':
			if !p.number() {
				return false
			}
		default:
			if !p.literal() {
				return false
			}
		}
		// Here a value has ended.
		for {
			if depth == 0 {
				return true
			}
			object := nest[(depth-1)>>6]>>((depth-1)&63)&1 == 1
			c := p.peek()
			if c == ',' {
				p.i++
				if object && !p.name() {
					return false
				}
				break
			}
			closing := byte(']')
			if object {
				closing = '}'
			}
			if !p.next(closing) {
				return false
			}
			depth--
		}
	}
}

func (p *parser) name() bool {
	p.space()
	_, ok := p.rawString()
	return ok && p.next(':')
}

func (p *parser) literal() bool {
	rest := p.b[p.i:]
	for _, s := range []string{"null", "true", "false"} {
		if len(rest) >= len(s) && string(rest[:len(s)]) == s {
			p.i += len(s)
			return true
		}
	}
	return p.fail("value is not JSON")
}

func (p *parser) digits() bool {
	from := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	if p.i == from {
		return p.fail("bad number in value")
	}
	return true
}

// number skips a number and refuses one that readers would take for Infinity.
func (p *parser) number() bool {
	from := p.i
	if !p.skipNumber() {
		return false
	}
	number := p.b[from:p.i]
	if len(number) < longNumber && bytes.IndexByte(number, 'e') < 0 && bytes.IndexByte(number, 'E') < 0 {
		return true
	}
	if x, _ := strconv.ParseFloat(string(number), 64); math.IsInf(x, 0) {
		p.i = from
		return p.fail("number in value is beyond a double: readers would take it for Infinity")
	}
	return true
}

// longNumber is a number of digits that a number below the largest double, which has 309, may have whatever they are.
const longNumber = 300

func (p *parser) skipNumber() bool {
	if p.b[p.i] == '-' {
		p.i++
	}
	if p.i < len(p.b) && p.b[p.i] == '0' {
		p.i++
	} else if !p.digits() {
		return false
	}
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if !p.digits() {
			return false
		}
	}
	if p.i < len(p.b) && p.b[p.i]|0x20 == 'e' {
		p.i++
		if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		return p.digits()
	}
	return true
}
