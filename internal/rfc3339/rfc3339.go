// Package rfc3339 reads points in time that come in from elsewhere.
package rfc3339

import (
	"strings"
	"time"
)

// Parse reads a time as RFC 3339 has it, such as 2026-11-27T10:00:00.250Z: with a time zone, which is below 24 hours,
// and with t and z in either case. A comma before the fraction is taken too, as in ISO 8601. There are no leap seconds.
func Parse(text string) (time.Time, bool) {
	text = strings.ToUpper(text)
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, false
	}
	if text[len(text)-1] != 'Z' {
		// Package time takes +24:00 and +00:60, which name no zone.
		zone := text[len(text)-len("00:00"):]
		if zone[:2] > "23" || zone[3:] > "59" {
			return t, false
		}
	}
	return t, true
}
