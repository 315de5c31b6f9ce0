package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// The server of package net/http waits half a second before it closes a connection on which it has refused something.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

type fixedEngine struct {
	health  []pipeline.Health
	ledgers []pipeline.Ledger
}

func (e fixedEngine) Health() []pipeline.Health  { return e.health }
func (e fixedEngine) Ledgers() []pipeline.Ledger { return e.ledgers }

func TestReadyz_exactBodies(t *testing.T) {
	redis := func(up bool, consumers int, connected bool) pipeline.Health {
		return pipeline.Health{Sink: "redis", Up: up, Consumers: consumers, SinkConnected: connected}
	}
	for name, c := range map[string]struct {
		health []pipeline.Health
		code   int
		body   string
	}{
		"up":                {[]pipeline.Health{redis(true, 10, true)}, 200, `{"status":"UP","consumers":10,"redis":"CONNECTED"}`},
		"store away":        {[]pipeline.Health{redis(false, 0, false)}, 503, `{"status":"DOWN","consumers":0,"redis":"DISCONNECTED"}`},
		"queue away":        {[]pipeline.Health{redis(false, 0, true)}, 503, `{"status":"DOWN","consumers":0,"redis":"CONNECTED"}`},
		"two add up":        {[]pipeline.Health{redis(true, 10, true), redis(true, 4, true)}, 200, `{"status":"UP","consumers":14,"redis":"CONNECTED"}`},
		"one is down":       {[]pipeline.Health{redis(true, 10, true), redis(false, 0, false)}, 503, `{"status":"DOWN","consumers":10,"redis":"DISCONNECTED"}`},
		"first one is down": {[]pipeline.Health{redis(false, 0, false), redis(true, 4, true)}, 503, `{"status":"DOWN","consumers":4,"redis":"DISCONNECTED"}`},
		"other sink":        {[]pipeline.Health{redis(true, 1, true), {Sink: "file", Up: true, Consumers: 1, SinkConnected: true}}, 200, `{"status":"UP","consumers":2,"redis":"CONNECTED","file":"CONNECTED"}`},
		"odd name":          {[]pipeline.Health{{Sink: `a"b`, Up: true, SinkConnected: true}}, 200, `{"status":"UP","consumers":0,"a\"b":"CONNECTED"}`},
		"not yet made":      {nil, 503, `{"status":"DOWN","consumers":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := readiness(c.health)
			if code != c.code || string(body) != c.body {
				t.Errorf("got %d %s\nwant %d %s", code, body, c.code, c.body)
			}
		})
	}
}

func TestLivez_downOnlyWhenNoPipelineHasStepped(t *testing.T) {
	now := time.Unix(10_000, 0)
	ago := func(d time.Duration) pipeline.Health { return pipeline.Health{LastStep: now.Add(-d)} }
	for name, c := range map[string]struct {
		health  []pipeline.Health
		started time.Duration // ago
		want    bool
	}{
		"stepping, store away":      {[]pipeline.Health{ago(time.Second)}, time.Hour, true},
		"at the limit":              {[]pipeline.Health{ago(time.Minute)}, time.Hour, true},
		"stuck":                     {[]pipeline.Health{ago(61 * time.Second)}, time.Hour, false},
		"one of two at its end":     {[]pipeline.Health{ago(time.Hour), ago(time.Second)}, time.Hour, true},
		"starting, no step so far":  {[]pipeline.Health{{}}, time.Second, true},
		"never made the first step": {[]pipeline.Health{{}}, 61 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := alive(c.health, now.Add(-c.started), now); got != c.want {
				t.Errorf("alive = %t, want %t", got, c.want)
			}
		})
	}
}

// serve listens on a free loopback port with everything on it and returns the base URL.
func serve(t *testing.T, admin *pipeline.AdminConfig, o Options) string {
	t.Helper()
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Engine == nil {
		o.Engine = fixedEngine{}
	}
	s, err := Listen(&pipeline.ServiceConfig{HTTP: &pipeline.HTTPConfig{Address: "127.0.0.1:0"}, Admin: admin}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if admin != nil && len(s.Addresses()) != 1 {
		t.Fatalf("listens on %v: the same address must give one listener", s.Addresses())
	}
	return "http://" + s.Addresses()[0]
}

func request(t *testing.T, method, url string, header ...string) (code int, body string, h http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestServers_answerProbesAndMetrics(t *testing.T) {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "penstock_test_total"}, func() float64 { return 7 }))
	base := serve(t, nil, Options{Metrics: metrics, Engine: fixedEngine{
		health: []pipeline.Health{{Sink: "redis", Up: true, Consumers: 10, SinkConnected: true, LastStep: time.Now()}},
	}})
	for name, c := range map[string]struct {
		method, path string
		code         int
		body         string
	}{
		"livez":          {"GET", "/livez", 200, `{"status":"UP"}`},
		"readyz":         {"GET", "/readyz", 200, `{"status":"UP","consumers":10,"redis":"CONNECTED"}`},
		"HEAD":           {"HEAD", "/readyz", 200, ""},
		"POST":           {"POST", "/readyz", 405, "Method Not Allowed\n"},
		"elsewhere":      {"GET", "/", 404, "404 page not found\n"},
		"admin is apart": {"GET", "/api/status", 404, "404 page not found\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, body, h := request(t, c.method, base+c.path)
			if code != c.code || body != c.body {
				t.Errorf("got %d %q\nwant %d %q", code, body, c.code, c.body)
			}
			if code == 405 && h.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", h.Get("Allow"))
			}
		})
	}
	if _, body, _ := request(t, "GET", base+"/metrics"); !strings.Contains(body, "penstock_test_total 7\n") {
		t.Errorf("metrics: %s", body)
	}
}

func TestStatus_tellsLedgerAndHealth(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := start
	o := Options{
		Version: "1.2.3",
		now:     func() time.Time { defer func() { now = now.Add(90 * time.Second) }(); return now },
		Engine: fixedEngine{
			health: []pipeline.Health{{Pipeline: "p", Reason: "store away", Sink: "redis", OldestInFlight: 1500 * time.Millisecond,
				Components: []pipeline.ComponentHealth{
					{Path: "source.sqs", Role: pipeline.RoleSource, State: "up", Since: start},
					{Path: "sink.redis", Role: pipeline.RoleSink, State: "away", Since: start, Code: "PS411", Tries: 3, Held: 2,
						LastError:   pipeline.Unavailable(reason.Errorf("no answer to a ping within %s: %w", "CANARY", context.DeadlineExceeded)),
						LastErrorAt: start.Add(time.Second), NextTry: start.Add(2 * time.Second)},
				},
				Reports: map[pipeline.Role]map[string]any{pipeline.RoleSource: {"requests_per_message": 0.25}}}},
			ledgers: []pipeline.Ledger{{Pipeline: "p", Received: 10, Written: 5, Filtered: 2, Poisoned: 1, Released: 1, LastPoison: "bad body"}},
		},
		Metrics: prometheus.NewRegistry(),
	}
	got := string(statusBody(o, o.now()))
	want := `{"version":"1.2.3","started_at":"2026-01-02T03:04:05Z","uptime_seconds":90,"pipelines":[{"name":"p","up":false,` +
		`"reason":"store away","consumers":0,"sink":"redis","sink_connected":false,"oldest_in_flight_seconds":1.5,` +
		`"ledger":{"received":10,"in_flight":1,"written":5,"filtered":2,"poisoned":1,"released":1,"retries":0,"record_errors":0,` +
		`"unresolved":0,"last_poison":"bad body"},"components":[` +
		`{"path":"source.sqs","role":"source","state":"up","since":"2026-01-02T03:04:05Z"},` +
		`{"path":"sink.redis","role":"sink","state":"away","since":"2026-01-02T03:04:05Z",` +
		`"last_error":{"reason":"no answer to a ping within …, context deadline exceeded","code":"PS411","at":"2026-01-02T03:04:06Z"},"tries":3,"held":2,"next_try":"2026-01-02T03:04:07Z"}],"reports":{"source":{"requests_per_message":0.25}}}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStatus_isForThisMachineOrTheTokensBearer(t *testing.T) {
	open := serve(t, &pipeline.AdminConfig{Address: "127.0.0.1:0"}, Options{})
	guarded := serve(t, &pipeline.AdminConfig{Address: "127.0.0.1:0", Token: pipeline.NewSecret("s3cret")}, Options{})
	for name, c := range map[string]struct {
		base   string
		header []string
		code   int
	}{
		"loopback":         {open, nil, 200},
		"by name":          {open, []string{"Host", "localhost:4000"}, 200},
		"by IPv6":          {open, []string{"Host", "[::1]:4000"}, 200},
		"rebound name":     {open, []string{"Host", "evil.example:4000"}, 403},
		"no token":         {guarded, nil, 401},
		"wrong token":      {guarded, []string{"Authorization", "Bearer s3cre"}, 401},
		"other scheme":     {guarded, []string{"Authorization", "Basic s3cret"}, 401},
		"token":            {guarded, []string{"Authorization", "Bearer s3cret"}, 200},
		"token from afar":  {guarded, []string{"Authorization", "bearer s3cret", "Host", "penstock.internal"}, 200},
		"scheme and blank": {guarded, []string{"Authorization", "Bearer "}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			if code, body, _ := request(t, "GET", c.base+"/api/status", c.header...); code != c.code {
				t.Errorf("got %d %s, want %d", code, body, c.code)
			} else if code == 200 && !json.Valid([]byte(body)) {
				t.Errorf("not JSON: %s", body)
			}
		})
	}
}

func TestStatus_refusesOtherMachinesWithoutToken(t *testing.T) {
	h := guard(pipeline.Secret{}, func(http.ResponseWriter, *http.Request) { t.Error("let through") })
	r := httptest.NewRequest(http.MethodGet, "http://localhost/api/status", nil)
	r.RemoteAddr = "192.0.2.7:4711"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("got %d", w.Code)
	}
}

func TestListen_refusesAdminForStrangersWithoutToken(t *testing.T) {
	_, err := Listen(&pipeline.ServiceConfig{Admin: &pipeline.AdminConfig{Address: "0.0.0.0:0"}},
		Options{Engine: fixedEngine{}, Metrics: prometheus.NewRegistry()})
	if err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("got %v", err)
	}
}

func TestPaths_aSlashBehindAndHEADAnswerLikeThePathItself(t *testing.T) {
	base := serve(t, &pipeline.AdminConfig{Address: "127.0.0.1:0"}, Options{})
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/api/status"} {
		code, _, _ := request(t, http.MethodGet, base+path)
		for _, other := range []string{path + "/", path + "//"} {
			if got, _, _ := request(t, http.MethodGet, base+other); got != code {
				t.Errorf("GET %s: %d, want %d", other, got, code)
			}
		}
		for _, other := range []string{path, path + "/"} {
			if got, body, _ := request(t, http.MethodHead, base+other); got != code || body != "" {
				t.Errorf("HEAD %s: %d %q, want %d and nothing", other, got, body, code)
			}
		}
		if got, _, _ := request(t, http.MethodPost, base+path+"/"); got != http.StatusMethodNotAllowed {
			t.Errorf("POST %s/: %d", path, got)
		}
	}
	for _, path := range []string{"/", "/livez/x", "/nothing/"} {
		if got, _, _ := request(t, http.MethodGet, base+path); got != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, got)
		}
	}
}

