package entitlement

import "bytes"

// skipByteOrderMark passes over the mark that some programs put before a text in UTF-8.
func (l *lexer) skipByteOrderMark() {
	if bytes.HasPrefix(l.Text[l.At:], []byte("\xef\xbb\xbf")) {
		l.At += len("\xef\xbb\xbf")
	}
}

// foreign says what the text is and should be, when it is one of those that come instead of JSON in UTF-8; else "".
func (l *lexer) foreign() string {
	b := l.Text[l.At:]
	switch {
	case len(b) < 2:
	case b[0] == 0xff && b[1] == 0xfe, b[0] == 0xfe && b[1] == 0xff, b[0] == '{' && b[1] == 0, b[0] == 0 && b[1] == '{':
		return "text is UTF-16, and must be UTF-8"
	case b[0] == 0x1f && b[1] == 0x8b:
		return "text is gzip as it stands: unpack it before, or send it in base64 through unwrap"
	}
	return ""
}
