package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// refreshing is the built-in service on a queue, a Redis and a stub of the Edge API.
type refreshing struct {
	t      testing.TB
	q      *queue
	store  string
	edge   *testserver.EdgeServer
	poison string
	p      *process
	web    *web
}

func newRefreshing(t testing.TB) *refreshing {
	t.Helper()
	return &refreshing{t: t, q: startQueue(t), store: testserver.Redis(t), edge: testserver.Edge(t, "key"), poison: t.TempDir()}
}

// start runs the built-in service with its environment.
func (r *refreshing) start(key string) {
	r.t.Helper()
	host, port := split(r.t, r.store)
	address := freeAddress(r.t)
	_, webPort := split(r.t, address)
	r.p = launch(r.t, penstockProgram(r.t, map[string]string{
		"QUEUE_URL": r.q.url, "AWS_ENDPOINT_URL_SQS": r.q.endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"REDIS_HOST": host, "REDIS_PORT": strconv.Itoa(port), "POISON_DIR": r.poison, "PORT": strconv.Itoa(webPort),
		"SERVER_API_KEY": key, "EDGE_API_URL": r.edge.URL(),
	}, "run"))
	r.web = newWeb(r.p, address)
}

func (r *refreshing) stop() summary {
	r.t.Helper()
	r.p.signal(syscall.SIGTERM)
	if code := r.p.code(); code != 0 {
		r.t.Errorf("exit code %d; stderr:\n%s", code, r.p.errors())
	}
	if found := poisoned(r.t, r.poison); len(found) > 0 {
		r.t.Errorf("%d bodies are in the poison queue", len(found))
	}
	if n := r.edge.Overlaps(); n > 0 {
		r.t.Errorf("%d requests about a customer while another one was under way", n)
	}
	return r.p.summary("stopped")
}

func customer(i int) string { return fmt.Sprintf("customer-%d", i) }

// says makes the API tell a limit for each of n customers.
func (r *refreshing) says(n, limit int) {
	for i := range n {
		r.edge.Set(testserver.EdgeSubject{Customer: customer(i)}, fmt.Sprintf(`[{"__typename":"FeatureEntitlement","isGranted":true,"usageLimit":%d,`+
			`"currentUsage":%d,"hasUnlimitedUsage":false,"entitlementUpdatedAt":%q,"usageUpdatedAt":%q,`+
			`"feature":{"refId":"calls","featureType":"NUMBER","meterType":"Incremental","displayName":"Calls"}}]`,
			limit+i, i, iso(time.Now()), iso(time.Now())), "")
	}
}

// holds says how Redis differs from what the API tells of n customers, or "".
func (r *refreshing) holds(n, limit int) string {
	c := dial(r.t, r.store, 0)
	for i := range n {
		key := "production:c_" + customer(i)
		value, err := c.Get(context.Background(), key).Result()
		if want := fmt.Sprintf(`"usageLimit":%d,`, limit+i); err != nil || !strings.Contains(value, want) {
			return fmt.Sprintf("%s holds %q, %v, want %s", key, value, err, want)
		}
		usage, err := c.Get(context.Background(), key+":f_calls").Result()
		if want := fmt.Sprintf(`{"currentUsage":%d}`, i); err != nil || usage != want {
			return fmt.Sprintf("the usage of %s is %q, %v, want %s", key, usage, err, want)
		}
	}
	return ""
}

// sayingTooLittle makes events about customers that tell nothing but whom they are about, in every shape.
func sayingTooLittle(n, customers int) []event {
	events := make([]event, n)
	for i := range events {
		c := customer(i % customers)
		events[i].body = [...]string{
			fmt.Sprintf(`{"type":"ENTITLEMENTS_UPDATED","customerId":%q}`, c),
			fmt.Sprintf(`{"type":"credit.balance.updated","customer":{"id":%q},"currencyId":"cred","totalConsumed":%d}`, c, i),
			fmt.Sprintf(`{"type":"ENTITLEMENTS_UPDATED","customerId":%q,"entitlements":[{"isGranted":"perhaps"}]}`, c),
			fmt.Sprintf(`{"type":"SOMETHING_NEW","customerId":%q}`, c),
		}[i%4]
	}
	rand.New(rand.NewPCG(7, uint64(n))).Shuffle(n, func(i, j int) { events[i], events[j] = events[j], events[i] })
	return events
}

