package plaintext

import (
	"math/big"
	"strconv"
	"strings"
)

// IsDecimal reports whether a text is a number as JSON writes it, the one syntax in YAML, in variables and in flags:
// YAML 1.1 knows octal, hexadecimal, binary and sexagesimal numbers and underscores, which mean something else
// elsewhere.
func IsDecimal(text string, fraction bool) bool {
	text = strings.TrimPrefix(text, "-")
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	if digits == 0 || digits > 1 && text[0] == '0' {
		return false
	}
	rest := text[digits:]
	if rest == "" || !fraction {
		return rest == ""
	}
	if after, ok := strings.CutPrefix(rest, "."); ok {
		rest = strings.TrimLeft(after, "0123456789")
		if rest == after {
			return false
		}
	}
	if rest == "" {
		return true
	}
	if rest[0] != 'e' && rest[0] != 'E' {
		return false
	}
	rest = strings.TrimLeft(rest[1:], "+-")
	return rest != "" && strings.Trim(rest, "0123456789") == ""
}

// DecimalHint says how to write a number that is not decimal, or what a container platform's "tcp://…" is; "" for
// everything else.
func DecimalHint(text string) string {
	if strings.HasPrefix(text, "tcp://") || strings.HasPrefix(text, "udp://") {
		return ": a container link, or a service link of Kubernetes, has set the variable; switch that off " +
			"(enableServiceLinks: false in the pod), or set the variable yourself"
	}
	if IsDecimal(text, false) {
		return ""
	}
	bare := strings.ReplaceAll(strings.TrimLeft(text, "+-"), "_", "")
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign = "-"
	}
	trimmed := strings.TrimLeft(bare, "0")
	switch {
	case bare == "":
		return ""
	case len(bare) > 1 && strings.ContainsAny(bare[:2], "xXoObB") && bare[0] == '0':
		n, ok := new(big.Int).SetString(bare, 0)
		if !ok {
			return ""
		}
		return ": write it in decimal, " + sign + n.String()
	case bare != text && bare == trimmed && IsDecimal(bare, false):
		return ": write " + sign + bare
	case bare != trimmed && trimmed != "" && IsDecimal(trimmed, false):
		return ": no leading zeros (in some YAML they mean octal): write " + sign + trimmed
	}
	if hours, ok := sexagesimal(bare); ok {
		return ": write it in decimal, " + sign + strconv.FormatInt(hours, 10)
	}
	return ""
}

// sexagesimal reads numbers such as 1:30, which are 90 in YAML 1.1.
func sexagesimal(text string) (n int64, ok bool) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 {
		return 0, false
	}
	for i, part := range parts {
		digit, err := strconv.ParseInt(part, 10, 32)
		if err != nil || i > 0 && digit > 59 {
			return 0, false
		}
		n = n*60 + digit
	}
	return n, true
}
