package awsclient_test

import (
	"context"
	"errors"
	"fmt"

	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	sqssource "github.com/penstock-dev/penstock/sources/sqs"
)

// server is a real SQS server and a client for it.
type server struct {
	*sqs.Client
	endpoint string
}

func startServer(t *testing.T) server {
	t.Helper()
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{
		Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	return server{client, endpoint}
}

func (s server) createQueue(ctx context.Context, name string, attributes map[string]string) error {
	if strings.HasSuffix(name, ".fifo") {
		attributes["FifoQueue"] = "true"
	}
	_, err := s.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	return err
}

func (s server) aws() awsclient.Config {
	return awsclient.Config{Endpoint: s.endpoint, Region: "us-east-1", AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test")}
}

func (s server) source(name string) *sources.SQSConfig {
	return &sources.SQSConfig{
		Queue: name, AWS: s.aws(),
		Consumers: 10, BatchSize: 10, WaitTime: time.Second, AckLinger: 20 * time.Millisecond,
		Release: sqssource.ReleaseConfig{Policy: "now"},
	}
}

func (s server) sink(name string) *sinks.SQSConfig {
	return &sinks.SQSConfig{
		Queue: name, AWS: s.aws(),
		Producers: 4, BatchSize: 10, MaxMessageBytes: 1 << 20, MaxBatchBytes: 1 << 20, GroupID: "group",
	}
}

// topics makes a publisher of any topic out of sinks, which have one each.
type topics struct {
	t      *testing.T
	server server
	sinks  chan map[string]pipeline.Sink
}

func (p topics) Publish(topic string, msgs ...*message.Message) error {
	all := <-p.sinks
	if all == nil {
		p.sinks <- nil
		return errors.New("closed")
	}
	sink, ok := all[topic]
	if !ok {
		if err := p.server.createQueue(context.Background(), topic, map[string]string{"VisibilityTimeout": "2"}); err != nil {
			p.sinks <- all
			return err
		}
		var err error
		if sink, err = p.server.sink(topic).NewSink(pipeline.Env{}); err != nil {
			p.sinks <- all
			return err
		}
		all[topic] = sink
	}
	p.sinks <- all
	for _, msg := range msgs {
		msg.Metadata.Set("group", "one") // the suite means the order of the whole topic
	}
	return sink.Publisher.Publish(sink.Topic, msgs...)
}

func (p topics) Close() error {
	all := <-p.sinks
	p.sinks <- nil
	var errs []error
	for _, sink := range all {
		errs = append(errs, sink.Publisher.Close())
	}
	return errors.Join(errs...)
}

// initialized creates the queues that it is subscribed to, which the source itself never does.
type initialized struct {
	message.Subscriber
	server server
}

func (s initialized) SubscribeInitialize(topic string) error {
	return s.server.createQueue(context.Background(), topic, map[string]string{"VisibilityTimeout": "2"})
}

// The suite that every Watermill Pub/Sub should pass before it is called production ready.
func TestWatermillSuite(t *testing.T) {
	for name, c := range map[string]struct {
		suffix   string
		features tests.Features
	}{
		"standard": {"", tests.Features{Persistent: true, ForceShort: true}},
		"fifo": {".fifo", tests.Features{Persistent: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true,
			ForceShort: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			c.features.GenerateTopicFunc = func(ctx tests.TestContext) string {
				return "topic-" + string(ctx.TestID) + c.suffix
			}
			tests.TestPubSub(t, c.features, func(t *testing.T) (message.Publisher, message.Subscriber) {
				all := make(chan map[string]pipeline.Sink, 1)
				all <- map[string]pipeline.Sink{}
				source, err := s.source("any").NewSource(pipeline.Env{})
				if err != nil {
					t.Fatal(err)
				}
				return topics{t, s, all}, initialized{source.Subscriber, s}
			}, nil)
		})
	}
}

func TestSinkToSource_whole(t *testing.T) {
	s := startServer(t)
	if err := s.createQueue(t.Context(), "q", map[string]string{}); err != nil {
		t.Fatal(err)
	}
	sink, err := s.sink("q").NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Publisher.Close() }()
	if err := sink.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	source, err := s.source("q").NewSource(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Subscriber.Close() }()
	msgs, err := source.Subscriber.Subscribe(t.Context(), source.Topic)
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range 30 {
		many[fmt.Sprintf("key%d", i)] = fmt.Sprintf("value %d", i)
	}
	for name, c := range map[string]struct {
		payload  string
		metadata map[string]string
	}{
		"text":                   {"{\"a\": 1}\n", map[string]string{"k": "v"}},
		"unicode":                {"é ü 漢字", map[string]string{"k": "漢字"}},
		"beyond the basic plane": {"emoji 🙂", map[string]string{"k": "🙂"}},
		"bytes":                  {"\xff\x00\xfe", map[string]string{"k": "\xff\x00"}},
		"control characters":     {"a\x00b\x1fc\uFFFF", map[string]string{"k": "\x01\uFFFE\x7f"}},
		"empty":                  {"", map[string]string{"k": ""}},
		"looks like base64":      {"AAAA", nil},
		"attribute names":        {"x", map[string]string{"with space": "1", "ü": "2", "AWS.x": "3", ".dot": "4", "a..b": "5", "": "6", strings.Repeat("n", 300): "7"}},
		"many":                   {"x", many},
		"sent before":            {"x", map[string]string{"sqs_sent_at": "1700000000000", "sqs_receive_count": "7", "sqs_message_id": "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			sent := message.NewMessage("id of "+name, []byte(c.payload))
			sent.Metadata = c.metadata
			if err := sink.Publisher.Publish(sink.Topic, sent); err != nil {
				t.Fatal(err)
			}
			got := <-msgs
			got.Ack()
			if string(got.Payload) != c.payload || got.UUID != sent.UUID {
				t.Errorf("got %q of %q, want %q of %q", got.Payload, got.UUID, c.payload, sent.UUID)
			}
			for k, want := range c.metadata {
				if !strings.HasPrefix(k, "sqs_") && got.Metadata[k] != want {
					t.Errorf("metadata %q: got %q, want %q", k, got.Metadata[k], want)
				}
			}
			for k := range got.Metadata {
				if _, ok := c.metadata[k]; !ok && !strings.HasPrefix(k, "sqs_") {
					t.Errorf("metadata %q: %q came from nowhere", k, got.Metadata[k])
				}
			}
			if n := got.Metadata["sqs_receive_count"]; n != "1" {
				t.Errorf("sqs_receive_count is %s, want its own", n)
			}
			if first := got.Metadata["sqs_first_sent_at"]; first != c.metadata["sqs_sent_at"] {
				t.Errorf("sqs_first_sent_at is %q, want %q", first, c.metadata["sqs_sent_at"])
			}
		})
	}
}
