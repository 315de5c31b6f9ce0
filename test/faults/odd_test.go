package faults

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// serverOfItsOwn gives the row a queue server that no other row uses.
func serverOfItsOwn(s *scene) {
	s.queue = startSQS(s.t).queue(s.t, s.f.visibility)
	s.load.q = s.queue
	s.toQueue.To(address(s.queue.endpoint))
	s.env = append(s.env, "QUEUE_URL="+s.queue.url)
}

// serverIsBack has an empty queue server for a while, and then the queue.
func (s *scene) serverIsBack() {
	s.queue.server.Restart()
	time.Sleep(2 * time.Second)
	s.makeQueue()
}

// makeQueue makes the queue again. What the old one held is gone with it: in the end all is sent again.
func (s *scene) makeQueue() {
	s.must(s.queue.create())
	s.resume()
	s.undo = append(s.undo, func() { s.must(s.load.again()) })
}

// scrapers ask for pages again and again and never read an answer.
func (s *scene) scrapers(n int) {
	request := "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n"
	resume := s.load.pause()
	defer resume()
	s.eventually(func() string { // messages have goroutines, too
		if n := s.program.inFlight(); n > 0 {
			return fmt.Sprintf("%d messages are in flight", n)
		}
		return ""
	})
	before := s.program.metrics()["go_goroutines"]
	var all []net.Conn
	for range n {
		conn, err := net.Dial("tcp", s.program.at())
		s.must(err)
		all = append(all, conn)
		s.must(conn.(*net.TCPConn).SetReadBuffer(4 << 10))
		s.must(conn.SetWriteDeadline(time.Now().Add(time.Second)))
		_, _ = conn.Write([]byte(strings.Repeat(request, 200))) // until nobody takes any more
	}
	s.undo = append(s.undo, func() {
		for _, conn := range all {
			_ = conn.Close()
		}
	})
	for end := time.Now().Add(form(outage)); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		s.eventually(func() string {
			if status, _ := s.program.get("/livez"); status != 200 {
				return fmt.Sprintf("/livez: %d while nobody reads /metrics", status)
			}
			return ""
		})
	}
	for _, conn := range all {
		_ = conn.Close()
	}
	s.eventually(func() string {
		if now := s.program.metrics()["go_goroutines"]; now == 0 || now > before+100 {
			return fmt.Sprintf("%.0f goroutines after the scrapers are gone, %.0f before them", now, before)
		}
		return ""
	})
}

func (s *scene) note(format string, args ...any) {
	s.result.notes = append(s.result.notes, fmt.Sprintf(format, args...))
}

// hold has the program hold n messages, and looks at what that costs.
func (s *scene) hold(n int) {
	before := s.usage()
	s.toStore.BlackHole()
	s.load.send(n + n/10)
	s.eventually(func() string {
		if held := s.program.metrics()["penstock_in_flight"]; int(held) != n {
			return fmt.Sprintf("%.0f messages are in flight, want %d", held, n)
		}
		return ""
	})
	time.Sleep(form(outage))
	s.note("%d messages held: %v before, %v then", n, before, s.usage())
}

// readOnly makes the small disk one that can't be written to, or can again.
func (s *scene) readOnly(mode string) {
	if out, err := exec.Command("mount", "-o", "remount,"+mode, filepath.Join(s.dir, "disk")).CombinedOutput(); err != nil {
		s.giveUp("remount %s: %v: %s", mode, err, out)
	}
}

const takesAll = `
name: repaired
source: {generate: {count: 1}}
sink:
  file: {dir: replayed}
`

// replayed wants that what is in a folder of poison can be replayed, byte for byte, into a pipeline that takes it.
func replayed(dir string) func(*scene) {
	return func(s *scene) {
		s.must(os.WriteFile(filepath.Join(s.dir, "repaired.yaml"), []byte(takesAll), 0o600))
		p := start(s.t, s.binary, s.dir, nil, "replay", "repaired.yaml", dir)
		if code := p.wait(); code != 0 {
			s.wrong("penstock replay ends with %d: %s", code, p.tail())
		}
		if l := p.ledger(s); l.Written != int64(len(s.entries(dir))) {
			s.wrong("%d of %d poison entries were replayed", l.Written, len(s.entries(dir)))
		}
		bodies := map[string]int{}
		for _, body := range s.bad {
			bodies[body]++
		}
		for _, e := range s.entries("replayed") {
			if bodies[string(e.Payload)]--; bodies[string(e.Payload)] < 0 {
				s.wrong("what was replayed was never sent, or more often than that: %.200q", e.Payload)
			}
		}
		missing := 0
		for _, n := range bodies {
			missing += max(0, n)
		}
		if missing > 0 {
			s.wrong("%d malformed bodies were not replayed as they were", missing)
		}
		s.note("%d malformed bodies replayed byte for byte", len(s.bad)-missing)
	}
}

// all calls each.
func all(each ...func(*scene)) func(*scene) {
	return func(s *scene) {
		for _, f := range each {
			f(s)
		}
	}
}

// A line that nobody would hold in memory is told by its number, and neither it nor what stands around it is lost.
func TestFaults_aLineOf100MB(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 100 MB")
	}
	t.Parallel()
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "lines.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLoad(nil)
	write := func(text string) {
		if _, writeErr := file.WriteString(text); writeErr != nil {
			err = errors.Join(err, writeErr)
		}
	}
	for range 100 {
		write(l.next() + "\n")
	}
	block := strings.Repeat("x", 1<<20)
	for range 100 {
		write(block)
	}
	write("\n")
	for range 100 {
		write(l.next() + "\n")
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	store := testserver.StartRedis(t)
	yaml := "name: lines\nsource: {file: {paths: [lines.ndjson], format: lines}}\ntransforms:\n  - unwrap: {}\n  - decode_entitlements: {layout: dual}\n" +
		"sink: {redis: {host: \"" + store.Addr() + "\"}}\npoison_queue:\n  file: {dir: poison}\n"
	if err := os.WriteFile(filepath.Join(dir, "lines.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, program.build(t), dir, nil, "run", "lines.yaml")
	for p.running() {
		p.measure()
		time.Sleep(5 * time.Millisecond)
	}
	if code := p.wait(); code != 1 || !strings.Contains(p.said(), "lines.ndjson:101") {
		t.Errorf("exit code %d, want 1 and the line named: %s", code, p.tail())
	}
	if p.peak>>10 > 128 {
		t.Errorf("RSS went up to %d MiB, the bound is 128", p.peak>>10)
	}
	s := &scene{t: t, dir: dir, program: p, result: &result{}}
	if l.check(s, client(t, store.Addr(), "")); len(s.result.problems) > 0 {
		t.Error(strings.Join(s.result.problems, "\n"))
	}
	if sum := p.ledger(s); sum.Written != 200 {
		t.Errorf("%d events were written, want 200", sum.Written)
	}
	noPoison(s)
	t.Logf("peak RSS %d MiB", p.peak>>10)
}
