package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/internal/testserver"
)

// queue is one queue of a real SQS server, spoken to by plain HTTP: nothing here is penstock's own.
type queue struct {
	t        testing.TB
	client   *http.Client
	endpoint string
	url      string
}

func startQueue(t testing.TB) *queue {
	t.Helper()
	q := &queue{t: t, endpoint: testserver.SQS(t), client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}
	t.Cleanup(q.client.CloseIdleConnections)
	var created struct{ QueueURL string }
	q.call("CreateQueue", map[string]any{"QueueName": "events"}, &created)
	q.url = created.QueueURL
	return q
}

func (q *queue) call(action string, request, response any) {
	q.t.Helper()
	r, err := http.NewRequest(http.MethodPost, q.endpoint, strings.NewReader(asJSON(q.t, request)))
	if err != nil {
		q.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "AmazonSQS."+action)
	res, err := q.client.Do(r)
	if err != nil {
		q.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, response)
	}
	if err != nil {
		q.t.Fatalf("%s: %v", action, err)
	}
}

func (q *queue) send(events ...event) {
	q.t.Helper()
	for chunk := range slices.Chunk(events, 10) {
		entries := make([]map[string]any, len(chunk))
		for i, e := range chunk {
			entries[i] = map[string]any{"Id": strconv.Itoa(i), "MessageBody": e.body}
		}
		var sent struct{ Failed []json.RawMessage }
		q.call("SendMessageBatch", map[string]any{"QueueUrl": q.url, "Entries": entries}, &sent)
		if len(sent.Failed) > 0 {
			q.t.Fatalf("SendMessageBatch: %s", sent.Failed[0])
		}
	}
}

// left returns how many messages the queue holds, visible ones and those that a consumer has.
func (q *queue) left() (visible, held int) {
	q.t.Helper()
	var got struct {
		Attributes struct {
			ApproximateNumberOfMessages           int `json:",string"`
			ApproximateNumberOfMessagesNotVisible int `json:",string"`
		}
	}
	q.call("GetQueueAttributes", map[string]any{"QueueUrl": q.url, "AttributeNames": []string{"All"}}, &got)
	return got.Attributes.ApproximateNumberOfMessages, got.Attributes.ApproximateNumberOfMessagesNotVisible
}

const fromQueue = `
name: from-queue
source:
  sqs:
    queue_url: ${QUEUE_URL}
    endpoint: ${ENDPOINT}
    region: us-east-1
    access_key_id: test
    secret_access_key: test
    wait_time: 1s
transforms:
  - unwrap: {}
  - decode_entitlements: {layout: dual}
sink:
  redis: {host: "${REDIS}"}
poison_queue:
  file: {dir: "${POISON}"}
record:
  file: {dir: "${RECORDINGS}"}
`

func (q *queue) env(t testing.TB, redis string) map[string]string {
	return map[string]string{"QUEUE_URL": q.url, "ENDPOINT": q.endpoint, "REDIS": redis,
		"POISON": filepath.Join(t.TempDir(), "poison"), "RECORDINGS": filepath.Join(t.TempDir(), "recordings")}
}

// poison are bodies that can never be processed, with a part of the reason that must come with each.
func poison(t testing.TB) map[string]string {
	usage := func(members, usage string) string {
		return `{"__typename":"UsageUpdated","entitlement":{"usageUpdatedAt":"2026-11-20T11:00:00.000Z"},"usage":{` + usage + `}` + members + `}`
	}
	snapshot := func(old, new string) string { return strings.Replace(sample(t, "02"), old, new, 1) }
	return map[string]string{
		`certainly not JSON`: "",
		`{"__typename":"EntitlementsUpdated","customerId":"c-`: "",
		`"an event in words"`: "",
		`42`:                  "",
		`{}`:                  "neither an event type nor the shape of a known event",
		`{"type":"SOMETHING_UNHEARD_OF","customerId":"c-1"}`:                                                               "SOMETHING_UNHEARD_OF",
		snapshot(`"customerId": "customer-acorn"`, `"customerId": null`):                                                   "customerId",
		snapshot(`"customerId": "customer-acorn"`, `"customerId": ["customer-acorn"]`):                                     "customerId",
		snapshot(`"entitlementUpdatedAt": "2026-11-20T10:15:30.250Z"`, `"entitlementUpdatedAt": "yesterday"`):              "entitlementUpdatedAt",
		snapshot(`"entitlementUpdatedAt": "2026-11-20T10:15:30.250Z"`, `"entitlementUpdatedAt": "2226-11-20T10:15:30Z"`):   "entitlementUpdatedAt",
		snapshot(`"entitlementUpdatedAt": "2026-11-20T10:15:30.250Z"`, `"entitlementUpdatedAt": "1969-11-20T10:15:30Z"`):   "entitlementUpdatedAt",
		snapshot(`"refId": "feature-projects"`, `"refId": null`):                                                           "feature",
		snapshot(`"usageLimit": 25`, `"usageLimit": "a lot"`):                                                              "usageLimit",
		`{"__typename":"EntitlementsUpdated","customerId":"c-1","timestamp":"2026-11-20T10:15:30.250Z"}`:                   "entitlements",
		`{"__typename":"EntitlementsUpdated","customerId":"c-1","entitlements":"none","timestamp":"2026-11-20T10:15:30Z"}`: "entitlements",
		usage(``, `"customerId":"c-1","currentUsage":3`):                                                                   "featureId",
		usage(``, `"customerId":"c-1","featureId":"f-1"`):                                                                  "currentUsage",
		usage(``, `"customerId":"c-1","featureId":"f-1","currentUsage":"three"`):                                           "currentUsage",
		sample(t, "28"): "S3",
		strings.Replace(sample(t, "26"), `"Message": "{`, `"Message": "`, 1): "",
	}
}

