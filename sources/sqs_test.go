package sources

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources/sqs"
)

func sqsConfig(edit func(*SQSConfig)) *SQSConfig {
	c := &SQSConfig{
		Consumers: 10, BatchSize: 10, WaitTime: time.Second, AckLinger: 20 * time.Millisecond,
		AWS:     awsclient.Config{AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test")},
		Release: sqs.ReleaseConfig{Policy: "backoff", Initial: time.Second, Max: 5 * time.Minute},
	}
	edit(c)
	return c
}

func startSQSSource(t *testing.T, c *SQSConfig) (pipeline.Source, error) {
	t.Helper()
	source, err := c.NewSource(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Subscriber.Close(); err != nil {
			t.Error(err)
		}
	})
	return source, source.Subscriber.(pipeline.Starter).Start(t.Context())
}

func TestSQSConfig_validate(t *testing.T) {
	const queueURL = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
	for name, c := range map[string]struct {
		edit func(*SQSConfig)
		want []string // parts of the error, "" of a valid config
	}{
		"a URL":              {func(c *SQSConfig) { c.QueueURL = queueURL }, nil},
		"several URLs":       {func(c *SQSConfig) { c.QueueURLs = []string{queueURL + "1," + queueURL + "2", queueURL + "3"} }, nil},
		"a name":             {func(c *SQSConfig) { c.Queue = "q" }, nil},
		"no queue":           {func(*SQSConfig) {}, []string{"queue_url: is required"}},
		"a URL and a name":   {func(c *SQSConfig) { c.QueueURL, c.Queue = queueURL, "q" }, []string{"queue: can't be combined"}},
		"a URL as a name":    {func(c *SQSConfig) { c.Queue = queueURL }, []string{"queue: want the name of a queue"}},
		"a name as a URL":    {func(c *SQSConfig) { c.QueueURL = "q" }, []string{"queue_url: "}},
		"the same URL twice": {func(c *SQSConfig) { c.QueueURL = queueURL + "," + queueURL }, []string{"named twice"}},
		"all numbers out of range": {func(c *SQSConfig) {
			c.Queue, c.Consumers, c.BatchSize, c.WaitTime, c.AckLinger = "q", 0, 11, 1500*time.Millisecond, -1
			c.VisibilityTimeout, c.Release.Initial, c.Release.Max = time.Second, 0, 13*time.Hour
		}, []string{"consumers: ", "batch_size: ", "wait_time: ", "ack_linger: ", "visibility_timeout: ", "release.initial: ", "release.max: "}},
	} {
		t.Run(name, func(t *testing.T) {
			err := sqsConfig(c.edit).Validate()
			if len(c.want) == 0 {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestSQS_startNamesAMissingQueue(t *testing.T) {
	endpoint := testserver.SQS(t)
	for name, edit := range map[string]func(*SQSConfig){
		"by URL":  func(c *SQSConfig) { c.QueueURL = endpoint + "/000000000000/absent" },
		"by name": func(c *SQSConfig) { c.Queue, c.AWS.Endpoint = "absent", endpoint },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := startSQSSource(t, sqsConfig(edit))
			if !pipeline.IsFatal(err) || !strings.Contains(err.Error(), "absent does not exist") {
				t.Errorf("got %v, want a fatal error that names the queue", err)
			}
		})
	}
}

func TestSQS_receivesByURLAndByName(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Endpoint: endpoint, Region: "us-east-1", AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	defer awsclient.CloseIdle(client)
	queue, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String("events")})
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*SQSConfig){
		"by URL":  func(c *SQSConfig) { c.QueueURL, c.AWS.Endpoint = *queue.QueueUrl, endpoint },
		"by name": func(c *SQSConfig) { c.Queue, c.AWS.Endpoint = "events", endpoint },
	} {
		t.Run(name, func(t *testing.T) {
			source, err := startSQSSource(t, sqsConfig(edit))
			if err != nil {
				t.Fatal(err)
			}
			msgs, err := source.Subscriber.Subscribe(t.Context(), source.Topic)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: aws.String("x")}); err != nil {
				t.Fatal(err)
			}
			msg := <-msgs
			msg.Ack()
			if got := msg.Metadata["sqs_queue"]; got != "events" {
				t.Errorf("sqs_queue is %q", got)
			}
		})
	}
}

