package transforms

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/edgeapi"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// RefreshEntitlementsConfig decodes events as decode_entitlements does, in its place, and asks the provider's Edge
// API about those that name a customer and don't say enough: a credit event in a layout without keys for credits, an
// event that doesn't decode, and those of types that are mapped to refresh. What the API says becomes a full set of
// cache writes, as of the time at which the request began; so a replay of such events writes what is true at the time
// of the replay.
//
// A burst of events about one customer makes one request. While the API is away, the messages that need it are held,
// and the others go on. Nothing is sent anywhere without an api_key.
type RefreshEntitlementsConfig struct {
	DecodeEntitlementsConfig `yaml:",inline"`
	// Server API key of the provider's environment. Without one no request is sent, and this is decode_entitlements.
	// One that comes from a file is read again at every request.
	APIKey pipeline.Secret `yaml:"api_key" pattern:"^[!-~]+$" want:"letters, digits and signs without blanks, as the provider gives it out"`
	// Address of the Edge API.
	URL string `yaml:"url" default:"https://edge.api.stigg.io" pattern:"^https?://[^\\s/?#@]+(/[^?#\\s]*)?$" want:"a URL without user, query and fragment, such as https://edge.api.stigg.io" code:"PS058"`
	// Which of its endpoints to ask: "entitlements" is that of SDK 3.x, "entitlements_state" that of SDK 4.x, which
	// tells credits, and why a customer has nothing; "auto" is the first for layout v3, otherwise the second.
	Endpoint string `yaml:"endpoint" default:"auto" enum:"auto,entitlements,entitlements_state"`
	// How long an event waits for others about the same customer: they share a request, which begins that long after
	// the last of them, and five times that after the first at most. It gives the API time to know what the events
	// are about, too. Up to 2s.
	Delay time.Duration `yaml:"delay" default:"1s" range:"0s..2s"`
	// How long one request may take. One that fails sooner is repeated twice within this time before the API counts
	// as away.
	RequestTimeout time.Duration `yaml:"request_timeout" default:"10s" range:">0s"`
	// Most requests a second of this pipeline; at least 0.1.
	RequestsPerSecond float64 `yaml:"requests_per_second" default:"100" range:"0.1.." unit:"requests a second"`
}

// Validate reports all broken rules at once.
func (c *RefreshEntitlementsConfig) Validate() error {
	errs := []error{pipeline.CheckTags(c)}
	if _, err := edgeapi.ParseURL(c.URL); err != nil {
		errs = append(errs, code.Mark(code.BadAddress, pipeline.Invalid("url", "%w", err)))
	}
	if strings.ContainsFunc(c.APIKey.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, code.Mark(code.BadForm, pipeline.Invalid("api_key", "want letters, digits and signs without blanks, as the provider gives it out")))
	}
	return errors.Join(errs...)
}

// Check reports a pipeline in which an attempt ends before the request that it waits for, and what needs a key
// without one.
func (c *RefreshEntitlementsConfig) Check(whole *pipeline.Config) error {
	if c.APIKey.IsZero() {
		return c.DecodeEntitlementsConfig.Check(whole)
	}
	if needs := 5*c.Delay + c.RequestTimeout; whole.MessageTimeout > 0 && whole.MessageTimeout <= needs {
		return code.Mark(code.TooLittleTime, pipeline.Invalid("request_timeout", "five times delay and request_timeout (%s) leave nothing of message_timeout (%s)", needs, whole.MessageTimeout))
	}
	return nil
}

// Warnings tells of a key that travels where others can read it.
func (c *RefreshEntitlementsConfig) Warnings(*pipeline.Config) []error {
	u, err := edgeapi.ParseURL(c.URL)
	if c.APIKey.IsZero() || err != nil || u.Scheme != "http" {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return []error{code.Mark(code.Unencrypted, pipeline.Invalid("url", "http: the API key travels unencrypted"))}
}

var _ configfacts.Sender = (*RefreshEntitlementsConfig)(nil)

// Sends says what leaves for somebody else than the pipeline's own servers, and where to; "" is nothing.
func (c *RefreshEntitlementsConfig) Sends() string {
	u, err := edgeapi.ParseURL(c.URL)
	if c.APIKey.IsZero() || err != nil {
		return ""
	}
	return "ids of customers to " + u.Host
}

func (c *RefreshEntitlementsConfig) edge(requests *prometheus.CounterVec) (*edgeapi.Client, error) {
	o := edgeapi.Options{
		URL: c.URL, APIKey: c.APIKey.Current, Timeout: c.RequestTimeout, PerSecond: c.RequestsPerSecond,
		State: c.Endpoint == "entitlements_state" || c.Endpoint == "auto" && c.Layout != string(entitlement.LayoutV3),
	}
	if requests != nil {
		o.OnRequest = func(outcome edgeapi.Outcome, _ time.Duration) {
			requests.WithLabelValues(string(outcome)).Inc()
		}
	}
	return edgeapi.New(o)
}

// NewTransform makes the transform. It is safe for concurrent use.
func (c *RefreshEntitlementsConfig) NewTransform(env pipeline.Env) (pipeline.Transform, error) {
	if c.APIKey.IsZero() {
		return c.DecodeEntitlementsConfig.NewTransform(env)
	}
	options := c.options()
	options.Refresh = true
	t, err := newDecodeEntitlements(options, env)
	if err != nil {
		return nil, err
	}
	// What the API says has the known spellings.
	options.Refresh, options.Fields, options.Types = false, entitlement.Fields{}, nil
	answers, err := entitlement.NewDecoder(options)
	if err != nil {
		return nil, err
	}
	edge, err := c.edge(pipeline.RegisterMetric(env.Metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "penstock_edge_requests_total",
		Help: "Requests to the provider's Edge API, by outcome: ok, unavailable, throttled, refused, rejected or failed.",
	}, []string{"outcome"})))
	if err != nil {
		return nil, err
	}
	delay := c.Delay
	if delay == 0 {
		delay = -1
	}
	r := &refreshEntitlements{
		refresher: edgeapi.NewRefresher(edge, edgeapi.RefresherOptions{Delay: delay}),
		answers:   answers,
		logger:    t.logger,
		refreshes: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "penstock_refreshes_total",
			Help: "Attempts on events that don't say enough, so that the provider's Edge API is asked: because they don't decode, or by rule.",
		}, []string{"reason"})),
	}
	t.refresh = r.refresh
	return t.transform, nil
}

