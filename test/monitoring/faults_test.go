package monitoring

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// fault is something that really happens. It returns what was scraped before it and while it lasted, and the names of
// the gauges that grow while it lasts.
type fault func(t *testing.T) (before, after []scrape, grows []string)

// faults has one or more for every alert, and each fires this alert and no other.
var faults = map[string]map[string]fault{
	"PenstockDown":          {"Redis is stopped": redisStopped, "Redis hangs": redisHangs, "SQS is away": queueAway},
	"PenstockTransformDown": {"the Edge API is away": edgeAway, "the Edge API refuses the key": keyRefused},
	"PenstockMissing":       {"the process crashed": crashed, "the process was stopped": stopped},
	"PenstockRestarting":    {"it crashes again and again": crashesAgain},
	"PenstockLagging":       {"events are late": eventsAreLate},
	"PenstockStuck":         {"a client hangs": clientHangs},
	"PenstockBacklog":       {"the sink is too slow": sinkIsSlow},
	"PenstockPoison":        {"bodies can't be decoded": poison},
	"PenstockReleasing":     {"and there is no poison queue": poisonWithoutQueue},
	"PenstockRedisMemory":   {"maxmemory is nearly reached": redisNearlyFull},
	"PenstockRedisWiped":    {"FLUSHALL": redisFlushed, "a restart without data": redisRestarted},
	"PenstockMemory":        {"GOMEMLIMIT is too small": memoryLimit},
	"PenstockUndated":       {"a source without times": undated},
	"PenstockPoisonWaiting": {"the queue for it is away": poisonWaits},
	"PenstockNotRecording":  {"the queue for it is away": recordingFails},
}

func TestFaults_eachFiresItsAlertAndNoOther(t *testing.T) {
	t.Parallel()
	for _, alert := range alerts(t) {
		if len(faults[alert.Alert]) == 0 {
			t.Errorf("no fault fires %s", alert.Alert)
		}
	}
	for alert, ways := range faults {
		for name, happens := range ways {
			t.Run(alert+"/"+name, func(t *testing.T) {
				t.Parallel()
				before, after, grows := happens(t)
				fires(t, story(before, after, grows), alert)
			})
		}
	}
}

// intoRedis is a pipeline of made-up events.
const intoRedis = `
source: {generate: {rate: 100/s}}
transforms: [decode_entitlements: {}]
poison_queue: {drop: {}}
sink: {redis: {host: "${REDIS}", timeout: 1s}}
`

// flowing starts it, and returns it with what is scraped when it is at work.
func flowing(t *testing.T, address string) (*process, []scrape) {
	t.Helper()
	p := start(t, intoRedis, "REDIS="+address)
	p.is(written, positive)
	return p, p.watch()
}

const written = `penstock_messages_total{outcome="written",pipeline="it"}`

func redisStopped(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t)
	p, before := flowing(t, server.Addr())
	server.Stop()
	p.is(`penstock_up{pipeline="it"}`, zero)
	return before, p.watch(), []string{"penstock_oldest_in_flight_seconds"}
}

func redisHangs(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t)
	p, before := flowing(t, server.Addr())
	server.Pause()
	defer server.Resume()
	p.is(`penstock_up{pipeline="it"}`, zero)
	return before, p.watch(), []string{"penstock_oldest_in_flight_seconds"}
}

func zero(v float64) bool { return v == 0 }

func redisFlushed(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t)
	p, before := flowing(t, server.Addr())
	if err := client(t, server).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	p.is(`penstock_store_wiped_total{pipeline="it"}`, positive)
	return before, p.watch(), nil
}

func redisRestarted(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t)
	p, before := flowing(t, server.Addr())
	server.Restart()
	p.is(`penstock_store_wiped_total{pipeline="it"}`, positive)
	p.is(`penstock_up{pipeline="it"}`, positive)
	return before, p.watch(), nil
}

