package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/recording"
)

// TestCheckpoint_aReplayThatIsKilledGoesOnWithoutLoss kills the built program at random moments of a replay, with
// SIGKILL and now and then with SIGTERM, and starts it again with the same checkpoint until it ends by itself.
func TestCheckpoint_aReplayThatIsKilledGoesOnWithoutLoss(t *testing.T) {
	t.Parallel()
	const messages, kills = 16_000, 12
	dir := t.TempDir()
	recordings, out, at := filepath.Join(dir, "recordings"), filepath.Join(dir, "out"), filepath.Join(dir, "at")
	if err := os.Mkdir(recordings, 0o700); err != nil {
		t.Fatal(err)
	}
	for file := range 4 {
		var lines []byte
		for i := range messages / 4 {
			id := fmt.Sprintf("m%05d", file*messages/4+i)
			lines = recording.Append(lines, &recording.Entry{ID: id, Payload: []byte(id)})
		}
		if err := os.WriteFile(filepath.Join(recordings, fmt.Sprintf("%d.ndjson", file)), lines, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yaml := writeFile(t, "name: copy\nsource: {generate: {}}\nsink: {file: {dir: "+out+"}}\n")
	begin := func() *process {
		return launch(t, penstockProgram(t, nil, "replay", yaml, recordings, "--checkpoint", at, "--rate", "4000/s"))
	}
	killed := 0
	for n := range 100 {
		p := begin()
		if killed >= kills {
			if code := p.code(); code != 0 {
				t.Fatalf("exit code %d; stderr:\n%s", code, p.errors())
			}
			break
		}
		select {
		case <-p.exited:
			t.Fatalf("it came to its end after %d kills, want %d: the test is too fast; stderr:\n%s", killed, kills, p.errors())
		case <-time.After(100*time.Millisecond + rand.N(600*time.Millisecond)):
		}
		if n%4 == 3 {
			p.logged(`"msg":"ready"`) // before, a signal ends it as it ends any process
			p.signal(syscall.SIGTERM)
			if code := p.code(); code != 0 {
				t.Fatalf("after SIGTERM: exit code %d; stderr:\n%s", code, p.errors())
			}
		} else {
			p.signal(syscall.SIGKILL)
			p.code()
		}
		killed++
		if text, err := os.ReadFile(at); err == nil && !json.Valid(text) {
			t.Fatalf("after kill %d the checkpoint is torn: %s", killed, text)
		}
	}
	found, stored := stored(t, out)
	for i := range messages {
		if id := fmt.Sprintf("m%05d", i); !found[id] {
			t.Errorf("%s is lost", id)
		}
	}
	if limit := messages + kills*4000; stored > limit {
		t.Errorf("%d messages were stored for %d, want %d at most: it did not go on where it was", stored, messages, limit)
	}
	t.Logf("%d messages, %d kills: %d stored, %d of them again", messages, killed, stored, stored-len(found))
}

// stored returns the ids of the entries in the files of a directory, and how many entries there are. Torn lines, which
// a kill may leave, are none.
func stored(t *testing.T, dir string) (ids map[string]bool, n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	ids = map[string]bool{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var e recording.Entry
			var parser recording.Parser
			if parser.Parse([]byte(strings.TrimSpace(lines.Text())), &e) == nil {
				ids[e.ID] = true
				n++
			}
		}
		_ = f.Close()
	}
	return ids, n
}
