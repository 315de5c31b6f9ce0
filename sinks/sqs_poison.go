package sinks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/pipeline"
)

var (
	_ pipeline.PoisonKeeper = (*SQSConfig)(nil)
	_ pipeline.PoisonQueue  = (*sqsPoison)(nil)
)

// How an SQS queue is read through. What is received is hidden from others for sqsHidden, which is extended for as long
// as it is held: after a kill it is there again when that has run out.
const (
	sqsHidden      = 2 * time.Minute
	sqsExtendEvery = 40 * time.Second
	sqsLookFor     = 2 * time.Second // one receive waits so long for a message
	sqsMostEmpty   = 4               // answers without a message, one after another, end it whatever the queue's count says
)

const sqsPoisonRights = "sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes and sqs:GetQueueUrl"

// OpenPoison opens the queue as a poison queue. Reading it is receiving: messages are hidden from others until they are
// removed or the queue is closed. Of a FIFO queue only the first messages of each group are there until those are gone.
func (c *SQSConfig) OpenPoison(ctx context.Context, _ pipeline.Env, _ bool) (pipeline.PoisonQueue, error) {
	p := &sqsPoison{queues: c.queues(), held: map[string]*sqsHeld{}}
	client, url, err := p.queues.Connect(ctx, c.given())
	if err != nil {
		p.queues.Close()
		return nil, awsclient.Describe(err, c.given(), "sqs:GetQueueUrl", sqsPoisonRights)
	}
	p.client, p.url = client, url
	extending, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.extending.Go(func() { p.extend(extending) })
	return p, nil
}

// sqsPoison is an SQS queue that is read as a poison queue.
type sqsPoison struct {
	queues *awsclient.Queues
	client *sqs.Client
	url    string

	stop      context.CancelFunc
	extending sync.WaitGroup

	mu   sync.Mutex
	held map[string]*sqsHeld // by SQS's id, all that were received
}

// sqsHeld is a message that was received.
type sqsHeld struct {
	receipt string // of the last time
	removed bool
}

// Entries implements [pipeline.PoisonQueue].
func (p *sqsPoison) Entries(ctx context.Context, each func(*pipeline.PoisonEntry) error, _ func(error)) error {
	if err := p.giveBack(ctx); err != nil {
		return err
	}
	for empty := 0; ; {
		out, err := p.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &p.url, MaxNumberOfMessages: sqsMaxBatch, WaitTimeSeconds: int32(sqsLookFor / time.Second), VisibilityTimeout: int32(sqsHidden / time.Second),
			MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && awsclient.FailureOf(err) == awsclient.OverLimit:
			return fmt.Errorf("queue %s: SQS hides no more messages at a time: take fewer, with a limit: %w", p.url, err)
		case err != nil:
			return awsclient.Describe(err, p.url, "sqs:ReceiveMessage", sqsPoisonRights)
		}
		fresh := p.hold(out.Messages)
		for _, e := range fresh {
			if err := each(e); err != nil {
				return err
			}
		}
		if len(fresh) > 0 {
			empty = 0
			continue
		}
		if empty++; empty == sqsMostEmpty || p.empty(ctx) {
			return nil
		}
	}
}

// hold notes what was received, and returns what was not received before.
func (p *sqsPoison) hold(msgs []types.Message) (fresh []*pipeline.PoisonEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range msgs {
		m := &msgs[i]
		id := aws.ToString(m.MessageId)
		if h := p.held[id]; h != nil { // it came again: the newest receipt is the one that counts
			h.receipt = aws.ToString(m.ReceiptHandle)
			continue
		}
		p.held[id] = &sqsHeld{receipt: aws.ToString(m.ReceiptHandle)}
		fresh = append(fresh, &pipeline.PoisonEntry{Message: sqsPoisoned(m), Place: "SQS message " + id, Handle: id})
	}
	return fresh
}

