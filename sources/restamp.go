package sources

import (
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// timeMembers are the members of the provider's events, and of the envelopes around them, that are times.
var timeMembers = map[string]bool{
	"timestamp": true, "Timestamp": true, "time": true,
	"entitlementsUpdatedAt": true, "entitlementUpdatedAt": true, "usageUpdatedAt": true,
	"usagePeriodAnchor": true, "usagePeriodStart": true, "usagePeriodEnd": true, "nextResetDate": true, "validUntil": true,
}

// moveTimes moves the times in a message by d, in place: a time keeps its length and its form, so nothing else moves,
// and JSON within JSON strings is as good as JSON. Times whose length would change are left alone.
func moveTimes(msg *message.Message, d time.Duration) {
	for _, key := range []string{"sqs_sent_at", "sqs_first_sent_at"} {
		if v, ok := msg.Metadata[key]; ok {
			b := []byte(v)
			if moveMillis(b, d) == len(b) {
				msg.Metadata[key] = string(b)
			}
		}
	}
	b := msg.Payload
	for i := 0; i < len(b); i++ {
		if b[i] != '"' {
			continue
		}
		start := i + 1
		end := start
		for end < len(b) && (b[end] >= 'a' && b[end] <= 'z' || b[end] >= 'A' && b[end] <= 'Z') {
			end++
		}
		if !timeMembers[string(b[start:end])] {
			i = end - 1
			continue
		}
		j, ok := skipQuote(b, end)
		if !ok {
			i = end - 1
			continue
		}
		if j = skipSpace(b, j); j >= len(b) || b[j] != ':' {
			i = end - 1
			continue
		}
		j = skipSpace(b, j+1)
		if k, ok := skipQuote(b, j); ok {
			i = k + moveText(b[k:], d) - 1
		} else {
			i = j + moveMillis(b[j:], d) - 1
		}
	}
}

// skipQuote steps over a quotation mark, which within strings has backslashes before it.
func skipQuote(b []byte, i int) (int, bool) {
	for i < len(b) && b[i] == '\\' {
		i++
	}
	return i + 1, i < len(b) && b[i] == '"'
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// moveText moves the RFC 3339 time that b begins with, and returns its length, or 0 when there is none.
func moveText(b []byte, d time.Duration) int {
	n := 0
	for n < len(b) && n < len("2006-01-02T15:04:05.999999999+00:00") && b[n] != '"' && b[n] != '\\' {
		n++
	}
	t, err := time.Parse(time.RFC3339Nano, string(b[:n]))
	if err != nil || n < len("2006-01-02T15:04:05Z") {
		return 0
	}
	layout := []byte("2006-01-02T15:04:05")
	for i := len(layout); i < n && (b[i] == '.' || b[i] >= '0' && b[i] <= '9'); i++ {
		if b[i] != '.' {
			layout = append(layout, '0')
		} else {
			layout = append(layout, '.')
		}
	}
	// The offset as it is written, not a place's with its summer time.
	_, offset := t.Zone()
	moved := t.In(time.FixedZone("", offset)).Add(d).AppendFormat(nil, string(layout)+"Z07:00")
	if len(moved) != n {
		return 0
	}
	return copy(b, moved)
}

// moveMillis moves the epoch milliseconds that b begins with, and returns the number of their digits, or 0 when there
// are none.
func moveMillis(b []byte, d time.Duration) int {
	n := 0
	for n < len(b) && n < 14 && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	if n < 12 || n > 13 || n < len(b) && (b[n] == 'e' || b[n] == 'E') {
		return 0
	}
	ms, err := strconv.ParseInt(string(b[:n]), 10, 64)
	if err != nil {
		return 0
	}
	moved := strconv.AppendInt(nil, ms+d.Milliseconds(), 10)
	if len(moved) != n {
		return 0
	}
	return copy(b, moved)
}
