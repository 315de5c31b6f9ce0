// Package jsonscan finds its way through a JSON text without decoding it: where a value begins and ends, what kind it
// is, what a string says. It hands out parts of the text as they stand, so that values are copied without being
// rounded, reordered or escaped anew, allocates nothing on the way, and knows the place of a fault.
//
// The functions take a text and a place in it and return the place behind what they read; [Scanner] walks over a text
// with them and says in words what is wrong. What they accept is what encoding/json accepts, apart from two rules:
// nesting is bounded, and half a surrogate pair is a fault where a string is resolved, since it names no character.
// Whether strings are valid UTF-8 is the caller's to ask: see [Foreign] and [Scanner.AnyBytes].
//
// A name that comes twice is not noticed here: the callers know which names matter to them.
package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/reason"
)

// Fault is what is wrong at a place of a text.
type Fault uint8

// None is the fault of what is right; the others say what they are by their String method.
const (
	None Fault = iota
	OpenString
	BadEscape
	Control
	HalfPair
	BadNumber
	TooDeep
	NotJSON
	WantName
	WantColon
	WantCommaOrBrace
	WantCommaOrBracket
)

// faults are what is wrong. For the faults that begin with Want it is what should stand there.
var faults = [...]reason.Text{
	OpenString: reason.Const("the text ends inside a string"), BadEscape: reason.Const("bad escape in a string"),
	Control: reason.Const("control character in a string"), HalfPair: reason.Const("half a surrogate pair in a string"),
	BadNumber: reason.Const("bad number"), TooDeep: reason.Const("nested too deeply"), NotJSON: reason.Const("not JSON"),
	WantName: reason.Const("a member's name"), WantColon: reason.Const("':'"),
	WantCommaOrBrace: reason.Const("',' or '}'"), WantCommaOrBracket: reason.Const("',' or ']'"),
}

// String says what is wrong. For the faults that begin with Want it is what should stand there.
func (f Fault) String() string { return faults[f].String() }

// Form tells about a value what a reader of its bytes must know.
type Form uint8

const (
	// Escaped strings have escapes in them.
	Escaped Form = 1 << iota
	// Foreign strings have bytes beyond ASCII, which may or may not be UTF-8.
	Foreign
	// Infinite values hold a number that is not [Finite].
	Infinite
)

// Space returns the place of the first byte from i on that is no blank, or the length of the text.
func Space(b []byte, i int) int {
	// Indented texts have long runs of blanks.
	for i+8 < len(b) && binary.LittleEndian.Uint64(b[i+1:]) == ones*' ' {
		i += 8
	}
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks the bytes of w that are a quote, a backslash or a control character by their highest bits. A borrow can
// only spoil bytes above the first hit.
func special(w uint64) uint64 {
	quote, slash := w^(ones*'"'), w^(ones*'\\')
	return ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// odd is special, and marks the bytes beyond ASCII, too: then there is nothing to leave out.
func odd(w uint64) uint64 {
	quote, slash := w^(ones*'"'), w^(ones*'\\')
	return (w | (w - ones*' ') | (quote - ones) | (slash - ones)) & highs
}

// String reads the string whose opening quote is b[i] and returns the place behind its closing quote; with a fault, the
// place of the fault. It checks escapes, but not that surrogates come in pairs.
func String(b []byte, i int) (end int, form Form, fault Fault) {
	// Eight bytes at a time while nothing in them needs a look.
	for i++; i+8 <= len(b); i += 8 {
		if hit := odd(binary.LittleEndian.Uint64(b[i:])); hit != 0 {
			if i += bits.TrailingZeros64(hit) >> 3; b[i] == '"' {
				return i + 1, 0, None
			}
			break
		}
	}
	return restOfString(b, i)
}

// restOfString is String from the first byte on that needs a look, or that eight bytes at a time don't reach.
func restOfString(b []byte, i int) (end int, form Form, fault Fault) {
	var seen uint64
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			if hit := special(w); hit != 0 {
				seen |= w & (hit - 1) &^ hit // what stands before the hit
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			seen |= w
			i += 8
		}
		if i >= len(b) {
			return len(b), form, OpenString
		}
		switch c := b[i]; {
		case c == '"':
			if seen&highs != 0 {
				form |= Foreign
			}
			return i + 1, form, None
		case c == '\\':
			form |= Escaped
			n := escape(b[i:])
			if n == 0 {
				return i, form, BadEscape
			}
			i += n
		case c < ' ':
			return i, form, Control
		default:
			seen |= uint64(c)
			i++
		}
	}
}

// escape returns the length of the escape that b begins with, or 0 when it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if simple[b[1]] != 0 {
		return 2
	}
	if b[1] == 'u' && len(b) >= 6 && hex4(b[2:]) >= 0 {
		return 6
	}
	return 0
}

