package testserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// STSServer is a stub of AWS STS that knows AssumeRole only. Its n-th credentials are AccessKey(n).
type STSServer struct {
	// Deny is the error code that every request gets, such as "AccessDenied"; empty for credentials.
	Deny string
	// Lifetime of the credentials.
	Lifetime time.Duration

	mu      sync.Mutex
	assumed []url.Values
}

// STS starts a stub of AWS STS and points the AWS SDK's default chain at it, in the environment of this test, which
// must not be parallel.
func STS(t testing.TB) *STSServer {
	t.Helper()
	s := &STSServer{Lifetime: time.Hour}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	return s
}

// AccessKey is the access key id of the n-th credentials handed out, from 1.
func (s *STSServer) AccessKey(n int) string { return fmt.Sprintf("ASIASTUB%04d", n) }

// SessionToken is their session token.
func (s *STSServer) SessionToken(n int) string { return fmt.Sprintf("token-%d", n) }

// Assumed are the parameters of the requests so far.
func (s *STSServer) Assumed() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]url.Values(nil), s.assumed...)
}

func (s *STSServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("Action") != "AssumeRole" {
		http.Error(w, "only AssumeRole", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.assumed = append(s.assumed, r.PostForm)
	n := len(s.assumed)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/xml")
	if s.Deny != "" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>`, s.Deny)
		return
	}
	_, _ = fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>%s</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, s.AccessKey(n), s.SessionToken(n), time.Now().Add(s.Lifetime).UTC().Format(time.RFC3339))
}