func redisNearlyFull(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t, "--maxmemory", "1gb", "--maxmemory-policy", "noeviction")
	p := start(t, strings.Replace(intoRedis, "100/s", "1/s", 1), "REDIS="+server.Addr()) // few, lest they fill it
	used, limit := fmt.Sprintf(`penstock_redis_memory_used_bytes{pipeline="it",server=%q}`, server.Addr()), fmt.Sprintf(`penstock_redis_memory_max_bytes{pipeline="it",server=%q}`, server.Addr())
	p.is(used, positive)
	p.is(written, positive)
	before = p.watch()
	// The filling is large, so that what the server itself needs now and then is little beside it.
	c := client(t, server)
	for i := range 64 {
		if err := c.Set(t.Context(), "filling"+strconv.Itoa(i), strings.Repeat("x", 1<<20), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := c.InfoMap(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", strconv.Itoa(int(n/0.94))).Err(); err != nil {
		t.Fatal(err)
	}
	p.is(limit, func(v float64) bool { return v < 1<<30 })
	return before, p.watch(), nil
}

func crashed(t *testing.T) (before, after []scrape, grows []string) {
	p, before := flowing(t, testserver.Redis(t))
	p.kill()
	return before, []scrape{p.scrape()}, nil
}

func stopped(t *testing.T) (before, after []scrape, grows []string) {
	p, before := flowing(t, testserver.Redis(t))
	p.stop()
	return before, []scrape{p.scrape()}, nil
}

func crashesAgain(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t)
	p, before := flowing(t, server.Addr())
	for range 3 {
		p.kill()
		var seen []scrape
		p, seen = flowing(t, server.Addr())
		after = append(after, seen...)
	}
	return before, after, nil
}

func memoryLimit(t *testing.T) (before, after []scrape, grows []string) {
	server := testserver.StartRedis(t)
	p, before := flowing(t, server.Addr())
	p.stop()
	p = start(t, intoRedis, "REDIS="+server.Addr(), "GOMEMLIMIT=16MiB")
	p.is(written, positive)
	return before, p.watch(), nil
}

func clientHangs(t *testing.T) (before, after []scrape, grows []string) {
	when := filepath.Join(t.TempDir(), "now")
	p := start(t, `
source: {generate: {rate: 100/s}}
sink: {faulty: {takes: 1h, when: "${WHEN}"}}
message_timeout: 500ms
`, "WHEN="+when)
	p.is(written, positive)
	before = p.watch()
	create(t, when)
	// Longer than an attempt may take: the engine waits for the sink nevertheless.
	p.is(`penstock_oldest_in_flight_seconds{pipeline="it"}`, func(v float64) bool { return v > 1 })
	return before, p.watch(), []string{"penstock_oldest_in_flight_seconds"}
}

func undated(t *testing.T) (before, after []scrape, grows []string) {
	when := filepath.Join(t.TempDir(), "now")
	p := start(t, `
source: {ticking: {body: '${DATED}', then: '${UNDATED}', when: "${WHEN}"}}
transforms: [decode_entitlements: {}]
sink: {redis: {host: "${REDIS}"}}
`, "WHEN="+when, "DATED="+anEvent(1), "UNDATED="+body(1, time.Time{}), "REDIS="+testserver.Redis(t))
	p.is(written, positive)
	before = p.watch()
	create(t, when)
	p.is(`penstock_undated_events_total{pipeline="it"}`, positive)
	return before, p.watch(), nil
}

func recordingFails(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	endpoint, away := q.through()
	p := start(t, intoRedis+`
record: {sqs: {queue_url: "${QUEUE_URL}", endpoint: "${ENDPOINT}", region: us-east-1, access_key_id: test, secret_access_key: test}}
`, "REDIS="+testserver.Redis(t), "QUEUE_URL="+q.url, "ENDPOINT="+endpoint)
	t.Cleanup(p.kill) // before the proxy, which waits for its requests
	p.is(written, positive)
	before = p.watch()
	away.Store(true)
	p.is(`penstock_record_errors_total{pipeline="it"}`, positive)
	return before, p.watch(), nil
}

