package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	awstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

// A FIFO queue's message groups keep their order through retries, releases that bring messages again, an outage of
// the sink and three stops with messages in flight, with and without order: source. A standard queue has no order
// that could be kept: with the same faults its messages come out in another one, or this test would prove nothing.
func TestSQS_messageGroupsKeepTheirOrderUnderFaults(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Endpoint: endpoint, Region: "us-east-1", AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	defer awsclient.CloseIdle(client)
	const groups, each = 3, 30
	for name, c := range map[string]struct {
		order string
		fifo  bool
	}{
		"FIFO":                      {"none", true},
		"FIFO, one after another":   {"source", true},
		"standard":                  {"none", false},
		"standard, as if it helped": {"source", false},
	} {
		t.Run(name, func(t *testing.T) {
			queue := &awssqs.CreateQueueInput{QueueName: aws.String(strings.NewReplacer(" ", "-", ",", "").Replace(name)), Attributes: map[string]string{"VisibilityTimeout": "30"}}
			if c.fifo {
				*queue.QueueName += ".fifo"
				queue.Attributes["FifoQueue"] = "true"
			}
			made, err := client.CreateQueue(t.Context(), queue)
			if err != nil {
				t.Fatal(err)
			}
			for i := range each {
				var entries []awstypes.SendMessageBatchRequestEntry
				for g := range groups {
					entry := awstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(g)), MessageBody: aws.String(fmt.Sprintf("%d-%03d", g, i))}
					if c.fifo {
						entry.MessageGroupId, entry.MessageDeduplicationId = aws.String(strconv.Itoa(g)), entry.MessageBody
					}
					entries = append(entries, entry)
				}
				if _, err := client.SendMessageBatch(t.Context(), &awssqs.SendMessageBatchInput{QueueUrl: made.QueueUrl, Entries: entries}); err != nil {
					t.Fatal(err)
				}
			}
			registry := pipeline.AddSink[groupsConfig](Register(pipeline.NewRegistry()), "groups")
			sink := newGroupsSink()
			for _, stopAt := range []int{20, 45, 70, groups * each} {
				config, _, err := pipeline.LoadBytes(registry, "x.yaml", []byte(`
name: x
order: `+c.order+`
source:
  sqs: {queue_url: "`+*made.QueueUrl+`", endpoint: "`+endpoint+`", region: us-east-1, access_key_id: test, secret_access_key: test, wait_time: 1s, ack_linger: 0s, release: {policy: now}}
sink: {groups: {}}
retry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 2}
`), pipeline.LoadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				config.Sink.Config.(*groupsConfig).sink = sink
				runUntil(t, config, sink, stopAt)
			}
			ordered := true
			for g := range groups {
				var want []string
				for i := range each {
					want = append(want, fmt.Sprintf("%d-%03d", g, i))
				}
				got := sink.group(g)
				if ordered = ordered && slices.Equal(got, want); c.fifo && !ordered {
					t.Errorf("group %d was stored as %v", g, got)
				}
			}
			if !c.fifo && ordered {
				t.Error("a standard queue's messages kept their order: the faults were none")
			}
		})
	}
}

// runUntil runs a pipeline until so many messages are stored, and stops it then.
func runUntil(t *testing.T, config *pipeline.Config, sink *groupsSink, stored int) {
	t.Helper()
	built, err := config.Build(pipeline.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pipeline.New(pipeline.Settings{}, built)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	sink.stopAt(stored, stop)
	if err := engine.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(sink.all()); n < stored {
		t.Fatalf("%d messages were stored in a minute, want %d", n, stored)
	}
	pipelinetest.CheckLedger(t, engine.Ledgers()[0])
}

// groupsConfig is a sink that fails in many ways before it stores.
type groupsConfig struct{ sink *groupsSink }

func (c *groupsConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(c.sink.store), nil
}

type groupsSink struct {
	mu     sync.Mutex
	tries  map[string]int
	stored []string
	most   int
	stop   func()
}

func newGroupsSink() *groupsSink { return &groupsSink{tries: map[string]int{}} }

func (s *groupsSink) stopAt(stored int, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most, s.stop = stored, stop
}

func (s *groupsSink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stored)
}

// group returns what was stored of a group, in order.
func (s *groupsSink) group(g int) []string {
	return slices.DeleteFunc(s.all(), func(body string) bool { return !strings.HasPrefix(body, strconv.Itoa(g)+"-") })
}

func (s *groupsSink) store(_ context.Context, msg *message.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := string(msg.Payload)
	s.tries[body]++
	switch n := s.tries[body]; {
	case strings.HasSuffix(body, "7") && n <= 4: // more than the two attempts of a delivery: released
		return errors.New("not now")
	case strings.HasSuffix(body, "3") && n <= 1:
		return errors.New("once more")
	case strings.HasSuffix(body, "-015") && n <= 2:
		return pipeline.Unavailable(errors.New("away"))
	}
	s.stored = append(s.stored, body)
	if len(s.stored) >= s.most {
		s.stop()
	}
	return nil
}
