package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/testserver"
)

const sqsPoisonFile = `
name: poisoning
source: {file: {paths: [%q]}}
transforms: [{decode_entitlements: {%s}}]
sink: {redis: {host: %q}}
poison_queue:
  sqs: {queue_url: %q, endpoint: %q, region: us-east-1, access_key_id: test, secret_access_key: test}
`

// A poison queue in SQS is listed without losing anything, put back with the original times, and dropped into a file.
func TestPoison_inSQS(t *testing.T) {
	for _, name := range []string{"poison", "poison.fifo"} {
		t.Run(name, func(t *testing.T) { poisonInSQS(t, name) })
	}
}

func poisonInSQS(t *testing.T, name string) {
	const n = 25
	q := startQueue(t)
	attributes := map[string]string{}
	if strings.HasSuffix(name, ".fifo") {
		attributes["FifoQueue"] = "true"
	}
	var created struct{ QueueURL string }
	q.call("CreateQueue", map[string]any{"QueueName": name, "Attributes": attributes}, &created)
	q.url = created.QueueURL
	store := testserver.Redis(t)
	dir := t.TempDir()
	var input bytes.Buffer
	for i := range n {
		body := fmt.Sprintf(`{"type":"ENTITLEMENTS_UPDATED","account":"c-%d","entitlements":[]}`, i)
		if i == 7 {
			body = "never good"
		}
		// More metadata than SQS has attributes.
		fmt.Fprintf(&input, `{"id":"m-%d","time":"2026-11-22T10:16:00Z","metadata":{%s"n":"%d"},"payload":%s}`+"\n", i, manyMembers(12), i, asJSON(t, body))
	}
	if err := os.WriteFile(filepath.Join(dir, "in.ndjson"), input.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "p.yaml")
	pipeline := func(fields string) {
		text := fmt.Sprintf(sqsPoisonFile, filepath.Join(dir, "in.ndjson"), fields, store, q.url, q.endpoint)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := (&cli.Program{Registry: penstock.Builtins(), Invocation: "penstock", Args: args, Stdout: &out, Stderr: &errs,
			LookupEnv: func(string) (string, bool) { return "", false }, ReadFile: os.ReadFile}).Run(t.Context())
		if code != want {
			t.Fatalf("%v: code %d, want %d\n%s\n%s", args, code, want, out.String(), errs.String())
		}
		return out.String()
	}
	holds := func(want int) {
		t.Helper()
		if visible, held := q.left(); visible != want || held != 0 {
			t.Errorf("the poison queue has %d visible and %d held messages, want %d and 0", visible, held, want)
		}
	}

	pipeline("")
	run(0, "run", file)
	holds(n)
	if out := run(0, "poison", "list", "-f", file, "--by", "stage"); out != fmt.Sprintf("%d  transforms[0].decode_entitlements\n", n) {
		t.Errorf("listed\n%s", out)
	}
	holds(n)
	out := run(0, "poison", "show", "m-3", "-f", file, "--format", "json")
	var shown struct {
		ID, Reason, Payload, Place string
		Metadata                   map[string]string
		Today                      struct{ Outcome string }
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.ID != "m-3" || !strings.Contains(shown.Reason, "customerId: missing") || !strings.Contains(shown.Payload, `"c-3"`) || shown.Today.Outcome != "poisoned" ||
		shown.Metadata["recorded_at"] != "2026-11-22T10:16:00Z" || shown.Metadata["member-11"] != "x" || shown.Metadata["n"] != "3" || !strings.HasPrefix(shown.Place, "SQS message ") {
		t.Errorf("shown %+v", shown)
	}

	pipeline("fields: {customer: $.account}")
	run(0, "poison", "redrive", "-f", file, "--dry-run")
	holds(n)
	out = run(1, "poison", "redrive", "-f", file)
	if !strings.Contains(out, "m-7  stays, poisoned again: ") || !strings.Contains(out, "put back 24 of 25 messages: 24 written, 0 filtered, 1 poisoned again, 0 not stored\n") {
		t.Errorf("redriven\n%s", out)
	}
	holds(1)
	c := dial(t, store, 0)
	for i := range n {
		got, err := c.Get(t.Context(), fmt.Sprintf("production:c_c-%d#timestamp", i)).Result()
		if i == 7 {
			continue
		}
		if err != nil || got != "1795342560000" { // 2026-11-22T10:16:00Z, when it was received first
			t.Errorf("customer c-%d: timestamp %q, %v", i, got, err)
		}
	}

	to := filepath.Join(dir, "dropped.ndjson")
	run(0, "poison", "drop", "-f", file, "--yes", "--to", to)
	holds(0)
	if text, err := os.ReadFile(to); err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"payload":"never good"`) {
		t.Errorf("dropped %s, %v", text, err)
	}
	run(1, "poison", "list", "m-7", "-f", file)
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"member-%d":"x",`, i)
	}
	return b.String()
}