func TestListen_takenAddressIsAnErrorAndLeavesNothingOpen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, err = Listen(&pipeline.ServiceConfig{
		HTTP:  &pipeline.HTTPConfig{Address: "127.0.0.1:0"},
		Admin: &pipeline.AdminConfig{Address: taken.Addr().String()},
	}, Options{Engine: fixedEngine{}, Metrics: prometheus.NewRegistry()})
	for _, want := range []string{taken.Addr().String(), "ss -ltnp", "service.admin.address"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	// The listener that did open must be gone: goleak would find its goroutine.
}

func TestServers_cutConnectionsThatSendNothing(t *testing.T) {
	// The rule itself (5 s to send a header) is net/http's; here it matters that it is switched on, and that a client that
	// holds a connection open doesn't keep Close from returning.
	s, err := Listen(&pipeline.ServiceConfig{HTTP: &pipeline.HTTPConfig{Address: "127.0.0.1:0"}},
		Options{Engine: fixedEngine{}, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range s.servers {
		if server.ReadHeaderTimeout == 0 || server.WriteTimeout == 0 || server.IdleTimeout == 0 {
			t.Errorf("a timeout is off: %+v", server)
		}
	}
	conn, err := net.Dial("tcp", s.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, _ := bufio.NewReader(conn).ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("got %q", line)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("close: %v %v", err, ctx.Err())
	}
}

// Clients that ask and don't read keep a bounded number of answers in memory; who is refused is told so.
func TestATime_refusesWhatIsTooMuchAndGoesOn(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(atATime(2, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		enter <- struct{}{}
		<-leave
	})))
	defer server.Close()
	get := func() int {
		res, err := server.Client().Get(server.URL)
		if err != nil {
			t.Error(err)
			return 0
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	codes := make(chan int, 2)
	for range 2 {
		go func() { codes <- get() }()
		<-enter
	}
	if code := get(); code != http.StatusServiceUnavailable {
		t.Errorf("a third request is answered with %d, want 503", code)
	}
	close(leave)
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("one of the two is answered with %d, want 200", code)
		}
	}
	go func() { codes <- get() }()
	<-enter
	if code := <-codes; code != http.StatusOK {
		t.Errorf("afterwards one is answered with %d, want 200", code)
	}
}
