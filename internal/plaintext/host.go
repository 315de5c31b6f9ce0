package plaintext

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
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

// CheckURLHost reports why nobody can ever be reached at a URL: it names no host, or one that can't be a host, or a
// port that there is not. The error shows the host alone: user and password are not part of it.
func CheckURLHost(u *url.URL) error {
	switch port := u.Port(); {
	case u.Hostname() == "":
		return errors.New("names no host")
	case !IsHost(u.Host):
		return fmt.Errorf("want a host, or host:port, got %q", Cut(u.Host))
	case port != "":
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("want a port from 1 to 65535, got %q", Cut(port))
		}
	}
	return nil
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
