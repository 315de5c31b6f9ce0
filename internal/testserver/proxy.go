package testserver

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a TCP proxy in front of a server, for the faults of a network: connections that are cut, slow, half closed,
// or swallow what they are given. Without a fault it hands everything on as it comes. Its methods are safe for
// concurrent use.
type Proxy struct {
	t        testing.TB
	addr     string
	wait     sync.WaitGroup
	mu       sync.Mutex
	listener net.Listener // nil: connections are refused
	target   string
	faults   proxyFaults
	changed  chan struct{} // closed, and made anew, when faults change
	links    map[*proxyLink]struct{}
	closed   bool
}

type proxyFaults struct {
	hole     bool
	delay    time.Duration
	rate     int // bytes a second; 0: unbounded
	cutAfter int // bytes of a connection, both ways; 0: never
}

// proxyLink is a client's connection and the one to the server that belongs to it.
type proxyLink struct {
	client, server *net.TCPConn // server is nil until it is dialled
	done           chan struct{}
	once           sync.Once
	mu             sync.Mutex
	carried        int

	halfClosed atomic.Bool // what the server says goes nowhere
}

// StartProxy starts a proxy in front of a server, "127.0.0.1:port", that ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, target: target, changed: make(chan struct{}), links: map[*proxyLink]struct{}{}}
	var err error
	for range 5 {
		var port int
		if port, err = FreePort(); err != nil {
			continue
		}
		p.addr = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
		if err = p.listen(); err == nil {
			t.Cleanup(p.close)
			return p
		}
	}
	t.Fatalf("start a proxy: %v", err)
	return nil
}

// Addr returns "127.0.0.1:port".
func (p *Proxy) Addr() string { return p.addr }

// To makes new connections go to another server; those that are open stay where they are.
func (p *Proxy) To(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// BlackHole makes all connections, new ones included, take what they are given and hand on nothing, as when packets
// are dropped. What was taken is handed on by Heal.
func (p *Proxy) BlackHole() { p.set(func(f *proxyFaults) { f.hole = true }) }

// Delay makes everything arrive later by that long, either way: a question and its answer take twice as long.
func (p *Proxy) Delay(d time.Duration) { p.set(func(f *proxyFaults) { f.delay = d }) }

// Throttle lets no more than that many bytes a second pass on each connection, either way.
func (p *Proxy) Throttle(bytesPerSecond int) {
	p.set(func(f *proxyFaults) { f.rate = bytesPerSecond })
}

// CutAfter cuts every connection once it has carried that many bytes.
func (p *Proxy) CutAfter(bytes int) { p.set(func(f *proxyFaults) { f.cutAfter = bytes }) }

// Cut resets all connections. New ones are taken.
func (p *Proxy) Cut() {
	for _, l := range p.open() {
		l.cut()
	}
}

// HalfClose ends what the server says on all connections, which stay open for what clients say.
func (p *Proxy) HalfClose() {
	for _, l := range p.open() {
		l.halfClosed.Store(true)
		_ = l.client.CloseWrite()
	}
}

// Refuse resets all connections and refuses new ones.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.Cut()
}

// Heal ends every fault. Connections that were cut stay so.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.set(func(f *proxyFaults) { *f = proxyFaults{} })
	var err error
	for range 20 {
		if err = p.listen(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // the port may be in use for a moment
	}
	p.t.Fatalf("heal a proxy: %v", err)
}

func (p *Proxy) set(change func(*proxyFaults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) now() (proxyFaults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

func (p *Proxy) open() []*proxyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*proxyLink, 0, len(p.links))
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Refuse()
	p.wait.Wait()
}

// listen begins to accept connections, unless the proxy does already.
func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.listener = listener
	p.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.accept(conn.(*net.TCPConn))
		}
	})
	return nil
}

func (p *Proxy) accept(client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &proxyLink{client: client, done: make(chan struct{})}
	if p.closed || p.listener == nil {
		l.cut()
		return
	}
	p.links[l] = struct{}{}
	p.wait.Go(func() { p.serve(l) })
}

func (p *Proxy) serve(l *proxyLink) {
	defer func() {
		l.cut()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	if !p.pass(l, 0) {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	conn, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil || !l.dialled(conn.(*net.TCPConn)) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(l, l.server, l.client) })
	both.Go(func() { p.pump(l, l.client, l.server) })
	both.Wait()
}

// pump hands on what one side says until it has no more to say.
func (p *Proxy) pump(l *proxyLink, to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			part := rest
			if f, _ := p.now(); f.rate > 0 {
				part = rest[:min(len(rest), max(1, f.rate/20))]
			}
			if !p.pass(l, len(part)) {
				return
			}
			if _, err := to.Write(part); err != nil && !(to == l.client && l.halfClosed.Load()) {
				l.cut()
				return
			}
			rest = rest[len(part):]
		}
		switch {
		case err == io.EOF:
			_ = to.CloseWrite()
			return
		case err != nil:
			l.cut()
			return
		}
	}
}

// pass waits until n bytes may be handed on, and returns false when the connection is cut.
func (p *Proxy) pass(l *proxyLink, n int) bool {
	begin := time.Now()
	for {
		f, changed := p.now()
		var timer <-chan time.Time
		wait := f.delay
		if f.rate > 0 {
			wait += time.Duration(n) * time.Second / time.Duration(f.rate)
		}
		if wait -= time.Since(begin); !f.hole {
			if wait <= 0 {
				return l.carry(n, f.cutAfter)
			}
			timer = time.After(wait)
		}
		select {
		case <-timer:
			return l.carry(n, f.cutAfter)
		case <-changed:
		case <-l.done:
			return false
		}
	}
}

// dialled remembers the server's side, and returns false when the client's has been cut meanwhile.
func (l *proxyLink) dialled(server *net.TCPConn) bool {
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	select {
	case <-l.done:
		_ = server.Close()
		return false
	default:
		return true
	}
}

// carry counts bytes, and cuts the connection before those that are too many.
func (l *proxyLink) carry(n, limit int) bool {
	l.mu.Lock()
	l.carried += n
	over := limit > 0 && l.carried > limit
	l.mu.Unlock()
	if over {
		l.cut()
	}
	return !over
}

// cut resets both sides.
func (l *proxyLink) cut() {
	l.once.Do(func() { close(l.done) })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range []*net.TCPConn{l.client, l.server} {
		if conn != nil {
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
	}
}
