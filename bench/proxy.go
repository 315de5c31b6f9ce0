package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proxy stands before an SQS server, counts requests by their action, and delays each. It forwards bytes as they are.
type proxy struct {
	listener net.Listener
	to       string
	delay    time.Duration

	mu      sync.Mutex
	actions map[string]int
	conns   map[net.Conn]bool
	closed  bool
	wg      sync.WaitGroup
}

// startProxy listens on a free loopback port for a server on host:port.
func startProxy(to string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to, delay: delay, actions: map[string]int{}, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(client) })
		}
	})
	return p, nil
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

// requests returns how many requests have passed so far.
func (p *proxy) requests() int {
	n := 0
	for _, count := range p.counts() {
		n += count
	}
	return n
}

// counts returns the requests by action, such as ReceiveMessage.
func (p *proxy) counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := make(map[string]int, len(p.actions))
	for action, n := range p.actions {
		counts[action] = n
	}
	return counts
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// track notes an open connection; it returns false when the proxy is closed.
func (p *proxy) track(conn net.Conn, open bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !open {
		delete(p.conns, conn)
		return true
	}
	if p.closed {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	for _, conn := range []net.Conn{client, server} {
		if !p.track(conn, true) {
			return
		}
		defer p.track(conn, false)
	}
	p.wg.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	in := bufio.NewReaderSize(client, 64<<10)
	for p.forward(in, server) == nil {
	}
}

// forward passes one request on.
func (p *proxy) forward(in *bufio.Reader, server net.Conn) error {
	var (
		head   []byte
		length int64
		action string
	)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		head = append(head, line...)
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch strings.ToLower(string(name)) {
		case "content-length":
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return err
			}
		case "transfer-encoding":
			return errors.New("chunked requests are not understood")
		case "x-amz-target":
			_, action, _ = strings.Cut(string(value), ".")
		}
	}
	p.mu.Lock()
	p.actions[action]++
	p.mu.Unlock()
	time.Sleep(p.delay)
	if _, err := server.Write(head); err != nil {
		return err
	}
	_, err := io.CopyN(server, in, length)
	return err
}
