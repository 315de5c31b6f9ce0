package faults

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

// front speaks HTTP in front of the SQS server, for the faults of a queue that answers.
type front struct {
	*httptest.Server
	fault atomic.Pointer[spoil]
	hits  atomic.Int64 // requests that were spoilt
}

// spoil answers a request, such as "ReceiveMessage", in the server's stead; false: the server answers.
type spoil func(w http.ResponseWriter, r *http.Request, action string) bool

// spoil makes the queue answer like that.
func (s *scene) spoil(how spoil) {
	s.front.fault.Store(&how)
}

// unspoil ends spoil, and wants that some request was spoilt.
func (s *scene) unspoil() {
	s.front.fault.Store(nil)
	if s.front.hits.Load() == 0 {
		s.wrong("no request met the fault")
	}
}

// behindFront puts a front between the program and its queue.
func behindFront(s *scene) {
	target, err := url.Parse(s.queue.endpoint)
	s.must(err)
	transport := &http.Transport{MaxIdleConnsPerHost: 50}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		if how := f.fault.Load(); how != nil && (*how)(w, r, action) {
			f.hits.Add(1)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s.t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		transport.CloseIdleConnections()
	})
	s.front = f
	s.toQueue.To(address(f.URL))
}

// says is an answer with that status and body.
func says(status int, body string) spoil {
	return func(w http.ResponseWriter, r *http.Request, _ string) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// only spoils requests of one kind.
func only(action string, how spoil) spoil {
	return func(w http.ResponseWriter, r *http.Request, got string) bool {
		return got == action && how(w, r, got)
	}
}

// inTurn spoils each request in the next way.
func inTurn(all ...spoil) spoil {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, action string) bool {
		return all[int(n.Add(1))%len(all)](w, r, action)
	}
}

const (
	internalFailure = `{"__type":"com.amazonaws.sqs#InternalFailure","message":"We encountered an internal error. Please try again."}`
	throttled       = `{"__type":"com.amazonaws.sqs#RequestThrottled","message":"Request was throttled."}`
	webPage         = `<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>`
	// noMessage has neither an id nor a receipt, and nothing to check its body with.
	noMessage = `{"Messages":[{"Body":"x"}]}`
)

// garbage is what answers like that make of SQS: a web page, half a JSON text, bytes, nothing, messages that are none.
var garbage = inTurn(
	says(http.StatusOK, webPage), says(http.StatusOK, `{"Messages":[{"MessageId":"m`), says(http.StatusOK, "\x00\xff\x17garbage"),
	says(http.StatusOK, ""), says(http.StatusOK, noMessage), says(http.StatusOK, `[]`),
)
