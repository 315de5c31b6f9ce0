package plaintext

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	daysOrWeeks = regexp.MustCompile(`^(-?[0-9]{1,6}) ?(d|days?|w|weeks?)$`)
	isoDuration = regexp.MustCompile(`^P(?:([0-9]{1,5})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,9})S)?)?$`)
	longDigits  = regexp.MustCompile(`^-?[0-9.]+(h|m|s|ms)$`)
)

// DurationHint says how to write a span of time that is not in Go's syntax, such as 7d or PT30S; "" when that is not
// known.
func DurationHint(text string) string {
	small := strings.ToLower(text)
	if m := daysOrWeeks.FindStringSubmatch(small); m != nil {
		n, _ := strconv.Atoi(m[1])
		hours := n * 24
		if m[2][0] == 'w' {
			hours *= 7
		}
		return ": write " + strconv.Itoa(hours) + "h"
	}
	if m := isoDuration.FindStringSubmatch(strings.ToUpper(text)); m != nil && len(text) > 1 {
		var parts strings.Builder
		days, _ := strconv.Atoi(m[1])
		hours, _ := strconv.Atoi(m[2])
		for i, n := range []string{strconv.Itoa(days*24 + hours), m[3], m[4]} {
			if n != "" && n != "0" {
				parts.WriteString(n + "hms"[i:i+1])
			}
		}
		if parts.Len() > 0 {
			return ": write " + parts.String()
		}
	}
	for _, likely := range []string{small, strings.ReplaceAll(small, " ", ""), strings.ReplaceAll(small, ",", ".")} {
		if _, err := time.ParseDuration(likely); err == nil && likely != text {
			return ": write " + likely
		}
	}
	if n, ok := sexagesimal(text); ok {
		parts := strings.Split(text, ":")
		if len(parts) == 3 && n <= math.MaxInt64/int64(time.Second) {
			return ": write " + (time.Duration(n) * time.Second).String()
		}
	}
	if _, err := time.ParseDuration(text); err != nil && longDigits.MatchString(text) {
		return ": that is more than the 292 years that a duration can hold"
	}
	return ""
}
