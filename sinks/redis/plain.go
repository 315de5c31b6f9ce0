package redis

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/ownwrite"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// Plain names the members of the JSON messages that the sink stores. Other members are ignored, and so is one that is
// null, but for the value.
type Plain struct {
	// Member that is the key, behind the prefix: text, or a whole number as it stands. A message without it fails for
	// good.
	Key string `yaml:"key" default:"key"`
	// Member that is the value: any JSON, stored as it stands, a text with its quotes. "$" stores the whole message. A
	// message without it fails for good, and so does one whose value no reader could take: a number beyond a double,
	// such as 1e400, or more than 200 levels of nesting.
	Value string `yaml:"value" default:"value"`
	// Member that is the version: a whole number from 1 to 2^63-1, also in quotes, or a time such as
	// 2026-11-27T10:00:00Z (RFC 3339), which counts as its milliseconds since 1970; what is finer is cut off. A time
	// before March 1973 or more than 24 hours ahead of the clock is refused for good; any number is allowed. The
	// greater version wins, at equal ones the greater bytes of the value, also after the entry has expired. A message
	// without a version wins when it arrives last. Without this setting the member is "version".
	Version string `yaml:"version" example:"updated_at"`
	// Member that says how long this entry lives, instead of the sink's ttl: a number of seconds, or text such as "90s",
	// at least 1ms; negative: for ever.
	TTL string `yaml:"ttl" default:"ttl"`
}

// wholeMessage stands for the message itself in the place of a member.
const wholeMessage = "$"

// Validate reports a member that is named twice, and the whole message where it can't be.
func (p *Plain) Validate() error {
	var errs []error
	fields := []struct{ field, member string }{{"key", p.Key}, {"value", p.Value}, {"version", p.version()}, {"ttl", p.TTL}}
	for i, f := range fields {
		if f.member == wholeMessage && f.field != "value" {
			errs = append(errs, code.Mark(code.Contradiction, pipeline.Invalid(f.field, `must be a member: only the value can be the whole message, "$"`)))
		}
		for _, before := range fields[:i] {
			if f.member == before.member {
				errs = append(errs, code.Mark(code.NamedTwice, pipeline.Invalid(f.field, "must not be the member that is the %s, %q", before.field, f.member)))
			}
		}
	}
	return errors.Join(errs...)
}

// version is the member that is the version.
func (p *Plain) version() string { return cmp.Or(p.Version, "version") }

// write reads a message. The Value is a copy.
func (p *Plain) write(payload []byte) (cache.Write, error) {
	var w cache.Write
	var key, value, version, ttl json.RawMessage
	payload = bytes.TrimPrefix(payload, byteOrderMark)
	err := members(payload, map[string]*json.RawMessage{p.Key: &key, p.Value: &value, p.version(): &version, p.TTL: &ttl})
	if err != nil {
		return w, err
	}
	if p.Value == wholeMessage {
		value = bytes.Clone(bytes.TrimSpace(payload))
	}
	switch {
	case absent(key):
		return w, reason.Errorf("no key: the message has no member %q", p.Key)
	case value == nil:
		return w, reason.Errorf("no value: the message has no member %q", p.Value)
	}
	bad := func(member, want string, got json.RawMessage) error {
		return reason.Errorf("member %q: want %s, got %.100s", member, want, got)
	}
	var ok bool
	if w.Key, ok = plainKey(key); !ok {
		return w, bad(p.Key, "a key: text that is not empty, or a whole number", key)
	}
	if !absent(version) {
		var wrong string
		if w.Version, wrong = ownwrite.Version(version, time.Now()); wrong != "" {
			return w, bad(p.version(), wrong, version)
		}
		w.AsOf = w.Version // so that it is remembered when the entry has expired
	}
	if !absent(ttl) {
		if w.TTL, ok = ownwrite.TTL(ttl); !ok {
			return w, bad(p.TTL, `a TTL: seconds, or text such as "90s", of 1ms to `+ownwrite.MaxTTL.String()+", or negative", ttl)
		}
	}
	if err := ownwrite.Unfit(value); err != nil {
		return w, reason.Errorf("member %q: %w", p.Value, err)
	}
	w.Value = value
	return w, nil
}

// byteOrderMark stands before texts of some programs. JSON readers may pass over it.
var byteOrderMark = []byte("\xef\xbb\xbf")

func absent(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// members finds members of the object that payload is, as they stand.
func members(payload []byte, wanted map[string]*json.RawMessage) error {
	wrong := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return reason.Errorf("the payload is not a JSON object: %w", err)
	}
	if !utf8.Valid(payload) {
		return wrong(reason.New("it is not UTF-8"))
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	if start, err := d.Token(); err != nil {
		return wrong(err)
	} else if start != json.Delim('{') {
		return wrong(reason.Errorf("it begins with %v", start))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return wrong(err)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return wrong(err)
		}
		into := wanted[name.(string)]
		if into == nil {
			continue
		}
		if *into != nil {
			return reason.Errorf("member %q comes twice", name)
		}
		*into = raw
	}
	if _, err := d.Token(); err != nil {
		return wrong(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return wrong(reason.New("there is more behind it"))
	}
	return nil
}

func plainKey(raw json.RawMessage) (string, bool) {
	if raw[0] == '"' {
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err == nil && text != "" && !halfPair(raw)
	}
	digits := bytes.TrimPrefix(raw, []byte("-"))
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	return string(raw), true
}

// halfPair reports whether a JSON string names half a surrogate pair, which is no character: package json puts the same
// character in place of each, so that different keys would become one.
func halfPair(raw []byte) bool {
	for i := 0; i+5 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; raw[i] != 'u' {
			continue
		}
		first := unit(raw[i:])
		if i += 4; !utf16.IsSurrogate(first) {
			continue
		}
		if i+6 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' || utf16.DecodeRune(first, unit(raw[i+2:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// unit reads uXXXX, as it stands in a JSON string.
func unit(raw []byte) rune {
	n, _ := strconv.ParseUint(string(raw[1:5]), 16, 16)
	return rune(n)
}
