package sqs_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/sources/sqs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a real SQS server and a client for it.
type server struct {
	*awssqs.Client
}

func (s server) endpoint() string { return *s.Options().BaseEndpoint }

func startServer(t *testing.T) server {
	t.Helper()
	return dial(t, testserver.SQS(t))
}

func dial(t *testing.T, endpoint string) server {
	t.Helper()
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{
		Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	return server{client}
}

func (s server) createQueue(t *testing.T, name string, attributes map[string]string) string {
	t.Helper()
	out, err := s.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl
}

func (s server) send(t *testing.T, queueURL string, bodies ...string) {
	t.Helper()
	for len(bodies) > 0 {
		n := min(10, len(bodies))
		entries := make([]types.SendMessageBatchRequestEntry, n)
		for i := range entries {
			entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &bodies[i]}
		}
		out, err := s.SendMessageBatch(t.Context(), &awssqs.SendMessageBatchInput{QueueUrl: &queueURL, Entries: entries})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Failed) > 0 {
			t.Fatalf("send: %v", aws.ToString(out.Failed[0].Message))
		}
		bodies = bodies[n:]
	}
}

// left is how many messages the queue has, visible and hidden.
func (s server) left(t *testing.T, queueURL string) int {
	t.Helper()
	out, err := s.GetQueueAttributes(context.WithoutCancel(t.Context()), &awssqs.GetQueueAttributesInput{QueueUrl: &queueURL,
		AttributeNames: []types.QueueAttributeName{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, v := range out.Attributes {
		i, _ := strconv.Atoi(v)
		n += i
	}
	return n
}

func (s server) settings() sqs.Settings {
	return sqs.Settings{
		Connect: func(ctx context.Context, queue string) (sqs.Client, string, error) {
			return awsclient.NewDirect(ctx, s.Client), queue, nil
		},
		WaitTime: time.Second, AckLinger: 20 * time.Millisecond, Release: sqs.ReleaseNow,
	}
}

func bodies(n int) []string {
	b := make([]string, n)
	for i := range b {
		b[i] = fmt.Sprintf("body %d", i)
	}
	return b
}

func TestSubscriber_everyMessageOnceAndTheQueueIsEmpty(t *testing.T) {
	s := startServer(t)
	queueURL := s.createQueue(t, "q", nil)
	const n = 5000
	s.send(t, queueURL, bodies(n)...)
	settings := s.settings()
	settings.Topic = queueURL
	sub := sqs.New(settings)
	if err := sub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	msgs, err := sub.Subscribe(t.Context(), queueURL)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	seen := map[string]int{}
	for range n {
		msg := <-msgs
		seen[string(msg.Payload)]++
		msg.Ack()
	}
	t.Logf("%d messages in %s", n, time.Since(began))
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	for body, times := range seen {
		if times != 1 {
			t.Errorf("%q was handled %d times", body, times)
		}
	}
	if left := s.left(t, queueURL); left != 0 || len(seen) != n {
		t.Errorf("%d of %d messages were seen, %d are left", len(seen), n, left)
	}
}

func TestSubscriber_metadata(t *testing.T) {
	s := startServer(t)
	queueURL := s.createQueue(t, "q", nil)
	before := time.Now().UnixMilli()
	_, err := s.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: &queueURL, MessageBody: aws.String("x"),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"text":   {DataType: aws.String("String"), StringValue: aws.String("t")},
			"number": {DataType: aws.String("Number.int"), StringValue: aws.String("7")},
			"bytes":  {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255}},
			// The name by which Watermill carries its own id, of a type that it never has.
			"_watermill_message_uuid": {DataType: aws.String("Binary"), BinaryValue: []byte{1}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	sub := sqs.New(s.settings())
	msgs, err := sub.Subscribe(t.Context(), queueURL)
	if err != nil {
		t.Fatal(err)
	}
	msg := <-msgs
	msg.Ack()
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	sent, _ := strconv.ParseInt(msg.Metadata["sqs_sent_at"], 10, 64)
	if sent < before || sent > time.Now().UnixMilli() {
		t.Errorf("sqs_sent_at %q is not when it was sent", msg.Metadata["sqs_sent_at"])
	}
	if id := msg.Metadata["sqs_message_id"]; id == "" || id != msg.UUID {
		t.Errorf("sqs_message_id %q, UUID %q: want the same", id, msg.UUID)
	}
	for k, want := range map[string]string{
		"text": "t", "number": "7", "bytes": "\x00\xff", "sqs_receive_count": "1", "sqs_queue": "q",
	} {
		if got := msg.Metadata[k]; got != want {
			t.Errorf("%s: got %q, want %q", k, got, want)
		}
	}
}

func TestSubscriber_nackBringsItBack(t *testing.T) {
	s := startServer(t)
	queueURL := s.createQueue(t, "q", nil)
	s.send(t, queueURL, "x")
	sub := sqs.New(s.settings())
	msgs, err := sub.Subscribe(t.Context(), queueURL)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 3 {
		msg := <-msgs
		if got, want := msg.Metadata["sqs_receive_count"], strconv.Itoa(i+1); got != want {
			t.Errorf("receive count %s, want %s", got, want)
		}
		if i < 2 {
			msg.Nack()
		} else {
			msg.Ack()
		}
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("it took %s: want well below the queue's 30 s of visibility", d)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	if n := s.left(t, queueURL); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestSubscriber_stopGivesBackAtOnce(t *testing.T) {
	s := startServer(t)
	queueURL := s.createQueue(t, "q", nil)
	s.send(t, queueURL, bodies(100)...)
	sub := sqs.New(s.settings())
	msgs, err := sub.Subscribe(t.Context(), queueURL)
	if err != nil {
		t.Fatal(err)
	}
	var held []*message.Message
	for range 5 {
		held = append(held, <-msgs)
	}
	sub.Drain()
	for msg := range msgs {
		held = append(held, msg)
	}
	for _, msg := range held[1:] { // one is left unsettled
		msg.Ack()
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	// Everything else is visible: a second consumer has it long before the queue's 30 s of visibility are over.
	sub = sqs.New(s.settings())
	if msgs, err = sub.Subscribe(t.Context(), queueURL); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	seen := map[string]bool{}
	for want := 100 - len(held) + 1; len(seen) < want; {
		select {
		case msg := <-msgs:
			if seen[msg.UUID] {
				t.Errorf("%s came twice", msg.Payload)
			}
			seen[msg.UUID] = true
			msg.Ack()
		case <-deadline:
			t.Fatalf("%d of %d messages came back", len(seen), want)
		}
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	if n := s.left(t, queueURL); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestSubscriber_severalQueues(t *testing.T) {
	s := startServer(t)
	a, b := s.createQueue(t, "a", nil), s.createQueue(t, "b", nil)
	s.send(t, a, bodies(50)...)
	s.send(t, b, bodies(50)...)
	sub := sqs.New(s.settings())
	msgs, err := sub.Subscribe(t.Context(), a+", "+b)
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]int{}
	for range 100 {
		msg := <-msgs
		from[msg.Metadata["sqs_queue"]]++
		msg.Ack()
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	if from["a"] != 50 || from["b"] != 50 {
		t.Errorf("received %v, want 50 of each", from)
	}
}

func TestSubscriber_concurrentCloseAndDrain(t *testing.T) {
	s := startServer(t)
	sub := sqs.New(s.settings())
	if _, err := sub.Subscribe(t.Context(), s.createQueue(t, "q", nil)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(sub.Drain)
		wg.Go(func() {
			if err := sub.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := sub.Subscribe(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("subscribe after close: got %v, want that it is stopped", err)
	}
}
