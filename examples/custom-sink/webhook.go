package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/penstock-dev/penstock/pipeline"
)

// WebhookConfig posts each message's payload to a URL. A message is stored when the answer is 2xx.
type WebhookConfig struct {
	// Where to post to: an http or https URL.
	URL string `yaml:"url" required:"true"`
	// How long one request may take.
	Timeout time.Duration `yaml:"timeout" default:"5s"`
}

// NewSink makes the sink.
func (c *WebhookConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	client := &http.Client{Timeout: c.Timeout}
	return pipeline.SinkFunc(func(ctx context.Context, msg *message.Message) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(msg.Payload))
		if err != nil {
			return pipeline.Fatal(err) // the URL is wrong, whatever the message
		}
		res, err := client.Do(req)
		if err != nil {
			return pipeline.Unavailable(err) // hold everything until it answers again
		}
		_ = res.Body.Close()
		switch {
		case res.StatusCode < 300:
			return nil
		case res.StatusCode == http.StatusTooManyRequests:
			return pipeline.RetryAfter(fmt.Errorf("webhook: %s", res.Status), time.Second)
		case res.StatusCode < 500:
			return pipeline.Permanent(fmt.Errorf("webhook: %s", res.Status)) // to the poison queue
		}
		return fmt.Errorf("webhook: %s", res.Status) // try again
	}), nil
}
