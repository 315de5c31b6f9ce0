package sqs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
)

// Config consumes one or more AWS SQS queues, standard or FIFO.
//
// A message is deleted when it is written, filtered or poisoned, in batches of ten. As long as it is held, its
// visibility timeout is extended, so that a slow store or an outage never makes SQS deliver it a second time. A
// released message becomes visible again as `release` says. Stopping gives back at once what was not handed on; a
// message that SQS gave to a receive that had to be cancelled comes back after its visibility timeout. Queues are never
// created.
//
// Order: on FIFO queues the messages of a group are handed on one by one, in order, whatever the pipeline's order says,
// and that is kept through retries, releases and stops; groups run in parallel, and with order: source one after
// another. A standard queue has no order: order: source has one message processed at a time, but a released one comes
// again behind others. SQS may deliver a message of a standard queue twice; one that was written is not handled again
// by this process.
//
// Metadata: the message attributes under their own names, and sqs_message_id, sqs_receive_count, sqs_sent_at (epoch
// milliseconds), sqs_group_id, sqs_trace_header (X-Ray's, of messages that have it) and sqs_queue. Whatever the body
// is, it goes on as bytes.
type Config struct {
	// URL of the queue, such as https://us-east-1.amazonaws.com/123456789012/events; or several, separated by commas.
	QueueURL string `yaml:"queue_url" either:"queue_urls,queue" pattern:"^\\s*https?://[^\\s/,]+/+[^\\s,/][^\\s,]*\\s*(,\\s*(https?://[^\\s/,]+/+[^\\s,/][^\\s,]*\\s*)?)*$" want:"https://HOST/ACCOUNT/NAME, or several with commas between them" code:"PS058" example:"https://sqs.us-east-1.amazonaws.com/123456789012/events"`
	// URLs of several queues; an entry may hold several, separated by commas.
	QueueURLs []string `yaml:"queue_urls" unique:"true" pattern:"^\\s*https?://[^\\s/,]+/+[^\\s,/][^\\s,]*\\s*(,\\s*(https?://[^\\s/,]+/+[^\\s,/][^\\s,]*\\s*)?)*$" want:"https://HOST/ACCOUNT/NAME, or several with commas between them" code:"PS058" example:"[\"https://sqs.us-east-1.amazonaws.com/123456789012/events\"]"`
	// Name of the queue, instead of its URL: the URL is then asked for (sqs:GetQueueUrl).
	Queue string `yaml:"queue" excludes:"queue_url,queue_urls" pattern:"^[^/,: ]+$" want:"the name of a queue: a URL belongs in queue_url" code:"PS058" example:"events"`
	// Where the queue is, and who asks.
	AWS awsclient.Config `yaml:",inline"`
	// Most receive requests at a time, over all queues; at least 1. An idle queue has one open, a busy one as many as come
	// back full.
	Consumers int `yaml:"consumers" default:"10" range:"1.." unit:"requests"`
	// Most messages per receive request, 1 to 10. Every request costs the same, however few messages it brings.
	BatchSize int `yaml:"batch_size" default:"10" range:"1..10" unit:"messages"`
	// How long a receive request waits for messages, 0s to 20s in whole seconds. Short waits cost requests on an idle
	// queue.
	WaitTime time.Duration `yaml:"wait_time" default:"20s" range:"0s..20s" step:"1s"`
	// How long an ack may wait for others, to be sent in one request; 0s to 5s.
	AckLinger time.Duration `yaml:"ack_linger" default:"20ms" range:"0s..5s"`
	// For how long a message is hidden from other consumers, 2s to 11h in whole seconds; it is extended at half its time.
	// Without it, or with 0s, the queue's own visibility timeout applies.
	VisibilityTimeout time.Duration `yaml:"visibility_timeout" default:"0s" range:"0s..0s,2s..11h" step:"1s"`
	// When a released message becomes visible again.
	Release ReleaseConfig `yaml:"release" example:"{policy: now}"`
}

// ReleaseConfig says when a released message becomes visible again.
type ReleaseConfig struct {
	// "backoff": after a delay that doubles with every receive; "now": at once; "leave": when its visibility timeout
	// runs out.
	Policy string `yaml:"policy" default:"backoff" enum:"backoff,now,leave"`
	// Delay after the first receive, 1s to 12h in whole seconds.
	Initial time.Duration `yaml:"initial" default:"1s" range:"1s..12h" step:"1s"`
	// Longest delay, up to 12h.
	Max time.Duration `yaml:"max" default:"5m" range:"1s..12h" step:"1s"`
}

