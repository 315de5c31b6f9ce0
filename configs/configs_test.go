package configs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
)

// binary builds the program once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "penstock")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "penstock")
	cmd := exec.Command("go", "build", "-o", file, "../cmd/penstock")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath") // as it is released
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return file, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// process is a running penstock, in a folder of its own.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	dir            string
	stdout, stderr output
	ended          chan struct{}
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func start(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(file, args...), dir: dir, ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%s\nstdout: %s\nstderr: %s", strings.Join(args, " "), p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

const patience = 30 * time.Second

// until waits until f returns true.
func (p *process) until(what string, f func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.ended:
			if !f() {
				p.t.Fatalf("ended before %s", what)
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// says waits for a line of the log.
func (p *process) says(text string) {
	p.t.Helper()
	p.until("it said "+text, func() bool { return strings.Contains(p.stderr.String(), text) })
}

// stop sends the first signal and expects a clean end.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.wantExit(0)
}

func (p *process) wantExit(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("exit %d, want %d", got, code)
	}
}

// ledger returns the last line of the log, and fails when it doesn't add up.
func (p *process) ledger() map[string]float64 {
	p.t.Helper()
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	var fields map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &fields); err != nil {
		p.t.Fatal(err)
	}
	l := map[string]float64{}
	for name, value := range fields {
		if n, ok := value.(float64); ok {
			l[name] = n
		}
	}
	if l["received"] != l["written"]+l["filtered"]+l["poisoned"]+l["released"] {
		p.t.Errorf("the ledger doesn't add up: %v", l)
	}
	return l
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// event is an event of the provider's: a customer's entitlement to one feature.
func event(customer string) string {
	return `{"__typename":"EntitlementsUpdated","customerId":"` + customer + `","entitlements":[{"isGranted":true,` +
		`"entitlementUpdatedAt":"2026-11-20T10:15:30.250Z","feature":{"featureType":"BOOLEAN","meterType":"None","displayName":"SSO","refId":"feature-sso"}}]}`
}

// queues is an SQS server of the test's own.
type queues struct {
	t      *testing.T
	client *sqs.Client
	env    []string // leads to it
}

func startQueues(t *testing.T) *queues {
	t.Helper()
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "x", SecretAccessKey: "x"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	return &queues{t: t, client: client, env: []string{"AWS_ENDPOINT_URL_SQS=" + endpoint, "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x"}}
}

// create makes a queue that holds bodies and returns its URL.
func (q *queues) create(name string, bodies ...string) (url string) {
	q.t.Helper()
	made, err := q.client.CreateQueue(q.t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(name)})
	if err != nil {
		q.t.Fatal(err)
	}
	for _, body := range bodies {
		if _, err := q.client.SendMessage(q.t.Context(), &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: aws.String(body)}); err != nil {
			q.t.Fatal(err)
		}
	}
	return *made.QueueUrl
}

