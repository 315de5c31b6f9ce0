package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/penstock-dev/penstock/pipeline"
)

// guard lets a request through that carries the token, or, where there is no token, one that came from this machine
// and was meant for it. The second half keeps web pages out that a browser on this machine has open: they can point a
// name of their own at 127.0.0.1, but then the Host header says that name.
func guard(token pipeline.Secret, next http.HandlerFunc) http.Handler {
	if token.IsZero() {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _, _ := net.SplitHostPort(r.RemoteAddr)
			to := r.Host
			if host, _, err := net.SplitHostPort(to); err == nil {
				to = host
			}
			if !isLoopback(from) || !isLoopback(strings.Trim(to, "[]")) {
				write(w, http.StatusForbidden, []byte(`{"error":"only this machine may ask, by the name localhost or its address"}`))
				return
			}
			next(w, r)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Hashing makes the comparison take the same time whatever the length of the guess. The token is read again at
		// every request, so that one in a file may be replaced.
		want := sha256.Sum256([]byte(token.Current()))
		scheme, guess, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(guess)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			write(w, http.StatusUnauthorized, []byte(`{"error":"send the token as Authorization: Bearer"}`))
			return
		}
		next(w, r)
	})
}
