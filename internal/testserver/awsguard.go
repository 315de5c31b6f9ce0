package testserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// AWSGuard stands in front of a server that speaks AWS's protocols and takes every access key, and lets through only
// what one access key has signed.
type AWSGuard struct {
	url   string
	proxy *httputil.ReverseProxy

	mu         sync.Mutex
	id, secret string
	refused    int
}

// GuardAWS starts a guard in front of the server at target, such as one that [SQS] started.
func GuardAWS(t testing.TB, target, id, secret string) *AWSGuard {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	g := &AWSGuard{id: id, secret: secret, proxy: &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: transport,
	}}
	server := httptest.NewServer(g)
	g.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return g
}

// URL is the endpoint to use.
func (g *AWSGuard) URL() string { return g.url }

// Want changes the access key.
func (g *AWSGuard) Want(id, secret string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.id, g.secret = id, secret
}

// Refused is how many requests were refused so far.
func (g *AWSGuard) Refused() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

func (g *AWSGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.mu.Lock()
	id, secret := g.id, g.secret
	g.mu.Unlock()
	code := ""
	if got := r.Header.Get("Authorization"); !strings.Contains(got, "Credential="+id+"/") {
		code = "InvalidClientTokenId"
	} else if got != signature(r, body, id, secret) {
		code = "SignatureDoesNotMatch"
	}
	if code == "" {
		g.proxy.ServeHTTP(w, r)
		return
	}
	g.mu.Lock()
	g.refused++
	g.mu.Unlock()
	if r.Header.Get("X-Amz-Target") != "" { // of JSON protocols
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"__type":"com.amazon.coral.service#%s","message":"refused by the guard"}`, code)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusForbidden)
	_, _ = fmt.Fprintf(w, `<Error><Code>%s</Code><Message>refused by the guard</Message></Error>`, code)
}

// signature returns what the Authorization header must be.
func signature(r *http.Request, body []byte, id, secret string) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	credential, rest, _ := strings.Cut(rest, ", SignedHeaders=")
	signed, _, _ := strings.Cut(rest, ", ")
	scope := strings.Split(credential, "/") // id, date, region, service, aws4_request
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if len(scope) != 5 || err != nil {
		return ""
	}
	again := r.Clone(r.Context())
	again.URL.Scheme, again.URL.Host = "http", r.Host
	again.Header = http.Header{}
	for name := range strings.SplitSeq(signed, ";") {
		if values := r.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if !strings.Contains(";"+signed+";", ";content-length;") {
		again.ContentLength = 0
	}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash == "" {
		sum := sha256.Sum256(body)
		hash = hex.EncodeToString(sum[:])
	}
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, again, hash, scope[3], scope[2], at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = scope[3] == "s3" })
	if err != nil {
		return ""
	}
	return again.Header.Get("Authorization")
}
