package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// front speaks HTTP in front of the SQS server, for the faults of a queue that answers.
type front struct {
	*httptest.Server
	fault atomic.Pointer[spoil]
	hits  atomic.Int64 // requests that were spoilt
	// edit changes the messages of every receive.
	edit atomic.Pointer[func(n int, message map[string]any)]
	n    atomic.Int64 // messages
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
	proxy.ModifyResponse = f.edited
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

// edited lets edit change what a receive brings.
func (f *front) edited(res *http.Response) error {
	edit := f.edit.Load()
	if edit == nil || res.Request.Header.Get("X-Amz-Target") != "AmazonSQS.ReceiveMessage" || res.StatusCode != http.StatusOK {
		return nil
	}
	var answer struct{ Messages []map[string]any }
	err := json.NewDecoder(res.Body).Decode(&answer)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	for _, m := range answer.Messages {
		f.hits.Add(1)
		(*edit)(int(f.n.Add(1)), m)
	}
	text, err := json.Marshal(answer)
	res.Body = io.NopCloser(bytes.NewReader(text))
	res.ContentLength = int64(len(text))
	res.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return err
}

// edits changes the messages of every receive.
func (s *scene) edits(edit func(n int, message map[string]any)) { s.front.edit.Store(&edit) }

// unedit ends edits.
func (s *scene) unedit() {
	s.front.edit.Store(nil)
	s.unspoil()
}

// clockAhead is a queue whose clock differs from the program's: it refuses signatures that are off by more than a
// quarter of an hour, as SQS does.
func clockAhead(by time.Duration) spoil {
	return func(w http.ResponseWriter, r *http.Request, action string) bool {
		now := time.Now().Add(by).UTC()
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err == nil && now.Sub(signed).Abs() < 15*time.Minute {
			return false
		}
		w.Header().Set("Date", now.Format(http.TimeFormat))
		return says(http.StatusForbidden, `{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}`)(w, r, action)
	}
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
