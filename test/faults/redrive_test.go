package faults

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/internal/testserver"
)

// kills is how many redrives are killed while they run.
const kills = 30

const redriveFile = `
name: redrive
source: {generate: {}}
transforms: [{decode_entitlements: {}}]
sink: {redis: {host: %q}}
poison_queue: {file: {dir: poison}}
max_in_flight: 16
`

// redriving is a poison queue that a service goes on writing to, and redrives of it that are killed.
type redriving struct {
	t       *testing.T
	binary  string
	dir     string
	service *recording.Writer
	client  *redis.Client
	stored  map[string]bool // ids of entries that were written, and whether they are in the store
}

// poison stores n entries, as the service does it.
func (r *redriving) poison(n int) {
	r.t.Helper()
	for range n {
		id := fmt.Sprintf("m-%d", len(r.stored))
		body := fmt.Sprintf(`{"__typename":"EntitlementsUpdated","customerId":%q,"resourceId":null,"entitlements":[{"isGranted":true,`+
			`"entitlementUpdatedAt":"2026-11-22T10:15:30.000Z","feature":{"refId":"api-calls","featureType":"BOOLEAN"}}]}`, id)
		e := recording.Entry{ID: id, Time: time.Now(), Payload: []byte(body), Poison: &recording.Poison{Reason: "an old build", Stage: "transforms[0].decode_entitlements"}}
		if err := r.service.Write(recording.Append(nil, &e)); err != nil {
			r.t.Fatal(err)
		}
		r.stored[id] = false
	}
}

// command runs the program to its end.
func (r *redriving) command(args ...string) (code int, out string) {
	cmd := exec.Command(r.binary, append([]string{"poison"}, args...)...)
	cmd.Dir, cmd.SysProcAttr = r.dir, dieWithParent()
	text, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// check looks where every entry is, and returns how many are in the queue.
func (r *redriving) check() (waiting int) {
	r.t.Helper()
	code, out := r.command("list", "-f", "pipeline.yaml", "--format", "json")
	if code != 0 {
		r.t.Fatalf("list: code %d", code)
	}
	queued := map[string]bool{}
	for line := range strings.Lines(out) {
		var e struct{ ID string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatal(err)
		}
		if queued[e.ID] {
			r.t.Errorf("%s is in the poison queue twice", e.ID)
		}
		queued[e.ID] = true
	}
	for id, stored := range r.stored {
		if stored {
			if queued[id] {
				r.t.Errorf("%s was removed, and is in the poison queue again", id)
			}
			continue
		}
		n, err := r.client.Exists(r.t.Context(), "production:c_"+id).Result()
		if err != nil {
			r.t.Fatal(err)
		}
		if n == 0 && !queued[id] {
			r.t.Errorf("%s is lost: neither in the poison queue nor in the store", id)
		}
		r.stored[id] = n == 1 && !queued[id]
	}
	return len(queued)
}

// A redrive that is killed at any moment loses no entry and brings none back, while the service goes on poisoning.
func TestRedrive_killedAtRandomMoments(t *testing.T) {
	t.Parallel()
	store := testserver.StartRedis(t)
	way := testserver.StartProxy(t, store.Addr())
	way.Delay(2 * time.Millisecond)
	r := &redriving{t: t, binary: program.build(t), dir: t.TempDir(), client: client(t, store.Addr(), ""), stored: map[string]bool{}}
	if err := os.WriteFile(filepath.Join(r.dir, "pipeline.yaml"), fmt.Appendf(nil, redriveFile, way.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	compressions := []recording.Compression{recording.None, recording.Gzip, recording.Zstd}
	killed, partly := 0, 0
	took := time.Second
	for round := 0; killed < kills; round++ {
		if round > 20*kills {
			t.Fatalf("only %d of %d redrives could be killed while they ran", killed, round)
		}
		r.service = recording.NewWriter(recording.WriterSettings{Dir: filepath.Join(r.dir, "poison"), Name: "redrive",
			Compression: compressions[round%3], MaxBytes: 8 << 10, MaxAge: time.Hour, Locked: true})
		r.poison(400)
		before := r.check()
		cmd := exec.Command(r.binary, "poison", "redrive", "-f", "pipeline.yaml")
		cmd.Dir, cmd.SysProcAttr = r.dir, dieWithParent()
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rand.Float64()*float64(took)), func() { _ = cmd.Process.Kill() })
		poisoned := 0
		for ended := make(chan struct{}); ; poisoned++ {
			if poisoned == 0 {
				go func() { _ = cmd.Wait(); close(ended) }()
			}
			r.poison(1) // the service
			select {
			case <-ended:
			case <-time.After(5 * time.Millisecond):
				continue
			}
			break
		}
		poisoned++
		if kill.Stop() || cmd.ProcessState.ExitCode() >= 0 { // it was faster
			took = time.Since(began)
		} else {
			killed++
		}
		if err := r.service.Close(); err != nil {
			t.Fatal(err)
		}
		if left := r.check(); left > poisoned && left < before {
			partly++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if code, out := r.command("redrive", "-f", "pipeline.yaml"); code != 0 {
		t.Fatalf("the last redrive ends with %d: %s", code, out)
	}
	if left := r.check(); left != 0 {
		t.Errorf("%d are left", left)
	}
	for id, stored := range r.stored {
		if !stored {
			t.Errorf("%s is not in the store", id)
		}
	}
	if partly == 0 {
		t.Error("no redrive was killed in the middle: the test shows nothing")
	}
	t.Logf("%d entries, %d redrives killed, %d of them between their first and their last entry", len(r.stored), killed, partly)
}
