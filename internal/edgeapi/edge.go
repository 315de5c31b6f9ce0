package edgeapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/internal/reason"
)

// DefaultURL is the provider's Edge API.
const DefaultURL = "https://edge.api.stigg.io"

// Options say how to ask the provider's Edge API. The zero value of a field is its default.
type Options struct {
	// URL of the API, without the path that begins with /v1; "" is [DefaultURL].
	URL string
	// APIKey returns a server API key of the environment; it is asked at every request. Required.
	APIKey func() string
	// State asks the endpoint of SDK 4.x, entitlements-state.json, which tells credits and why a customer has
	// nothing; otherwise that of SDK 3.x, entitlements.json.
	State bool
	// Timeout bounds one request; 0 is 10 s, the SDKs' own.
	Timeout time.Duration
	// Attempts bounds the requests of one question, the first included; 0 is 3. None begins later than Timeout after
	// the first.
	Attempts int
	// PerSecond bounds the requests a second; 0 is no bound.
	PerSecond float64
	// UserAgent tells the API who asks; "" is "penstock".
	UserAgent string
	// Transport makes the requests; nil is one of the client's own.
	Transport http.RoundTripper
	// OnRequest is told of every request: how it ended, and how long it took. nil: nobody is.
	OnRequest func(outcome Outcome, took time.Duration)
}

// Outcome is how a request to the Edge API ended.
type Outcome string

// The outcomes of a request.
const (
	// OK: the API has told a customer's entitlements.
	OK Outcome = "ok"
	// Unavailable: no answer, or none of the API's, whatever was asked: the network, a timeout, a status of 5xx, a
	// page that is somebody else's.
	Unavailable Outcome = "unavailable"
	// Throttled: the API asks for patience (429).
	Throttled Outcome = "throttled"
	// Refused: the API doesn't accept the key (401, 403).
	Refused Outcome = "refused"
	// Rejected: the API will never answer this question (400 and other 4xx).
	Rejected Outcome = "rejected"
	// Failed: the API reports errors about this question (errors inside a 200; 404).
	Failed Outcome = "failed"
)

// Error is a question that the Edge API did not answer.
type Error struct {
	// Outcome says whose fault it is.
	Outcome Outcome
	// Status is the HTTP status; 0 without an answer.
	Status int
	// RetryAfter is how long the API asks clients to wait; 0 when it didn't say.
	RetryAfter time.Duration

	err error
}

func (e *Error) Error() string { return "Edge API: " + e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Client asks the provider's Edge API for entitlements. It is safe for concurrent use.
type Client struct {
	options   Options
	base      *url.URL
	client    *http.Client
	limiter   *rate.Limiter
	slots     chan struct{} // one for each request under way
	notBefore atomic.Int64  // unix nanoseconds: the API asks clients to wait until then
}

const (
	// maxAnswer bounds an answer: a customer with thousands of features has some megabytes.
	maxAnswer = 32 << 20
	// longestPatience bounds what Retry-After may ask for: one bad header must not stop refreshes for good.
	longestPatience = 10 * time.Minute
	// edgeRequests bounds the requests that are under way at the same time.
	edgeRequests = 16
)

// New returns a client, or an error that says what is wrong with the options. It does no I/O.
func New(o Options) (*Client, error) {
	o.URL = cmp.Or(o.URL, DefaultURL)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.UserAgent = cmp.Or(o.UserAgent, "penstock")
	if o.OnRequest == nil {
		o.OnRequest = func(Outcome, time.Duration) {}
	}
	base, err := ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.APIKey == nil || o.APIKey() == "" {
		return nil, errors.New("no API key")
	}
	if o.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = edgeRequests
		o.Transport = transport
	}
	limit := rate.Inf
	if o.PerSecond > 0 {
		limit = rate.Limit(o.PerSecond)
	}
	return &Client{
		options: o, base: base,
		client: &http.Client{
			Transport: o.Transport, Timeout: o.Timeout,
			// A redirect would carry the key to where it was not meant to go.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots:   make(chan struct{}, edgeRequests),
		limiter: rate.NewLimiter(limit, max(1, int(o.PerSecond/10))),
	}, nil
}

// ParseURL checks the address of an Edge API: http or https, a host, and no more than a path.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || plaintext.CheckURLHost(u) != nil:
		return nil, errors.New("want a URL such as " + DefaultURL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("want a URL without user, query and fragment, such as " + DefaultURL)
	}
	return u, nil
}

