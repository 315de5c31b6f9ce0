package awsclient

import (
	"net"
	"syscall"
	"testing"
)

// What the system does with a network that loses everything can't be made in a test without rights to do so; that it
// has been told, can be seen.
func TestNoticeSilence_theSystemIsTold(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var dialer net.Dialer
	noticeSilence(&dialer)
	conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ level, option, want int }{
		"keep-alive":                 {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		"idle, s":                    {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 2},
		"interval, s":                {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 1},
		"probes":                     {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
		"data without an answer, ms": {syscall.IPPROTO_TCP, tcpUserTimeout, 4000},
	} {
		var got int
		var optErr error
		if err := raw.Control(func(fd uintptr) { got, optErr = syscall.GetsockoptInt(int(fd), c.level, c.option) }); err != nil || optErr != nil {
			t.Fatal(err, optErr)
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
