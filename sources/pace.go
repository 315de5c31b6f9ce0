package sources

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// Rate is how many messages are handed on in a second; 0 means as many as the pipeline takes. In YAML and on the
// command line it is a number per s, m or h, such as "500/s" or "30/m"; a bare number is per second; or it is "max".
type Rate float64

// UnmarshalText parses a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "max" || s == "0" {
		*r = 0
		return nil
	}
	number, unit, ok := strings.Cut(s, "/")
	if !ok {
		unit = "s"
	}
	seconds, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	number = strings.TrimSpace(number)
	n, err := strconv.ParseFloat(number, 64)
	if !known || err != nil || !(n > 0) || math.IsInf(n, 0) || !plaintext.IsDecimal(number, true) {
		return fmt.Errorf(`want a rate such as "500/s", "30/m" or "max", got %q%s`, plaintext.Cut(s), plaintext.DecimalHint(number))
	}
	*r = Rate(n / seconds)
	return nil
}

// String returns the rate as UnmarshalText parses it.
func (r Rate) String() string {
	if r <= 0 {
		return "max"
	}
	for _, u := range []struct {
		unit    string
		seconds float64
	}{{"s", 1}, {"m", 60}} {
		if n := float64(r) * u.seconds; n >= 1 {
			return strconv.FormatFloat(n, 'g', 10, 64) + "/" + u.unit
		}
	}
	return strconv.FormatFloat(float64(r)*3600, 'g', 10, 64) + "/h"
}

// MarshalText returns what String does.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Speed is how fast recorded time passes in a replay: 1 as it did, 10 ten times as fast; 0 means that recorded times
// don't matter. In YAML and on the command line it is "1x", "10x" or "max".
type Speed float64

// UnmarshalText parses a speed.
func (s *Speed) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	if t == "max" {
		*s = 0
		return nil
	}
	number, ok := strings.CutSuffix(t, "x")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n > 0) || math.IsInf(n, 0) || !plaintext.IsDecimal(number, true) {
		return fmt.Errorf(`want a speed such as "1x", "10x" or "max", got %q%s`, plaintext.Cut(t), plaintext.DecimalHint(number))
	}
	*s = Speed(n)
	return nil
}

// String returns the speed as UnmarshalText parses it.
func (s Speed) String() string {
	if s <= 0 {
		return "max"
	}
	return strconv.FormatFloat(float64(s), 'g', -1, 64) + "x"
}

// MarshalText returns what String does.
func (s Speed) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