func TestRefresh_aBurstCostsARequestPerCustomerAndEndsRight(t *testing.T) {
	t.Parallel()
	const events, customers = 2000, 300
	r := newRefreshing(t)
	for burst := 1; burst <= 2; burst++ {
		limit := 1000 * burst
		r.q = startQueue(t) // the server may hand messages to polls of the process before, which are gone
		r.says(customers, limit)
		before := len(r.edge.Requests())
		r.q.send(sayingTooLittle(events, customers)...)
		r.start("key")
		r.p.eventually(r.q.notEmpty)
		if s := r.stop(); s.Written != events || s.Received != events {
			t.Errorf("burst %d: %+v", burst, s)
		}
		asked := len(r.edge.Requests()) - before
		if asked > customers || asked < customers {
			t.Errorf("burst %d of %d events: %d requests for %d customers", burst, events, asked, customers)
		}
		if problem := r.holds(customers, limit); problem != "" {
			t.Errorf("burst %d: %s", burst, problem)
		}
		t.Logf("burst %d: %d events, %d customers, %d requests", burst, events, customers, asked)
	}
}

func TestRefresh_whileTheAPIIsAwayMessagesAreHeldAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	const customers, plain = 100, 500
	r := newRefreshing(t)
	r.says(customers, 10)
	r.edge.Stop()
	events := sayingTooLittle(2*customers, customers)
	for i := range plain {
		events = append(events, event{body: fmt.Sprintf(`{"type":"USAGE_UPDATED","customerId":"other-%d","featureId":"f","currentUsage":%d}`, i, i)})
	}
	rand.New(rand.NewPCG(8, 8)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	r.q.send(events...)
	begin := time.Now()
	r.start("key")
	r.web.eventually("/readyz", `503 {"status":"DOWN","consumers":10,"redis":"CONNECTED"}`)
	r.web.eventually("/livez", `200 {"status":"UP"}`)
	r.p.logged("outage begins")
	r.p.eventually(func() string {
		if visible, held := r.q.left(); visible != 0 || held != 2*customers {
			return fmt.Sprintf("%d visible, %d held: want what needs the API held, and the rest done", visible, held)
		}
		return ""
	})
	// The outage lasts longer than a retry budget's attempts and a message's timeout.
	time.Sleep(30*time.Second - time.Since(begin))
	if got := r.web.get("/readyz"); got != `503 {"status":"DOWN","consumers":10,"redis":"CONNECTED"}` {
		t.Errorf("after 30 s: %s", got)
	}
	r.edge.Start()
	r.web.eventually("/readyz", ready)
	r.p.eventually(r.q.notEmpty)
	if s := r.stop(); s.Written != 2*customers+plain || s.Received != s.Written {
		t.Errorf("%+v", s)
	}
	if problem := r.holds(customers, 10); problem != "" {
		t.Error(problem)
	}
}

func TestRefresh_aRefusedKeyHoldsAndSaysSo(t *testing.T) {
	t.Parallel()
	const customers = 20
	r := newRefreshing(t)
	r.says(customers, 5)
	r.q.send(sayingTooLittle(2*customers, customers)...)
	r.start("a-wrong-key")
	r.p.logged(`"sends":"ids of customers to 127.0.0.1:`)
	r.p.logged("401 Unauthorized: the API key is refused: is it a server API key of this environment?")
	r.web.eventually("/readyz", `503 {"status":"DOWN","consumers":10,"redis":"CONNECTED"}`)
	if strings.Contains(r.p.errors(), "a-wrong-key") {
		t.Error("the key is in the log")
	}
	if s := r.stop(); s.Written+s.Filtered+s.Poisoned != 0 {
		t.Errorf("with a refused key: %+v", s)
	}
	r.start("key") // put right
	r.web.eventually("/readyz", ready)
	r.p.eventually(r.q.notEmpty)
	if s := r.stop(); s.Written != 2*customers {
		t.Errorf("with the right one: %+v", s)
	}
	if problem := r.holds(customers, 5); problem != "" {
		t.Error(problem)
	}

	// What the API said is a hit for the provider's SDK, which has no API to ask now.
	api := startAPI(t)
	api.Close()
	reads := startReader(t, r.store, api.URL)
	got := reads.ask(question{Prefix: "production", Method: "getMeteredEntitlement", CustomerID: customer(3), FeatureID: "calls"})
	var answer struct {
		HasAccess                bool
		UsageLimit, CurrentUsage int
	}
	if err := json.Unmarshal(got.Answer, &answer); err != nil {
		t.Fatal(err)
	}
	if got.Misses != 0 || len(got.Failures) != 0 || !answer.HasAccess || answer.UsageLimit != 5+3 || answer.CurrentUsage != 3 {
		t.Errorf("the SDK answers %s, misses %d, failures %q", got.Answer, got.Misses, got.Failures)
	}
	reads.close()
}
