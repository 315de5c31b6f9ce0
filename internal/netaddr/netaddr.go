// Package netaddr says what to do when an address can't be listened on.
package netaddr

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Hint says what to do about an error of net.Listen, to be put behind it; "" when that is not known. key is the
// setting that has the address.
func Hint(err error, address, key string) string {
	_, port, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		port = address
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf(": another process has the port (ss -ltnp 'sport = :%s' shows which); another port is set by %s", port, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf(": ports below 1024 need a right (CAP_NET_BIND_SERVICE); another port is set by %s", key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf(": this machine has no such address; another one is set by %s", key)
	}
	return ""
}
