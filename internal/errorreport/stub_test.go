package errorreport_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sentryStub speaks Sentry's envelope endpoint and keeps what it is sent.
type sentryStub struct {
	*httptest.Server
	mu     sync.Mutex
	raw    bytes.Buffer // all headers and bodies
	events []sentEvent
}

// sentEvent is what the tests look at of an event.
type sentEvent struct {
	Level, Message, Logger string
	ServerName             string `json:"server_name"`
	Release, Environment   string
	Fingerprint            []string
	Tags                   map[string]string
	Contexts               map[string]map[string]any
	Exception              []struct {
		Type, Value string
		Stacktrace  struct {
			Frames []struct {
				Module, Function, Filename, AbsPath string
				Lineno                              int
				ContextLine                         string `json:"context_line"`
				Vars                                map[string]any
			}
		}
	}
	Breadcrumbs []any
	Modules     map[string]string
}

func newSentry(t *testing.T) *sentryStub {
	t.Helper()
	s := &sentryStub{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// dsn is the address of a project there.
func (s *sentryStub) dsn() string { return strings.Replace(s.URL, "http://", "http://k3y@", 1) + "/1" }

func (s *sentryStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.Header.Write(&s.raw)
	s.raw.Write(body)
	if r.Method != http.MethodPost || r.URL.Path != "/api/1/envelope/" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	// An envelope is lines: its header, then a header and a payload an item.
	lines := bytes.Split(body, []byte("\n"))
	for i := 1; i+1 < len(lines); i += 2 {
		var header struct{ Type string }
		var event sentEvent
		if json.Unmarshal(lines[i], &header) != nil || header.Type != "event" || json.Unmarshal(lines[i+1], &event) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.events = append(s.events, event)
	}
	_, _ = io.WriteString(w, `{"id":"0"}`)
}

func (s *sentryStub) received() ([]sentEvent, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events), s.raw.String()
}

// wait waits until an event has come for which ok is true.
func (s *sentryStub) wait(t *testing.T, what string, ok func(sentEvent) bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		events, _ := s.received()
		if slices.ContainsFunc(events, ok) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no event: %s; got %+v", what, events)
		}
	}
}
