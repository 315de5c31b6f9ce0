package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

const (
	// patience is how long the suite waits for what must happen at some time.
	patience = 60 * time.Second
	// within is how soon /readyz must tell the truth.
	within = 5 * time.Second
	// stopWithin is how long a stop may take: the default of shutdown_timeout, 8s, and a second.
	stopWithin = 9 * time.Second
	// mostInFlight is the default of max_in_flight.
	mostInFlight = 1024
	// mostMemory is the bound on the program's RSS, in MiB.
	mostMemory = 192
	// pace is how many events are sent a second, and distance how far away Redis is: so that nearly always something is in
	// flight, at a low cost.
	pace     = 200
	distance = 25 * time.Millisecond
)

// scene is a program between a queue and a Redis, while a fault is made.
type scene struct {
	t                *testing.T
	f                fault
	binary, dir      string
	queue            *queue
	store            *testserver.RedisServer
	toStore, toQueue *testserver.Proxy
	program          *penstock
	env              []string
	load             *load
	watch            *watch
	front            *front
	poison           *queue     // for malformed bodies
	bad              []string   // the malformed bodies that were sent
	second           *penstock  // on the same queue and store
	neighbour        *neighbour // in the same process
	args             []string   // more pipeline files
	baseline         map[string]float64
	secretNow        string        // the store's password
	resume           func()        // ends a pause of the load
	reloaded         chan struct{} // closed when the store has read its file
	undo             []func()
	result           *result
	ledger           ledger
}

// gaveUp is the panic of a scene that can't go on.
type gaveUp struct{}

func (s *scene) wrong(format string, args ...any) {
	s.result.problems = append(s.result.problems, fmt.Sprintf(format, args...))
	if s.f.broken != "" {
		panic(gaveUp{}) // one is enough
	}
}

func (s *scene) giveUp(format string, args ...any) {
	s.wrong(format, args...)
	panic(gaveUp{})
}

func (s *scene) must(err error) {
	if err != nil {
		s.giveUp("%v", err)
	}
}

// eventually waits until ok returns "".
func (s *scene) eventually(ok func() string) {
	patience := patience
	if s.f.broken != "" {
		patience /= 4
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		problem := ok()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			s.giveUp("not within %s: %s; log:\n%s", patience, problem, s.program.tail())
		}
	}
}

const pipelineFile = `
name: suite
source:
  sqs:
    queue_url: ${QUEUE_URL}
    endpoint: ${ENDPOINT}
    region: us-east-1
    access_key_id: test
    secret_access_key: test
    wait_time: 5s
transforms:
  - unwrap: {}
  - decode_entitlements: {layout: dual}
sink:
  %s
retry: {max_attempts: 3, initial_interval: 10ms, on_exhausted: poison}
service:
  http: {address: "127.0.0.1:0"}
`

const usualSink = `redis: {host: "${REDIS}"}`

// defaultPoison is the poison queue of rows that don't have one of their own.
const defaultPoison = "poison_queue:\n  file: {dir: poison}\n"

func form[T any](both [2]T) T {
	if *soak {
		return both[1]
	}
	return both[0]
}

// play runs a row with that program, and returns what it has found.
func play(t *testing.T, f fault, binary string, server *sqs) (r *result) {
	t.Helper()
	r = &result{name: f.name, known: f.known}
	if f.visibility == 0 {
		f.visibility = 10
	}
	s := &scene{t: t, f: f, binary: binary, dir: t.TempDir(), result: r, queue: server.queue(t, f.visibility)}
	s.store = testserver.StartRedis(t, append([]string{"--appendonly", "yes", "--appendfsync", "always"}, f.store...)...)
	s.toStore = testserver.StartProxy(t, s.store.Addr())
	s.toQueue = testserver.StartProxy(t, address(server.endpoint))
	s.toStore.Delay(distance)
	s.env = []string{"QUEUE_URL=" + s.queue.url, "ENDPOINT=http://" + s.toQueue.Addr(), "REDIS=" + s.toStore.Addr()}
	if f.broken != "" {
		s.env = append(s.env, brokenVariable+"="+f.broken)
	}
	s.load = newLoad(s.queue)
	defer func() {
		if v := recover(); v != nil && v != any(gaveUp{}) {
			panic(v)
		}
		for _, undo := range s.undo {
			undo()
		}
		if s.watch != nil {
			s.watch.end()
		}
		if s.program != nil {
			s.program.kill()
			r.peak = max(r.peak, s.program.peak)
		}
	}()
	s.begin()
	for range max(1, form(s.f.rounds)) {
		s.round()
	}
	s.finish()
	return r
}