type refreshEntitlements struct {
	refresher *edgeapi.Refresher
	answers   *entitlement.Decoder
	logger    *zap.Logger
	refreshes *prometheus.CounterVec
	told      sync.Once
}

// refresh makes cache writes of what the API says of whom the event is about.
func (r *refreshEntitlements) refresh(msg *message.Message, event entitlement.Event) ([]*message.Message, error) {
	why := "rule"
	if event.Undecoded {
		why = "undecoded"
	}
	r.refreshes.WithLabelValues(why).Inc()
	if pipeline.Offline(msg.Context()) {
		return nil, pipeline.Permanent(reason.Errorf("refresh customer %q (%s): the Edge API is not asked in a test: leave its key out of env", event.Subject.Customer, event.Refresh))
	}
	r.told.Do(func() {
		r.logger.Info("events that don't say enough are completed by the Edge API", zap.String("first", event.Refresh))
	})
	var sent time.Time
	if event.Time > 0 {
		sent = time.UnixMilli(event.Time)
	}
	answer, err := r.refresher.Refresh(msg.Context(), event.Subject, sent)
	if err != nil {
		return nil, reason.Errorf("refresh customer %q (%s): %w", event.Subject.Customer, event.Refresh, refreshOutcome(err))
	}
	payload, _, err := r.answers.Append(nil, entitlement.Input{Body: answer.Event(), Now: pipeline.Now(msg.Context())})
	if err != nil {
		return nil, pipeline.Permanent(reason.Errorf("refresh customer %q: the answer of the Edge API: %w", event.Subject.Customer, err))
	}
	msg.Payload = payload
	return []*message.Message{msg}, nil
}

// refreshOutcome says what a question that was not answered means for the message.
func refreshOutcome(err error) error {
	failure, ok := errors.AsType[*edgeapi.Error](err)
	switch {
	case !ok && errors.Is(err, context.DeadlineExceeded):
		// The attempt's time is over before the answer came: the API is slow, or others wait in front.
		return pipeline.Unavailable(reason.Errorf("no answer of the Edge API in time: %w", err))
	case !ok:
		return err // our own cancellation
	case failure.Outcome == edgeapi.Rejected:
		return pipeline.Permanent(err)
	case failure.Outcome == edgeapi.Failed:
		return pipeline.RetryAfter(err, failure.RetryAfter)
	default: // away, throttled, or the key is refused: whatever the message
		return pipeline.Unavailable(err)
	}
}

// Diagnose asks the API about a customer that doesn't exist.
func (c *RefreshEntitlementsConfig) Diagnose(ctx context.Context, _ pipeline.DoctorEnv) []pipeline.Finding {
	if c.APIKey.IsZero() {
		return []pipeline.Finding{{
			Code: "PS301", Severity: pipeline.SeverityNote, What: "no api_key: events that don't say enough are not completed by the Edge API",
			Remedy: "a server API key (SERVER_API_KEY of the built-in service)",
		}}
	}
	edge, err := c.edge(nil)
	if err == nil {
		_, err = edge.Entitlements(ctx, entitlement.Subject{Customer: "penstock-doctor"})
	}
	failure, ok := errors.AsType[*edgeapi.Error](err)
	switch {
	case err == nil, ok && failure.Outcome == edgeapi.Failed: // it knows the key, and not the customer
		return nil
	case ok && failure.Outcome == edgeapi.Refused:
		return []pipeline.Finding{{
			Code: "PS303", Severity: pipeline.SeverityBroken, What: err.Error(),
			Remedy: "api_key (SERVER_API_KEY of the built-in service): a server API key of the environment whose events these are",
		}}
	}
	return []pipeline.Finding{{
		Code: "PS302", Severity: pipeline.SeverityBroken, What: err.Error(),
		Remedy: "url (EDGE_API_URL of the built-in service), DNS, proxy, firewall; until then the messages that need the API are held",
	}}
}
