package sqs

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/penstock-dev/penstock/internal/awsclient"
)

// Metadata that every message has. Message attributes stand beside it under their own names.
const (
	// MetadataMessageID is SQS's id of the message.
	MetadataMessageID = "sqs_message_id"
	// MetadataReceiveCount tells how often the message was received, this time included.
	MetadataReceiveCount = "sqs_receive_count"
	// MetadataSentAt is when the message was sent, in epoch milliseconds.
	MetadataSentAt = "sqs_sent_at"
	// MetadataGroupID is the message group, of FIFO queues only.
	MetadataGroupID = "sqs_group_id"
	// MetadataTraceHeader is the AWSTraceHeader that AWS X-Ray puts on a message, when it has one.
	MetadataTraceHeader = "sqs_trace_header"
	// MetadataQueue is the name of the queue.
	MetadataQueue = "sqs_queue"
)

// newHeld makes a message of what was received, with what SQS says of it.
func newHeld(m *types.Message, queue string, now time.Time) *held {
	h := &held{id: aws.ToString(m.MessageId), receipt: aws.ToString(m.ReceiptHandle), sum: aws.ToString(m.MD5OfBody), at: now}
	if h.id == "" {
		h.id = h.receipt
	}
	msg := awsclient.ToMessage(m)
	h.msg = msg
	msg.Metadata[MetadataMessageID] = h.id
	msg.Metadata[MetadataQueue] = queue
	if v := m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]; v != "" {
		msg.Metadata[MetadataReceiveCount] = v
		h.receives, _ = strconv.Atoi(v)
	}
	if v := m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)]; v != "" {
		msg.Metadata[MetadataSentAt] = v
		if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
			h.sent = time.UnixMilli(ms)
		}
	}
	if v := m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]; v != "" {
		msg.Metadata[MetadataGroupID] = v
		h.group = v
	}
	if v := m.Attributes[string(types.MessageSystemAttributeNameAWSTraceHeader)]; v != "" {
		msg.Metadata[MetadataTraceHeader] = v
	}
	h.size = len(msg.Payload)
	for k, v := range msg.Metadata {
		h.size += len(k) + len(v)
	}
	return h
}