// Warnings tells of an order that SQS doesn't keep, and when what may be in flight can't be kept hidden. When the
// queue's own visibility timeout holds, that can't be known before the queue has been asked.
func (c *Config) Warnings(whole *pipeline.Config) []error {
	var all []error
	maxInFlight := whole.MaxInFlight
	if whole.Order == pipeline.OrderSource {
		maxInFlight = 1
		if i := slices.IndexFunc(c.Queues(), func(queue string) bool { return !isFIFO(queue) }); i >= 0 {
			all = append(all, code.Mark(code.NoOrderKept, pipeline.Invalid("", "order: source keeps no order here: %s is a standard queue, whose messages come in any order, and twice now and then. "+
				"Use a FIFO queue, or a version in the store; without order: source the pipeline is faster", c.Queues()[i])))
		}
	}
	if c.VisibilityTimeout == 0 {
		return all
	}
	held := 0
	for _, queue := range c.Queues() {
		held = max(held, holds(queue, c.Consumers, c.BatchSize, maxInFlight))
	}
	if most := extendable(c.VisibilityTimeout); held > most {
		all = append(all, code.Mark(code.VisibilityTooLow, pipeline.Invalid("visibility_timeout",
			"%s is too short to extend in time what may be held, %d messages (max_in_flight and what is received ahead): at 100 ms a request, %d can be; raise it, or lower max_in_flight",
			c.VisibilityTimeout, held, most)))
	}
	return all
}

// Validate reports queues that are missing or named twice, and settings out of range.
func (c *Config) Validate() error {
	errs := []error{pipeline.CheckTags(c)}
	seen := map[string]bool{}
	once := *c // what the list has twice CheckTags tells
	once.QueueURLs = slices.Compact(slices.Sorted(slices.Values(c.QueueURLs)))
	for _, u := range once.urls() {
		if _, _, err := awsclient.QueueLocation(u); err != nil {
			errs = append(errs, code.Mark(code.BadAddress, pipeline.Invalid("queue_url", "%w", err)))
		}
		if seen[u] {
			errs = append(errs, code.Mark(code.NamedTwice, pipeline.Invalid("queue_url", "%s is named twice", u)))
		}
		seen[u] = true
	}
	if c.Release.Policy == ReleaseBackoff && c.Release.Max < c.Release.Initial {
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("release.max", "must be at least initial (%s), got %s", c.Release.Initial, c.Release.Max)))
	}
	return errors.Join(errs...)
}

// urls are all queue URLs, one by one.
func (c *Config) urls() []string {
	var urls []string
	for _, list := range append([]string{c.QueueURL}, c.QueueURLs...) {
		for u := range strings.SplitSeq(list, ",") {
			if u = strings.TrimSpace(u); u != "" {
				urls = append(urls, u)
			}
		}
	}
	return urls
}

// NewSource makes the source. Its topic names the queues; the subscriber takes other queue URLs and names too.
func (c *Config) NewSource(env pipeline.Env) (pipeline.Source, error) {
	settings := c.settings()
	settings.MaxInFlight, settings.MaxInFlightBytes = env.MaxInFlight, env.MaxInFlightBytes
	settings.Logger, settings.Metrics = env.Logger, env.Metrics
	return pipeline.FromSubscriber(New(settings), settings.Topic), nil
}

// Diagnose looks at the queues: rights, timeouts, redrive policy, how long an outage may last.
func (c *Config) Diagnose(ctx context.Context, env pipeline.DoctorEnv) []pipeline.Finding {
	settings := c.settings()
	defer settings.Closed()
	settings.MaxInFlight = env.Pipeline.MaxInFlight
	return diagnose(ctx, settings, env)
}

// Queues are the URLs of the queues, or the name of the one.
func (c *Config) Queues() []string {
	if c.Queue != "" {
		return []string{c.Queue}
	}
	return c.urls()
}

var _ configfacts.QueueConsumer = (*Config)(nil)

// settings are the subscriber's, as far as the config says.
func (c *Config) settings() Settings {
	topic := strings.Join(c.Queues(), ",")
	queues := awsclient.NewQueues(c.AWS.Settings())
	return Settings{
		Topic: topic,
		Connect: func(ctx context.Context, queue string) (Client, string, error) {
			client, url, err := queues.Connect(ctx, queue)
			if err != nil {
				return nil, "", err
			}
			return awsclient.NewDirect(ctx, client), url, nil
		},
		Closed:            queues.Close,
		Consumers:         c.Consumers,
		BatchSize:         c.BatchSize,
		WaitTime:          c.WaitTime,
		AckLinger:         c.AckLinger,
		VisibilityTimeout: c.VisibilityTimeout,
		Release:           c.Release.Policy,
		ReleaseInitial:    c.Release.Initial,
		ReleaseMax:        c.Release.Max,
	}
}
