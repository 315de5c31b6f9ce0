package errorreport

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/getsentry/sentry-go"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/cause"
	"github.com/penstock-dev/penstock/internal/complaint"
)

// Reporter reports errors to one Sentry. It learns of them from the engine, which [Reporter.Observe] observes.
// Nothing in it waits for the network: events that Sentry takes too slowly are dropped.
type Reporter struct {
	host      string
	client    *sentry.Client
	transport *sentry.HTTPTransport
	limit     limiter
	stop      context.CancelFunc
}

const (
	// flushTimeout bounds how long the end of the process waits for the last events.
	flushTimeout = 2 * time.Second
	// sendTimeout bounds one request.
	sendTimeout = 10 * time.Second
)

// New makes a reporter for a config with a DSN that [FromEnv] has accepted. log gets a line at debug level when
// Sentry can't be reached. Close it.
func New(c Config, version string, log *zap.Logger) (*Reporter, error) {
	dsn, err := sentry.NewDsn(c.DSN)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Reporter{host: dsn.GetHost(), transport: sentry.NewHTTPTransport(), stop: stop}
	r.limit.causes = map[string]*seen{}
	r.client, err = sentry.NewClient(sentry.ClientOptions{
		Dsn:         c.DSN,
		Release:     "penstock@" + version,
		Environment: c.Environment,
		Transport:   r.transport,
		HTTPClient: &http.Client{Timeout: sendTimeout, Transport: &sender{
			ctx: ctx, log: log, next: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		}},
		MaxBreadcrumbs: -1,
		// The SDK's own would add modules, the machine and source lines.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
		BeforeSend: func(event *sentry.Event, _ *sentry.EventHint) *sentry.Event {
			event.ServerName = "" // the SDK puts the host's name there
			return event
		},
	})
	if err != nil {
		stop()
		return nil, err
	}
	return r, nil
}

// Host is where reports go, without the key.
func (r *Reporter) Host() string { return r.host }

// Close sends what is still to send, for two seconds at most, unless at once is asked for. The reporter reports nothing
// afterwards.
func (r *Reporter) Close(atOnce bool) {
	if !atOnce {
		r.client.Flush(flushTimeout)
	}
	r.stop()
	r.client.Close()
}

// Failed reports what made pipelines fail, one event per cause.
func (r *Reporter) Failed(err error) {
	for _, err := range cause.Errors(err) {
		r.report(incident{title: "a pipeline failed", level: sentry.LevelFatal, cause: cause.Of(err)})
	}
}

// sender sends requests until ctx ends, and tells the log when one fails.
type sender struct {
	ctx  context.Context
	log  *zap.Logger
	next http.RoundTripper
}

func (s *sender) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	resp, err := s.next.RoundTrip(req.WithContext(ctx))
	if err == nil {
		// Read here, so that the end of ctx doesn't cut it off. Answers are an id or a reason; headers say the rest.
		var body []byte
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	switch {
	case err != nil:
		s.log.Debug("an error report was not sent", zap.String("cause", cause.Of(err).String()))
		return nil, err
	case resp.StatusCode >= 400:
		s.log.Debug("an error report was refused", zap.Int("status", resp.StatusCode))
	}
	return resp, nil
}

const maxAnswer = 64 << 10

// incident is one thing that went wrong.
type incident struct {
	title, pipeline, component string
	level                      sentry.Level
	cause                      cause.Cause
}

func (r *Reporter) report(i incident) {
	key := strings.Join([]string{i.pipeline, i.component, i.title, i.cause.String()}, "\x00")
	send, before, others := r.limit.admit(key)
	if !send {
		return
	}
	if others {
		i = incident{title: "more causes than are told apart", level: sentry.LevelWarning}
	}
	r.client.CaptureEvent(event(i, before), nil, nil)
}

// event puts together what Sentry gets: what is here, the release, and nothing else.
func event(i incident, before int) *sentry.Event {
	e := sentry.NewEvent()
	e.Level = i.level
	e.Logger = i.component
	e.Fingerprint = []string{i.title, i.pipeline, i.component, i.cause.Stage, i.cause.Kind, i.cause.Text}
	for key, value := range map[string]string{
		"pipeline": i.pipeline, "component": i.component, "stage": i.cause.Stage, "kind": i.cause.Kind,
	} {
		if value != "" {
			e.Tags[key] = value
		}
	}
	// How often the same has happened since the last event that told of it.
	e.Contexts["penstock"] = sentry.Context{"not_reported_before": before}
	value := i.cause.Text
	if i.cause.Stage != "" || i.cause.Kind != "" {
		value = i.cause.String()
	}
	e.Exception = []sentry.Exception{{Type: i.title, Value: value, Stacktrace: stacktrace(i.cause.Stack)}}
	return e
}

// stacktrace has the outermost call first, as Sentry wants it.
func stacktrace(stack []cause.Frame) *sentry.Stacktrace {
	if len(stack) == 0 {
		return nil
	}
	s := &sentry.Stacktrace{}
	for _, f := range slices.Backward(stack) {
		s.Frames = append(s.Frames, sentry.Frame{
			Module: f.Package, Function: f.Function, Filename: f.File, Lineno: f.Line,
			InApp: strings.HasPrefix(f.Package, "github.com/penstock-dev/penstock"),
		})
	}
	return s
}

// limiter lets every cause through once an hour, and counts it meanwhile.
type limiter struct {
	mu     sync.Mutex
	causes map[string]*seen
}

type seen struct {
	reported time.Time
	since    int // how often since then
}

const (
	interval = time.Hour
	// maxCauses bounds the memory, and with it the events in an hour.
	maxCauses = 200
	otherKey  = ""
)

// admit reports whether the cause is to be told now, how often it was not told since it was told last, and whether it
// stands for all that there is no room for.
func (l *limiter) admit(key string) (send bool, before int, others bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.causes[key]
	if s == nil && len(l.causes) >= maxCauses {
		l.forget(now)
		if len(l.causes) >= maxCauses {
			key, others = otherKey, true
			s = l.causes[key]
		}
	}
	if s == nil {
		l.causes[key] = &seen{reported: now}
		return true, 0, others
	}
	if now.Sub(s.reported) < interval {
		s.since++
		return false, 0, others
	}
	before = s.since
	*s = seen{reported: now}
	return true, before, others
}

// forget makes room: causes that would be told again at once if they came back, and of which nothing is to be told.
func (l *limiter) forget(now time.Time) {
	for key, s := range l.causes {
		if now.Sub(s.reported) >= interval {
			delete(l.causes, key)
		}
	}
}

// Observe reports an incident, of the engine or of a component. It takes of it what can't hold anything from outside:
// the title, the names of the pipeline and the component, and what package cause makes of the error.
func (r *Reporter) Observe(i complaint.Incident) {
	is := incident{title: i.Title.String(), pipeline: i.Pipeline, component: i.Component, level: sentry.LevelWarning}
	if is.title == "" {
		is.title = "a component complains" // in words of its own, which may hold anything
	}
	if i.Severe {
		is.level = sentry.LevelError
	}
	switch {
	case i.Err != nil:
		is.cause = cause.Of(i.Err)
	case i.Stack != nil:
		is.cause = cause.OfPanic(i.Stack)
	default:
		is.cause.Text = is.title
	}
	r.report(is)
}