// left tells how many messages a queue holds: visible + in flight.
func (q *queues) left(url string) string {
	q.t.Helper()
	got, err := q.client.GetQueueAttributes(q.t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		q.t.Fatal(err)
	}
	return got.Attributes["ApproximateNumberOfMessages"] + "+" + got.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

func hasKey(t *testing.T, addr, key string) bool {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = client.Close() }()
	n, err := client.Exists(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func TestConfigs_everyOneHasATest(t *testing.T) {
	source, err := os.ReadFile("configs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range configs.Names() {
		if !strings.Contains(string(source), `, "run", "`+name+`"`) && name != "quickstart" && name != configs.PersistentCache {
			t.Errorf("%s is not run by a test", name)
		}
	}
}

func TestQuickstart_servesACacheThatNeedsNothing(t *testing.T) {
	// As it stands, but for the ports: other tests may use them at the same time.
	text, ok := configs.Read("quickstart")
	if !ok {
		t.Fatal("no quickstart")
	}
	redisAddr, httpAddr := freeAddress(t), freeAddress(t)
	changed := strings.NewReplacer("127.0.0.1:6380", redisAddr, "127.0.0.1:4000", httpAddr).Replace(string(text))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "quickstart.yaml"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, nil, "run", "quickstart.yaml")
	p.says(`"msg":"ready"`)
	p.until("customer-3 was there", func() bool { return hasKey(t, redisAddr, "production:c_customer-3") })
	if code, body := get(t, "http://"+httpAddr+"/readyz"); code != 200 || body != `{"status":"UP","consumers":1,"redis":"CONNECTED"}` {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, body := get(t, "http://"+httpAddr+"/api/status"); code != 200 || !strings.Contains(body, `"name":"quickstart"`) {
		t.Errorf("status: %d %s", code, body)
	}
	if _, body := get(t, "http://"+httpAddr+"/metrics"); !strings.Contains(body, `penstock_messages_total{outcome="written",pipeline="quickstart"}`) {
		t.Errorf("metrics: %s", body)
	}
	inspect := start(t, dir, nil, "inspect", "customer-3", "-f", "quickstart.yaml")
	inspect.wantExit(0)
	for _, want := range []string{"customer-3  in Redis (embedded, " + redisAddr + ")", "SDK 3.x  HIT\n", "SDK 4.x  HIT\n", "feature-api-calls"} {
		if !strings.Contains(inspect.stdout.String(), want) {
			t.Errorf("inspect: no %q in\n%s", want, inspect.stdout.String())
		}
	}
	p.stop()
	if l := p.ledger(); l["received"] == 0 || l["released"] != 0 {
		t.Errorf("ledger: %v", l)
	}

	after := start(t, dir, nil, "inspect", "customer-3", "-f", "quickstart.yaml")
	after.wantExit(1)
	if !strings.Contains(after.stderr.String(), "is it running?") {
		t.Errorf("inspect after the stop: %s", after.stderr.String())
	}
}

func TestPersistentCache_runsOnTheExistingServicesEnvironment(t *testing.T) {
	q := startQueues(t)
	url := q.create("events", event("customer-a"), event("customer-b"), "not an event")
	server := testserver.StartRedis(t, "--requirepass", "s3cret")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	httpAddr := freeAddress(t)
	_, port, _ := net.SplitHostPort(httpAddr)
	p := start(t, dir, append(q.env,
		"QUEUE_URL="+url, "REDIS_HOST=127.0.0.1", fmt.Sprintf("REDIS_PORT=%d", server.Port()), "REDIS_DB=1", "REDIS_PASSWORD_FILE=password",
		"REDIS_TLS=no", "REDIS_ENVIRONMENT_PREFIX=staging", "KEYS_TTL_IN_MS=60000", "BATCH_SIZE=64", "CACHE_UPDATE_POLICY=UPSERT",
		"PORT="+port, "POISON_DIR=poison", "SENTRY_DSN=https://key@sentry.example/1", "DISABLE_SENTRY=1", "CACHE_LOCK_RETRY_COUNT=240", "LOG_LEVEL=debug",
	), "run")
	p.says(`"msg":"ready"`)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "s3cret", DB: 1})
	defer func() { _ = client.Close() }()
	p.until("both customers were there", func() bool {
		n, err := client.Exists(context.Background(), "staging:c_customer-a", "staging:c_customer-b").Result()
		if err != nil {
			t.Fatal(err)
		}
		return n == 2
	})
	if ttl := client.TTL(context.Background(), "staging:c_customer-a").Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("TTL %s", ttl)
	}
	p.until("the queue was empty", func() bool { return q.left(url) == "0+0" })
	if code, body := get(t, "http://"+httpAddr+"/readyz"); code != 200 || body != `{"status":"UP","consumers":10,"redis":"CONNECTED"}` {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+httpAddr+"/api/status"); code != 404 {
		t.Errorf("/api/status on all interfaces: %d", code)
	}
	for _, want := range []string{
		"BATCH_SIZE=64: SQS hands out 10", "set, but not used by this version: CACHE_LOCK_RETRY_COUNT",
		fmt.Sprintf(`"sdk_redis":[{"host":"127.0.0.1","port":%d,"db":1,"environmentPrefix":"staging"}]`, server.Port()),
	} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("no %s in the log", want)
		}
	}
	if strings.Contains(p.stderr.String(), "s3cret") {
		t.Error("the password is in the log")
	}
	p.stop()
	if l := p.ledger(); l["received"] != 3 || l["written"] != 2 || l["poisoned"] != 1 {
		t.Errorf("ledger: %v", l)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "poison", "*.ndjson")); len(files) != 1 {
		t.Errorf("poison queue: %v", files)
	}
}

