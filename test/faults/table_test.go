package faults

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func forms[T any](short, long T) [2]T { return [2]T{short, long} }

var (
	// outage is long enough in the short form to see that nothing gives up.
	outage = forms(7*time.Second, 20*time.Second)
	ten    = forms(1, 10)
)

// table is all that may go wrong. A new fault is a new row.
var table = []fault{
	// The process.
	{
		name: "kill -9", moment: 400 * time.Millisecond, rounds: forms(30, 1000), visibility: 3,
		inject: func(s *scene) { s.program.kill() },
		heal:   func(s *scene) { s.launch() },
	},
	{
		name: "SIGTERM", moment: 300 * time.Millisecond, rounds: forms(50, 1000), visibility: 6, once: true,
		inject: func(s *scene) { s.stop() },
		heal:   func(s *scene) { s.launch() },
	},
	{
		name: "SIGTERM while Redis is black-holed", rounds: forms(1, 10), visibility: 6,
		inject: func(s *scene) { s.toStore.BlackHole(); s.stop() },
		heal:   func(s *scene) { s.toStore.Heal(); s.launch() },
	},

	// Redis.
	{
		name: "Redis killed", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.store.Stop() },
		heal:   func(s *scene) { s.store.Restart() },
	},
	{
		name: "Redis stopped by SIGSTOP", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.store.Pause() },
		heal:   func(s *scene) { s.store.Resume() },
	},
	{
		name: "Redis paused by CLIENT PAUSE", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.redis("client", "pause", form(outage).Milliseconds()) }, // it ends by itself
	},
	{
		name: "Redis black-holed", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.toStore.BlackHole() },
		heal:   func(s *scene) { s.toStore.Heal() },
	},
	{
		name: "Redis refuses connections", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.toStore.Refuse() },
		heal:   func(s *scene) { s.toStore.Heal() },
	},
	{
		name: "Redis cuts every connection after 3 kB", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.toStore.CutAfter(3000); s.toStore.Cut() },
		heal:   func(s *scene) { s.toStore.Heal() },
	},
	{
		name: "Redis half-closes its connections", moment: 300 * time.Millisecond, rounds: forms(10, 100),
		inject: func(s *scene) { s.toStore.HalfClose() },
	},
	{
		name: "connections to Redis and SQS reset", moment: 300 * time.Millisecond, rounds: forms(10, 100),
		inject: func(s *scene) { s.toStore.Cut(); s.toQueue.Cut() },
	},
	{
		name: "Redis takes 2 s a call", lasts: outage, rounds: ten, steady: true,
		inject: func(s *scene) { s.toStore.Delay(time.Second) },
		heal:   func(s *scene) { s.toStore.Delay(distance) },
	},
	{
		name: "Redis has no memory left", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.redis("config", "set", "maxmemory", "1mb") },
		heal:   func(s *scene) { s.redis("config", "set", "maxmemory", "0") },
	},
	{
		name: "Redis is made a replica", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.redis("replicaof", "127.0.0.1", "1") },
		heal:   func(s *scene) { s.redis("replicaof", "no", "one") },
	},
	{
		// Its password comes from a file, as a secret of Kubernetes does, which is changed after Redis.
		name: "Redis has a new password", lasts: outage, rounds: ten, down: true,
		prepare: func(s *scene) { s.secretNow = "old"; s.secret("old") }, store: []string{"--requirepass", "old"}, redis: "redis: {host: \"${REDIS}\", password: \"${file:secret}\"}",
		inject: func(s *scene) { s.password("new" + s.secretNow) },
		heal:   func(s *scene) { s.secret(s.secretNow) },
	},
	{
		name: "Redis takes rights away", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) {
			s.redis("acl", "setuser", "default", "-@write", "-@scripting")
			s.redis("client", "kill", "type", "normal", "skipme", "yes")
		},
		heal: func(s *scene) { s.redis("acl", "setuser", "default", "+@all") },
	}, {
		name: "Redis reads its disk (LOADING)", rounds: ten, down: true,
		store:  []string{"--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024", "--enable-debug-command", "yes"},
		inject: func(s *scene) { s.reload() },
		heal:   func(s *scene) { <-s.reloaded },
	},

	// The queue.
	{
		name: "SQS fails", lasts: outage, rounds: ten, down: true, prepare: behindFront,
		inject: func(s *scene) { s.spoil(says(http.StatusInternalServerError, internalFailure)) },
		heal:   func(s *scene) { s.unspoil() },
	},
	{
		name: "SQS throttles", lasts: outage, rounds: ten, down: true, prepare: behindFront,
		inject: func(s *scene) { s.spoil(says(http.StatusBadRequest, throttled)) },
		heal:   func(s *scene) { s.unspoil() },
	},
	{
		name: "SQS answers garbage", lasts: outage, rounds: ten, down: true, prepare: behindFront,
		inject: func(s *scene) { s.spoil(garbage) },
		heal:   func(s *scene) { s.unspoil() },
	},
	{
		name: "SQS deletes nothing", lasts: outage, rounds: ten, down: true, tells: 2 * within, prepare: behindFront,
		inject: func(s *scene) {
			s.spoil(only("DeleteMessageBatch", says(http.StatusInternalServerError, internalFailure)))
		},
		heal: func(s *scene) { s.unspoil() },
	},
	{
		name: "SQS takes 2 s a call", lasts: outage, rounds: ten, steady: true,
		inject: func(s *scene) { s.toQueue.Delay(time.Second) },
		heal:   func(s *scene) { s.toQueue.Heal() },
	},
	{
		name: "SQS is unreachable", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.toQueue.Refuse() },
		heal:   func(s *scene) { s.toQueue.Heal() },
	},
	{
		// Only the answer that doesn't come tells: after the wait time, 5 s, and 5 s more.
		name: "SQS black-holed", lasts: forms(12*time.Second, 20*time.Second), rounds: ten, down: true, tells: 11 * time.Second,
		inject: func(s *scene) { s.toQueue.BlackHole() },
		heal:   func(s *scene) { s.toQueue.Heal() },
	},
	{
		name: "the queue is deleted and made again", lasts: outage, rounds: ten, down: true,
		inject: func(s *scene) { s.resume = s.load.pause(); s.must(s.queue.delete()) },
		heal:   func(s *scene) { s.makeQueue() },
	},
	{
		name: "the queue server dies and comes back empty", lasts: outage, rounds: ten, down: true, prepare: serverOfItsOwn,
		inject: func(s *scene) { s.resume = s.load.pause(); s.queue.server.Stop() },
		heal:   func(s *scene) { s.serverIsBack() },
	},
	{
		// The program's own clock can't be set; to SQS it makes no difference which of the two jumps.
		name: "the clock is an hour behind that of SQS, then ahead", lasts: outage, rounds: ten, prepare: behindFront,
		inject: func(s *scene) {
			s.spoil(clockAhead(time.Hour))
			time.Sleep(form(outage))
			s.spoil(clockAhead(-time.Hour))
		},
		heal: func(s *scene) { s.unspoil() },
	},
	{
		// 20 hours ahead are allowed; the newest time wins, whatever came last.
		name: "the clocks of events jump", rounds: ten,
		prepare: func(s *scene) {
			s.load.jumps = []time.Duration{0, 20 * time.Hour, -20 * time.Hour, -10 * 365 * 24 * time.Hour, time.Hour, -time.Hour, time.Minute}
		},
		inject: func(s *scene) { s.load.send(1000) },
	},
	{
		// Seven ids for all messages, times and counts that are none.
		name: "SQS gives ids twice, and times out of range", lasts: outage, rounds: ten, steady: true, prepare: behindFront,
		inject: func(s *scene) {
			s.edits(func(n int, m map[string]any) {
				m["MessageId"] = "id-" + strconv.Itoa(n%7)
				m["Attributes"] = map[string]string{
					"SentTimestamp":           []string{"99999999999999999", "-5", "soon", "", "0"}[n%5],
					"ApproximateReceiveCount": []string{"-1", "99999999999999999999", "often", ""}[n%4],
				}
			})
			s.load.send(500)
		},
		heal: func(s *scene) { s.unedit() },
	},
	{
		name: "every event is sent twice", rounds: ten,
		inject: func(s *scene) { s.load.send(1000); s.must(s.load.again()) },
	},

	// Poison, and disks.
	{
		name: "the poison queue fails while poison arrives", lasts: outage, rounds: forms(1, 1), prepare: poisonQueue, ends: poisonAtSQS,
		yaml: "poison_queue:\n  sqs: {queue_url: \"${POISON_URL}\", endpoint: \"${ENDPOINT}\", region: us-east-1, access_key_id: a, secret_access_key: b}\n",
		inject: func(s *scene) {
			failing := says(http.StatusInternalServerError, internalFailure)
			s.spoil(func(w http.ResponseWriter, r *http.Request, action string) bool {
				return strings.HasPrefix(action, "SendMessage") && failing(w, r, action)
			})
			s.resume = s.drip(200)
		},
		heal: func(s *scene) { s.resume(); s.unspoil() },
	},
	{
		// They are released, and the queue's own rule moves them.
		name: "malformed bodies without a poison queue", rounds: forms(1, 1), prepare: deadLetters, ends: poisonAtSQS, yaml: withoutPoison,
		inject: func(s *scene) { s.resume = s.drip(64) },
		heal:   func(s *scene) { s.resume() },
	},
	{
		name: "the disk of the poison queue is full", lasts: outage, rounds: forms(1, 1), prepare: smallDisk,
		ends: func(s *scene) {
			poisonIn("disk/poison")(s)
			if n := s.ledger.Released; n > 0 {
				s.wrong("%d releases, each of which costs a receive: what is poison is held until there is room", n)
			}
		},
		yaml:   "poison_queue:\n  file: {dir: disk/poison}\n",
		inject: func(s *scene) { s.fillDisk(); s.resume = s.drip(500) },
		heal:   func(s *scene) { s.resume(); s.emptyDisk() },
	},
	{
		name: "the disk of the recordings is full", lasts: outage, rounds: forms(1, 3), prepare: smallDisk, ends: recordedIn("disk/record"),
		yaml:   "record:\n  on_error: block\n  file: {dir: disk/record}\n",
		inject: func(s *scene) { s.fillDisk() },
		heal:   func(s *scene) { s.emptyDisk() },
	},
	{
		name: "10,000 malformed bodies among 10,000 good ones", rounds: forms(1, 1), ends: all(poisonIn("poison"), replayed("poison")),
		inject: func(s *scene) { s.flood(10_000) },
	},
	{
		// It ends and says why, like one that was never allowed to write.
		name: "the disk of the poison queue is read-only", rounds: forms(1, 1), prepare: smallDisk, ends: poisonIn("disk/poison"),
		yaml: "poison_queue:\n  file: {dir: disk/poison}\n",
		inject: func(s *scene) {
			s.readOnly("ro")
			s.resume = s.drip(200)
			s.endsWith(1, "set dir to another directory")
		},
		heal: func(s *scene) { s.readOnly("rw"); s.launch(); s.resume() },
	},
	{
		name: "scrapers that never read", rounds: forms(1, 3), steady: true, memory: 128,
		yaml:   "  admin: {address: \"127.0.0.1:0\"}\npoison_queue:\n  file: {dir: poison}\n",
		inject: func(s *scene) { s.scrapers(200) },
	},
	{
		// Beside their payloads they need 20 kB each: goroutines, and what is known of them.
		name: "10,000 messages are held", rounds: forms(1, 3), memory: 64 + 215, inFlight: 10_000, visibility: 60,
		yaml:   "max_in_flight: 10000\n",
		inject: func(s *scene) { s.hold(10_000) },
		heal:   func(s *scene) { s.toStore.Heal(); s.toStore.Delay(distance) },
	},
	{
		// 40 legal bombs: 600 MiB, were they all unpacked at once.
		name: "events of 15 MiB in 20 kB", rounds: forms(1, 3), memory: 256 + 64,
		inject: func(s *scene) { s.bombs(40) },
	},

	{
		// Plain events, whose values in Redis are as large.
		name: "events of 995 kB", rounds: forms(1, 3), memory: 256,
		inject: func(s *scene) { s.large(forms(75, 250)) }, // 71 MiB: more than fits into max_in_flight_bytes
	},

	// Neighbours.
	{
		name: "one of two replicas is killed", rounds: forms(1, 30), visibility: 3, prepare: replica,
		inject: func(s *scene) { s.killReplica() },
		heal:   replica,
	},
	{
		name: "one of two pipelines is without its store", lasts: outage, rounds: ten, down: true, prepare: withNeighbour, ends: neighbourDone,
		inject: func(s *scene) { s.neighbourAway() },
		heal:   func(s *scene) { s.neighbour.store.Restart() },
	},

	// Half an hour of a bit of everything.
	{
		name: "half an hour of everything", long: true, lasts: forms(3*time.Second, 3*time.Second), rounds: forms(1, 220),
		inject: func(s *scene) {
			if s.baseline == nil {
				s.baseline = s.usage()
			}
			[]func(){
				s.toStore.BlackHole, s.toStore.Cut, s.toStore.HalfClose, s.toStore.Refuse, s.store.Pause,
				s.toQueue.BlackHole, s.toQueue.Cut, s.toQueue.HalfClose, s.toQueue.Refuse,
				func() { s.toStore.CutAfter(3000) }, func() { s.toQueue.Throttle(2000) }, func() { s.toQueue.Delay(time.Second) },
			}[rand.IntN(12)]()
		},
		heal: func(s *scene) {
			s.store.Resume()
			s.toStore.Heal()
			s.toQueue.Heal()
			s.toStore.Delay(distance)
			time.Sleep(5 * time.Second)
		},
	},
}

