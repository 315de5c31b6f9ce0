package redisclient

import (
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
