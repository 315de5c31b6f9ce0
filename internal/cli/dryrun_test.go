package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

// dryPipeline stores plain messages.
const dryPipeline = `name: p
source: {file: {paths: [in.txt], format: lines}}
sink: {redis: {host: 127.0.0.1, port: %s, plain: {key: id, value: v, version: n}}}
poison_queue: {file: {dir: poison}}
record: {file: {dir: record}}
`

const dryMessages = `{"id":"a","v":{"x":1},"n":1}
{"id":"b","v":2,"n":5}
{"id":"b","v":3,"n":4}
{"id":"c","v":"same","n":1}
`

func TestDryRun_storesNothingAndShowsWhatWouldBeWritten(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "in.txt", dryMessages)
	writeFile(t, "p.yaml", fmt.Sprintf(dryPipeline, "1")) // nobody listens there
	shown := `would write  {"id":"a","v":{"x":1},"n":1}
would write  {"id":"b","v":2,"n":5}
would write  {"id":"b","v":3,"n":4}
would write  {"id":"c","v":"same","n":1}
dry run of 4 messages, nothing was stored: 4 would be written, 0 filtered, 0 poisoned, 0 released
`
	for name, args := range map[string][]string{
		"run":    {"run", "p.yaml", "--dry-run"},
		"replay": {"replay", "p.yaml", "in.txt", "--format", "lines", "--dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := testTests(t, args...)
			if code != 0 || stdout != shown {
				t.Errorf("exit %d\n%s%s", code, stdout, stderr)
			}
			for _, dir := range []string{"poison", "record"} {
				if _, err := os.Stat(dir); err == nil {
					t.Errorf("%s was made", dir)
				}
			}
		})
	}
}

func TestDryRun_poisonIsShownAndNotStored(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "in.txt", "not an event\n")
	writeFile(t, "p.yaml", "name: p\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {drop: {}}\npoison_queue: {file: {dir: poison}}\n")
	code, stdout, stderr := testTests(t, "replay", "p.yaml", "in.txt", "--format", "lines", "--dry-run", "--fail-on-poison")
	if code != 1 || !strings.HasPrefix(stdout, "would poison  transforms[0].decode_entitlements: want an object") || !strings.Contains(stdout, "0 would be written, 0 filtered, 1 poisoned") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if _, err := os.Stat("poison"); err == nil {
		t.Error("the poison queue was made")
	}
}

func TestDryRun_compareShowsWhatWouldChange(t *testing.T) {
	t.Chdir(t.TempDir())
	server := miniredis.RunT(t)
	writeFile(t, "in.txt", dryMessages)
	writeFile(t, "before.txt", `{"id":"c","v":"same","n":1}`+"\n"+`{"id":"a","v":{"x":0},"n":0}`+"\n"+`{"id":"a","v":{"x":0},"n":1}`+"\n")
	writeFile(t, "p.yaml", fmt.Sprintf(dryPipeline, server.Port()))
	if code, _, stderr := testTests(t, "replay", "p.yaml", "before.txt", "--format", "lines"); code != 0 {
		t.Fatal(stderr)
	}
	before := server.Dump()
	code, stdout, stderr := testTests(t, "replay", "p.yaml", "in.txt", "--format", "lines", "--dry-run", "--compare")
	want := `would change production:a
  - {"x":0}
  + {"x":1}
would add    production:b
  + 2
dry run of 4 messages, nothing was stored: 4 would be written, 0 filtered, 0 poisoned, 0 released
of the writes, 1 would add a key, 1 change one, 0 delete one, and 2 change nothing
`
	if code != 0 || stdout != want {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if server.Dump() != before {
		t.Errorf("Redis was changed:\n%s\nbefore:\n%s", server.Dump(), before)
	}
}

func TestDryRun_refusals(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "in.txt", dryMessages)
	writeFile(t, "queue.yaml", "name: p\nsource: {sqs: {queue_url: https://sqs.eu-west-1.amazonaws.com/123456789012/q}}\nsink: {file: {dir: out}}\n")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a queue":               {[]string{"run", "queue.yaml", "--dry-run"}, "penstock replay queue.yaml RECORDINGS --dry-run\n"},
		"compare alone":         {[]string{"replay", "queue.yaml", "in.txt", "--compare"}, "--compare goes with --dry-run"},
		"record":                {[]string{"replay", "queue.yaml", "in.txt", "--dry-run", "--record"}, "a dry run stores nothing"},
		"nothing to compare to": {[]string{"replay", "queue.yaml", "in.txt", "--dry-run", "--compare"}, "sink: file keeps nothing that can be read back: --compare needs a redis"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := testTests(t, c.args...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

func TestReplay_aDryRunMovesNoCheckpoint(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "at")
	lines := filepath.Join(dir, "lines")
	if err := os.WriteFile(lines, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := invoke{args: []string{"replay", "p.yaml", lines, "--format", "lines", "--checkpoint", at, "--dry-run"}, files: file(`{bodies: [a]}`)}.run(t)
	if code != 2 || !strings.Contains(stderr, "--checkpoint and --dry-run") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	pipelineFile := filepath.Join(dir, "p.yaml")
	writeFile(t, pipelineFile, "name: p\nsource:\n  file: {paths: ["+lines+"], format: lines, checkpoint: "+at+"}\nsink: {drop: {}}\n")
	if code, _, stderr := testTests(t, "run", pipelineFile, "--dry-run"); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, err := os.Stat(at); err == nil {
		t.Error("a dry run has moved the checkpoint")
	}
}