// redis sends a command to the store.
func (s *scene) redis(command ...any) {
	c := client(s.t, s.store.Addr(), s.secretNow)
	defer func() { _ = c.Close() }()
	if err := c.Do(s.t.Context(), command...).Err(); err != nil && err != redis.Nil {
		s.giveUp("%v: %v", command, err)
	}
}

// secret writes the password that the program reads.
func (s *scene) secret(password string) {
	s.must(os.WriteFile(filepath.Join(s.dir, "secret"), []byte(password+"\n"), 0o600))
}

// password changes the store's password, for connections that are open too.
func (s *scene) password(next string) {
	s.redis("config", "set", "requirepass", next)
	s.secretNow = next
	s.redis("client", "kill", "type", "normal")
}

// reload has Redis put all into a file, and crash: it then takes its time to read that.
func (s *scene) reload() {
	s.redis("debug", "populate", 6000, prefix+"penstock:filling")
	s.redis("bgrewriteaof")
	c := client(s.t, s.store.Addr(), s.secretNow)
	s.eventually(func() string {
		info := c.Info(s.t.Context(), "persistence").Val()
		if !strings.Contains(info, "aof_rewrite_in_progress:0") || !strings.Contains(info, "aof_rewrite_scheduled:0") {
			return "the file is not written: " + info
		}
		return ""
	})
	s.store.Stop()
	s.reloaded = make(chan struct{})
	go func() {
		defer close(s.reloaded)
		s.store.Restart() // returns when all is read
	}()
}