func (s *scene) begin() {
	yaml := fmt.Sprintf(pipelineFile, cmp.Or(s.f.redis, usualSink))
	if !strings.Contains(s.f.yaml, "poison_queue") {
		yaml += defaultPoison
	}
	if s.f.yaml == withoutPoison {
		yaml = strings.Replace(yaml, "on_exhausted: poison", "on_exhausted: release", 1)
	}
	s.must(os.WriteFile(filepath.Join(s.dir, "pipeline.yaml"), []byte(yaml+s.f.yaml), 0o600))
	if s.f.prepare != nil {
		s.f.prepare(s)
	}
	s.launch()
	s.watch = watching(s)
	if _, up := s.watch.until(time.Now(), patience, true); !up {
		s.giveUp("not UP: %s", s.program.tail())
	}
	s.result.changes = s.watch.changes()
	s.load.run(pace)
	s.undo = append(s.undo, sync.OnceFunc(func() { _, _ = s.load.end() }))
}

// launch starts the program.
func (s *scene) launch() {
	if s.program != nil {
		s.result.peak = max(s.result.peak, s.program.measure())
	}
	next := start(s.t, s.binary, s.dir, s.env, append([]string{"run", "pipeline.yaml"}, s.args...)...)
	if s.watch != nil {
		s.watch.follow(next)
	}
	s.program = next
}

// round makes the fault once.
func (s *scene) round() {
	inFlight := 0
	if s.f.moment > 0 {
		if rand.IntN(5) > 0 { // one of five comes while the program starts
			s.eventually(s.busy)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(s.f.moment))))
		inFlight = s.program.inFlight()
	} else {
		s.eventually(s.busy)
		inFlight = 1
	}
	s.result.tried++
	began := time.Now()
	s.f.inject(s)
	if inFlight > 0 {
		s.result.counted++
	}
	if s.f.down {
		took, down := s.watch.until(began, s.longest(), false)
		s.result.down = append(s.result.down, took)
		if tells := cmp.Or(s.f.tells, within); !down || took > tells {
			s.wrong("/readyz: DOWN after %s, want %s at most", took.Round(time.Millisecond), tells)
		}
	}
	time.Sleep(form(s.f.lasts) - time.Since(began))
	if n := s.program.metrics()["penstock_in_flight"]; int(n) > cmp.Or(s.f.inFlight, mostInFlight) {
		s.wrong("%.0f messages are in flight", n)
	}
	if s.f.heal != nil {
		s.f.heal(s)
	}
	if s.f.down {
		took, up := s.watch.until(time.Now(), s.longest(), true)
		s.result.up = append(s.result.up, took)
		if !up || took > within {
			s.wrong("/readyz: UP %s after the end of the fault, want %s at most", took.Round(time.Millisecond), within)
		}
	}
	if !s.program.running() {
		s.giveUp("the program has ended with %d: %s", s.program.wait(), s.program.tail())
	}
}

// longest is how long /readyz is waited for: long enough to tell by how much it is late.
func (s *scene) longest() time.Duration {
	if s.f.broken != "" {
		return within + time.Second
	}
	return 4 * within
}

// busy says that nothing is in flight, or "".
func (s *scene) busy() string {
	if s.program.running() && s.program.inFlight() == 0 {
		return "nothing is in flight"
	}
	return ""
}