// poisoned reads a poison queue: its entries by payload.
func poisoned(t testing.TB, dir string) map[string][]recording.Entry {
	t.Helper()
	entries := map[string][]recording.Entry{}
	for e := range recorded(t, dir) {
		entries[string(e.Payload)] = append(entries[string(e.Payload)], e)
	}
	return entries
}

// recorded yields the entries of all files of a folder.
func recorded(t testing.TB, dir string) func(func(recording.Entry) bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(recording.Entry) bool) {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(data) {
				var e struct {
					ID       string
					Metadata map[string]string
					Payload  string
					Base64   []byte `json:"payload_base64"`
					Poison   *recording.Poison
				}
				if err := json.Unmarshal(line, &e); err != nil {
					t.Fatalf("%s: %v in %s", file, err, line)
				}
				if e.Base64 != nil {
					e.Payload = string(e.Base64)
				}
				if !yield(recording.Entry{ID: e.ID, Metadata: e.Metadata, Payload: []byte(e.Payload), Poison: e.Poison}) {
					return
				}
			}
		}
	}
}

func TestQueue_mixedEventsEndUpInRedisAndAReplayDoesTheSame(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	q := startQueue(t)
	addr := testserver.Redis(t)
	h := newHistory(t, 42, 300)
	bad := poison(t)
	if len(bad) != 20 {
		t.Fatalf("want 20 different poison bodies, got %d", len(bad))
	}
	var events []event
	for range 5000 {
		events = append(events, h.next(false)...)
	}
	for body := range bad {
		events = append(events, event{body: body})
	}
	rand.New(rand.NewPCG(42, 1)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })

	env := q.env(t, addr)
	r := start(t, fromQueue, env)
	q.send(events...)
	eventually(t, func() string {
		visible, held := q.left()
		if l := r.ledger(); visible+held > 0 || l.Received < int64(len(events)) || l.InFlight() > 0 {
			return fmt.Sprintf("%d messages in the queue, %d held, ledger %+v", visible, held, l)
		}
		return ""
	})
	l := r.stop()
	if visible, held := q.left(); visible+held > 0 {
		t.Errorf("the queue has %d messages, %d held", visible, held)
	}

	// The ledger. SQS may deliver twice, which this server doesn't do without reason.
	if l.Received != 5020 || l.Poisoned != 20 || l.Released != 0 || l.Filtered != int64(h.kinds["package"]) ||
		l.Written != 5000-l.Filtered || l.RecordErrors != 0 {
		t.Errorf("ledger of 5,000 good events, %d of them to be filtered, and 20 poison: %+v", h.kinds["package"], l)
	}

	t.Run("Redis is as the model says", func(t *testing.T) {
		h.t = t
		h.check(dial(t, addr, 0), "production")
	})

	t.Run("the poison queue holds the poison, whole, with reasons, and nothing else", func(t *testing.T) {
		found := poisoned(t, env["POISON"])
		for body, part := range bad {
			entries := found[body]
			delete(found, body)
			if len(entries) != 1 {
				t.Errorf("%d entries for %s", len(entries), body)
				continue
			}
			e := entries[0]
			if p := e.Poison; p == nil || p.Reason == "" || p.Stage == "" || p.Attempts < 1 || p.ReceivedAt == "" || p.At == "" || p.Pipeline != "from-queue" {
				t.Errorf("poison %+v is not complete, for %s", p, body)
			} else if !strings.Contains(p.Reason, part) {
				t.Errorf("reason %q doesn't mention %q, for %s", p.Reason, part, body)
			}
			if e.ID == "" || e.Metadata["sqs_message_id"] == "" || e.Metadata["sqs_sent_at"] == "" {
				t.Errorf("the original's id or metadata are missing: %+v", e)
			}
		}
		for body := range found {
			t.Errorf("this is no poison: %s", body)
		}
	})

	t.Run("the recording replayed into an empty Redis leaves the same", func(t *testing.T) {
		var bodies []string
		for e := range recorded(t, env["RECORDINGS"]) {
			bodies = append(bodies, string(e.Payload))
		}
		sent := make([]string, len(events))
		for i, e := range events {
			sent[i] = e.body
		}
		slices.Sort(bodies)
		slices.Sort(sent)
		if !slices.Equal(bodies, sent) {
			t.Errorf("recorded %d bodies, sent %d, and they are not the same", len(bodies), len(sent))
		}
		replay := maps.Clone(env)
		replay["DB"], replay["FILES"], replay["POISON"] = "1", filepath.Join(env["RECORDINGS"], "*"), filepath.Join(t.TempDir(), "poison")
		again := start(t, fromFile+"poison_queue:\n  file: {dir: \"${POISON}\"}\n", replay).wait()
		if again.Received != l.Received || again.Written != l.Written || again.Filtered != l.Filtered || again.Poisoned != l.Poisoned {
			t.Errorf("replay: %+v, want the counts of %+v", again, l)
		}
		compare(t, dump(t, dial(t, addr, 1)), dump(t, dial(t, addr, 0)), begun)
	})
}
