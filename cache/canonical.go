package cache

import (
	"encoding/binary"
	"math/bits"
)

// canonical reads a line that looks exactly as [Append] makes it: nearly all do, and it takes a third of the time. It gives
// up, leaving w in any state, at everything else: escapes, blanks, another order, deep nesting and all mistakes. Then
// the parser reads the line and says what is wrong with it.
func canonical(b []byte, w *Write) bool {
	const head = `{"key":"`
	if len(b) < len(head) || string(b[:len(head)]) != head {
		return false
	}
	key := span{len(head), plainString(b, len(head))}
	if key.to <= key.from {
		return false
	}
	i := key.to + 1
	end := key.to
	var ok bool
	if at, found := after(b, i, `,"version":`); found {
		if w.Version, i, ok = plainVersion(b, at); !ok {
			return false
		}
	}
	if at, found := after(b, i, `,"as_of":`); found {
		if w.AsOf, i, ok = plainVersion(b, at); !ok || w.Version == 0 {
			return false
		}
	}
	if at, found := after(b, i, `,"delete":true`); found {
		w.Delete, i = true, at
	}
	var conditions []span
	if at, found := after(b, i, `,"if_any_exists":["`); found {
		for i = at; ; {
			c := span{i, plainString(b, i)}
			if c.to < c.from {
				return false
			}
			conditions = append(conditions, c)
			end = c.to
			if at, found = after(b, c.to, `","`); found {
				i = at
				continue
			}
			if i, found = after(b, c.to, `"]`); !found {
				return false
			}
			break
		}
	}
	var lock span
	if at, found := after(b, i, `,"lock":"`); found {
		lock = span{at, plainString(b, at)}
		if lock.to < lock.from {
			return false
		}
		i, end = lock.to+1, lock.to
	}
	if !w.Delete {
		at, found := after(b, i, `,"value":`)
		if !found {
			return false
		}
		if i = plainValue(b, at); i < 0 {
			return false
		}
		w.Value = b[at:i:i]
	}
	if i != len(b)-1 || b[i] != '}' {
		return false
	}
	// One copy for all strings of the line.
	strings := string(b[key.from:end])
	part := func(s span) string { return strings[s.from-key.from : s.to-key.from] }
	w.Key = part(key)
	if lock.to > 0 {
		w.Lock = part(lock)
	}
	if conditions != nil {
		w.IfAnyExists = make([]string, len(conditions))
		for j, c := range conditions {
			w.IfAnyExists[j] = part(c)
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// span is a part of a line.
type span struct{ from, to int }

// after returns the place behind text, if text stands at i.
func after(b []byte, i int, text string) (int, bool) {
	end := i + len(text)
	if end > len(b) || string(b[i:end]) != text {
		return i, false
	}
	return end, true
}

// plainString returns where the string ends that begins behind its quote at i, or -1 when it isn't plain.
func plainString(b []byte, i int) int {
	// Eight bytes at a time. A borrow can only spoil bytes above the first hit.
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if hit := ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs; hit != 0 {
			if i += bits.TrailingZeros64(hit) >> 3; b[i] == '"' {
				return i
			}
			return -1
		}
		i += 8
	}
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i
		case c == '\\' || c < ' ':
			return -1
		}
	}
	return -1
}

// plainVersion reads up to 18 digits.
func plainVersion(b []byte, i int) (n int64, end int, ok bool) {
	from := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		n = n*10 + int64(b[i]-'0')
		if i-from == 18 {
			return 0, 0, false
		}
	}
	return n, i, i > from && b[from] != '0'
}

// plainValue returns where the JSON text ends that begins at i, or -1 when it isn't a plain one: compact, and nested up to
// 64 levels.
func plainValue(b []byte, i int) int {
	var nest uint64 // a bit for each level: 1 for an object
	depth := 0
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			if i = plainString(b, i+1) + 1; i == 0 {
				return -1
			}
		case c-'0' <= 9 || c == '-':
			if i = plainNumber(b, i); i < 0 {
				return -1
			}
		case c == '{' || c == '[':
			if depth == 64 || i+1 >= len(b) {
				return -1
			}
			i++
			if b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
				break
			}
			depth++
			nest <<= 1
			if c == '{' {
				nest |= 1
				if i = plainName(b, i); i < 0 {
					return -1
				}
			}
			continue
		case c == 'n':
			end, found := after(b, i, "null")
			if !found {
				return -1
			}
			i = end
		case c == 't':
			end, found := after(b, i, "true")
			if !found {
				return -1
			}
			i = end
		case c == 'f':
			end, found := after(b, i, "false")
			if !found {
				return -1
			}
			i = end
		default:
			return -1
		}
		for {
			if depth == 0 {
				return i
			}
			if i >= len(b) {
				return -1
			}
			c := b[i]
			i++
			if c == ',' {
				if nest&1 == 1 {
					if i = plainName(b, i); i < 0 {
						return -1
					}
				}
				break
			}
			if nest&1 == 1 && c != '}' || nest&1 == 0 && c != ']' {
				return -1
			}
			nest >>= 1
			depth--
		}
	}
	return -1
}

// plainName skips a member's name and the colon.
func plainName(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	if i = plainString(b, i+1) + 1; i == 0 || i >= len(b) || b[i] != ':' {
		return -1
	}
	return i + 1
}

func plainNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	from := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i == from || i > from+1 && b[from] == '0' {
		return -1
	}
	if i < len(b) && (b[i] == '.' || b[i]|0x20 == 'e') {
		p := parser{b: b, i: from}
		if !p.number() {
			return -1
		}
		return p.i
	}
	if i-from >= longNumber {
		return -1
	}
	return i
}
