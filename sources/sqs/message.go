package sqs

import (
	"encoding/base64"
	"maps"
	"strconv"
	"strings"
	"time"

	wmsqs "github.com/ThreeDotsLabs/watermill-aws/sqs"
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

var marshaler wmsqs.DefaultMarshalerUnmarshaler

// newHeld makes a message of what was received. Nothing in a message makes it undeliverable: what can't be understood
// stays as it is.
func newHeld(m *types.Message, queue string, now time.Time) *held {
	for name, a := range m.MessageAttributes {
		// "Number.int" and the like: SQS lets senders label the three types, the marshaler knows them bare.
		if a.DataType != nil {
			if i := strings.IndexByte(*a.DataType, '.'); i > 0 {
				a.DataType = aws.String((*a.DataType)[:i])
				m.MessageAttributes[name] = a
			}
		}
		if name == wmsqs.UUIDAttribute && a.StringValue == nil {
			delete(m.MessageAttributes, name)
		}
	}
	h := &held{id: aws.ToString(m.MessageId), receipt: aws.ToString(m.ReceiptHandle), at: now}
	if h.id == "" {
		h.id = h.receipt
	}
	msg, _ := marshaler.Unmarshal(m) // it returns no error
	h.msg = msg
	if packed, ok := msg.Metadata[awsclient.AttributeMetadata]; ok {
		if more, ok := awsclient.UnpackMetadata(packed); ok {
			delete(msg.Metadata, awsclient.AttributeMetadata)
			maps.Copy(msg.Metadata, more)
		}
	}
	switch msg.Metadata[awsclient.AttributeEncoding] {
	case "base64":
		if body, err := base64.StdEncoding.DecodeString(string(msg.Payload)); err == nil {
			msg.Payload = body
			delete(msg.Metadata, awsclient.AttributeEncoding)
		}
	case "empty":
		msg.Payload = []byte{}
		delete(msg.Metadata, awsclient.AttributeEncoding)
	}
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
