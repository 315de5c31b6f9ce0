package entitlement

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/rfc3339"
)

// maxDepth bounds the nesting of what is skipped or copied; what is decoded has a fixed depth.
const maxDepth = 100

// lexer reads a JSON text once, from left to right, and hands out its tokens as parts of the text. It is strict: what it
// accepts is JSON in valid UTF-8.
//
// A method that fails returns false and sets err; the callers put the path in front on the way out (see at). After a
// failure the lexer is of no more use.
type lexer struct {
	b      []byte
	i      int
	err    Error
	copied bool // what is skipped goes on as it stands: its numbers are checked, too
}

// fail says what is wrong at the place where the lexer stands.
func (l *lexer) fail(what string) bool {
	l.err = Error{What: what, Byte: l.i + 1}
	return false
}

// at puts the member's name in front of the failure's path. It always returns false.
func (l *lexer) at(name string) bool {
	switch {
	case l.err.Path == "":
		l.err.Path = name
	case l.err.Path[0] == '[':
		l.err.Path = name + l.err.Path
	default:
		l.err.Path = name + "." + l.err.Path
	}
	return false
}

// atIndex is at for an element of an array.
func (l *lexer) atIndex(i int) bool {
	return l.at("[" + strconv.Itoa(i) + "]")
}

func (l *lexer) space() {
	// Indented texts have long runs of blanks.
	for l.i+8 < len(l.b) && binary.LittleEndian.Uint64(l.b[l.i+1:]) == ones*' ' {
		l.i += 8
	}
	for l.i < len(l.b) {
		switch l.b[l.i] {
		case ' ', '\t', '\n', '\r':
			l.i++
		default:
			return
		}
	}
}

// peek skips blanks and returns the next byte, or 0 at the end.
func (l *lexer) peek() byte {
	if l.i < len(l.b) && l.b[l.i] > ' ' {
		return l.b[l.i]
	}
	l.space()
	if l.i < len(l.b) {
		return l.b[l.i]
	}
	return 0
}

// got describes what stands at the place, for messages.
func (l *lexer) got() string {
	switch c := l.peek(); {
	case l.i == len(l.b):
		return "the end"
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	case bytes.HasPrefix(l.b[l.i:], []byte("null")):
		return "null"
	case bytes.HasPrefix(l.b[l.i:], []byte("true")), bytes.HasPrefix(l.b[l.i:], []byte("false")):
		return "a boolean"
	case c < 0x80:
		return strconv.QuoteRune(rune(c))
	default:
		return fmt.Sprintf("byte 0x%02x", c)
	}
}

func (l *lexer) want(what string) bool {
	got := l.got()
	return l.fail("want " + what + ", got " + got)
}

// null reads null, if that is what comes.
func (l *lexer) null() bool {
	if l.peek() == 'n' && l.i+4 <= len(l.b) && string(l.b[l.i:l.i+4]) == "null" {
		l.i += 4
		return true
	}
	return false
}

// object enters an object.
func (l *lexer) object() bool {
	if l.peek() != '{' {
		return l.want("an object")
	}
	l.i++
	return true
}

// array enters an array.
func (l *lexer) array() bool {
	if l.peek() != '[' {
		return l.want("an array")
	}
	l.i++
	return true
}

// member moves to the value of an object's next member and returns its name, as it stands between the quotes. At the end
// of the object, and on a failure, ok is false: ended tells the one from the other. first is true before the first
// member.
func (l *lexer) member(first *bool) (name []byte, ok bool) {
	switch c := l.peek(); {
	case c == '}':
		l.i++
		return nil, false
	case *first:
		*first = false
	case c == ',':
		l.i++
		l.peek()
	default:
		return nil, l.want("',' or '}'")
	}
	if l.i >= len(l.b) || l.b[l.i] != '"' {
		return nil, l.want("a member's name")
	}
	name, escaped, ok := l.rawString()
	if !ok {
		return nil, false
	}
	if escaped {
		if name, ok = l.unescape(name); !ok {
			return nil, false
		}
	}
	if l.peek() != ':' {
		return nil, l.want("':'")
	}
	l.i++
	return name, true
}

// element moves to an array's next element. See member.
func (l *lexer) element(first *bool) bool {
	switch c := l.peek(); {
	case c == ']':
		l.i++
		return false
	case *first:
		*first = false
		return true
	case c == ',':
		l.i++
		return true
	default:
		return l.want("',' or ']'")
	}
}

// ended reports whether a loop over members or elements came to the end, not to a failure.
func (l *lexer) ended() bool { return l.err.What == "" }