// sqsPoisoned makes the message that the sink was given.
func sqsPoisoned(m *types.Message) *message.Message {
	msg := awsclient.ToMessage(m)
	if group := m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]; group != "" {
		msg.Metadata["sqs_group_id"] = group
	}
	if at := msg.Metadata[pipeline.MetadataPoisonReceivedAt]; at != "" && msg.Metadata[recordedAt] == "" {
		msg.Metadata[recordedAt] = at
	}
	return msg
}

// empty reports whether the queue says that no message is visible.
func (p *sqsPoison) empty(ctx context.Context) bool {
	const visible = types.QueueAttributeNameApproximateNumberOfMessages
	out, err := p.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &p.url, AttributeNames: []types.QueueAttributeName{visible}})
	return err == nil && out.Attributes[string(visible)] == "0"
}

// Remove implements [pipeline.PoisonQueue].
func (p *sqsPoison) Remove(ctx context.Context, entries []*pipeline.PoisonEntry) error {
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		id, ok := e.Handle.(string)
		if !ok {
			return fmt.Errorf("not a message of queue %s", p.url)
		}
		ids = append(ids, id)
	}
	return p.batches(ids, func(ids, receipts []string) error {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &p.url}
		for i, receipt := range receipts {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: aws.String(receipt)})
		}
		out, err := p.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			return awsclient.Describe(err, p.url, "sqs:DeleteMessage", sqsPoisonRights)
		}
		if len(out.Failed) > 0 {
			f := out.Failed[0]
			return fmt.Errorf("delete from queue %s: %s: %s", p.url, aws.ToString(f.Code), aws.ToString(f.Message))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, id := range ids {
			p.held[id].removed = true
		}
		return nil
	})
}

// batches hands on held messages in the numbers that a request may have. It goes on after an error.
func (p *sqsPoison) batches(ids []string, do func(ids, receipts []string) error) error {
	var errs []error
	for at := 0; at < len(ids); at += sqsMaxBatch {
		batch := ids[at:min(at+sqsMaxBatch, len(ids))]
		receipts := make([]string, 0, len(batch))
		p.mu.Lock()
		for _, id := range batch {
			receipts = append(receipts, p.held[id].receipt)
		}
		p.mu.Unlock()
		if err := do(batch, receipts); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// kept are the ids of what is held and not removed.
func (p *sqsPoison) kept() (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, h := range p.held {
		if !h.removed {
			ids = append(ids, id)
		}
	}
	return ids
}

// hide hides what is held for so long from now.
func (p *sqsPoison) hide(ctx context.Context, d time.Duration) error {
	return p.batches(p.kept(), func(_, receipts []string) error {
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &p.url}
		for i, receipt := range receipts {
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(fmt.Sprint(i)), ReceiptHandle: aws.String(receipt), VisibilityTimeout: int32(d / time.Second)})
		}
		// What can't be given back or extended is there again by itself. (The right is that of ChangeMessageVisibility.)
		_, err := p.client.ChangeMessageVisibilityBatch(ctx, in)
		return err
	})
}

// extend keeps what is held hidden.
func (p *sqsPoison) extend(ctx context.Context) {
	ticker := time.NewTicker(sqsExtendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = p.hide(ctx, sqsHidden) // the next one may succeed; a message that comes again is known by its id
		case <-ctx.Done():
			return
		}
	}
}

// giveBack makes what is held visible to others.
func (p *sqsPoison) giveBack(ctx context.Context) error {
	err := p.hide(ctx, 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, h := range p.held {
		if !h.removed {
			delete(p.held, id)
		}
	}
	if err != nil {
		return fmt.Errorf("what was not removed from queue %s is hidden for up to %s: %w", p.url, sqsHidden, err)
	}
	return nil
}

// closeTimeout is how long giving back may take.
const closeTimeout = 20 * time.Second

// Close implements [pipeline.PoisonQueue].
func (p *sqsPoison) Close() error {
	p.stop()
	p.extending.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := p.giveBack(ctx)
	p.queues.Close()
	return err
}
