package testserver

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, options redis.Options) *redis.Client {
	t.Helper()
	options.MaxRetries, options.DialerRetries = -1, 1
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(&options)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedis_answersAndTakesArguments(t *testing.T) {
	addr := Redis(t, "--requirepass", "x")
	if err := client(t, redis.Options{Addr: addr}).Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("ping without a password: got %v, want NOAUTH", err)
	}
	if err := client(t, redis.Options{Addr: addr, Password: "x"}).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestRedisServer_restartsOnTheSamePort(t *testing.T) {
	for name, persistent := range map[string]bool{"empty": false, "with its data when told to keep it": true} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if persistent {
				args = []string{"--appendonly", "yes", "--appendfsync", "always"}
			}
			s := StartRedis(t, args...)
			c := client(t, redis.Options{Addr: s.Addr()})
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			s.Stop()
			if err := c.Ping(t.Context()).Err(); err == nil {
				t.Fatal("a stopped server answers")
			}
			s.Restart()
			n, err := c.Exists(t.Context(), "k").Result()
			if err != nil {
				t.Fatal(err)
			}
			if got := n == 1; got != persistent {
				t.Errorf("key is there: %v, want %v", got, persistent)
			}
		})
	}
}

func TestRedisServer_pausedDoesNotAnswer(t *testing.T) {
	s := StartRedis(t)
	c := client(t, redis.Options{Addr: s.Addr(), ContextTimeoutEnabled: true})
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestRedis_isGoneAfterTheTest(t *testing.T) {
	var addr string
	t.Run("test", func(t *testing.T) { addr = Redis(t) })
	if err := client(t, redis.Options{Addr: addr}).Ping(t.Context()).Err(); err == nil {
		t.Error("the server outlives its test")
	}
}

func TestSQS_createsQueues(t *testing.T) {
	endpoint := SQS(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(`{"QueueName":"q"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "AmazonSQS.CreateQueue")
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %s", res.Status)
	}
}