// simple is what the letter behind a backslash stands for.
var simple = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

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

// AppendString reads the string whose opening quote is b[i], as [String] does, and appends what it says to dst: its
// bytes, with the escapes resolved.
func AppendString(dst, b []byte, i int) (_ []byte, end int, fault Fault) {
	for i++; ; {
		// Eight bytes at a time, and back over those that are too many: runs without an escape are short in JSON that
		// stands in a string.
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			dst = binary.LittleEndian.AppendUint64(dst, w)
			if hit := special(w); hit != 0 {
				n := bits.TrailingZeros64(hit) >> 3
				dst = dst[:len(dst)-8+n]
				i += n
				break
			}
			i += 8
		}
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			dst = append(dst, b[i])
			i++
		}
		if i >= len(b) {
			return dst, len(b), OpenString
		}
		switch b[i] {
		case '"':
			return dst, i + 1, None
		case '\\':
		default:
			return dst, i, Control
		}
		if i+1 < len(b) && simple[b[i+1]] != 0 {
			dst = append(dst, simple[b[i+1]])
			i += 2
			continue
		}
		n := escape(b[i:])
		if n == 0 {
			return dst, i, BadEscape
		}
		r := hex4(b[i+2:])
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if escape(b[i+n:]) == 6 {
				low = hex4(b[i+n+2:])
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return dst, i, HalfPair
			}
			n += 6
		}
		dst = utf8.AppendRune(dst, r)
		i += n
	}
}

