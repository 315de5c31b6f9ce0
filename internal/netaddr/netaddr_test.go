package netaddr

import (
	"net"
	"strings"
	"testing"
)

func TestHint_namesTheSettingAndWhoToAsk(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address := taken.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	for address, want := range map[string]string{
		address:           "another process has the port (ss -ltnp 'sport = :" + port + "' shows which); another port is set by service.http.address",
		"192.0.2.1:40000": "this machine has no such address; another one is set by service.http.address",
		"127.0.0.1:http?": "",
	} {
		_, err := net.Listen("tcp", address)
		if err == nil {
			t.Fatalf("%s could be listened on", address)
		}
		if got := strings.TrimPrefix(Hint(err, address, "service.http.address"), ": "); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
