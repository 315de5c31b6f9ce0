package redisclient

import "regexp"

// host is a DNS name, an address, or an address in brackets. Underscores are in the names that Compose makes, "%" is before
// the zone of a link-local address.
var host = regexp.MustCompile(`^(?:[\pL\pN._-]+|[0-9a-fA-F:.]+(?:%[\w.-]+)?|\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\])(?::[0-9]{1,5})?$`)

// IsHost reports whether a text can be a host, with or without a port. What can't will never be reached: that is a mistake in the
// configuration, and no outage.
func IsHost(s string) bool { return host.MatchString(s) }