// Number reads the number that begins at i and returns the place behind it; if it is none, ok is false and end the
// place of the fault.
func Number(b []byte, i int) (end int, ok bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, ok = digits(b, i); !ok {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if i, ok = digits(b, i+1); !ok {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i, true
}

func digits(b []byte, i int) (end int, ok bool) {
	from := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i, i > from
}

// Whole reads a whole number of up to 18 digits that begins at i, without a sign and without zeros before it, and
// returns the place behind it. ok is false when there is none; what follows it is the caller's to look at.
func Whole(b []byte, i int) (n int64, end int, ok bool) {
	from := i
	if i+8 <= len(b) { // eight at a time: most are times in milliseconds
		w := binary.LittleEndian.Uint64(b[i:]) ^ ones*'0'
		if (w|(w+ones*6))&(ones*0xf0) == 0 {
			w = (w*10 + w>>8) & 0x00ff00ff00ff00ff
			w = (w*100 + w>>16) & 0x0000ffff0000ffff
			n = int64((w*10000 + w>>32) & 0xffffffff)
			i += 8
		}
	}
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if i-from == 18 {
			return 0, i, false
		}
		n = n*10 + int64(b[i]-'0')
	}
	return n, i, i > from && b[from] != '0'
}

// surelyFinite is how long a number without an exponent must be to leave the range of a double.
const surelyFinite = 309

// Finite reports whether a number, as [Number] read it, fits a double: what doesn't is infinite to most readers. Digits
// that a double can't hold are no matter.
func Finite(number []byte) bool {
	if len(number) < surelyFinite {
		plain := true
		for _, c := range number {
			if c|0x20 == 'e' {
				plain = false
				break
			}
		}
		if plain {
			return true
		}
	}
	_, err := strconv.ParseFloat(string(number), 64)
	return err == nil
}

// Literal returns the place behind the null, true or false that begins at i, or -1.
func Literal(b []byte, i int) int {
	switch rest := b[i:]; {
	case len(rest) >= 4 && (string(rest[:4]) == "null" || string(rest[:4]) == "true"):
		return i + 4
	case len(rest) >= 5 && string(rest[:5]) == "false":
		return i + 5
	}
	return -1
}

// MaxDepth is the deepest nesting that [Value] can be asked to accept.
const MaxDepth = 256

// Value reads the value of any kind that begins at i, blanks before it included, and returns the place behind it;
// with a fault, the place of the fault. Arrays and objects nested deeper than maxDepth, or [MaxDepth], are a fault.
func Value(b []byte, i, maxDepth int) (end int, form Form, fault Fault) {
	return value(b, i, min(maxDepth, MaxDepth))
}

// number reads a number.
func number(b []byte, i int) (end int, form Form, fault Fault) {
	end, ok := Number(b, i)
	if !ok {
		return end, 0, BadNumber
	}
	if !Finite(b[i:end]) {
		form = Infinite
	}
	return end, form, None
}

// value is Value. What most values are made of is read in place: a call costs as much as a short token.
func value(b []byte, i, maxDepth int) (end int, form Form, fault Fault) {
	var (
		nest  uint64                  // a bit for each of the innermost levels: 1 for an object
		outer [MaxDepth/64 - 1]uint64 // those further out, 64 in each
		depth int
		f     Form
	)
	for {
		// Here a value begins.
		if i < len(b) && b[i] <= ' ' {
			i = Space(b, i)
		}
		if i >= len(b) {
			return len(b), form, NotJSON
		}
		from := i
		switch c := b[i]; {
		case c == '"':
			i, f, fault = String(b, i)
		case c-'0' <= 9 || c == '-':
			i, _ = digits(b, i)
			// Nearly all are whole and positive.
			if c <= '0' || i >= len(b) || b[i] == '.' || b[i]|0x20 == 'e' || i-from >= surelyFinite {
				i, f, fault = number(b, from)
			}
		case c|0x20 == '{': // or '['
			if depth >= maxDepth {
				return i, form, TooDeep
			}
			if i++; i < len(b) && b[i] <= ' ' {
				i = Space(b, i)
			}
			if i < len(b) && b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
				break
			}
			if depth&63 == 0 && depth > 0 {
				outer[depth>>6-1] = nest
			}
			nest <<= 1
			depth++
			if c == '[' {
				continue
			}
			nest |= 1
			if i, f, fault = name(b, i); fault == None {
				form |= f
				continue
			}
		default:
			if i = Literal(b, i); i < 0 {
				return from, form, NotJSON
			}
		}
		if form |= f; fault != None {
			return i, form, fault
		}
		// Here a value has ended.
		for {
			if depth == 0 {
				return i, form, None
			}
			if i < len(b) && b[i] <= ' ' {
				i = Space(b, i)
			}
			if i >= len(b) {
				return i, form, wanted(nest)
			}
			c := b[i]
			if c == ',' {
				if i++; nest&1 == 1 {
					if i, f, fault = name(b, i); fault != None {
						return i, form, fault
					}
					form |= f
				}
				break
			}
			if c != ']'+byte(nest&1)<<5 { // ']'+32 is '}'
				return i, form, wanted(nest)
			}
			i++
			depth--
			nest >>= 1
			if depth&63 == 0 && depth > 0 {
				nest = outer[depth>>6-1]
			}
		}
	}
}

// wanted is the fault of what is neither a comma nor the end of the innermost array or object.
func wanted(nest uint64) Fault {
	if nest&1 == 1 {
		return WantCommaOrBrace
	}
	return WantCommaOrBracket
}

// name reads a member's name and its colon.
func name(b []byte, i int) (end int, form Form, fault Fault) {
	if i < len(b) && b[i] == '"' {
		// Most are plain, and their colon comes at once.
		for j := i + 1; j+9 <= len(b); j += 8 {
			if hit := odd(binary.LittleEndian.Uint64(b[j:])); hit != 0 {
				if j += bits.TrailingZeros64(hit) >> 3; b[j] == '"' && b[j+1] == ':' {
					return j + 2, 0, None
				}
				break
			}
		}
	}
	return oddName(b, i)
}

// oddName is name for those that need a second look.
func oddName(b []byte, i int) (end int, form Form, fault Fault) {
	if i = Space(b, i); i >= len(b) || b[i] != '"' {
		return i, 0, WantName
	}
	if i, form, fault = String(b, i); fault != None {
		return i, form, fault
	}
	if i = Space(b, i); i >= len(b) || b[i] != ':' {
		return i, form, WantColon
	}
	return i + 1, form, None
}
