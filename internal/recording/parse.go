package recording

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/reason"
)

// Parser parses lines and keeps the memory that doing so needs. The zero value is ready to use; it is not safe for
// concurrent use.
type Parser struct {
	scratch []byte
	names   map[string]string // metadata names seen, so that each is allocated once
}

// Parse reads one line (with or without its newline) into e, which it overwrites. Nothing of line is kept. An error
// means that the line is torn or is not an entry; e is then undefined.
//
// It never changes what it can't carry: bytes that are not UTF-8 and halves of surrogate pairs are errors, not U+FFFD.
func (p *Parser) Parse(line []byte, e *Entry) error {
	*e = Entry{}
	if p.fast(line, e) {
		return nil
	}
	*e = Entry{}
	return p.slow(line, e)
}

// maxNames bounds the memory of names: metadata comes from outside.
const maxNames = 256

// maxScratch bounds what one large line leaves behind.
const maxScratch = 1 << 20

func (p *Parser) name(b []byte) string {
	if s, ok := p.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if p.names == nil {
		p.names = make(map[string]string)
	}
	if len(p.names) < maxNames {
		p.names[s] = s
	}
	return s
}

// fast reads a line as Append writes it, in any order of members, in one pass. Whatever it does not expect it leaves to
// slow, the error included: it only ever says that the line is fine.
func (p *Parser) fast(line []byte, e *Entry) bool {
	if !utf8.Valid(line) {
		return false
	}
	c := jsonscan.Scanner{Text: line}
	if !c.Is('{') {
		return false
	}
	// id and time share one string, so that both cost one allocation.
	var idEnd, timeEnd int
	var haveID, haveTime, haveMetadata, havePayload bool
	text := p.scratch[:0]
	for {
		key, ok := key(&c)
		if !ok {
			return false
		}
		switch string(key) {
		case "id":
			if haveID || haveTime {
				return false
			}
			haveID = true
			if text, ok = str(&c, text); !ok {
				return false
			}
			idEnd, timeEnd = len(text), len(text)
		case "time":
			if haveTime {
				return false
			}
			haveTime = true
			if text, ok = str(&c, text); !ok {
				return false
			}
			timeEnd = len(text)
		case "metadata":
			if haveMetadata {
				return false
			}
			haveMetadata = true
			if text, ok = p.metadata(&c, text, e); !ok {
				return false
			}
		case "payload":
			if havePayload {
				return false
			}
			havePayload = true
			start := len(text)
			if text, ok = str(&c, text); !ok {
				return false
			}
			e.Payload = append([]byte{}, text[start:]...) // not nil where it is empty
			text = text[:start]
		default:
			return false
		}
		if c.Is(',') {
			continue
		}
		if !c.Is('}') {
			return false
		}
		break
	}
	c.Peek()
	if p.scratch = text[:0]; cap(text) > maxScratch {
		p.scratch = nil
	}
	if c.At != len(line) || !havePayload {
		return false
	}
	s := string(text[:timeEnd])
	e.ID = s[:idEnd]
	if !haveTime {
		return true
	}
	e.TimeText = s[idEnd:]
	var err error
	e.Time, err = time.Parse(time.RFC3339Nano, e.TimeText)
	return err == nil
}

func (p *Parser) metadata(c *jsonscan.Scanner, text []byte, e *Entry) ([]byte, bool) {
	if !c.Is('{') {
		return text, false
	}
	if c.Is('}') {
		return text, true
	}
	e.Metadata = make(map[string]string)
	start := len(text)
	for {
		var ok bool
		if text, ok = str(c, text); !ok {
			return text, false
		}
		end := len(text)
		if !c.Is(':') {
			return text, false
		}
		if text, ok = str(c, text); !ok {
			return text, false
		}
		name := p.name(text[start:end])
		before := len(e.Metadata)
		e.Metadata[name] = string(text[end:])
		if len(e.Metadata) == before { // twice the same name
			return text, false
		}
		text = text[:start]
		if c.Is(',') {
			continue
		}
		return text, c.Is('}')
	}
}

// key reads a member's name and its colon. Names with escapes are left to the slow way.
func key(c *jsonscan.Scanner) ([]byte, bool) {
	if c.Peek() != '"' {
		return nil, false
	}
	start := c.At + 1
	end, form, fault := jsonscan.String(c.Text, c.At)
	if c.At = end; fault != jsonscan.None || form&jsonscan.Escaped != 0 {
		return nil, false
	}
	return c.Text[start : end-1], c.Is(':')
}

