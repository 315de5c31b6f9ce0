package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// replica starts a second program on the same queue and the same store.
func replica(s *scene) {
	s.second = start(s.t, s.binary, s.dir, s.env, "run", "pipeline.yaml")
}

// killReplica kills it while it has something in flight.
func (s *scene) killReplica() {
	s.eventually(func() string {
		if s.second.inFlight() == 0 {
			return "the second one has nothing in flight"
		}
		return ""
	})
	s.second.kill()
}

// stopSecond ends the second program as the first: its ledger must add up, too.
func (s *scene) stopSecond() {
	first := s.program
	s.program = s.second
	s.stop()
	s.program = first
}

// neighbour is a second pipeline in the same process, with a queue and a store of its own.
type neighbour struct {
	queue *queue
	store *testserver.RedisServer
	load  *load
}

func withNeighbour(s *scene) {
	n := &neighbour{queue: s.queue.sqs.queue(s.t, 10), store: testserver.StartRedis(s.t, "--appendonly", "yes", "--appendfsync", "always")}
	n.load = newLoad(n.queue)
	s.neighbour = n
	yaml := strings.NewReplacer("name: suite", "name: neighbour", "${QUEUE_URL}", "${OTHER_QUEUE}", "${REDIS}", "${OTHER_REDIS}").
		Replace(fmt.Sprintf(pipelineFile, usualSink))
	yaml, _, _ = strings.Cut(yaml, "service:") // one a process
	s.must(os.WriteFile(filepath.Join(s.dir, "neighbour.yaml"), []byte(yaml+"poison_queue:\n  file: {dir: poison}\n"), 0o600))
	s.env = append(s.env, "OTHER_QUEUE="+n.queue.url, "OTHER_REDIS="+n.store.Addr())
	s.args = append(s.args, "neighbour.yaml")
}

// neighbourAway takes the neighbour's store away and wants that this one goes on.
func (s *scene) neighbourAway() {
	s.neighbour.store.Stop()
	s.neighbour.load.send(200)
	before := s.program.metrics()[`penstock_messages_total{outcome="written",pipeline="suite"}`]
	s.eventually(func() string {
		m := s.program.metrics()
		now := m[`penstock_messages_total{outcome="written",pipeline="suite"}`]
		if m[`penstock_up{pipeline="neighbour"}`] != 0 || m[`penstock_up{pipeline="suite"}`] != 1 || now < before+3*pace {
			return fmt.Sprintf("one of two is without its store: %v, %v; the other has written %.0f events since",
				m[`penstock_up{pipeline="neighbour"}`], m[`penstock_up{pipeline="suite"}`], now-before)
		}
		return ""
	})
}

// neighbourDone wants that the neighbour has done its work too.
func neighbourDone(s *scene) {
	n := s.neighbour
	s.must(n.load.failed)
	if found := n.load.check(s, client(s.t, n.store.Addr(), "")); found != n.load.sent {
		s.wrong("the neighbour has lost %d events", n.load.sent-found)
	}
	noPoison(s)
}
