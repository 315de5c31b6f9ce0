package redis_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks/redis"
)

// A password or a right that is taken away while the sink runs is an outage, which ends by itself when the secret's
// file, or the server, is right again. Wrong from the start it stays a fatal error.
func TestSink_rotatedCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		revoke, restore func(admin *goredis.Client, file string) error
	}{
		"the password of all": {
			func(admin *goredis.Client, _ string) error {
				return admin.ConfigSet(context.Background(), "requirepass", "second").Err()
			},
			func(_ *goredis.Client, file string) error { return os.WriteFile(file, []byte("second\n"), 0o600) },
		},
		"the rights of the user": {
			func(admin *goredis.Client, _ string) error {
				return admin.Do(context.Background(), "acl", "setuser", "default", "-@write", "-@scripting").Err()
			},
			func(admin *goredis.Client, _ string) error {
				return admin.Do(context.Background(), "acl", "setuser", "default", "+@all").Err()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.StartRedis(t, "--requirepass", "first")
			admin := goredis.NewClient(&goredis.Options{Addr: server.Addr(), Password: "first"})
			t.Cleanup(func() { _ = admin.Close() })
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			sink := fromYAML(t, server.Addr(), file)
			starter := sink.Publisher.(pipeline.Starter)
			if err := starter.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := test.revoke(admin, file); err != nil {
				t.Fatal(err)
			}
			// Connections that have logged in stay so in Redis; a rotation that matters ends them.
			if err := admin.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
				t.Fatal(err)
			}
			pinger := sink.Publisher.(pipeline.Pinger)
			err := pinger.Ping(t.Context())
			if !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "refused, what the server took before") {
				t.Fatalf("after the change: %v, want an outage that says why", err)
			}
			write := message.NewMessage("m", []byte(`{"key":"k","version":1,"value":{}}`))
			if err := sink.Publisher.Publish("", write); !pipeline.IsUnavailable(err) {
				t.Errorf("a message meanwhile: %v, want an outage", err)
			}
			if err := test.restore(admin, file); err != nil {
				t.Fatal(err)
			}
			if err := pinger.Ping(t.Context()); err != nil {
				t.Errorf("after the secret is right again: %v", err)
			}
			if err := sink.Publisher.Publish("", write); err != nil {
				t.Errorf("the message then: %v", err)
			}

			if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if name != "the password of all" {
				return
			}
			if err := fromYAML(t, server.Addr(), file).Publisher.(pipeline.Starter).Start(t.Context()); !pipeline.IsFatal(err) {
				t.Errorf("wrong from the start: %v, want a fatal error", err)
			}
		})
	}
}

// fromYAML makes the sink as a pipeline file does, with its password in a file.
func fromYAML(t *testing.T, address, passwordFile string) pipeline.Sink {
	t.Helper()
	registry := pipeline.NewRegistry()
	pipeline.AddSink[redis.Config](registry, "redis")
	pipeline.AddSource[nothing](registry, "nothing")
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := "name: p\nsource: {nothing: {}}\nsink:\n  redis:\n    host: " + address + "\n    prefix: p\n    password: ${file:" + passwordFile + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, _, err := pipeline.Load(registry, file, pipeline.LoadOptions{ReadFile: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := conf.Sink.New(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Publisher.Close() })
	return sink
}

type nothing struct{}

func (*nothing) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }

// A server that takes connections and never answers can't hold a message, or the stop, beyond the message's context.
func TestSink_hangingServerHoldsNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	conf := &redis.Config{}
	pipeline.SetDefaults(conf)
	conf.Host, conf.Prefix, conf.Timeout = listener.Addr().String(), "p", 30*time.Second // what go-redis would wait
	sink, err := conf.NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	msg := message.NewMessage("m", []byte(`{"key":"k","version":1,"value":{}}`))
	msg.SetContext(ctx)
	published := make(chan error, 1)
	go func() { published <- sink.Publisher.Publish("", msg) }()
	cancel()
	done := make(chan struct{})
	go func() {
		<-published
		_ = sink.Publisher.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("publish and close wait for a server that hangs, although nobody waits for the message any more")
	}
}
