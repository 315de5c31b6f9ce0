package redis

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// Plain names the members of the JSON messages that the sink stores. Other members are ignored, and so is one that is null,
// but for the value.
type Plain struct {
	// Member that is the key, behind the prefix: text, or a whole number as it stands. A message without it fails for good.
	Key string `yaml:"key" default:"key"`
	// Member that is the value: any JSON, stored as it stands, a text with its quotes. A message without it fails for good.
	// "$" stores the whole message.
	Value string `yaml:"value" default:"value"`
	// Member that is the version: a whole number from 1 to 2^63-1, also in quotes, or a time such as 2026-11-27T10:00:00Z
	// (RFC 3339), which counts as its milliseconds since 1970; what is finer is cut off. The greater version wins, at equal ones
	// the greater bytes of the value, also after the entry has expired. A message without a version is last-arrival-wins.
	// Without this setting "version" is that member.
	Version string `yaml:"version"`
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
			errs = append(errs, pipeline.Invalid(f.field, `must be a member: only the value can be the whole message, "$"`))
		}
		for _, before := range fields[:i] {
			if f.member == before.member {
				errs = append(errs, pipeline.Invalid(f.field, "must not be the member that is the %s, %q", before.field, f.member))
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
		return fmt.Errorf("member %q: want %s, got %.100s", member, want, got)
	}
	var ok bool
	if w.Key, ok = plainKey(key); !ok {
		return w, bad(p.Key, "a key: text that is not empty, or a whole number", key)
	}
	if !absent(version) {
		if w.Version, ok = plainVersion(version); !ok {
			return w, bad(p.version(), "a version: a whole number from 1 to 2^63-1, or a time such as 2026-11-27T10:00:00Z", version)
		}
		w.AsOf = w.Version // so that it is remembered when the entry has expired
	}
	if !absent(ttl) {
		if w.TTL, ok = plainTTL(ttl); !ok {
			return w, bad(p.TTL, `a TTL: seconds, or text such as "90s", of 1ms to `+maxTTL.String()+", or negative", ttl)
		}
	}
	w.Value = value
	return w, nil
}

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
		return wrong(fmt.Errorf("it begins with %v", start))
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
		return text, err == nil && text != ""
	}
	digits := bytes.TrimPrefix(raw, []byte("-"))
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	return string(raw), true
}

func plainVersion(raw json.RawMessage) (int64, bool) {
	if raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
		if at, err := time.Parse(time.RFC3339Nano, string(raw)); err == nil {
			return at.UnixMilli(), at.UnixMilli() >= 1
		}
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	// Only in the one way to write it: neither "+1" nor "01".
	return n, err == nil && n >= 1 && string(raw) == strconv.FormatInt(n, 10)
}

func plainTTL(raw json.RawMessage) (time.Duration, bool) {
	var ttl time.Duration
	if raw[0] == '"' {
		var err error
		if ttl, err = time.ParseDuration(string(raw[1 : len(raw)-1])); err != nil {
			return 0, false
		}
	} else {
		seconds, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || seconds > maxTTL.Seconds() {
			return 0, false
		}
		if seconds < 0 {
			return -1, true
		}
		ttl = time.Duration(math.Round(seconds*1000)) * time.Millisecond
	}
	if ttl < 0 {
		return -1, true
	}
	ttl = ttl.Truncate(time.Millisecond)
	return ttl, ttl > 0 && ttl <= maxTTL
}