// A queue may have a long wait of its own, which holds for every receive that doesn't say another.
func TestSQS_startDoesNotWaitForMessages(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Endpoint: endpoint, Region: "us-east-1", AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	defer awsclient.CloseIdle(client)
	queue, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String("events"),
		Attributes: map[string]string{"ReceiveMessageWaitTimeSeconds": "20"}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := startSQSSource(t, sqsConfig(func(c *SQSConfig) { c.QueueURL, c.AWS.Endpoint = *queue.QueueUrl, endpoint })); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s to start on an empty queue", d)
	}
}

// answer is an SQS server that gives one answer to every request of an action, and an empty one to all others.
func answer(t *testing.T, status int, code string, actions ...string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		for _, a := range actions {
			if a == action {
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "User: arn:aws:iam::1:user/u is not authorized"})
				return
			}
		}
		_, _ = fmt.Fprint(w, `{"Attributes":{"VisibilityTimeout":"30"}}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestSQS_startTellsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		code    string
		actions []string
		fatal   bool
		want    []string
	}{
		"receive denied": {400, "com.amazon.coral.service#AccessDeniedException", []string{"ReceiveMessage"}, true,
			[]string{"sqs:ReceiveMessage on queue", "/1/q is denied", "allow sqs:ReceiveMessage", "user/u"}},
		"attributes denied": {400, "AccessDenied", []string{"GetQueueAttributes"}, false, nil},
		"refused key": {403, "InvalidClientTokenId", []string{"GetQueueAttributes"}, true,
			[]string{"credentials", "missing or refused"}},
		"throttled":    {400, "ThrottlingException", []string{"ReceiveMessage"}, false, []string{"sqs:ReceiveMessage on queue"}},
		"server error": {503, "ServiceUnavailable", []string{"GetQueueAttributes"}, false, []string{"sqs:GetQueueAttributes on queue"}},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := answer(t, c.status, c.code, c.actions...)
			_, err := startSQSSource(t, sqsConfig(func(s *SQSConfig) { s.QueueURL = endpoint + "/1/q" }))
			if len(c.want) == 0 {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			if pipeline.IsFatal(err) != c.fatal || pipeline.IsUnavailable(err) == c.fatal {
				t.Errorf("fatal %v, unavailable %v: %v", pipeline.IsFatal(err), pipeline.IsUnavailable(err), err)
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestSQS_startReportsAServerThatIsAway(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	source, err := startSQSSource(t, sqsConfig(func(c *SQSConfig) { c.QueueURL = server.URL + "/1/q" }))
	if !pipeline.IsUnavailable(err) || pipeline.IsFatal(err) {
		t.Errorf("got %v, want unavailable", err)
	}
	if n, err := source.Subscriber.(pipeline.Receiver).Receiving(); n != 0 || err == nil {
		t.Errorf("receiving: got %d, %v; want an error", n, err)
	}
}

func TestSQS_warnsWhenWhatIsHeldCannotBeKeptHidden(t *testing.T) {
	registry := pipeline.AddSource[SQSConfig](pipeline.NewRegistry(), "sqs")
	pipeline.AddSink[nowhereConfig](registry, "nowhere")
	for visibility, warns := range map[string]bool{"2s": true, "30s": false, "0s": false} {
		yaml := "name: p\nmax_in_flight: 5000\nsource:\n  sqs:\n    queue_url: http://127.0.0.1:4566/000000000000/q\n    visibility_timeout: " +
			visibility + "\nsink: {nowhere: {}}\n"
		_, warnings, err := pipeline.LoadBytes(registry, "p.yaml", []byte(yaml), pipeline.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if (len(warnings) > 0) != warns {
			t.Errorf("visibility_timeout %s: %v", visibility, warnings)
		}
		for _, w := range warnings {
			if got := w.String(); !strings.HasPrefix(got, "p.yaml:6:25: source.sqs.visibility_timeout: 2s is too short") {
				t.Errorf("warning %q", got)
			}
		}
	}
}

type nowhereConfig struct{}

func (*nowhereConfig) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }
