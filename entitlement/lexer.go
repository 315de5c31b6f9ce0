package entitlement

import (
	"strconv"

	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/rfc3339"
)

// maxDepth bounds the nesting of what is skipped or copied; what is decoded has a fixed depth.
const maxDepth = 100

// lexer reads a JSON text once, from left to right, and hands out its tokens as parts of the text. It is strict: what
// it accepts is JSON in valid UTF-8.
//
// A method that fails returns false, as those of the scanner do; the callers put the path in front on the way out
// (see at).
type lexer struct {
	jsonscan.Scanner
	path string
}

func lex(body []byte) lexer { return lexer{Scanner: jsonscan.Scanner{Text: body}} }

// failure is what went wrong.
func (l *lexer) failure() *Error {
	e := errorAt(l.path, l.Err)
	e.Byte = l.At + 1
	return e
}

// at puts the member's name in front of the failure's path. It always returns false.
func (l *lexer) at(name string) bool {
	switch {
	case l.path == "":
		l.path = name
	case l.path[0] == '[':
		l.path = name + l.path
	default:
		l.path = name + "." + l.path
	}
	return false
}

// atIndex is at for an element of an array.
func (l *lexer) atIndex(i int) bool {
	return l.at("[" + strconv.Itoa(i) + "]")
}

// skip reads one value of any kind and returns it as it stands.
func (l *lexer) skip() (raw []byte, ok bool) { return l.Value(maxDepth) }

// end checks that nothing follows the text's only value.
func (l *lexer) end() bool { return l.End(errBehind) }

var errBehind = reason.New("text after the end of the event")

// str reads a string, or null, for which it returns nil; the text without quotes and escapes.
func (l *lexer) str(s *[]byte) (ok bool) {
	if l.Peek() != '"' && l.Null() {
		*s = nil
		return true
	}
	*s, ok = l.String()
	return ok
}

// strToken reads a string, or null, for which it returns nil, and returns it as it stands, quotes included.
func (l *lexer) strToken(s *[]byte) bool {
	if l.Peek() != '"' && l.Null() {
		*s = nil
		return true
	}
	from := l.At
	_, ok := l.RawString()
	*s = l.Text[from:l.At]
	return ok
}

// number reads a number that fits a double, or null, for which it returns nil, and returns it as it stands.
func (l *lexer) number(n *[]byte) (ok bool) {
	if l.Peek() == 'n' && l.Null() {
		*n = nil
		return true
	}
	l.FiniteOnly = true
	*n, ok = l.Number()
	l.FiniteOnly = false
	return ok
}

// boolean reads true or false, or null, which is false.
func (l *lexer) boolean(v *bool) (ok bool) {
	if l.Peek() == 'n' && l.Null() {
		*v = false
		return true
	}
	*v, ok = l.Bool()
	return ok
}

// instant is a point in time in epoch milliseconds, if there is one.
type instant struct {
	ms int64
	ok bool
}

// time reads a point in time, or null: an ISO 8601 string, or a number of epoch milliseconds.
func (l *lexer) time(t *instant) bool {
	*t = instant{}
	c := l.Peek()
	from := l.At
	switch {
	case c == '"':
		raw, ok := l.String()
		if !ok {
			return false
		}
		if t.ms, t.ok = parseTime(raw); !t.ok {
			l.At = from
			return l.Fail(reason.Errorf("want a time such as 2006-01-02T15:04:05.000Z, got %q", jsonscan.Clip(raw)))
		}
		return true
	case c == '-' || c >= '0' && c <= '9':
		raw, ok := l.Number()
		if !ok {
			return false
		}
		if t.ms, t.ok = parseMillis(raw); !t.ok {
			l.At = from
			return l.Fail(reason.Errorf("want a time in epoch milliseconds, got %s", jsonscan.Clip(raw)))
		}
		return true
	case l.Null():
		return true
	}
	return l.Want(reason.Const("a time"))
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
