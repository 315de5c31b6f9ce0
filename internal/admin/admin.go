// Package admin is the HTTP side of a process: probes and metrics for machines, the status API for people.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/netaddr"
	"github.com/penstock-dev/penstock/pipeline"
)

// Engine is what the servers tell of: [pipeline.Engine] is one. Its methods must not block.
type Engine interface {
	Health() []pipeline.Health
	Ledgers() []pipeline.Ledger
}

// Options are what the servers need beside their addresses.
type Options struct {
	// Engine to tell of.
	Engine Engine
	// Metrics that /metrics serves.
	Metrics prometheus.Gatherer
	// Version that /api/status names.
	Version string
	// Logger receives what the HTTP servers have to complain about; nil means nothing does.
	Logger *zap.Logger

	now func() time.Time
}

// Servers are the HTTP servers of a process. Make them with [Listen].
type Servers struct {
	servers   []*http.Server
	addresses []string
	serving   sync.WaitGroup
	errs      chan error
}

// Listen opens the addresses of cfg and serves them in the background until Close. It returns an error when an
// address can't be opened, or when others could reach the status API without a token. A nil cfg gives Servers that
// serve nothing.
func Listen(cfg *pipeline.ServiceConfig, o Options) (*Servers, error) {
	if cfg != nil && cfg.Admin != nil {
		if err := cfg.Admin.Validate(); err != nil {
			return nil, fmt.Errorf("service.admin: %w", err)
		}
	}
	if o.now == nil {
		o.now = time.Now
	}
	s := &Servers{errs: make(chan error, 2)}
	if cfg == nil {
		return s, nil
	}
	muxes := map[string]*http.ServeMux{}
	keys := map[string]string{} // of each address: where it stands in the pipeline file
	var order []string
	at := func(address, key string) *http.ServeMux {
		if muxes[address] == nil {
			muxes[address], keys[address] = http.NewServeMux(), key
			order = append(order, address)
		}
		return muxes[address]
	}
	if cfg.HTTP != nil {
		probes(at(cfg.HTTP.Address, "service.http.address (PORT for the built-in service)"), o)
	}
	if cfg.Admin != nil {
		mux := at(cfg.Admin.Address, "service.admin.address")
		status(mux, cfg.Admin.Token, o)
		if cfg.Admin.Pprof {
			profiles(mux, cfg.Admin.Token)
		}
	}
	for _, address := range order {
		if err := s.listen(address, keys[address], muxes[address], o.Logger); err != nil {
			_ = s.Close(context.Background())
			return nil, err
		}
	}
	return s, nil
}

func (s *Servers) listen(address, key string, handler http.Handler, logger *zap.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return code.Mark(code.AddressTaken, fmt.Errorf("serve HTTP: %w%s", err, netaddr.Hint(err, address, key)))
	}
	server := &http.Server{
		Handler:           secured(tolerant(handler)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	if logger != nil {
		// What clients do wrong (a broken handshake, a cut connection) is not the operator's problem.
		server.ErrorLog, _ = zap.NewStdLogAt(logger.Named("http"), zap.DebugLevel)
	}
	s.servers = append(s.servers, server)
	s.addresses = append(s.addresses, listener.Addr().String())
	s.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.errs <- fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err)
		}
	})
	return nil
}

// maxBody bounds the body of a request: none that is answered here needs one.
const maxBody = 64 << 10

// secured bounds what a request may send and sets the headers that every answer has, errors included.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if r.ContentLength > maxBody {
			h.Set("Connection", "close")
			http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// tolerant answers a path with a slash behind it like the path itself.
func tolerant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := strings.TrimRight(r.URL.Path, "/"); path != r.URL.Path && path != "" {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = path, ""
		}
		next.ServeHTTP(w, r)
	})
}

// Addresses returns what is listened on, with the ports that were chosen for port 0.
func (s *Servers) Addresses() []string { return s.addresses }

// Failed delivers the error of a server that ended by itself.
func (s *Servers) Failed() <-chan error { return s.errs }

// Close stops listening and waits for requests in flight, until ctx ends: then it cuts them. It returns when every
// goroutine of the servers has ended.
func (s *Servers) Close(ctx context.Context) error {
	var errs []error
	for _, server := range s.servers {
		if err := server.Shutdown(ctx); err != nil {
			errs = append(errs, server.Close())
		}
	}
	s.serving.Wait()
	return errors.Join(errs...)
}

func probes(mux *http.ServeMux, o Options) {
	started := o.now()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if up := alive(o.Engine.Health(), started, o.now()); up {
			write(w, http.StatusOK, []byte(`{"status":"UP"}`))
		} else {
			write(w, http.StatusServiceUnavailable, []byte(`{"status":"DOWN"}`))
		}
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		code, body := readiness(o.Engine.Health())
		write(w, code, body)
	})
	mux.Handle("GET /metrics", atATime(mostPages, promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{})))
}

// mostPages is how many answers of a large page may be under way. A client that asks and doesn't read keeps one in
// memory for as long as it may take to be written.
const mostPages = 32

// atATime refuses requests while n are under way.
func atATime(n int, next http.Handler) http.Handler {
	places := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			write(w, http.StatusServiceUnavailable, []byte(`{"error":"too many requests for this page are under way"}`))
		}
	})
}

func status(mux *http.ServeMux, token pipeline.Secret, o Options) {
	started := o.now()
	page := atATime(mostPages, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, statusBody(o, started))
	}))
	mux.Handle("GET /api/status", guard(token, page.ServeHTTP))
}

// profiles serves the profiles of the Go runtime. They tell nothing of messages, but much of the process, and a CPU
// profile costs time.
func profiles(mux *http.ServeMux, token pipeline.Secret) {
	for path, handler := range map[string]http.HandlerFunc{
		"": pprof.Index, "/cmdline": pprof.Cmdline, "/profile": pprof.Profile, "/symbol": pprof.Symbol, "/trace": pprof.Trace,
		"/{profile}": func(w http.ResponseWriter, r *http.Request) { pprof.Handler(r.PathValue("profile")).ServeHTTP(w, r) },
	} {
		mux.Handle("GET /debug/pprof"+path, guard(token, handler))
	}
}

func write(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// isLoopback reports whether host, as it stands in an address or a Host header, is this machine and no other can use
// it.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
