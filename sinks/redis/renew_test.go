package redis

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// switchboard is an address that leads to one server after another, as the name of a managed Redis does.
type switchboard struct {
	net.Listener

	mu    sync.Mutex
	to    string
	conns []net.Conn
	mute  chan struct{} // closed: the connections so far pass nothing on any more, and stay open
	done  sync.WaitGroup
}

func startSwitchboard(t *testing.T, to string) *switchboard {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &switchboard{Listener: l, to: to, mute: make(chan struct{})}
	s.done.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			s.connect(in)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *switchboard) connect(in net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := net.Dial("tcp", s.to)
	if err != nil {
		_ = in.Close()
		return
	}
	s.conns = append(s.conns, in, out)
	mute := s.mute
	pass := func(dst, src net.Conn) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := src.Read(buffer)
			select {
			case <-mute:
				_, _ = io.Copy(io.Discard, src)
				return
			default:
			}
			if err == nil {
				_, err = dst.Write(buffer[:n])
			}
			if err != nil {
				_, _ = dst.Close(), src.Close()
				return
			}
		}
	}
	s.done.Go(func() { pass(in, out) })
	s.done.Go(func() { pass(out, in) })
}

// lead sends new connections to another server; those so far go on, or fall silent.
func (s *switchboard) lead(to string, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
	if silent {
		close(s.mute)
		s.mute = make(chan struct{})
	}
}

// connectedClients reads the number of connections from INFO clients.
func connectedClients(info string) int {
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, "connected_clients:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(text))
			return n
		}
	}
	return 0
}

// TestRenew_oneFailureIsEnough: when the master has moved, the connections of the pool are worth nothing, all of
// them. They must not be found out one by one.
func TestRenew_oneFailureIsEnough(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		silent bool
		move   func(t *testing.T, old *testserver.RedisServer)
	}{
		"a replica now": {false, func(t *testing.T, old *testserver.RedisServer) {
			if err := testClient(t, old.Addr()).ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
				t.Fatal(err)
			}
		}},
		"a machine that is gone": {true, func(*testing.T, *testserver.RedisServer) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, next := testserver.StartRedis(t), testserver.StartRedis(t)
			board := startSwitchboard(t, old.Addr())
			conf := testConfig(board.Addr().String())
			conf.Connections, conf.Timeout, conf.Batch.Count, conf.RespectSDKLocks = 6, 500*time.Millisecond, 1, false
			sink := started(t, newSink(conf, pipeline.Env{}, writeScript))
			publish := func(key string) error {
				return sink.Publisher.Publish("", message.NewMessage(key, payload(cache.Write{Key: key, Version: 1, Value: []byte("1")})))
			}
			// All connections are in use once.
			client := testClient(t, old.Addr())
			awaitTrue(t, "six connections and the probe's", func() bool {
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() { _ = publish("before") })
				}
				all.Wait()
				clients, err := client.Info(t.Context(), "clients").Result()
				return err == nil && connectedClients(clients) >= 5
			})
			board.lead(next.Addr(), tt.silent)
			tt.move(t, old)
			if err := publish("lost"); !pipeline.IsUnavailable(err) {
				t.Fatalf("the first one: got %v, want unavailable", err)
			}
			for range 20 {
				if err := publish("after"); err != nil {
					t.Fatalf("after one failure: %v", err)
				}
			}
			if got := testClient(t, next.Addr()).Get(t.Context(), "p:after").Val(); got != "1" {
				t.Errorf("the new master has %q", got)
			}
		})
	}
}
