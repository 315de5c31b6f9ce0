package testserver

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo starts a server that says every line again, and returns its address.
func echo(t *testing.T, greeting string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, greeting)
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wait.Wait()
	})
	return listener.Addr().String()
}

// caller is a client's connection through a proxy.
type caller struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
}

func call(t *testing.T, p *Proxy) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{t, conn, bufio.NewReader(conn)}
}

// ask says a line and returns what comes back within that time.
func (c *caller) ask(line string, within time.Duration) (string, error) {
	c.t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		return "", err
	}
	return c.answer(within)
}

func (c *caller) answer(within time.Duration) (string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(within))
	text, err := c.reader.ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}

// answers asserts that the connection works.
func (c *caller) answers() {
	c.t.Helper()
	if got, err := c.ask("hello", 10*time.Second); got != "hello" || err != nil {
		c.t.Fatalf("got %q, %v", got, err)
	}
}

const soon = 150 * time.Millisecond

func TestProxy_handsOnAndGoesWhereItIsSent(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	first := call(t, p)
	first.answers()
	p.To(echo(t, "other\n"))
	second := call(t, p)
	if got, err := second.answer(10 * time.Second); got != "other" || err != nil {
		t.Errorf("a new connection: %q, %v", got, err)
	}
	first.answers()
}

func TestProxy_cutResetsWhatIsOpenAndTakesNewConnections(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	c := call(t, p)
	c.answers()
	p.Cut()
	if _, err := c.answer(10 * time.Second); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	call(t, p).answers()
}

func TestProxy_blackHoleTakesEverythingAndHandsItOnWhenItIsHealed(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	old := call(t, p)
	old.answers()
	p.BlackHole()
	for name, c := range map[string]*caller{"open before": old, "new": call(t, p)} {
		if got, err := c.ask("lost?", soon); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: got %q, %v, want no answer", name, got, err)
		}
	}
	p.Heal()
	if got, err := old.answer(10 * time.Second); got != "lost?" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	call(t, p).answers()
}

func TestProxy_delayIsForEitherWayAndEndsAtOnce(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	c := call(t, p)
	c.answers()
	p.Delay(soon)
	began := time.Now()
	c.answers()
	if took := time.Since(began); took < 2*soon {
		t.Errorf("it took %s, want %s", took, 2*soon)
	}
	p.Delay(time.Hour)
	if got, err := c.ask("late", soon); err == nil {
		t.Errorf("got %q", got)
	}
	p.Heal()
	if got, err := c.answer(10 * time.Second); got != "late" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestProxy_throttleIsAPace(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	c := call(t, p)
	c.answers()
	p.Throttle(4000)
	began := time.Now()
	if _, err := c.ask(strings.Repeat("x", 1000), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("1000 bytes at 4000 a second took %s", took)
	}
}

func TestProxy_cutAfterEndsEachConnectionAfterThatMuch(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	p.CutAfter(100)
	for range 2 {
		c := call(t, p)
		c.answers()
		if _, err := c.ask(strings.Repeat("x", 200), 10*time.Second); err == nil {
			t.Error("more than 100 bytes passed")
		}
	}
	p.Heal()
	if _, err := call(t, p).ask(strings.Repeat("x", 200), 10*time.Second); err != nil {
		t.Error(err)
	}
}

func TestProxy_halfCloseEndsWhatTheServerSaysAlone(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	c := call(t, p)
	c.answers()
	p.HalfClose()
	if _, err := c.ask("are you there?", 10*time.Second); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
	if _, err := io.WriteString(c.conn, "still"); err != nil {
		t.Errorf("what the client says is refused: %v", err)
	}
}

func TestProxy_refusesUntilItIsHealed(t *testing.T) {
	p := StartProxy(t, echo(t, ""))
	c := call(t, p)
	c.answers()
	p.Refuse()
	if _, err := c.answer(10 * time.Second); err == nil {
		t.Error("an open connection survived")
	}
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		_ = conn.Close()
		t.Error("a new connection was taken")
	}
	p.Heal()
	call(t, p).answers()
}
