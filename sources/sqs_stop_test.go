package sources

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
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

// TestSQS_stopsUnderLoad starts and stops a pipeline 200 times at random moments while its queue is full. A stop
// counts only if something was in flight. Every message must end up stored exactly once.
func TestSQS_stopsUnderLoad(t *testing.T) {
	stops := 200
	if testing.Short() {
		stops = 20
	}
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Endpoint: endpoint, Region: "us-east-1", AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	defer awsclient.CloseIdle(client)
	queue, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String("q"),
		Attributes: map[string]string{"VisibilityTimeout": "5"}})
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	fill := func(n int) {
		for n > 0 {
			entries := make([]awstypes.SendMessageBatchRequestEntry, 10)
			for i := range entries {
				entries[i] = awstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(strconv.Itoa(sent + i))}
			}
			if _, err := client.SendMessageBatch(t.Context(), &awssqs.SendMessageBatchInput{QueueUrl: queue.QueueUrl, Entries: entries}); err != nil {
				t.Fatal(err)
			}
			n -= 10
			sent += 10
		}
	}

	var mu sync.Mutex
	stored := map[string]int{}
	var poisoned, inHand atomic.Int64
	run := func(until func(*pipeline.Engine)) (inFlight bool) {
		source, err := sqsConfig(func(c *SQSConfig) { c.QueueURL, c.AWS.Endpoint = *queue.QueueUrl, endpoint }).NewSource(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		poison := pipeline.SinkFunc(func(context.Context, *message.Message) error { poisoned.Add(1); return nil })
		engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
			Name: "stops", Source: source, PoisonQueue: &poison, MaxInFlight: 50,
			Sink: pipeline.SinkFunc(func(ctx context.Context, msg *message.Message) error {
				inHand.Add(1)
				defer inHand.Add(-1)
				select {
				case <-time.After(rand.N(20 * time.Millisecond)):
				case <-ctx.Done():
					return ctx.Err()
				}
				if rand.N(20) == 0 {
					return errors.New("not this time")
				}
				mu.Lock()
				defer mu.Unlock()
				stored[string(msg.Payload)]++
				return nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		go func() { done <- engine.Run(ctx) }()
		select {
		case <-engine.Ready():
		case err := <-done:
			t.Fatal(err)
		}
		until(engine)
		inFlight = inHand.Load() > 0
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		pipelinetest.CheckLedger(t, engine.Ledgers()[0])
		return inFlight
	}

	counted, tried := 0, 0
	for counted < stops {
		if tried++; tried > 3*stops {
			t.Fatalf("%d of %d stops had something in flight", counted, tried)
		}
		mu.Lock()
		waiting := sent - len(stored)
		mu.Unlock()
		if waiting < 1000 {
			fill(500)
		}
		if run(func(*pipeline.Engine) { time.Sleep(rand.N(40 * time.Millisecond)) }) {
			counted++
		}
	}
	run(func(*pipeline.Engine) {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			n := len(stored)
			mu.Unlock()
			if n == sent || time.Now().After(deadline) {
				return
			}
		}
	})
	t.Logf("%d stops, %d of them under load, %d messages", tried, counted, sent)
	twice := 0
	for _, n := range stored {
		if n > 1 {
			twice++
		}
	}
	left, err := client.GetQueueAttributes(t.Context(), &awssqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl,
		AttributeNames: []awstypes.QueueAttributeName{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(left.Attributes["ApproximateNumberOfMessages"], "+", left.Attributes["ApproximateNumberOfMessagesNotVisible"]); got != "0+0" ||
		len(stored) != sent || twice > 0 || poisoned.Load() > 0 {
		t.Errorf("%d of %d messages were stored, %d twice, %d poisoned, %s are left in the queue", len(stored), sent, twice, poisoned.Load(), got)
	}
}