// end checks that nothing follows the text's only value.
func (l *lexer) end() bool {
	if l.peek(); l.i != len(l.b) {
		return l.fail("text after the end of the event")
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// rawString reads a string and returns what stands between its quotes.
func (l *lexer) rawString() (raw []byte, escaped, ok bool) {
	b, from := l.b, l.i+1
	i := from
	foreign := false
	for {
		// Eight bytes at a time while nothing in them needs a look: no quote, backslash, control character, nor a byte
		// beyond ASCII. A borrow can only spoil bytes above the first hit.
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^(ones*'"'), w^(ones*'\\')
			hit := ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash | w) & highs
			if hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			l.i = len(b)
			return nil, false, l.fail("the text ends inside a string")
		}
		switch c := b[i]; {
		case c == '"':
			raw = b[from:i]
			if foreign && !utf8.Valid(raw) {
				l.i = from
				return nil, false, l.fail("string is not valid UTF-8")
			}
			l.i = i + 1
			return raw, escaped, true
		case c == '\\':
			escaped = true
			n := escapeLen(b[i:])
			if n == 0 {
				l.i = i
				return nil, false, l.fail("bad escape in a string")
			}
			i += n
		case c < ' ':
			l.i = i
			return nil, false, l.fail("control character in a string")
		case c >= 0x80:
			foreign = true
			for i++; i < len(b) && b[i] >= 0x80; i++ {
			}
		default:
			i++
		}
	}
}

// escapeLen returns the length of the escape that b begins with, or 0 when it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && hex4(b[2:]) >= 0 {
			return 6
		}
	}
	return 0
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

// unescape resolves the escapes of a string. Half a surrogate pair is a failure: it names no character, so no key can be
// made of it.
func (l *lexer) unescape(raw []byte) ([]byte, bool) {
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
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					low = hex4(raw[i+3:])
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return nil, l.fail("half a surrogate pair in a string")
				}
				i += 6
			}
			s = utf8.AppendRune(s, r)
		default:
			s = append(s, c)
		}
	}
	return s, true
}

// str reads a string, or null, for which it returns nil; the text without quotes and escapes.
func (l *lexer) str(s *[]byte) bool {
	if l.peek() != '"' {
		if l.null() {
			*s = nil
			return true
		}
		return l.want("a string")
	}
	raw, escaped, ok := l.rawString()
	if ok && escaped {
		raw, ok = l.unescape(raw)
	}
	*s = raw
	return ok
}

// strToken reads a string, or null, for which it returns nil, and returns it as it stands, quotes included.
func (l *lexer) strToken(s *[]byte) bool {
	if l.peek() != '"' {
		if l.null() {
			*s = nil
			return true
		}
		return l.want("a string")
	}
	from := l.i
	_, _, ok := l.rawString()
	*s = l.b[from:l.i]
	return ok
}

// number reads a number, or null, for which it returns nil, and returns it as it stands.
func (l *lexer) number(n *[]byte) bool {
	c := l.peek()
	if c != '-' && (c < '0' || c > '9') {
		if l.null() {
			*n = nil
			return true
		}
		return l.want("a number")
	}
	from := l.i
	ok := l.skipNumber() && l.fitsDouble(from)
	*n = l.b[from:l.i]
	return ok
}

// fitsDouble refuses a number, from there to where the lexer stands, that readers would take for Infinity. Only one with
// an exponent or very many digits can be that large.
func (l *lexer) fitsDouble(from int) bool {
	raw := l.b[from:l.i]
	if len(raw) < 300 && bytes.IndexByte(raw, 'e') < 0 && bytes.IndexByte(raw, 'E') < 0 {
		return true
	}
	if x, _ := strconv.ParseFloat(string(raw), 64); !math.IsInf(x, 0) {
		return true
	}
	l.i = from
	return l.fail("number is too large: readers would take it for Infinity: " + clip(raw))
}

func (l *lexer) digits() bool {
	from := l.i
	for l.i < len(l.b) && l.b[l.i]-'0' <= 9 {
		l.i++
	}
	if l.i == from {
		return l.fail("bad number")
	}
	return true
}

func (l *lexer) skipNumber() bool {
	if l.b[l.i] == '-' {
		l.i++
	}
	if l.i < len(l.b) && l.b[l.i] == '0' {
		l.i++
	} else if !l.digits() {
		return false
	}
	if l.i < len(l.b) && l.b[l.i] == '.' {
		l.i++
		if !l.digits() {
			return false
		}
	}
	if l.i < len(l.b) && l.b[l.i]|0x20 == 'e' {
		l.i++
		if l.i < len(l.b) && (l.b[l.i] == '+' || l.b[l.i] == '-') {
			l.i++
		}
		return l.digits()
	}
	return true
}

// boolean reads true or false, or null, which is false.
func (l *lexer) boolean(v *bool) bool {
	switch l.peek() {
	case 't', 'f', 'n':
		from := l.i
		if !l.skipLiteral() {
			return false
		}
		*v = l.b[from] == 't'
		return true
	}
	return l.want("a boolean")
}

func (l *lexer) skipLiteral() bool {
	rest := l.b[l.i:]
	switch {
	case len(rest) >= 4 && (string(rest[:4]) == "null" || string(rest[:4]) == "true"):
		l.i += 4
		return true
	case len(rest) >= 5 && string(rest[:5]) == "false":
		l.i += 5
		return true
	}
	return l.fail("not JSON: " + l.got())
}

// instant is a point in time in epoch milliseconds, if there is one.
type instant struct {
	ms int64
	ok bool
}

