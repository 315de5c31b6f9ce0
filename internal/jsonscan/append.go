package jsonscan

// AppendCompact appends a JSON text that was read without a fault, without the blanks between its tokens.
func AppendCompact(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		start := i
		for i < len(raw) && raw[i] > ' ' {
			if raw[i] != '"' {
				i++
				continue
			}
			if i, _, _ = String(raw, i); i >= len(raw) {
				break
			}
		}
		dst = append(dst, raw[start:i]...)
		i = Space(raw, i)
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends s as a JSON string. It escapes what must be escaped and leaves every other byte as it is.
func AppendQuoted[T string | []byte](dst []byte, s T) []byte {
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