func TestPersistentCache_poisonsIntoAQueue(t *testing.T) {
	q := startQueues(t)
	url, poison := q.create("events", "not an event", event("customer-a")), q.create("poison")
	server := testserver.StartRedis(t)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	p := start(t, t.TempDir(), append(q.env, "QUEUE_URL="+url, "POISON_QUEUE_URL="+poison, "PORT="+port,
		"REDIS_HOST=127.0.0.1", fmt.Sprintf("REDIS_PORT=%d", server.Port())), "run")
	p.says(`"msg":"ready"`)
	p.until("the poison queue had the message", func() bool { return q.left(poison) == "1+0" })
	p.until("customer-a was there", func() bool { return hasKey(t, server.Addr(), "production:c_customer-a") })
	p.stop()
	if l := p.ledger(); l["written"] != 1 || l["poisoned"] != 1 || l["released"] != 0 {
		t.Errorf("ledger: %v", l)
	}
}

func TestSQSToFileAndReplay_carryAQueueIntoARedis(t *testing.T) {
	q := startQueues(t)
	url := q.create("events", event("customer-a"), event("customer-b"), event("customer-c"))
	dir := t.TempDir()
	drain := start(t, dir, append(q.env, "QUEUE_URL="+url, "RECORDINGS_DIR=drained"), "run", "sqs-to-file")
	drain.until("the queue was empty", func() bool { return q.left(url) == "0+0" })
	drain.stop()
	if l := drain.ledger(); l["written"] != 3 {
		t.Errorf("ledger: %v", l)
	}

	addr := testserver.Redis(t)
	host, port, _ := net.SplitHostPort(addr)
	target := []string{"REDIS_HOST=" + host, "REDIS_PORT=" + port}
	replay := start(t, dir, append(target, "RECORDINGS=drained/*"), "run", "replay")
	replay.wantExit(0)
	if l := replay.ledger(); l["written"] != 3 {
		t.Errorf("ledger: %v", l)
	}
	if !hasKey(t, addr, "production:c_customer-b") {
		t.Error("customer-b is not there")
	}

	again := start(t, dir, target, "replay", configs.PersistentCache, "drained", "--rate", "1000/s")
	again.wantExit(0)
	if out := again.stdout.String(); !strings.Contains(out, "replayed 3 messages in ") || !strings.Contains(out, "written  3\n") {
		t.Errorf("summary: %s", out)
	}
}

func TestFanOut_fillsBothRedis(t *testing.T) {
	q := startQueues(t)
	url := q.create("events", event("customer-a"))
	one, two := testserver.StartRedis(t), testserver.StartRedis(t)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	p := start(t, t.TempDir(), append(q.env, "QUEUE_URL="+url, "PORT="+port,
		"REDIS_HOST=127.0.0.1", fmt.Sprintf("REDIS_PORT=%d", one.Port()),
		"SECOND_REDIS_HOST=127.0.0.1", fmt.Sprintf("SECOND_REDIS_PORT=%d", two.Port()),
	), "run", "fan-out")
	p.until("the queue was empty", func() bool { return q.left(url) == "0+0" })
	for _, addr := range []string{one.Addr(), two.Addr()} {
		if !hasKey(t, addr, "production:c_customer-a") {
			t.Errorf("%s has no customer-a", addr)
		}
	}
	p.stop()
}
