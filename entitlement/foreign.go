package entitlement

import (
	"bytes"

	"github.com/penstock-dev/penstock/internal/reason"
)

// skipByteOrderMark passes over the mark that some programs put before a text in UTF-8.
func (l *lexer) skipByteOrderMark() {
	if bytes.HasPrefix(l.Text[l.At:], []byte("\xef\xbb\xbf")) {
		l.At += len("\xef\xbb\xbf")
	}
}

var (
	errUTF16 = reason.New("text is UTF-16, and must be UTF-8")
	errGzip  = reason.New("text is gzip as it stands: unpack it before, or send it in base64 through unwrap")
)

// foreign says what the text is and should be, when it is one of those that come instead of JSON in UTF-8; else nil.
func (l *lexer) foreign() *reason.Error {
	b := l.Text[l.At:]
	switch {
	case len(b) < 2:
	case b[0] == 0xff && b[1] == 0xfe, b[0] == 0xfe && b[1] == 0xff, b[0] == '{' && b[1] == 0, b[0] == 0 && b[1] == '{':
		return errUTF16
	case b[0] == 0x1f && b[1] == 0x8b:
		return errGzip
	}
	return nil
}
