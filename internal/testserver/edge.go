package testserver

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// EdgeServer is a stub of the provider's Edge API: both generations of its entitlements endpoint, with the answers
// that a test has set. A customer that was not set has no entitlements. It answers 401 to another key than its own.
type EdgeServer struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	server   *httptest.Server // nil: stopped
	key      string
	answers  map[EdgeSubject]edgeAnswer
	fault    http.HandlerFunc
	requests []EdgeRequest
	busy     map[EdgeSubject]int
	overlaps int
}

// EdgeSubject is whom a question is about.
type EdgeSubject struct{ Customer, Resource string }

// EdgeRequest is a request that reached the stub with the right key, or without.
type EdgeRequest struct {
	EdgeSubject
	// URI is the request's path and query as they were sent.
	URI    string
	Header http.Header
	At     time.Time
}

type edgeAnswer struct {
	entitlements json.RawMessage
	reason       string
}

// Edge starts a stub that wants that API key.
func Edge(t testing.TB, key string) *EdgeServer {
	t.Helper()
	s := &EdgeServer{t: t, addr: "127.0.0.1:0", key: key, answers: map[EdgeSubject]edgeAnswer{}, busy: map[EdgeSubject]int{}}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// URL returns the stub's address, which stays the same over a Stop and a Start.
func (s *EdgeServer) URL() string { return "http://" + s.addr }

// Start starts a stopped stub again.
func (s *EdgeServer) Start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.server = listener.Addr().String(), server
}

// Stop closes the stub and all its connections.
func (s *EdgeServer) Stop() {
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// Set makes the answer about a customer, or one of its resources: a JSON list of entitlements, and the reason why it
// is empty.
func (s *EdgeServer) Set(of EdgeSubject, entitlements, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[of] = edgeAnswer{json.RawMessage(entitlements), reason}
}

// Want changes the key that the stub wants.
func (s *EdgeServer) Want(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Fail makes every request end in handler; nil: they are answered again.
func (s *EdgeServer) Fail(handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = handler
}

// Requests returns what has been asked so far.
func (s *EdgeServer) Requests() []EdgeRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]EdgeRequest(nil), s.requests...)
}

// Overlaps returns how many requests came while another one about the same subject was not answered yet.
func (s *EdgeServer) Overlaps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overlaps
}

func (s *EdgeServer) serve(w http.ResponseWriter, r *http.Request) {
	document, customer := "", ""
	if parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/"); len(parts) == 4 && parts[0] == "v1" && parts[1] == "c" {
		customer, _ = url.PathUnescape(parts[2])
		document = parts[3]
	}
	of := EdgeSubject{customer, r.URL.Query().Get("resourceId")}
	s.mu.Lock()
	s.requests = append(s.requests, EdgeRequest{of, r.RequestURI, r.Header.Clone(), time.Now()})
	if s.busy[of] > 0 {
		s.overlaps++
	}
	s.busy[of]++
	answer, fault, key := s.answers[of], s.fault, s.key
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.busy[of]--
		s.mu.Unlock()
	}()

	if answer.entitlements == nil {
		answer.entitlements = json.RawMessage("[]")
	}
	var data map[string]any
	switch document {
	case "entitlements.json":
		data = map[string]any{"entitlements": answer.entitlements}
	case "entitlements-state.json":
		state := map[string]any{"entitlementsV2": answer.entitlements, "accessDeniedReason": nil}
		if answer.reason != "" {
			state["accessDeniedReason"] = answer.reason
		}
		data = map[string]any{"entitlementsState": state}
	}
	switch {
	case fault != nil:
		fault(w, r)
	case r.Header.Get("X-API-KEY") != key:
		http.Error(w, `{"message":"Unauthorized"}`, http.StatusUnauthorized)
	case data == nil:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
	}
}
