package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheck_exitCodeIsTheProbesAnswer(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"UP"}` + "\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"DOWN","consumers":0,"redis":"DISCONNECTED"}`))
	})
	mux.HandleFunc("GET /elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/livez", http.StatusFound) })
	mux.HandleFunc("GET /hangs", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(hang)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	here := map[string]string{"PORT": port}

	for name, c := range map[string]struct {
		args           []string
		env            map[string]string
		code           int
		stdout, stderr string // what must be in it; nothing: it must be empty
	}{
		"alive":                {nil, here, 0, `200 {"status":"UP"}` + "\n", ""},
		"not ready":            {[]string{"/readyz"}, here, 1, `503 {"status":"DOWN","consumers":0,"redis":"DISCONNECTED"}` + "\n", ""},
		"a whole URL":          {[]string{server.URL + "/livez"}, nil, 0, "200 ", ""},
		"a redirect is no yes": {[]string{"/elsewhere"}, here, 1, "302 ", ""},
		"no such path":         {[]string{"/nothing"}, here, 1, "404 ", ""},
		"no answer in time":    {[]string{"/hangs", "--timeout", "50ms"}, here, 1, "", "/hangs: context deadline exceeded"},
		"nothing listens":      {nil, map[string]string{"PORT": "1"}, 1, "", "penstock: http://127.0.0.1:1/livez: "},
		"not a URL":            {[]string{"localhost:4000"}, nil, 2, "", `want http://HOST:PORT/PATH or /PATH, got "localhost:4000"`},
		"another scheme":       {[]string{"ftp://localhost/livez"}, nil, 2, "", "want http://HOST:PORT/PATH"},
		"not a port":           {nil, map[string]string{"PORT": "http"}, 2, "", "want http://HOST:PORT/PATH"},
		"no time":              {[]string{"--timeout", "0s"}, here, 2, "", "--timeout: want a time above 0"},
		"two URLs":             {[]string{"/livez", "/readyz"}, here, 2, "", "see: penstock healthcheck --help"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := invoke{args: append([]string{"healthcheck"}, c.args...), env: c.env}.run(t)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nwant in it: %s\nstderr: %s\nwant in it: %s", code, c.code, stdout, c.stdout, stderr, c.stderr)
			}
			if c.stdout == "" && stdout != "" || c.stderr == "" && stderr != "" {
				t.Errorf("unexpected output\nstdout: %s\nstderr: %s", stdout, stderr)
			}
		})
	}
}

func TestHealthcheck_withoutPORTAsksThePortOfTheBuiltInService(t *testing.T) {
	got, err := (&Program{LookupEnv: fromMap(nil)}).probeURL("/livez")
	if want := "http://127.0.0.1:4000/livez"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