// time reads a point in time, or null: an ISO 8601 string, or a number of epoch milliseconds.
func (l *lexer) time(t *instant) bool {
	*t = instant{}
	c := l.peek()
	from := l.i
	switch {
	case c == '"':
		raw, escaped, ok := l.rawString()
		if !ok {
			return false
		}
		if escaped {
			if raw, ok = l.unescape(raw); !ok {
				return false
			}
		}
		if t.ms, t.ok = parseTime(raw); !t.ok {
			l.i = from
			return l.fail("want a time such as 2006-01-02T15:04:05.000Z, got " + strconv.Quote(clip(raw)))
		}
		return true
	case c == '-' || c >= '0' && c <= '9':
		var raw []byte
		if !l.number(&raw) {
			return false
		}
		if t.ms, t.ok = parseMillis(raw); !t.ok {
			l.i = from
			return l.fail("want a time in epoch milliseconds, got " + clip(raw))
		}
		return true
	case l.null():
		return true
	}
	return l.want("a time")
}

// clip keeps messages short.
func clip(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}

// parseMillis reads a number of epoch milliseconds; what is finer is cut off.
func parseMillis(raw []byte) (int64, bool) {
	if ms, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return ms, true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f <= -1<<53 || f >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// parseTime reads an ISO 8601 time. Nearly all times are in UTC with milliseconds: those don't go through package time.
func parseTime(b []byte) (ms int64, ok bool) {
	if ms, ok := parseUTC(b); ok {
		return ms, true
	}
	t, ok := rfc3339.Parse(string(b))
	return t.UnixMilli(), ok
}

var monthDays = [...]uint8{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func parseUTC(b []byte) (int64, bool) {
	// 2006-01-02T15:04:05Z or 2006-01-02T15:04:05.000Z
	if len(b) != 20 && len(b) != 24 || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[len(b)-1] != 'Z' {
		return 0, false
	}
	two := func(i int) int {
		d, e := b[i]-'0', b[i+1]-'0'
		if d > 9 || e > 9 {
			return 1000
		}
		return int(d)*10 + int(e)
	}
	century, year := two(0), two(2)
	month, day := two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	if century > 99 || year > 99 || century+year == 0 || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	year += century * 100
	last := int(monthDays[month-1])
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		last = 29
	}
	if day < 1 || day > last {
		return 0, false
	}
	ms := 0
	if len(b) == 24 {
		tens, unit := two(20), b[22]-'0'
		if b[19] != '.' || tens > 99 || unit > 9 {
			return 0, false
		}
		ms = tens*10 + int(unit)
	}
	// Days since 1970-01-01 of the proleptic Gregorian calendar, in years that begin in March.
	y, m := year, month
	if m <= 2 {
		y--
		m += 12
	}
	days := 365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + day - 1 - 719468
	return ((int64(days)*24+int64(hour))*60+int64(minute))*60_000 + int64(second)*1000 + int64(ms), true
}

// skip reads one value of any kind and returns it as it stands.
func (l *lexer) skip() (raw []byte, ok bool) {
	l.peek()
	from := l.i
	// A bit for each level: 1 for an object.
	var nest [(maxDepth + 63) / 64]uint64
	depth := 0
	for {
		switch c := l.peek(); {
		case c == '"':
			if _, _, ok := l.rawString(); !ok {
				return nil, false
			}
		case c == '-' || c >= '0' && c <= '9':
			from := l.i
			if !l.skipNumber() || l.copied && !l.fitsDouble(from) {
				return nil, false
			}
		case c == '{' || c == '[':
			if depth == maxDepth {
				return nil, l.fail("nested too deeply")
			}
			l.i++
			word, bit := depth>>6, uint64(1)<<(depth&63)
			if c == '{' {
				nest[word] |= bit
			} else {
				nest[word] &^= bit
			}
			depth++
			if l.peek() == c+2 { // '{'+2 is '}', '['+2 is ']'
				l.i++
				depth--
				break
			}
			if c == '{' && !l.skipName() {
				return nil, false
			}
			continue
		default:
			if !l.skipLiteral() {
				return nil, false
			}
		}
		for {
			if depth == 0 {
				return l.b[from:l.i], true
			}
			object := nest[(depth-1)>>6]>>((depth-1)&63)&1 == 1
			c := l.peek()
			if c == ',' {
				l.i++
				if object && !l.skipName() {
					return nil, false
				}
				break
			}
			if object && c != '}' {
				return nil, l.want("',' or '}'")
			}
			if !object && c != ']' {
				return nil, l.want("',' or ']'")
			}
			l.i++
			depth--
		}
	}
}

func (l *lexer) skipName() bool {
	if l.peek() != '"' {
		return l.want("a member's name")
	}
	if _, _, ok := l.rawString(); !ok {
		return false
	}
	if l.peek() != ':' {
		return l.want("':'")
	}
	l.i++
	return true
}

// appendCompact appends a JSON text without the blanks between its tokens.
func appendCompact(dst, raw []byte) []byte {
	inString := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inString && c == '\\':
			dst = append(dst, c)
			i++
			c = raw[i]
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as a JSON string.
func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
