package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// environmentFiles writes the pipelines of docs/environments.md into a folder.
func environmentFiles(t testing.TB) (production, staging string) {
	t.Helper()
	page, err := os.ReadFile(root(t, "docs", "environments.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(found) != 2 {
		t.Fatalf("docs/environments.md has %d pipelines, want 2", len(found))
	}
	dir := t.TempDir()
	production, staging = filepath.Join(dir, "production.yaml"), filepath.Join(dir, "staging.yaml")
	for i, path := range []string{production, staging} {
		if err := os.WriteFile(path, found[i][1], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return production, staging
}

// usages makes n events, each about the usage of another customer.
func usages(n, usage int) []event {
	events := make([]event, n)
	for i := range events {
		events[i].body = fmt.Sprintf(`{"type":"USAGE_UPDATED_V2","customerId":%q,"featureId":"f","usage":{"currentUsage":%d,"usageUpdatedAt":"2026-11-20T00:00:%02dZ"}}`,
			customer(i), usage, usage%60)
	}
	return events
}

func TestEnvironments_shareAProcessAndNothingElse(t *testing.T) {
	t.Parallel()
	const n = 200
	production, staging := startQueue(t), startQueue(t)
	// One server for both queues, as in one AWS region.
	var created struct{ QueueURL string }
	production.call("CreateQueue", map[string]any{"QueueName": "staging"}, &created)
	staging.endpoint, staging.url = production.endpoint, created.QueueURL
	first, second := testserver.Redis(t), testserver.StartRedis(t, "--appendonly", "yes")
	host, port := split(t, first)
	address := freeAddress(t)
	_, webPort := split(t, address)
	env := map[string]string{
		"PRODUCTION_QUEUE_URL": production.url, "STAGING_QUEUE_URL": staging.url, "AWS_ENDPOINT_URL_SQS": production.endpoint,
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"REDIS_HOST": host, "REDIS_PORT": strconv.Itoa(port), "PORT": strconv.Itoa(webPort),
	}
	productionFile, stagingFile := environmentFiles(t)
	both := func(wantUsage int) func() string {
		return func() string {
			if problem := production.notEmpty() + staging.notEmpty(); problem != "" {
				return problem
			}
			state := dump(t, dial(t, first, 0))
			for i := range n {
				for prefix, usage := range map[string]int{"production": wantUsage, "staging": wantUsage + 1} {
					key := prefix + ":c_" + customer(i) + ":f_f"
					if got, want := state[key].value, fmt.Sprintf(`{"currentUsage":%d}`, usage); got != want {
						return fmt.Sprintf("%s is %s, want %s", key, got, want)
					}
				}
			}
			return ""
		}
	}
	const ready = `200 {"status":"UP","consumers":20,"redis":"CONNECTED"}`

	// One Redis, two prefixes.
	p := launch(t, penstockProgram(t, env, "run", productionFile, stagingFile))
	w := newWeb(p, address)
	w.eventually("/readyz", ready)
	production.send(usages(n, 10)...)
	staging.send(usages(n, 11)...)
	p.eventually(both(10))
	metrics := w.get("/metrics")
	for _, line := range []string{
		`penstock_messages_total{outcome="written",pipeline="production"} 200`, `penstock_messages_total{outcome="written",pipeline="staging"} 200`,
		`penstock_up{pipeline="production"} 1`, `penstock_up{pipeline="staging"} 1`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %q in the metrics", line)
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.errors())
	}

	// A Redis each, and one of them away.
	secondHost, secondPort := split(t, second.Addr())
	env["STAGING_REDIS_HOST"], env["STAGING_REDIS_PORT"] = secondHost, strconv.Itoa(secondPort)
	second.Stop()
	p = launch(t, penstockProgram(t, env, "run", productionFile, stagingFile))
	w = newWeb(p, address)
	w.eventually("/readyz", `503 {"status":"DOWN","consumers":10,"redis":"DISCONNECTED"}`)
	production.send(usages(n, 20)...)
	staging.send(usages(n, 21)...)
	p.eventually(production.notEmpty)
	if visible, held := staging.left(); visible+held != n {
		t.Errorf("staging's queue has %d messages, want %d: its Redis is away", visible+held, n)
	}
	second.Restart()
	w.eventually("/readyz", ready)
	p.eventually(staging.notEmpty)
	for prefix, c := range map[string]struct {
		addr  string
		usage int
	}{"production": {first, 20}, "staging": {second.Addr(), 21}} {
		state := dump(t, dial(t, c.addr, 0))
		for i := range n {
			key := prefix + ":c_" + customer(i) + ":f_f"
			if got, want := state[key].value, fmt.Sprintf(`{"currentUsage":%d}`, c.usage); got != want {
				t.Fatalf("%s is %s, want %s", key, got, want)
			}
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.errors())
	}
}