func poisonWaits(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	endpoint, away := q.through()
	when := filepath.Join(t.TempDir(), "now")
	p := start(t, `
source: {ticking: {body: '${GOOD}', then: 'no event', when: "${WHEN}"}}
transforms: [decode_entitlements: {}]
sink: {redis: {host: "${REDIS}"}}
poison_queue: {sqs: {queue_url: "${QUEUE_URL}", endpoint: "${ENDPOINT}", region: us-east-1, access_key_id: test, secret_access_key: test}}
`, "WHEN="+when, "GOOD="+anEvent(1), "REDIS="+testserver.Redis(t), "QUEUE_URL="+q.url, "ENDPOINT="+endpoint)
	t.Cleanup(p.kill) // before the proxy, which waits for its requests
	p.is(written, positive)
	before = p.watch()
	away.Store(true)
	create(t, when)
	p.is(`penstock_poison_waiting{pipeline="it"}`, positive)
	return before, p.watch(), []string{"penstock_oldest_in_flight_seconds"}
}

// completing is a pipeline in which the API is asked about every event.
const completing = `
source: {ticking: {body: '{"type":"SOMETHING_NEW","customerId":"a"}', then: '{}', when: never}}
transforms: [refresh_entitlements: {api_key: key, url: "${EDGE}", delay: 0s, request_timeout: 1s}]
sink: {redis: {host: "${REDIS}"}}
`

func edgeAway(t *testing.T) (before, after []scrape, grows []string) {
	edge := testserver.Edge(t, "key")
	return apiFails(t, edge, edge.Stop)
}

func keyRefused(t *testing.T) (before, after []scrape, grows []string) {
	edge := testserver.Edge(t, "key")
	return apiFails(t, edge, func() { edge.Want("another") })
}

func apiFails(t *testing.T, edge *testserver.EdgeServer, happens func()) (before, after []scrape, grows []string) {
	p := start(t, completing, "REDIS="+testserver.Redis(t), "EDGE="+edge.URL())
	t.Cleanup(p.kill) // before the API, which waits for its requests
	p.is(written, positive)
	before = p.watch()
	happens()
	p.is(`penstock_transform_up{pipeline="it",transform="transforms[0].refresh_entitlements"}`, zero)
	return before, p.watch(), []string{"penstock_oldest_in_flight_seconds"}
}

// queue is a queue of a real SQS server, spoken to by plain HTTP.
type queue struct {
	t             *testing.T
	endpoint, url string
}

func newQueue(t *testing.T) *queue {
	t.Helper()
	q := &queue{t: t, endpoint: testserver.SQS(t)}
	var created struct{ QueueURL string }
	q.call("CreateQueue", map[string]any{"QueueName": "events"}, &created)
	q.url = created.QueueURL
	return q
}

func (q *queue) call(action string, request, response any) {
	q.t.Helper()
	text, err := json.Marshal(request)
	if err != nil {
		q.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, q.endpoint, strings.NewReader(string(text)))
	if err != nil {
		q.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "AmazonSQS."+action)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		q.t.Fatal(err)
	}
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		q.t.Fatalf("%s: %s %s %v", action, res.Status, answer, err)
	}
	if err := json.Unmarshal(answer, response); err != nil {
		q.t.Fatal(err)
	}
}

// send sends n messages.
func (q *queue) send(n int, body func(i int) string) {
	q.t.Helper()
	for from := 0; from < n; from += 10 {
		var entries []map[string]any
		for i := from; i < min(from+10, n); i++ {
			entries = append(entries, map[string]any{"Id": strconv.Itoa(i), "MessageBody": body(i)})
		}
		var sent struct{ Failed []json.RawMessage }
		if q.call("SendMessageBatch", map[string]any{"QueueUrl": q.url, "Entries": entries}, &sent); len(sent.Failed) > 0 {
			q.t.Fatalf("SendMessageBatch: %s", sent.Failed[0])
		}
	}
}

// fromQueue is the pipeline of a queue, into a sink to be named.
const fromQueue = `
source:
  sqs:
    queue_url: ${QUEUE_URL}
    endpoint: ${ENDPOINT}
    region: us-east-1
    access_key_id: test
    secret_access_key: test
    wait_time: 1s
`

