package yamlfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/code"
)

// asUTF8 returns a file as UTF-8. UTF-16 is converted when its first two bytes say that it is UTF-16, as YAML has it.
// What else is not UTF-8 is a problem that says what the file seems to be.
func asUTF8(data []byte) ([]byte, *Problem) {
	fileProblem := func(c code.Code, what string) ([]byte, *Problem) {
		return nil, &Problem{Place: Place{1, 1}, What: what, Code: c}
	}
	const convert = ": convert it (iconv -f %s -t UTF-8 FILE)"
	switch {
	case bytes.HasPrefix(data, []byte("\x1f\x8b")), bytes.HasPrefix(data, []byte("\x28\xb5\x2f\xfd")):
		return fileProblem(code.FileCompressed, "the file is compressed: want a pipeline in YAML; is it a recording?")
	case bytes.HasPrefix(data, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(data, []byte("\x00\x00\xfe\xff")):
		return fileProblem(code.FileEncoding, "the file is UTF-32"+fmt.Sprintf(convert, "UTF-32"))
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		if len(data)%2 != 0 {
			return fileProblem(code.FileEncoding, "the file is UTF-16 with half a character at its end: is it whole?")
		}
		var order binary.ByteOrder = binary.LittleEndian
		if data[0] == 0xfe {
			order = binary.BigEndian
		}
		units := make([]uint16, 0, len(data)/2)
		for i := 2; i < len(data); i += 2 {
			units = append(units, order.Uint16(data[i:]))
		}
		data = []byte(string(utf16.Decode(units)))
	case len(data) > 3 && data[1] == 0 && data[3] == 0 && data[0] != 0:
		return fileProblem(code.FileEncoding, "the file is UTF-16"+fmt.Sprintf(convert, "UTF-16LE"))
	case len(data) > 3 && data[0] == 0 && data[2] == 0 && data[1] != 0:
		return fileProblem(code.FileEncoding, "the file is UTF-16"+fmt.Sprintf(convert, "UTF-16BE"))
	}
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		at := Place{line, column}
		switch {
		case r == utf8.RuneError && size == 1:
			return nil, &Problem{Place: at, Code: code.FileEncoding, What: fmt.Sprintf("the file is not UTF-8: the byte 0x%02x; if it is of an old encoding"+
				convert, rest[0], "ISO-8859-1")}
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			return nil, &Problem{Place: at, Code: code.Invisible, What: fmt.Sprintf("not YAML: the control character %q", string(r))}
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		rest = rest[size:]
	}
	return data, nil
}
