package jsonscan

import "bytes"

// Extent returns the place behind the value that begins at i, or -1. It only matches quotes and brackets, which is a
// good deal faster than [Value]: for values that somebody else will read, who then finds what is wrong with them.
func Extent(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch c := b[i]; c {
		case '"':
			if i = stringExtent(b, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth--; depth < 0 {
				return -1
			}
			i++
		case ' ', '\t', '\n', '\r', ',', ':':
			if depth == 0 {
				return -1
			}
			i++
			continue
		default:
			for i++; i < len(b) && !endsScalar[b[i]]; i++ {
			}
		}
		if depth == 0 {
			return i
		}
	}
	return -1
}

var endsScalar = [256]bool{' ': true, '\t': true, '\n': true, '\r': true, ',': true, ':': true, ']': true, '}': true, '"': true}

func stringExtent(b []byte, i int) int {
	for i++; ; {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		end := i + n
		slashes := 0
		for slashes < end && b[end-1-slashes] == '\\' {
			slashes++
		}
		if i = end + 1; slashes%2 == 0 {
			return i
		}
	}
}