// Answer is what the Edge API says of a customer, or one of its resources.
type Answer struct {
	// Subject is whom it is about.
	Subject entitlement.Subject
	// AsOf is when the request began: what it tells was true then, or later.
	AsOf time.Time
	// Entitlements is the list of entitlements as the API tells it: a JSON array.
	Entitlements json.RawMessage
	// Reason is why there are none; "" when the API doesn't say.
	Reason string
}

// Event returns the answer as an event that an [entitlement.Decoder] understands: a snapshot with the time of the
// answer.
func (a Answer) Event() []byte {
	// The name is GraphQL's V1, whose empty list means a customer without entitlements, and not, as in V2, a purge.
	event := struct {
		Typename     string          `json:"__typename"`
		Customer     string          `json:"customerId"`
		Resource     string          `json:"resourceId,omitempty"`
		Timestamp    int64           `json:"timestamp"`
		Reason       string          `json:"accessDeniedReason,omitempty"`
		Entitlements json.RawMessage `json:"entitlements"`
	}{"EntitlementsUpdated", a.Subject.Customer, a.Subject.Resource, a.AsOf.UnixMilli(), a.Reason, a.Entitlements}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(event); err != nil {
		panic(err) // the list was parsed before
	}
	return b.Bytes()
}

// Entitlements asks for the entitlements of a customer, or of one of its resources, and tries again, with jitter,
// what may go better the next time. Errors are an [*Error], or that of ctx. It waits for its turn within the bound of
// requests a second, and for as long as the API has asked clients to wait.
func (e *Client) Entitlements(ctx context.Context, of entitlement.Subject) (Answer, error) {
	return e.ask(ctx, of, func() {})
}

// ask is Entitlements; begins is called right before each request.
func (e *Client) ask(ctx context.Context, of entitlement.Subject, begins func()) (Answer, error) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.Multiplier, pauses.MaxInterval = 250*time.Millisecond, 2, 5*time.Second
	return backoff.Retry(ctx, func() (Answer, error) {
		done, err := e.turn(ctx)
		if err != nil {
			return Answer{}, backoff.Permanent(err)
		}
		defer done()
		begins()
		answer := Answer{Subject: of, AsOf: time.Now()}
		err = e.request(ctx, &answer)
		if ctx.Err() != nil && err != nil {
			return answer, backoff.Permanent(context.Cause(ctx))
		}
		outcome := OK
		if failure, ok := errors.AsType[*Error](err); ok {
			outcome = failure.Outcome
			if failure.RetryAfter > 0 && (outcome == Throttled || outcome == Unavailable) {
				e.pauseUntil(time.Now().Add(min(failure.RetryAfter, longestPatience)))
			}
		}
		e.options.OnRequest(outcome, time.Since(answer.AsOf))
		if outcome == Refused || outcome == Rejected || outcome == Failed {
			err = backoff.Permanent(err)
		}
		return answer, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(uint(e.options.Attempts)),
		// A request that took all of its time is not repeated: the caller doesn't wait that long.
		backoff.WithMaxElapsedTime(e.options.Timeout))
}

// pauseUntil keeps every request from being made before that time.
func (e *Client) pauseUntil(until time.Time) {
	for {
		old := e.notBefore.Load()
		if old >= until.UnixNano() || e.notBefore.CompareAndSwap(old, until.UnixNano()) {
			return
		}
	}
}

