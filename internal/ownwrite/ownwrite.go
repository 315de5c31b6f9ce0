// Package ownwrite reads what users' own messages say of a cache write: the version, the time to live, the value. The
// redis sink's plain mode and the transform cache_write have the same rules.
package ownwrite

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/rfc3339"
)

// MaxTTL is the longest time to live: 100 years.
const MaxTTL = 100 * 365 * 24 * time.Hour

// maxNesting bounds a value: readers in other languages recurse. Package cache has the same bound.
const maxNesting = 200

// Unfit says why readers could not take a value, which is valid JSON: a number beyond a double, such as 1e400, or more
// than 200 levels of nesting. It returns nil when they can.
func Unfit(value []byte) error {
	depth := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			for i++; value[i] != '"'; i++ {
				if value[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return reason.Errorf("nested more than %d levels deep", maxNesting)
			}
		case c == '}' || c == ']':
			depth--
		case c == '-' || c >= '0' && c <= '9':
			from := i
			for i+1 < len(value) && bytes.IndexByte([]byte("0123456789+-.eE"), value[i+1]) >= 0 {
				i++
			}
			number := value[from : i+1]
			if len(number) < 300 && !bytes.ContainsAny(number, "eE") {
				continue
			}
			if x, _ := strconv.ParseFloat(string(number), 64); math.IsInf(x, 0) {
				return reason.Errorf("number is too large: readers would take it for Infinity: %.100s", number)
			}
		}
	}
	return nil
}

// firstTime is March 1973, 100,000,000,000 ms: what is older was made of seconds by somebody who took them for
// milliseconds.
const firstTime = 100_000_000_000

// Version reads a version, which is a JSON number or string: a whole number from 1 to 2^63-1, or a time (RFC 3339),
// which counts as its milliseconds since 1970. wrong says what it should be, or is "".
func Version(raw json.RawMessage, now time.Time) (version int64, wrong string) {
	text := string(raw)
	if raw[0] == '"' {
		if json.Unmarshal(raw, &text) != nil {
			text = ""
		}
		if at, ok := rfc3339.Parse(text); ok {
			switch ms := at.UnixMilli(); {
			case ms < firstTime:
				return 0, "a version: a time from March 1973 on (was it made of seconds, taken for milliseconds?)"
			case at.Sub(now) > 24*time.Hour:
				return 0, "a version: a time that is not more than 24 hours ahead of the clock"
			default:
				return ms, ""
			}
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	// Only in the one way to write it: neither "+1" nor "01".
	if err != nil || n < 1 || text != strconv.FormatInt(n, 10) {
		return 0, "a version: a whole number from 1 to 2^63-1, or a time such as 2026-11-27T10:00:00Z"
	}
	return n, ""
}

// TTL reads how long an entry lives, which is a JSON number or string: seconds, or text such as "90s". It is at least a
// millisecond and at most MaxTTL, or negative: for ever.
func TTL(raw json.RawMessage) (time.Duration, bool) {
	var ttl time.Duration
	if raw[0] == '"' {
		var err error
		if ttl, err = time.ParseDuration(string(raw[1 : len(raw)-1])); err != nil {
			return 0, false
		}
	} else {
		seconds, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || seconds > MaxTTL.Seconds() {
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
	return ttl, ttl > 0 && ttl <= MaxTTL
}
