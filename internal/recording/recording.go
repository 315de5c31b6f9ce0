// Package recording is penstock's file format for messages: one JSON object a line.
//
//	{"id":"…","time":"2026-11-22T10:15:30.250000000Z","metadata":{"k":"v"},"payload":"the body as a string"}
//
// A body that is not valid UTF-8 stands in payload_base64 instead of payload (standard alphabet, padded), an id that is
// not in id_base64, and metadata that is not in metadata_base64 (names and values both encoded), so that whatever is
// written is read back byte for byte. A message from a poison queue has one more member, poison: why, where and when it
// was given up. time is RFC 3339 with nanoseconds. Only one of payload and payload_base64 is required of a reader's
// input; members that a reader does not know are skipped.
//
// [Append] and [Parse] are the format, [Reader] reads files of it (gzip and zstd, recognised by content), [Writer]
// writes them, and [ClaimRead] and [ClaimWrite] keep a process from reading what it writes.
package recording

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// TimeFormat is how times are written: RFC 3339 with all nine digits of nanoseconds, so that times in UTC sort as text.
const TimeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// Entry is one recorded message.
type Entry struct {
	// ID is the message's UUID; it may be empty.
	ID string
	// Time is when the message was recorded; zero when the line has none.
	Time time.Time
	// TimeText is Time as it stands in a line that was read; Append ignores it.
	TimeText string
	// Metadata are the message's; nil when there are none.
	Metadata map[string]string
	// Payload is the body.
	Payload []byte
	// Poison tells why the message was given up; nil except in a poison queue.
	Poison *Poison
}

// Poison is what a poison queue adds to the original message.
type Poison struct {
	// Reason is the error that ended the last attempt.
	Reason string `json:"reason"`
	// Stage is where it came from, such as "transforms[1].decode_entitlements".
	Stage string `json:"stage,omitempty"`
	// Attempts is how often the message was tried.
	Attempts int `json:"attempts,omitempty"`
	// ReceivedAt and At are when the message was received and when it was given up: RFC 3339.
	ReceivedAt string `json:"received_at,omitempty"`
	At         string `json:"at,omitempty"`
	// Pipeline is the name of the pipeline that gave it up.
	Pipeline string `json:"pipeline,omitempty"`
	// Stack is where a component panicked.
	Stack string `json:"stack,omitempty"`
}

// Append appends the entry as one line, its newline included, to dst. Equal entries make equal lines.
func Append(dst []byte, e *Entry) []byte {
	dst = append(dst, '{')
	if utf8.ValidString(e.ID) {
		dst = append(dst, `"id":`...)
		dst = appendString(dst, e.ID)
	} else {
		dst = append(dst, `"id_base64":`...)
		dst = appendBase64(dst, []byte(e.ID))
	}
	if !e.Time.IsZero() {
		dst = append(dst, `,"time":"`...)
		dst = e.Time.UTC().AppendFormat(dst, TimeFormat)
		dst = append(dst, '"')
	}
	dst = appendMetadata(dst, e.Metadata)
	if e.Poison != nil {
		dst = append(dst, `,"poison":`...)
		dst = appendPoison(dst, e.Poison)
	}
	if utf8.Valid(e.Payload) {
		dst = append(dst, `,"payload":`...)
		dst = appendString(dst, e.Payload)
	} else {
		dst = append(dst, `,"payload_base64":`...)
		dst = appendBase64(dst, e.Payload)
	}
	return append(dst, '}', '\n')
}

func appendMetadata(dst []byte, metadata map[string]string) []byte {
	dst = append(dst, `,"metadata":{`...)
	if len(metadata) == 0 {
		return append(dst, '}')
	}
	var space [16]string
	keys, binary := space[:0], 0
	for k, v := range metadata {
		keys = append(keys, k)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			binary++
		}
	}
	slices.Sort(keys)
	first := true
	for _, k := range keys {
		v := metadata[k]
		if binary > 0 && (!utf8.ValidString(k) || !utf8.ValidString(v)) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, k)
		dst = append(dst, ':')
		dst = appendString(dst, v)
	}
	dst = append(dst, '}')
	if binary == 0 {
		return dst
	}
	dst = append(dst, `,"metadata_base64":{`...)
	first = true
	for _, k := range keys {
		v := metadata[k]
		if utf8.ValidString(k) && utf8.ValidString(v) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendBase64(dst, []byte(k))
		dst = append(dst, ':')
		dst = appendBase64(dst, []byte(v))
	}
	return append(dst, '}')
}

func appendPoison(dst []byte, p *Poison) []byte {
	dst = append(dst, '{')
	member := func(name, value string) {
		if value == "" && name != "reason" {
			return
		}
		if name != "reason" {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), '"', ':')
		// Of an error's text only what can be read matters; the message's own bytes are elsewhere.
		dst = appendString(dst, strings.ToValidUTF8(value, "\ufffd"))
	}
	member("reason", p.Reason)
	member("stage", p.Stage)
	if p.Attempts != 0 {
		dst = append(dst, `,"attempts":`...)
		dst = strconv.AppendInt(dst, int64(p.Attempts), 10)
	}
	member("received_at", p.ReceivedAt)
	member("at", p.At)
	member("pipeline", p.Pipeline)
	member("stack", p.Stack)
	return append(dst, '}')
}

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendString quotes valid UTF-8. Unlike encoding/json it leaves <, > and & as they are.
func appendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
