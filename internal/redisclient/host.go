package redisclient

import (
	"net/netip"
	"regexp"
	"strings"
)

// host is a DNS name, an address, or an address in brackets. Underscores are in the names that Compose makes, "%" is
// before the zone of a link-local address.
var host = regexp.MustCompile(`^(?:[\pL\pN._-]+|[0-9a-fA-F:.]+(?:%[\w.-]+)?|\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\])(?::[0-9]{1,5})?$`)

// IsHost reports whether a text can be a host, with or without a port. What can't will never be reached: that is a
// mistake in the configuration, and no outage.
func IsHost(s string) bool {
	if !host.MatchString(s) {
		return false
	}
	name := s
	if strings.Count(s, ":") == 1 {
		name, _, _ = strings.Cut(s, ":")
	}
	return strings.Contains(name, ":") || isName(name)
}

// isName reports whether a text can be a name of DNS, or an IPv4 address: numbers with dots between them are an address
// or nothing.
func isName(name string) bool {
	name = strings.TrimSuffix(name, ".") // the root, which a full name may end with
	if name == "" || len(name) > 253 {
		return false
	}
	if strings.Contains(name, ".") && strings.Trim(name, "0123456789.") == "" {
		_, err := netip.ParseAddr(name)
		return err == nil
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}
