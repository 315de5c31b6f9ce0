package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout bounds the start of a server; it takes milliseconds, but the machine may be busy.
const startTimeout = 20 * time.Second

// redisServer is a redis-server of its own, on a free loopback port, without persistence.
type redisServer struct {
	addr, version string
	client        *redis.Client
	stop          func()
}

func startRedis(ctx context.Context) (*redisServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "penstock-bench-redis-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--save", "", "--appendonly", "no")
	s := &redisServer{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s.client = redis.NewClient(&redis.Options{Addr: s.addr, Protocol: 2, ReadTimeout: time.Minute})
	s.stop = func() {
		_ = s.client.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	deadline := time.Now().Add(startTimeout)
	for s.client.Ping(ctx).Err() != nil {
		if time.Now().After(deadline) || ctx.Err() != nil {
			s.stop()
			return nil, fmt.Errorf("redis-server is not ready after %s: %s", startTimeout, log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	info, err := s.info(ctx)
	if err != nil {
		s.stop()
		return nil, err
	}
	s.version = info["redis_version"]
	return s, nil
}

// info returns the fields of INFO, all sections.
func (s *redisServer) info(ctx context.Context) (map[string]string, error) {
	text, err := s.client.Info(ctx, "everything").Result()
	if err != nil {
		return nil, fmt.Errorf("ask the Redis for INFO: %w", err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// redisUse is what a Redis has done so far.
type redisUse struct {
	cpu   time.Duration
	calls int64 // of scripts
	sets  int64
}

func (s *redisServer) use(ctx context.Context) (redisUse, error) {
	info, err := s.info(ctx)
	if err != nil {
		return redisUse{}, err
	}
	var use redisUse
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info[field], 64)
		if err != nil {
			return use, fmt.Errorf("INFO %s: %w", field, err)
		}
		use.cpu += time.Duration(seconds * float64(time.Second))
	}
	use.calls = calls(info["cmdstat_evalsha"]) + calls(info["cmdstat_eval"])
	use.sets = calls(info["cmdstat_set"])
	return use, nil
}

// calls reads the calls=… of a command's statistics.
func calls(stat string) int64 {
	text, _, _ := strings.Cut(strings.TrimPrefix(stat, "calls="), ",")
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

func (u redisUse) since(before redisUse) redisUse {
	return redisUse{cpu: u.cpu - before.cpu, calls: u.calls - before.calls, sets: u.sets - before.sets}
}

// empty removes all keys; scripts stay loaded.
func (s *redisServer) empty(ctx context.Context) error {
	if err := s.client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty the Redis: %w", err)
	}
	return nil
}

func (s *redisServer) hostPort() (host, port string) {
	host, port, _ = net.SplitHostPort(s.addr)
	return host, port
}

func freePort() (int, error) {
	// Below the range from which systems take the ports of outgoing connections (32768 on Linux): one of those would
	// take the port before the server has it, or while the server restarts.
	var err error
	for range 100 {
		var l net.Listener
		port := 15000 + rand.IntN(17000)
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}
