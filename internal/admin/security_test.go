package admin

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/pipeline"
)

// layouts are all the ways to lay out the listeners of a process. The built-in service has the first.
var layouts = map[string]pipeline.ServiceConfig{
	"service":        {HTTP: &pipeline.HTTPConfig{Address: "127.0.0.1:0"}},
	"admin":          {Admin: &pipeline.AdminConfig{Address: "127.0.0.1:0", Pprof: true}},
	"token":          {Admin: &pipeline.AdminConfig{Address: "0.0.0.0:0", Token: pipeline.NewSecret("t"), Pprof: true}},
	"both, together": {HTTP: &pipeline.HTTPConfig{Address: "127.0.0.1:0"}, Admin: &pipeline.AdminConfig{Address: "127.0.0.1:0", Pprof: true}},
	"both, apart":    {HTTP: &pipeline.HTTPConfig{Address: "127.0.0.1:0"}, Admin: &pipeline.AdminConfig{Address: "localhost:0", Pprof: true}},
}

func listen(t *testing.T, cfg pipeline.ServiceConfig) *Servers {
	t.Helper()
	s, err := Listen(&cfg, Options{Engine: fixedEngine{}, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return s
}

// local is an address of a listener to connect to.
func local(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("127.0.0.1", port)
}

func TestListeners_everyOneBoundsRequestsAndSetsSecurityHeaders(t *testing.T) {
	paths := []string{"/", "/livez", "/readyz", "/metrics", "/api/status", "/debug/pprof", "/debug/pprof/heap", "/nothing"}
	for name, cfg := range layouts {
		t.Run(name, func(t *testing.T) {
			s := listen(t, cfg)
			for i, server := range s.servers {
				if server.ReadHeaderTimeout == 0 || server.ReadTimeout == 0 || server.WriteTimeout == 0 || server.IdleTimeout == 0 || server.MaxHeaderBytes == 0 {
					t.Errorf("a bound is off: %+v", server)
				}
				address := local(s.Addresses()[i])
				for _, path := range paths {
					for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
						_, _, h := request(t, method, "http://"+address+path, "Authorization", "Bearer t")
						for key, want := range map[string]string{
							"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
							"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
						} {
							if got := h.Get(key); got != want {
								t.Errorf("%s %s: %s: %q, want %q", method, path, key, got, want)
							}
						}
						if got := h.Get("Access-Control-Allow-Origin"); got != "" {
							t.Errorf("%s %s lets pages of others read it: %q", method, path, got)
						}
					}
					res, err := http.Post("http://"+address+path, "text/plain", bytes.NewReader(make([]byte, maxBody+1)))
					if err == nil {
						_ = res.Body.Close()
					}
					if err == nil && res.StatusCode != http.StatusRequestEntityTooLarge {
						t.Errorf("POST %s of %d bytes: %d", path, maxBody+1, res.StatusCode)
					}
				}
				if got := status431(t, address); !strings.HasPrefix(got, "HTTP/1.1 431") {
					t.Errorf("a header of 1 MB: %q, want 431", got)
				}
			}
		})
	}
}

// status431 sends a request with far too much of a header.
func status431(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Much: ")
	go func() { _, _ = io.Copy(conn, io.LimitReader(endless('x'), 1<<20)) }()
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return line
}

type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e)
	}
	return len(b), nil
}

func TestPprof_isOffUnlessAskedForAndOnTheAdminAddressAlone(t *testing.T) {
	paths := []string{"/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine", "/debug/pprof/cmdline", "/debug/pprof/symbol"}
	s := listen(t, layouts["both, apart"])
	service, admin := "http://"+local(s.Addresses()[0]), "http://"+local(s.Addresses()[1])
	off := "http://" + local(listen(t, pipeline.ServiceConfig{Admin: &pipeline.AdminConfig{Address: "127.0.0.1:0"}}).Addresses()[0])
	guarded := "http://" + local(listen(t, layouts["token"]).Addresses()[0])
	for name, c := range map[string]struct {
		base, token string
		code        int
	}{
		"asked for":                    {admin, "", 200},
		"the service's address":        {service, "", 404},
		"not asked for":                {off, "", 404},
		"beyond loopback":              {guarded, "t", 200},
		"beyond loopback, other token": {guarded, "u", 401},
		"beyond loopback, no token":    {guarded, "", 401},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range paths {
				header := []string{}
				if c.token != "" {
					header = []string{"Authorization", "Bearer " + c.token}
				}
				if code, _, _ := request(t, http.MethodGet, c.base+path, header...); code != c.code {
					t.Errorf("GET %s: %d, want %d", path, code, c.code)
				}
			}
		})
	}
	if code, _, _ := request(t, http.MethodGet, admin+"/debug/pprof/nonsense"); code != 404 {
		t.Errorf("a profile that there isn't: %d", code)
	}
	if code, body, _ := request(t, http.MethodGet, admin+"/debug/pprof/profile?seconds=1"); code != 200 || body == "" {
		t.Errorf("a CPU profile: %d, %d bytes", code, len(body))
	}
}

func TestGuard_aTokenInAFileMayBeReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	registry := pipeline.NewRegistry()
	pipeline.AddSource[noSource](registry, "nothing")
	pipeline.AddSink[noSink](registry, "nowhere")
	conf, _, err := pipeline.LoadBytes(registry, "p.yaml", []byte("name: p\nsource: {nothing: {}}\nsink: {nowhere: {}}\nservice:\n  admin:\n    address: 127.0.0.1:0\n    token: ${file:"+file+"}\n"), pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + listen(t, *conf.Service).Addresses()[0]
	expect := func(token string, want int) {
		t.Helper()
		if code, _, _ := request(t, http.MethodGet, base+"/api/status", "Authorization", "Bearer "+token); code != want {
			t.Errorf("%s: %d, want %d", token, code, want)
		}
	}
	expect("first", 200)
	write("second\n")
	expect("first", 401)
	expect("second", 200)
	write("") // as while a file is written anew
	expect("second", 200)
	expect("first", 401)
	expect("", 401)
}

type noSource struct{}

func (*noSource) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }

type noSink struct{}

func (*noSink) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }
