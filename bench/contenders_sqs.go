package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmsqs "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/awsclient"
)

// stockMain consumes the queue with Watermill's own SQS subscriber until a signal.
//
// Its client reads responses whole, as penstock's does: with the AWS SDK's own, on loopback, lost responses would hide
// messages for a visibility timeout, and the figure would be about that.
func stockMain(ctx context.Context, s sqsSettings) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := newAWSConfig(ctx, s.Endpoint)
	if err != nil {
		return err
	}
	queueURL, err := url.Parse(s.Queue)
	if err != nil {
		return err
	}
	config := wmsqs.SubscriberConfig{
		AWSConfig: cfg, QueueUrlResolver: wmsqs.TransparentUrlResolver{},
		OptFns: []func(*sqs.Options){func(o *sqs.Options) {
			o.BaseEndpoint = aws.String(s.Endpoint)
			o.HTTPClient = awsclient.WholeBodies(awsclient.HTTPClient(o.HTTPClient))
		}},
	}
	if s.Receive > 0 {
		config.GenerateReceiveMessageInput = func(ctx context.Context, queueURL wmsqs.QueueURL) (*sqs.ReceiveMessageInput, error) {
			input, err := wmsqs.GenerateReceiveMessageInputDefault(ctx, queueURL)
			if err == nil {
				input.MaxNumberOfMessages = s.Receive
			}
			return input, err
		}
	}
	subscriber, err := wmsqs.NewSubscriber(config, watermill.NopLogger{})
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: s.Redis, Protocol: 2})
	defer func() { _ = client.Close() }()
	handler, err := newHandler(ctx, client, s.Script)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 5 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	for i := range s.Subscriptions {
		router.AddConsumerHandler("bench-"+strconv.Itoa(i), queueURL.String(), subscriber, handler)
	}
	return router.Run(ctx)
}

// rawMain receives and deletes until it has deleted all messages, and does nothing with them.
func rawMain(ctx context.Context, s sqsSettings) error {
	client, err := newSQSClient(ctx, s.Endpoint)
	if err != nil {
		return err
	}
	begin, err := ownCPU()
	if err != nil {
		return err
	}
	started := time.Now()
	var deleted atomic.Int64
	errs := make([]error, s.Subscriptions)
	var wg sync.WaitGroup
	for i := range s.Subscriptions {
		wg.Go(func() {
			for deleted.Load() < int64(s.Messages) && errs[i] == nil {
				n, err := receiveAndDelete(ctx, client, s.Queue)
				deleted.Add(int64(n))
				errs[i] = err
			}
		})
	}
	wg.Wait()
	took := cost{Wall: time.Since(started)}
	end, err := ownCPU()
	if err != nil {
		return err
	}
	took.CPU = end - begin
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

func receiveAndDelete(ctx context.Context, client *sqs.Client, queueURL string) (int, error) {
	got, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(queueURL), MaxNumberOfMessages: 10})
	if err != nil || len(got.Messages) == 0 {
		return 0, err
	}
	entries := make([]types.DeleteMessageBatchRequestEntry, len(got.Messages))
	for i := range got.Messages {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: got.Messages[i].ReceiptHandle}
	}
	out, err := client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(queueURL), Entries: entries})
	if err != nil {
		return 0, err
	}
	if len(out.Failed) > 0 {
		return 0, fmt.Errorf("the queue refused a delete: %s", aws.ToString(out.Failed[0].Message))
	}
	return len(entries), nil
}
