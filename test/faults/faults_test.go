// Package faults proves that no fault of a store, a queue, a disk, a network or a process loses a message, poisons a
// healthy one or makes penstock say what is not so. It runs the program as it is built, between a real Redis and a real
// SQS server, with a TCP proxy on each way.
//
// Every fault is a row of the table in table_test.go. The short form runs with all other tests; `make soak` runs the
// long one. `go test -v -run TestFaults/NAME ./test/faults` runs one row and shows what it has measured.
package faults

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var soak = flag.Bool("soak", os.Getenv("SOAK") != "", "the long form: as many rounds as it takes to trust a result, and half an hour of a bit of everything")

func TestMain(m *testing.M) {
	flag.Parse()
	// The rows wait for something most of the time: more of them side by side than there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	program.remove()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// fault is a row of the table: what goes wrong while events flow, and what must hold then. In every row every event
// that was sent must be in Redis in the end, with the right value and nothing beside; the ledger must add up; memory
// must stay within its bound; nothing may be poisoned; and the program must end with 0 when it is told to.
type fault struct {
	name string
	// inject makes the fault, heal ends it. What has no end has no heal.
	inject, heal func(*scene)
	// lasts is how long the fault goes on, at least; rounds is how often it is made. Each in the short and the long form.
	lasts  [2]time.Duration
	rounds [2]int
	// moment is how long to wait before each round: until something is in flight, or a random time up to this long.
	moment time.Duration
	// down: /readyz must say DOWN within five seconds of the fault, and UP within five of its end.
	down bool
	// tells is how soon DOWN must be told, where that isn't five seconds.
	tells time.Duration
	// once: no event may be handled twice.
	once bool
	// stops is how long a stop may take, where that isn't shutdown_timeout and a second.
	stops time.Duration
	// steady: /readyz must not change at all.
	steady bool
	// yaml is added to the pipeline file; prepare is called before the program starts.
	yaml    string
	prepare func(*scene)
	// store are arguments of redis-server, visibility is the queue's timeout in seconds.
	store      []string
	visibility int
	// redis is the sink, where it isn't the usual one.
	redis string
	// ends looks at what else must hold in the end; without it, that nothing is poisoned.
	ends func(*scene)
	// memory is the bound on RSS in MiB, and inFlight that on messages in flight, where they aren't the usual ones.
	memory, inFlight int
	// long rows are left out of the short form.
	long bool
	// broken is what is wrong with the program: the row then ends at the first problem, and waits less.
	broken string
	// known is why the row can't hold today. It runs and reports all the same, and does not fail the suite.
	known string
}

func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	t.Parallel()
	names := map[string]bool{}
	var all report
	server := startSQS(t)
	t.Run("rows", func(t *testing.T) {
		for _, f := range table {
			if names[f.name] {
				t.Errorf("two rows are named %q", f.name)
			}
			names[f.name] = true
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				if f.long && !*soak {
					t.Skip("a part of the long form")
				}
				r := play(t, f, program.build(t), server)
				all.add(r)
				if len(r.problems) > 0 && f.known != "" {
					t.Logf("known: %s\n%s", f.known, strings.Join(r.problems, "\n"))
					return
				}
				for _, problem := range r.problems {
					t.Error(problem)
				}
			})
		}
	})
	t.Log("\n" + all.String())
}

// stop ends the program as an orchestrator does, and wants it to end in time and well. A program that was told so
// before its first instruction ends by the signal: nothing was in flight then.
func (s *scene) stop() {
	s.t.Helper()
	started := s.program.started()
	began := time.Now()
	s.program.signal(syscall.SIGTERM)
	code := s.program.wait()
	took := time.Since(began)
	s.result.stops = append(s.result.stops, took)
	if most := cmp.Or(s.f.stops, stopWithin); took > most {
		s.wrong("SIGTERM: the stop took %s, want %s at most", took.Round(time.Millisecond), most)
	}
	if code != 0 && (started || code != -1) {
		s.wrong("SIGTERM: exit code %d, want 0: %s", code, s.program.tail())
	}
	if code == 0 {
		s.count(s.program.ledger(s))
	}
}

// endsWith wants that the program ends by itself with that code, and says that.
func (s *scene) endsWith(code int, words string) {
	if got := s.program.wait(); got != code || !strings.Contains(s.program.said(), words) {
		s.wrong("it ended with %d, want %d and %q: %s", got, code, words, s.program.tail())
	}
	s.count(s.program.ledger(s))
}

// row is the row of that name.
func row(t testing.TB, name string) fault {
	t.Helper()
	i := slices.IndexFunc(table, func(f fault) bool { return f.name == name })
	if i < 0 {
		t.Fatalf("no row is named %q", name)
	}
	return table[i]
}