// str reads a string and appends what it stands for to dst.
func str(c *jsonscan.Scanner, dst []byte) ([]byte, bool) {
	if c.Peek() != '"' {
		return dst, false
	}
	dst, end, fault := jsonscan.AppendString(dst, c.Text, c.At)
	c.At = end
	return dst, fault == jsonscan.None
}

var (
	errNotUTF8    = reason.New("line is not valid UTF-8")
	errNoPayload  = reason.New("neither payload nor payload_base64")
	errTwoBodies  = reason.New("both payload and payload_base64")
	errNotAString = reason.New("want a string that UTF-8 can carry")
)

// slow reads any JSON object that is an entry, and says what is wrong with what is none.
func (p *Parser) slow(line []byte, e *Entry) error {
	if !utf8.Valid(line) {
		return errNotUTF8
	}
	err := p.object(line, func(key string, raw json.RawMessage) error { return p.member(e, key, raw) })
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return reason.New("line ends in the middle of an entry")
	case err != nil:
		return err
	case e.Payload == nil:
		return errNoPayload
	}
	return nil
}

// known are the members of an entry: reports may tell which one is broken.
var known = func() map[string]reason.Text {
	all := make(map[string]reason.Text)
	for _, t := range reason.Consts("id", "id_base64", "time", "payload", "payload_base64", "metadata", "metadata_base64", "poison") {
		all[t.String()] = t
	}
	return all
}()

func (p *Parser) member(e *Entry, key string, raw json.RawMessage) (err error) {
	switch key {
	case "id":
		e.ID, err = p.text(raw)
	case "id_base64":
		var b []byte
		b, err = p.base64(raw)
		e.ID = string(b)
	case "time":
		if e.TimeText, err = p.text(raw); err == nil {
			e.Time, err = time.Parse(time.RFC3339Nano, e.TimeText)
		}
	case "payload":
		if e.Payload != nil {
			return errTwoBodies
		}
		var s string
		s, err = p.text(raw)
		e.Payload = []byte(s)
	case "payload_base64":
		if e.Payload != nil {
			return errTwoBodies
		}
		e.Payload, err = p.base64(raw)
	case "metadata", "metadata_base64":
		err = p.object(raw, func(name string, raw json.RawMessage) error {
			var value string
			var err error
			if key == "metadata" {
				value, err = p.text(raw)
			} else {
				var n, v []byte
				if n, err = base64.StdEncoding.DecodeString(name); err == nil {
					v, err = p.base64(raw)
				}
				name, value = string(n), string(v)
			}
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			if e.Metadata == nil {
				e.Metadata = make(map[string]string)
			}
			if _, twice := e.Metadata[name]; twice {
				return reason.Errorf("%q stands there twice", name)
			}
			e.Metadata[name] = value
			return nil
		})
	case "poison":
		e.Poison = new(Poison)
		err = json.Unmarshal(raw, e.Poison)
	}
	if err != nil {
		return reason.Errorf("%s: %w", known[key], err)
	}
	return nil
}

// object calls member for every member of the JSON object that data is; twice the same name is an error.
func (p *Parser) object(data []byte, member func(key string, raw json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return reason.Errorf("want a JSON object, got %v", token)
	}
	seen := make(map[string]bool)
	for dec.More() {
		start := dec.InputOffset()
		if _, err := dec.Token(); err != nil {
			return err
		}
		// The token itself has U+FFFD for halves of surrogate pairs.
		key, err := p.text(bytes.TrimLeft(data[start:dec.InputOffset()], ", \t\r\n"))
		if err != nil {
			return reason.Errorf("name of a member: %w", err)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if seen[key] {
			return reason.Errorf("%q stands there twice", key)
		}
		seen[key] = true
		if err := member(key, raw); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return reason.New("more than one JSON value on the line")
	}
	return nil
}

func (p *Parser) text(raw json.RawMessage) (string, error) {
	b, ok := str(&jsonscan.Scanner{Text: raw}, nil)
	if !ok {
		return "", errNotAString
	}
	return string(b), nil
}

func (p *Parser) base64(raw json.RawMessage) ([]byte, error) {
	s, err := p.text(raw)
	if err != nil {
		return nil, err
	}
	// DecodeString skips line breaks, which a string of ours never has.
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if b == nil {
		b = []byte{}
	}
	return b, err
}
