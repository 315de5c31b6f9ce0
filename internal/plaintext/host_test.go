package plaintext

import (
	"net/url"
	"strings"
	"testing"
)

func TestIsHost(t *testing.T) {
	for text, want := range map[string]bool{
		"redis": true, "redis.internal": true, "my_redis-1.svc.cluster.local": true, "10.0.0.7": true, "10.0.0.7:6379": true,
		"::1": true, "[::1]": true, "[::1]:6379": true, "fe80::1%eth0": true, "müller.example": true, "redis:6379": true,
		"": false, "my redis": false, "redis ": false, "redis\n": false, `"redis"`: false, "redis:port": false, "redis:": false, "redis/1": false,
		"redis://x": false, "me@redis": false, "redis,other": false, "redis:6379:1": false, "redis;": false, "<redis>": false,
		"redis.": true, "123456789012": true, "3com.example": true, "fd00::7": true,
		".": false, "a..b": false, "-a": false, "a-.b": false, "300.1.1.1": false, "127.1": false, "010.0.0.1": false, "10.0.0.7.": true,
		strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, strings.Repeat("a.", 127) + "a": false,
	} {
		if got := IsHost(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestCheckURLHost(t *testing.T) {
	long := strings.Repeat("x", 300)
	for text, want := range map[string]string{
		"http://edge": "", "https://me:pw@edge.internal:8443/path": "", "http://[::1]:4566": "", "http://10.0.0.7": "", "http://[fe80::1%25eth0]:80": "",
		"http://": "names no host", "http://:80": "names no host", "http:edge": "names no host",
		"http://a..b":                 `want a host, or host:port, got "a..b"`,
		"http://-edge:80":             `want a host, or host:port, got "-edge:80"`,
		"http://300.1.1.1":            `want a host, or host:port, got "300.1.1.1"`,
		"http://edge:":                `want a host, or host:port, got "edge:"`,
		"http://edge:0":               `want a port from 1 to 65535, got "0"`,
		"http://me:s3cret@edge:65536": `want a port from 1 to 65535, got "65536"`,
		"http://me:s3cret@" + long:    `want a host, or host:port, got "` + long[:60] + `…"`,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := CheckURLHost(u); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.80s: %q, want %q", text, got, want)
		}
	}
}
