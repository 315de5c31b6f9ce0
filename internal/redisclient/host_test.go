package redisclient

import "testing"

func TestIsHost(t *testing.T) {
	for text, want := range map[string]bool{
		"redis": true, "redis.internal": true, "my_redis-1.svc.cluster.local": true, "10.0.0.7": true, "10.0.0.7:6379": true,
		"::1": true, "[::1]": true, "[::1]:6379": true, "fe80::1%eth0": true, "müller.example": true, "redis:6379": true,
		"": false, "my redis": false, "redis ": false, "redis\n": false, `"redis"`: false, "redis:port": false, "redis:": false, "redis/1": false,
		"redis://x": false, "me@redis": false, "redis,other": false, "redis:6379:1": false, "redis;": false, "<redis>": false,
	} {
		if got := IsHost(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