// finish waits until all is done, and looks at what there is then.
func (s *scene) finish() {
	undo := s.undo
	s.undo = nil
	for _, f := range undo {
		f()
	}
	sent, err := s.load.sent, s.load.failed
	s.must(err)
	s.result.sent = sent
	s.eventually(func() string {
		if !s.program.running() {
			s.giveUp("the program has ended with %d: %s", s.program.wait(), s.program.tail())
		}
		queues := []*queue{s.queue}
		if s.neighbour != nil {
			queues = append(queues, s.neighbour.queue)
		}
		for _, q := range queues {
			if visible, held, err := q.left(); err != nil || visible+held > 0 {
				return fmt.Sprintf("the queue has %d messages, %d of them held: %v", visible+held, held, err)
			}
		}
		return ""
	})
	if n := s.watch.changes() - s.result.changes; s.f.steady && n > 0 {
		s.wrong("/readyz changed %d times", n)
	}
	s.leaks()
	s.stop()
	if s.second != nil {
		s.stopSecond()
	}
	s.result.peak = max(s.result.peak, s.program.measure())
	s.result.found = s.load.check(s, client(s.t, s.store.Addr(), s.secretNow))
	if s.result.counted == 0 {
		s.wrong("nothing was in flight at any of %d faults: the row proves nothing", s.result.tried)
	}
	if s.f.ends != nil {
		s.f.ends(s)
	} else {
		noPoison(s)
	}
	if most := cmp.Or(s.f.memory, mostMemory); s.result.peak>>10 > most {
		s.wrong("RSS went up to %d MiB, the bound is %d", s.result.peak>>10, most)
	}
	if n := s.ledger.Written; s.f.once && n != int64(sent) {
		s.wrong("%d events were sent, %d deliveries were written", sent, n)
	}
}

// usage is what the program needs, as it says itself.
func (s *scene) usage() map[string]float64 {
	all := s.program.metrics()
	return map[string]float64{"goroutines": all["go_goroutines"], "file handles": float64(s.program.files()), "RSS in MiB": float64(s.program.status("VmRSS") >> 10)}
}

// leaks compares what the program needs with what it needed in the beginning, in the rows that are about that.
func (s *scene) leaks() {
	if s.baseline == nil {
		return
	}
	s.result.notes = append(s.result.notes, fmt.Sprintf("at the start %v, at the end %v", s.baseline, s.usage()))
	for name, most := range map[string]float64{"goroutines": 50, "file handles": 30, "RSS in MiB": 60} {
		if before, now := s.baseline[name], s.usage()[name]; now > before+most {
			s.wrong("%s: %.0f at the start, %.0f at the end", name, before, now)
		}
	}
}

// count adds up what the programs of the scene have done.
func (s *scene) count(l ledger) { s.ledger.add(l) }

// watch asks for /readyz all the time, and keeps when the answer changed.
type watch struct {
	stop, ended chan struct{}

	mu      sync.Mutex
	p       *penstock
	history []answer
}

type answer struct {
	at time.Time
	up bool
}

func watching(s *scene) *watch {
	w := &watch{p: s.program, stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			w.mu.Lock()
			p := w.p
			w.mu.Unlock()
			asked := time.Now()
			status, _ := p.get("/readyz")
			if status == 0 {
				continue
			}
			p.measure()
			up := status == http.StatusOK
			if !up {
				asked = time.Now()
			}
			w.mu.Lock()
			if n := len(w.history); n == 0 || w.history[n-1].up != up {
				w.history = append(w.history, answer{asked, up})
			}
			w.mu.Unlock()
		}
	}()
	return w
}

// follow makes it ask another program.
func (w *watch) follow(p *penstock) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p = p
}

func (w *watch) end() {
	close(w.stop)
	<-w.ended
}

func (w *watch) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.history)
}

// until waits until the answer is up, or down, after that moment, and returns how long that took.
func (w *watch) until(since time.Time, longest time.Duration, up bool) (time.Duration, bool) {
	for {
		w.mu.Lock()
		for i, a := range w.history {
			last := i == len(w.history)-1
			if a.up == up && (last || w.history[i+1].at.After(since)) {
				w.mu.Unlock()
				return max(0, a.at.Sub(since)), true
			}
		}
		w.mu.Unlock()
		if took := time.Since(since); took > longest {
			return took, false
		}
		time.Sleep(20 * time.Millisecond)
	}
}