// turn waits until a request may be made; done is to be called when it is over. When the API asks for a longer wait
// than a request may take, that is an error at once: the caller doesn't wait that long.
func (e *Client) turn(ctx context.Context) (done func(), err error) {
	if wait := time.Until(time.Unix(0, e.notBefore.Load())); wait > e.options.Timeout {
		return nil, &Error{Outcome: Throttled, RetryAfter: wait,
			err: reason.Errorf("it asks clients to wait for another %s (Retry-After)", wait.Round(time.Second))}
	} else if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	done = func() { <-e.slots }
	if err := e.limiter.Wait(ctx); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// request makes one request and fills in the answer.
func (e *Client) request(ctx context.Context, answer *Answer) error {
	address := e.address(answer.Subject)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return &Error{Outcome: Rejected, err: err}
	}
	request.Header = http.Header{
		"X-Api-Key": {e.options.APIKey()}, "X-Api-Version": {"1"}, "Accept": {"application/json"}, "User-Agent": {e.options.UserAgent},
	}
	response, err := e.client.Do(request)
	if err != nil {
		return &Error{Outcome: Unavailable, err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized:
		return e.failure(response, Refused, "the API key is refused: is it a server API key of this environment?")
	case status == http.StatusForbidden: // of the API, or of a firewall in front of it
		return e.failure(response, Refused, "the API key is refused, or the request: "+describe(body))
	case status == http.StatusTooManyRequests:
		return e.failure(response, Throttled, "too many requests")
	case status == http.StatusNotFound && json.Valid(body):
		return e.failure(response, Failed, describe(body))
	case status == http.StatusNotFound: // no words of the API's
		return e.failure(response, Unavailable, "the API is elsewhere: asked "+address)
	case status >= 300 && status < 400:
		return e.failure(response, Unavailable, "the API is elsewhere: sent on to "+response.Header.Get("Location"))
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return e.failure(response, Rejected, describe(body))
	case status != http.StatusOK:
		return e.failure(response, Unavailable, describe(body))
	case err != nil:
		return &Error{Outcome: Unavailable, Status: status, err: reason.Errorf("read the answer: %w", err)}
	case len(body) > maxAnswer:
		return e.failure(response, Failed, fmt.Sprintf("an answer of more than %d MiB", maxAnswer>>20))
	}
	return answer.parse(body)
}

func (e *Client) failure(response *http.Response, outcome Outcome, what string) error {
	failure := &Error{Outcome: outcome, Status: response.StatusCode, err: errors.New(response.Status + ": " + what)}
	if after := response.Header.Get("Retry-After"); after != "" {
		if seconds, err := strconv.Atoi(after); err == nil {
			failure.RetryAfter = max(0, time.Duration(min(seconds, int(longestPatience/time.Second)))*time.Second)
		} else if at, err := http.ParseTime(after); err == nil {
			failure.RetryAfter = max(0, time.Until(at))
		}
	}
	return failure
}

// address returns the URL to ask. Ids may hold anything, a slash too.
func (e *Client) address(of entitlement.Subject) string {
	document := "entitlements.json"
	if e.options.State {
		document = "entitlements-state.json"
	}
	address := strings.TrimSuffix(e.base.String(), "/") + "/v1/c/" + pathSegment(of.Customer) + "/" + document
	if of.Resource != "" {
		address += "?resourceId=" + url.QueryEscape(of.Resource)
	}
	return address
}

// pathSegment escapes an id so that it stays one segment of a path: "." and ".." would be taken out on the way.
func pathSegment(id string) string {
	if strings.Trim(id, ".") == "" && len(id) <= 2 {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}

// parse reads the body of an answer of either endpoint.
func (a *Answer) parse(body []byte) error {
	var parsed struct {
		Data struct {
			Entitlements json.RawMessage `json:"entitlements"`
			State        *struct {
				Reason         string          `json:"accessDeniedReason"`
				EntitlementsV2 json.RawMessage `json:"entitlementsV2"`
				Entitlements   json.RawMessage `json:"entitlements"`
			} `json:"entitlementsState"`
		} `json:"data"`
		Errors []struct {
			Message    string `json:"message"`
			Extensions struct {
				Code string `json:"code"`
			} `json:"extensions"`
		} `json:"errors"`
	}
	err := json.Unmarshal(body, &parsed)
	if err == nil && len(parsed.Errors) > 0 {
		first := parsed.Errors[0]
		return &Error{Outcome: Failed, Status: http.StatusOK, err: reason.Errorf("errors in the answer: %s",
			strings.TrimSpace(first.Extensions.Code+" "+clip([]byte(first.Message))))}
	}
	list := parsed.Data.Entitlements
	if state := parsed.Data.State; state != nil {
		a.Reason = state.Reason
		list = state.EntitlementsV2
		if !isArray(list) {
			list = state.Entitlements
		}
	}
	switch {
	case err == nil && isArray(list):
	case bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) && json.Valid(body):
		// About this customer the API has nothing that is a list: the next one may be told.
		return &Error{Outcome: Failed, Status: http.StatusOK, err: reason.Errorf("no list of entitlements in the answer: %s", describe(body))}
	default:
		return &Error{Outcome: Unavailable, Status: http.StatusOK, err: reason.Errorf("the answer is not one of the Edge API: %s", describe(body))}
	}
	a.Entitlements = list
	return nil
}

func isArray(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '[' }

// describe shows the beginning of a body, for messages.
func describe(body []byte) string {
	if text := bytes.TrimSpace(body); len(text) > 0 {
		return strconv.Quote(clip(text))
	}
	return "no content"
}

// clip keeps messages short.
func clip(text []byte) string {
	const most = 40
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}