const decoded = fromQueue + `
transforms: [decode_entitlements: {}]
sink: {redis: {host: "${REDIS}"}}
`

func (q *queue) start(yaml string, env ...string) *process {
	q.t.Helper()
	return start(q.t, yaml, append([]string{"QUEUE_URL=" + q.url, "ENDPOINT=" + q.endpoint}, env...)...)
}

// through returns another endpoint of the queue, which can be away.
func (q *queue) through() (endpoint string, away *atomic.Bool) {
	q.t.Helper()
	to, err := url.Parse(q.endpoint)
	if err != nil {
		q.t.Fatal(err)
	}
	away = &atomic.Bool{}
	forward := httputil.NewSingleHostReverseProxy(to)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	q.t.Cleanup(proxy.Close)
	return proxy.URL, away
}

func queueAway(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	endpoint, away := q.through()
	q.send(10, anEvent)
	p := start(t, decoded, "QUEUE_URL="+q.url, "ENDPOINT="+endpoint, "REDIS="+testserver.Redis(t))
	t.Cleanup(p.kill) // before the proxy, which waits for its requests
	p.is(written, positive)
	before = p.watch()
	away.Store(true)
	p.is(`penstock_up{pipeline="it"}`, zero)
	return before, p.watch(), nil
}

func eventsAreLate(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	q.send(10, anEvent)
	p := q.start(decoded, "REDIS="+testserver.Redis(t))
	p.is(written, positive)
	before = p.watch()
	const lags = `penstock_event_lag_seconds_count{pipeline="it"}`
	have := p.scrape().values[lags]
	after = []scrape{p.scrape()}
	q.send(100, func(i int) string { return body(i, time.Now().Add(-10*time.Minute)) })
	p.is(lags, func(v float64) bool { return v >= have+100 })
	return before, append(after, p.scrape()), nil
}

func sinkIsSlow(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	when := filepath.Join(t.TempDir(), "now")
	const slow = fromQueue + `
sink: {faulty: {takes: 1s, when: "${WHEN}"}}
max_in_flight: 10
`
	q.send(10, anEvent)
	p := q.start(slow, "WHEN="+when)
	p.is(written, positive)
	before = p.watch()
	p.stop()
	q.send(1200, anEvent)
	create(t, when)
	p = q.start(slow, "WHEN="+when)
	p.is(written, positive)
	return before, p.watch(), nil
}

func poison(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	q.send(10, anEvent)
	p := q.start(decoded+"poison_queue: {file: {dir: \"${POISON}\"}}\n", "REDIS="+testserver.Redis(t), "POISON="+t.TempDir())
	p.is(written, positive)
	before = p.watch()
	q.send(1, func(int) string { return "{}}" })
	p.is(`penstock_messages_total{outcome="poisoned",pipeline="it"}`, positive)
	return before, p.watch(), nil
}

func poisonWithoutQueue(t *testing.T) (before, after []scrape, grows []string) {
	q := newQueue(t)
	q.send(10, anEvent)
	p := q.start(decoded, "REDIS="+testserver.Redis(t))
	p.is(written, positive)
	before = p.watch()
	q.send(1, func(int) string { return "{}}" })
	const released = `penstock_messages_total{outcome="released",pipeline="it"}`
	p.is(released, positive)
	after = []scrape{p.scrape()}
	p.is(released, func(v float64) bool { return v >= 2 }) // it came back, and will again
	return before, append(after, p.scrape()), nil
}

// body is an event of a customer that happened at a time, or doesn't say when.
func body(customer int, at time.Time) string {
	event := map[string]any{"__typename": "EntitlementsUpdated", "accountId": "a", "environmentId": "e",
		"customerId": "customer-" + strconv.Itoa(customer), "resourceId": nil, "entitlements": []any{}}
	if !at.IsZero() {
		event["timestamp"] = at.UTC().Format(time.RFC3339Nano)
	}
	text, _ := json.Marshal(event)
	return string(text)
}

func anEvent(customer int) string { return body(customer, time.Now()) }

func create(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, server *testserver.RedisServer) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { _ = c.Close() })
	return c
}
