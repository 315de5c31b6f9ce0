package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// nowhere is a URL on which nobody answers: port 1 of the loopback is never given out.
const nowhere = "http://127.0.0.1:1"

// TestDropIn_thePagesEnvironmentStartsTheImage is the main proof that the image takes the place of the existing one:
// what docs/container.md hands to `docker run`, which is what the existing service's page does, the image's own
// command line, user and file tree, a real queue, a real Redis, and the provider's SDK as the reader. Only addresses
// differ.
func TestDropIn_thePagesEnvironmentStartsTheImage(t *testing.T) {
	t.Parallel()
	env := pageEnvironment(t)
	q := startQueue(t)
	store := testserver.StartRedis(t, "--appendonly", "yes")
	address := freeAddress(t)
	_, port := split(t, address)
	if !strings.HasSuffix(env["QUEUE_URL"], "/events") || env["ENVIRONMENT_PREFIX"] != "production" || env["REDIS_DB"] != "0" || env["PORT"] != "4000" {
		t.Fatalf("this test doesn't know the page's environment any more: %v", env)
	}
	maps.Copy(env, map[string]string{
		"QUEUE_URL": q.url, "AWS_ENDPOINT_URL_SQS": q.endpoint, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": strconv.Itoa(store.Port()), "PORT": strconv.Itoa(port),
		"EDGE_API_URL": nowhere,
	})
	c := newContainer(t, env)
	p := launch(t, c.command())
	w := newWeb(p, address)

	// Ready.
	w.eventually("/readyz", ready)
	const up = `200 {"status":"UP"}`
	w.eventually("/livez", up)
	if code, said := c.healthy(); code != 0 || said != up {
		t.Errorf("the image's health check ends with %d and says %s", code, said)
	}

	// It does its job.
	q.send(samplesAt(t, sampleTime, "01", "16", "05")...)
	p.eventually(q.notEmpty)
	api := startAPI(t)
	api.Close() // the answers are Redis's
	r := startReader(t, store.Addr(), api.URL)
	for _, name := range []string{"boolean", "metered, incremental", "enum"} {
		question := readerCases[name].question
		question.Prefix = "production"
		hit(t, r.ask(question), readerCases[name].want)
	}
	r.close()
	week := 604800 * time.Second
	for key, e := range dump(t, dial(t, store.Addr(), 0)) {
		if !strings.HasPrefix(key, "production:") || !strings.HasPrefix(key, "production:penstock:") && (e.ttl > week || e.ttl < week-time.Hour) {
			t.Errorf("%s lives %s", key, e.ttl)
		}
	}

	// Not ready, but healthy: a Redis that is away is no reason to replace the container.
	store.Stop()
	w.eventually("/readyz", disconnected)
	w.eventually("/livez", up)
	if code, said := c.healthy(); code != 0 {
		t.Errorf("while Redis is away the image's health check ends with %d and says %s", code, said)
	}
	store.Restart()
	w.eventually("/readyz", ready)

	// It stops as `docker stop` asks it to, and leaves nothing behind.
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
	if code, _ := c.healthy(); code != 1 {
		t.Errorf("when it is gone the image's health check ends with %d", code)
	}
	c.untouched()
	for _, secret := range []string{"SERVER_API_KEY", "AWS_SECRET_ACCESS_KEY"} {
		if strings.Contains(p.errors(), env[secret]) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// TestDropIn_probesAreWhereThePagePublishesThem holds the port together that five places have.
func TestDropIn_probesAreWhereThePagePublishesThem(t *testing.T) {
	for file, text := range map[string]string{
		"docs/container.md":             "docker run --publish=4000:4000 \\\n",
		"configs/persistent-cache.yaml": `http: {address: ":${PORT:-4000}"}`,
		"deploy/Dockerfile":             "EXPOSE 4000\n",
		"deploy/compose.yaml":           `ports: ["127.0.0.1:4000:4000"]`,
		"internal/cli/healthcheck.go":   `port = "4000"`,
		"docs/operations.md":            "probes and metrics, on all interfaces; 4000",
	} {
		content, err := os.ReadFile(root(t, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), text) {
			t.Errorf("%s has no %q", file, text)
		}
	}
}

func TestDropIn_quickStartInTheContainer(t *testing.T) {
	t.Parallel()
	address, admin, redis := freeAddress(t), freeAddress(t), freeAddress(t)
	c := newContainer(t, nil)
	want := []string{"QUICKSTART_HTTP=0.0.0.0:4000", "QUICKSTART_ADMIN=127.0.0.1:4001"}
	if !slices.Equal(c.env, want) {
		t.Fatalf("the image sets %q, want %q", c.env, want)
	}
	// The image's own file and variables, on ports that are free here; a mounted file is the only way to move the Redis.
	text, err := os.ReadFile(root(t, "configs", "quickstart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, port := split(t, address)
	c.mount("/etc/penstock/quickstart.yaml", strings.Replace(string(text), "embedded: 127.0.0.1:6380", "embedded: "+redis, 1))
	c.env = []string{fmt.Sprintf("QUICKSTART_HTTP=0.0.0.0:%d", port), "QUICKSTART_ADMIN=" + admin, fmt.Sprintf("PORT=%d", port)}
	p := launch(t, c.command("run", "/etc/penstock/quickstart.yaml"))
	w := newWeb(p, address)
	w.eventually("/readyz", ready1)
	if code, said := c.healthy(); code != 0 {
		t.Errorf("health check: %d, %s", code, said)
	}
	// As --publish reaches it: from another address than the loopback's.
	if outside := outsideAddress(); outside != "" {
		if got := newWeb(p, net.JoinHostPort(outside, strconv.Itoa(port))).get("/livez"); got != `200 {"status":"UP"}` {
			t.Errorf("from outside of the container: %s", got)
		}
		_, adminPort := split(t, admin)
		if got := newWeb(p, net.JoinHostPort(outside, strconv.Itoa(adminPort))).get("/api/status"); !strings.Contains(got, "refused") {
			t.Errorf("the admin API answers strangers: %s", got)
		}
	}
	if got := newWeb(p, admin).get("/api/status"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the admin API in the container: %s", got)
	}
	// The generator makes a malformed body now and then: the image's user can store it.
	p.eventually(func() string {
		if found, _ := filepath.Glob(filepath.Join(c.root, c.workdir, "poison", "*")); len(found) == 0 {
			return "nothing is in the poison queue"
		}
		return ""
	})
	inspect := launch(t, c.exec("/penstock", "inspect", "customer-3", "-f", "/etc/penstock/quickstart.yaml"))
	if code := inspect.code(); code != 0 {
		t.Errorf("inspect: exit code %d: %s", code, inspect.errors())
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
	if err := os.RemoveAll(filepath.Join(c.root, "etc/penstock")); err != nil {
		t.Fatal(err)
	}
	c.untouched()
}

// outsideAddress returns an address of this machine that is not the loopback's, or "".
func outsideAddress() string {
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return ""
}

// minimalEnvironment is enough for the service: nothing is wrong with it.
func minimalEnvironment() map[string]string {
	return map[string]string{
		"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/events", "REDIS_HOST": "127.0.0.1", "POISON_DIR": "poison",
		// Should a wrong value ever be taken, nothing beyond this machine hears of it.
		"AWS_ENDPOINT_URL_SQS": nowhere, "AWS_EC2_METADATA_DISABLED": "true",
	}
}

// variables has, for every variable of the table in docs/operations.md, values that are right and values that are wrong
// with what the program says of them; "-" means that the variable is not set.
var variables = map[string]struct {
	right []string
	// wrong is told before anything is connected to: exit code 2.
	wrong map[string]string
	// any says why no value is wrong by itself.
	any string
	// with are variables that go with it, against those that contradict it where it is wrong.
	with, against map[string]string
}{
	"QUEUE_URL": {right: []string{"https://sqs.us-east-1.amazonaws.com/123456789012/q", "https://vpce-1a.sqs.us-east-2.vpce.amazonaws.com/1/q"},
		wrong: map[string]string{"-": "not set: QUEUE_URL", "": "not set: QUEUE_URL", "events": "want https://HOST/ACCOUNT/NAME", "http://localhost:4566/1/q": "AWS_REGION: set it"}},
	"REDIS_HOST": {right: []string{"10.0.0.7", "redis", "::1"},
		wrong: map[string]string{"-": "not set: REDIS_HOST", "redis://me:geheim@redis": "REDIS_HOST: want a host name or an address, got a URL", "a/b": `REDIS_HOST: want a host name or an address, got "a/b"`}},
	"AWS_REGION":         {right: []string{"eu-west-1", "us-east-1"}, any: "the queue's URL has the last word"},
	"AWS_DEFAULT_REGION": {right: []string{"eu-west-1"}, any: "the queue's URL has the last word"},
	"AWS_ACCESS_KEY_ID": {right: []string{"AKIAIOSFODNN7EXAMPLE"}, wrong: map[string]string{"-": "AWS_ACCESS_KEY_ID: AWS_SECRET_ACCESS_KEY is set"},
		with: map[string]string{"AWS_SECRET_ACCESS_KEY": "x"}},
	"AWS_SECRET_ACCESS_KEY": {right: []string{"a/b+c="}, wrong: map[string]string{"-": "AWS_SECRET_ACCESS_KEY: AWS_ACCESS_KEY_ID is set"},
		with: map[string]string{"AWS_ACCESS_KEY_ID": "x"}},
	"AWS_ACCESS_KEY_ID_FILE": {right: []string{"/run/secrets/key"}, wrong: map[string]string{"/run/secrets/none": "AWS_ACCESS_KEY_ID_FILE: open /run/secrets/none", "/run/secrets/empty": `AWS_ACCESS_KEY_ID_FILE: "/run/secrets/empty" is empty`},
		with: map[string]string{"AWS_SECRET_ACCESS_KEY": "x"}},
	"AWS_SECRET_ACCESS_KEY_FILE": {right: []string{"/run/secrets/key"}, wrong: map[string]string{"/run/secrets/none": "AWS_SECRET_ACCESS_KEY_FILE: open /run/secrets/none", "/run/secrets/empty": `AWS_SECRET_ACCESS_KEY_FILE: "/run/secrets/empty" is empty`},
		with: map[string]string{"AWS_ACCESS_KEY_ID": "x"}},
	"ENVIRONMENT_PREFIX":       {right: []string{"production", "my-env"}, wrong: map[string]string{"a": "ENVIRONMENT_PREFIX and REDIS_ENVIRONMENT_PREFIX mean the same"}, against: map[string]string{"REDIS_ENVIRONMENT_PREFIX": "b"}},
	"REDIS_ENVIRONMENT_PREFIX": {right: []string{"production"}, wrong: map[string]string{"a": "ENVIRONMENT_PREFIX and REDIS_ENVIRONMENT_PREFIX mean the same"}, against: map[string]string{"ENVIRONMENT_PREFIX": "b"}},
	"REDIS_PORT":               {right: []string{"1", "65535"}, wrong: map[string]string{"0": "REDIS_PORT: want a whole number from 1 to 65535", "65536": `REDIS_PORT: want a whole number from 1 to 65535, got "65536"`, "6379/tcp": "REDIS_PORT: "}},
	"REDIS_DB":                 {right: []string{"0", "15"}, wrong: map[string]string{"-1": "REDIS_DB: want a whole number from 0", "zero": "REDIS_DB: "}},
	"REDIS_USER":               {right: []string{"app"}, wrong: map[string]string{"a": "REDIS_USER and REDIS_USERNAME mean the same"}, against: map[string]string{"REDIS_USERNAME": "b"}, with: map[string]string{"REDIS_PASSWORD": "x"}},
	"REDIS_USERNAME":           {right: []string{"app"}, wrong: map[string]string{"a": "REDIS_USER and REDIS_USERNAME mean the same"}, against: map[string]string{"REDIS_USER": "b"}, with: map[string]string{"REDIS_PASSWORD": "x"}},
	"REDIS_PASSWORD":           {right: []string{"${HOME}: 'x'", "s3cret"}, wrong: map[string]string{"other": "REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set and say different things"}, against: map[string]string{"REDIS_PASSWORD_FILE": "/run/secrets/key"}},
	"REDIS_PASSWORD_FILE":      {right: []string{"/run/secrets/key"}, wrong: map[string]string{"/run/secrets/none": "REDIS_PASSWORD_FILE: open /run/secrets/none"}},
	"REDIS_TLS":                {right: []string{"true", "False", "1", "0", "yes", "NO"}, wrong: map[string]string{"on": `REDIS_TLS: want true or false (or 1, 0, yes, no), got "on"`}},
	"BATCH_SIZE":               {right: []string{"1", "10", "1000"}, wrong: map[string]string{"0": "BATCH_SIZE: want a whole number from 1", "-1": "BATCH_SIZE: ", "ten": "BATCH_SIZE: "}},
	"KEYS_TTL_IN_SECS":         {right: []string{"604800", "-1"}, wrong: map[string]string{"0": "KEYS_TTL_IN_SECS: 0 would expire every key at once", "7d": "KEYS_TTL_IN_SECS: want a whole number"}},
	"REDIS_KEYS_TTL_IN_SECS":   {right: []string{"604800", "-1"}, wrong: map[string]string{"0": "KEYS_TTL_IN_SECS: 0 would expire every key at once"}},
	"KEYS_TTL_IN_MS":           {right: []string{"604800000", "1500", "-1"}, wrong: map[string]string{"0": "KEYS_TTL_IN_MS: 0 would expire every key at once", "1h": "KEYS_TTL_IN_MS: want a whole number"}},
	"CACHE_UPDATE_POLICY":      {right: []string{"UPSERT", "update_if_exists"}, wrong: map[string]string{"INSERT": `CACHE_UPDATE_POLICY: want UPSERT or UPDATE_IF_EXISTS, got "INSERT"`}},
	"PORT":                     {right: []string{"4000", "8080"}, wrong: map[string]string{"0": "PORT: want a whole number from 1 to 65535", ":4000": `PORT: want a whole number from 1 to 65535, got ":4000"`}},
	"SHUTDOWN_TIMEOUT":         {right: []string{"8s", "1m30s"}, wrong: map[string]string{"8": "SHUTDOWN_TIMEOUT: want a duration of more than 0", "0s": "SHUTDOWN_TIMEOUT: "}},
	"LOG_LEVEL":                {right: []string{"debug", "info", "warn", "error"}, wrong: map[string]string{"loud": `LOG_LEVEL: want debug, info, warn or error, got "loud"`}},
	"POISON_DIR":               {right: []string{"poison", "/var/lib/penstock/x"}, wrong: map[string]string{"x": "POISON_DIR and POISON_QUEUE_URL are both set"}, against: map[string]string{"POISON_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/poison"}},
	"POISON_QUEUE_URL":         {right: []string{"https://sqs.eu-west-1.amazonaws.com/1/poison"}, wrong: map[string]string{"poison": "POISON_QUEUE_URL: queue URL"}, with: map[string]string{"POISON_DIR": "-"}},
	"SERVER_API_KEY":           {right: []string{"server-1f2e3d"}, wrong: map[string]string{"two words": "SERVER_API_KEY: want letters, digits and signs without blanks", "other": "SERVER_API_KEY and SERVER_API_KEY_FILE are both set and say different things"}, against: map[string]string{"SERVER_API_KEY_FILE": "/run/secrets/key"}},
	"SERVER_API_KEY_FILE":      {right: []string{"/run/secrets/key"}, wrong: map[string]string{"/run/secrets/none": "SERVER_API_KEY_FILE: open /run/secrets/none", "/run/secrets/empty": `SERVER_API_KEY_FILE: "/run/secrets/empty" is empty`}},
	"EDGE_API_URL":             {right: []string{"https://edge.api.stigg.io", "http://127.0.0.1:3060"}, wrong: map[string]string{"edge.api.stigg.io": "EDGE_API_URL: want a URL such as https://edge.api.stigg.io", "https://me:s3cret@edge": "EDGE_API_URL: want a URL without user"}},
	"SENTRY_DSN":               {right: []string{"https://key@sentry.example/1"}, wrong: map[string]string{"geheim": "SENTRY_DSN: want https://KEY@HOST/PROJECT"}},
	"SENTRY_DSN_FILE":          {right: []string{"-"}, wrong: map[string]string{"/run/secrets/none": "SENTRY_DSN_FILE: open /run/secrets/none", "/run/secrets/empty": `SENTRY_DSN_FILE: "/run/secrets/empty" is empty`}},
	"DISABLE_SENTRY":           {right: []string{"0", "1", "true", "no"}, wrong: map[string]string{"maybe": `DISABLE_SENTRY: want true or false (or 1, 0, yes, no), got "maybe"`}},
	"CACHE_LOCK_RETRY_COUNT":   {right: []string{"240"}, any: "it is not used"},
}

func TestDropIn_everyVariableOfTheTableIsTested(t *testing.T) {
	page, err := os.ReadFile(root(t, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| variable | rule |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	told := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		for _, match := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			told[match[1]] = true
		}
	}
	tested := slices.Sorted(maps.Keys(variables))
	if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, tested) {
		t.Errorf("docs/operations.md has\n%q\nthe tests have\n%q", got, tested)
	}
	for name, v := range variables {
		if len(v.right) == 0 || (len(v.wrong) == 0) != (v.any != "") {
			t.Errorf("%s: want right values, and either wrong ones or why there are none", name)
		}
	}
}

// TestDropIn_everyVariable runs the image's program with one variable at a time.
func TestDropIn_everyVariable(t *testing.T) {
	c := newContainer(t, nil)
	c.mount("/run/secrets/key", "s3cret\n")
	c.mount("/run/secrets/empty", "\n")
	try := func(t *testing.T, env map[string]string, code int, says string, args ...string) {
		t.Helper()
		t.Parallel()
		cmd := c.command(args...)
		cmd.Env = nil
		for name, value := range env {
			if value != "-" {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
		}
		p := launch(t, cmd)
		if got := p.code(); got != code || !strings.Contains(p.errors(), says) {
			t.Errorf("exit code %d, want %d; want %q in\n%s", got, code, says, p.errors())
		}
	}
	for name, v := range variables {
		for _, value := range v.right {
			t.Run(name+"="+value, func(t *testing.T) {
				env := minimalEnvironment()
				maps.Copy(env, v.with)
				env[name] = value
				try(t, env, 0, "", "validate", "persistent-cache")
			})
		}
		for value, says := range v.wrong {
			t.Run(name+"="+value, func(t *testing.T) {
				env := minimalEnvironment()
				maps.Copy(env, v.with)
				maps.Copy(env, v.against)
				env[name] = value
				try(t, env, 2, says)
			})
		}
	}
}

// TestDropIn_theOtherNamesAndTheSecretsFromFiles has what the page's environment leaves out, each seen by its effect.
// TLS trusts the image's own file of roots, which a mounted one replaces.
func TestDropIn_theOtherNamesAndTheSecretsFromFiles(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	authority, cert, key := certificates(t)
	server := testserver.StartRedis(t, "--port", "0", "--tls-port", testserver.Port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", authority,
		"--tls-auth-clients", "no", "--user", "app", "on", ">s3cret", "~*", "&*", "+@all")
	address := freeAddress(t)
	_, port := split(t, address)
	env := map[string]string{
		"QUEUE_URL": q.url, "AWS_ENDPOINT_URL_SQS": q.endpoint, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY_FILE": "/run/secrets/key",
		"REDIS_HOST": "127.0.0.1", "REDIS_PORT": strconv.Itoa(server.Port()), "REDIS_DB": "3", "REDIS_USERNAME": "app", "REDIS_PASSWORD_FILE": "/run/secrets/key", "REDIS_TLS": "yes",
		"REDIS_ENVIRONMENT_PREFIX": "staging", "KEYS_TTL_IN_MS": "3600000", "BATCH_SIZE": "64", "CACHE_UPDATE_POLICY": "upsert",
		"POISON_DIR": "poison", "LOG_LEVEL": "debug", "PORT": strconv.Itoa(port), "CACHE_LOCK_RETRY_COUNT": "240",
	}
	roots, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change map[string]string) *container {
		env := maps.Clone(env)
		maps.Copy(env, change)
		c := newContainer(t, env)
		c.mount("/run/secrets/key", "s3cret\n")
		c.mount("/etc/ssl/certs/ca-certificates.crt", string(roots))
		return c
	}

	c := with(nil)
	p := launch(t, c.command())
	newWeb(p, address).eventually("/readyz", ready)
	q.send(append(samplesAt(t, sampleTime, "01"), event{body: "certainly not JSON"})...)
	p.eventually(q.notEmpty)
	if code, said := c.healthy(); code != 0 {
		t.Errorf("health check: %d, %s", code, said)
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), DB: 3, Username: "app", Password: "s3cret", DisableIdentity: true, TLSConfig: &tls.Config{RootCAs: pool},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { _ = client.Close() })
	keys := dump(t, client)
	if len(keys) == 0 {
		t.Error("database 3 is empty")
	}
	for name, e := range keys {
		if !strings.HasPrefix(name, "staging:") || !strings.HasPrefix(name, "staging:penstock:") && (e.ttl > time.Hour || e.ttl < 50*time.Minute) {
			t.Errorf("%s lives %s", name, e.ttl)
		}
	}
	if found := poisoned(t, filepath.Join(c.root, c.workdir, "poison")); len(found) != 1 || found["certainly not JSON"] == nil {
		t.Errorf("want one body in POISON_DIR, found %d", len(found))
	}
	for _, said := range []string{`"level":"debug"`, "BATCH_SIZE=64: SQS hands out 10 messages a receive at most", "CACHE_LOCK_RETRY_COUNT"} {
		if !strings.Contains(p.errors(), said) {
			t.Errorf("it doesn't say %q in\n%s", said, p.errors())
		}
	}
	if strings.Contains(p.errors(), "s3cret") {
		t.Error("a secret is in the log")
	}

	// What only the servers and the file system know to be wrong ends it at once: no restart heals it.
	for name, wrong := range map[string]struct {
		change map[string]string
		says   string
	}{
		"user":      {map[string]string{"REDIS_USERNAME": "nobody"}, "WRONGPASS"},
		"password":  {map[string]string{"REDIS_PASSWORD_FILE": "", "REDIS_PASSWORD": "wrong"}, "WRONGPASS"},
		"database":  {map[string]string{"REDIS_DB": "99"}, "DB index is out of range"},
		"queue":     {map[string]string{"QUEUE_URL": strings.TrimSuffix(q.url, "events") + "none"}, "does not exist"},
		"directory": {map[string]string{"POISON_DIR": "/etc/poison"}, "/etc/poison"},
	} {
		t.Run("wrong "+name, func(t *testing.T) {
			p := launch(t, with(wrong.change).command())
			if code := p.code(); code != 1 || !strings.Contains(p.errors(), wrong.says) {
				t.Errorf("exit code %d, want 1 and %q; stderr:\n%s", code, wrong.says, p.errors())
			}
		})
	}
	t.Run("another authority", func(t *testing.T) {
		c := with(nil)
		other, _, _ := certificates(t)
		roots, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		c.mount("/etc/ssl/certs/ca-certificates.crt", string(roots))
		p := launch(t, c.command())
		if code := p.code(); code != 1 || !strings.Contains(p.errors(), "certificate signed by unknown authority") {
			t.Errorf("exit code %d; stderr:\n%s", code, p.errors())
		}
	})
}

// certificates makes an authority and a certificate of its for 127.0.0.1, and returns their files and that of the key.
func certificates(t testing.TB) (authority, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	save := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "penstock test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := save("cert.pem", "CERTIFICATE", der)
	return file, file, save("key.pem", "PRIVATE KEY", secret)
}
