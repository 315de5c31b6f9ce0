package sinks

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	wmsqs "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// SQSConfig sends messages to an AWS SQS queue, standard or FIFO, up to ten in a request. As a poison queue it keeps
// the original whole.
//
// The payload is the body; one that SQS doesn't take as text (or an empty one) is sent in base64, marked by the
// attribute penstock_encoding. Metadata becomes message attributes; what is beyond SQS's limits (ten of them, their
// names, empty values) is gathered in the attribute penstock_metadata. The sqs source undoes both. What the source
// says of a delivery (sqs_message_id and so on) is left out, but the time of the first sending is kept as
// sqs_first_sent_at. A message that is too large fails for good, alone. Queues are never created.
//
// Order: messages that are processed at the same time are sent in any order. To a FIFO queue, order: source on the
// pipeline sends them in the order of the source; a request whose answer got lost is sent again, which a FIFO queue
// takes once within five minutes and a standard queue twice.
type SQSConfig struct {
	// URL of the queue, such as https://sqs.us-east-1.amazonaws.com/123456789012/poison.
	QueueURL string `yaml:"queue_url" either:"queue" pattern:"^https?://[^\\s/,]+/+[^\\s/].*$" want:"https://HOST/ACCOUNT/NAME" code:"PS058" example:"https://sqs.us-east-1.amazonaws.com/123456789012/poison"`
	// Name of the queue, instead of its URL: the URL is then asked for (sqs:GetQueueUrl).
	Queue string `yaml:"queue" excludes:"queue_url" pattern:"^[^/,: ]+$" want:"the name of a queue: a URL belongs in queue_url" code:"PS058" example:"poison"`
	// Where the queue is, and who asks.
	AWS awsclient.Config `yaml:",inline"`
	// Most requests at a time, 1 to 100. A FIFO queue gets one at a time, which keeps the order of what one delivery
	// brings.
	Producers int `yaml:"producers" default:"4" range:"1..100" unit:"requests"`
	// Most messages per request, 1 to 10.
	BatchSize int `yaml:"batch_size" default:"10" range:"1..10" unit:"messages"`
	// Largest message, its attributes included; SQS allows 1MiB and queues may be set to less.
	MaxMessageBytes pipeline.ByteSize `yaml:"max_message_bytes" default:"1MiB" range:"1KiB..1MiB"`
	// Largest request: the sum of its messages; SQS allows 1MiB.
	MaxBatchBytes pipeline.ByteSize `yaml:"max_batch_bytes" default:"1MiB" range:"1KiB..1MiB"`
	// Where a FIFO queue's message group comes from: "$.a.b" is a field of a JSON payload, anything else a metadata key. A
	// message without it is a group of its own.
	GroupID string `yaml:"group_id" default:"sqs_group_id"`
	// Where a FIFO queue's deduplication id comes from, like group_id. Without it, it is made of the message's id:
	// SQS then drops what is sent a second time within 5 minutes.
	DeduplicationID string `yaml:"deduplication_id" example:"$.id"`
}

// Limits of SQS.
const (
	sqsMaxBatch      = 10
	sqsMaxAttributes = 10
	sqsMaxBytes      = 1 << 20
	sqsMaxID         = 128
)

// Validate reports a queue that is missing and settings out of range.
func (c *SQSConfig) Validate() error {
	errs := []error{pipeline.CheckTags(c)}
	if c.QueueURL != "" {
		if _, _, err := awsclient.QueueLocation(c.QueueURL); err != nil {
			errs = append(errs, code.Mark(code.BadAddress, pipeline.Invalid("queue_url", "%w", err)))
		}
	}
	if c.MaxBatchBytes < c.MaxMessageBytes {
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("max_batch_bytes", "must be at least max_message_bytes (%s), got %s", c.MaxMessageBytes, c.MaxBatchBytes)))
	}
	return errors.Join(errs...)
}

// NewSink makes the sink.
func (c *SQSConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	s := &sqsSink{
		config: *c, queues: c.queues(), given: c.given(), log: env.Logger,
		requests: pipeline.RegisterMetric(env.Metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "penstock_sqs_requests_total", Help: "Requests sent to SQS.",
		}, []string{"action"})),
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.fifo = strings.HasSuffix(s.given, ".fifo") // SQS demands it of FIFO queues, and of no others
	workers := c.Producers
	if s.fifo {
		workers = 1
	}
	return pipeline.BatchSinkFunc(s.send, pipeline.BatchSettings{
		Batch:   pipeline.Batch{Count: c.BatchSize, Bytes: c.MaxBatchBytes},
		Workers: workers,
		Start:   s.start,
		Close:   func() error { s.queues.Close(); return nil },
	}), nil
}

// given is the queue's URL or name.
func (c *SQSConfig) given() string { return cmp.Or(c.QueueURL, c.Queue) }

func (c *SQSConfig) queues() *awsclient.Queues {
	settings := c.AWS.Settings()
	return awsclient.NewQueues(settings)
}

type sqsSink struct {
	config   SQSConfig
	queues   *awsclient.Queues
	given    string // URL or name
	fifo     bool
	log      *zap.Logger
	requests *prometheus.CounterVec
}

const sqsSinkRights = "sqs:SendMessage, sqs:GetQueueAttributes and sqs:GetQueueUrl"

// start makes sure that the queue is there.
func (s *sqsSink) start(ctx context.Context) error {
	client, queueURL, err := s.queues.Connect(ctx, s.given)
	if err != nil {
		return awsclient.Describe(err, s.given, "sqs:GetQueueUrl", sqsSinkRights)
	}
	s.requests.WithLabelValues("GetQueueAttributes").Inc()
	_, err = client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &queueURL,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameMaximumMessageSize}})
	if err != nil && awsclient.FailureOf(err) == awsclient.Denied {
		complaint.Warn(s.log, "whether the queue exists is not known before the first message: allow sqs:GetQueueAttributes",
			zap.String("queue_url", queueURL))
		return nil
	}
	return awsclient.Describe(err, queueURL, "sqs:GetQueueAttributes", sqsSinkRights)
}

// sqsEntry is one message on its way into a request.
type sqsEntry struct {
	types.SendMessageBatchRequestEntry
	index   int
	size    int
	encoded bool
}

// send stores messages, one error for each.
func (s *sqsSink) send(ctx context.Context, msgs []*message.Message) []error {
	errs := make([]error, len(msgs))
	client, queueURL, err := s.queues.Connect(ctx, s.given)
	if err != nil {
		err = s.unavailable(err, s.given, "sqs:GetQueueUrl")
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	var request []sqsEntry
	size := 0
	flush := func() {
		if len(request) > 0 {
			s.request(ctx, client, queueURL, msgs, request, errs)
		}
		request, size = nil, 0
	}
	for i, msg := range msgs {
		e := s.entry(i, msg, !validBody(msg.Payload))
		if e.size > int(s.config.MaxMessageBytes) {
			errs[i] = s.tooLarge(e)
			continue
		}
		if len(request) == s.config.BatchSize || size+e.size > int(s.config.MaxBatchBytes) {
			flush()
		}
		request = append(request, e)
		size += e.size
	}
	flush()
	return errs
}

func (s *sqsSink) tooLarge(e sqsEntry) error {
	return pipeline.Permanent(reason.Errorf("the message has %d bytes with its attributes, and max_message_bytes is %s", e.size, s.config.MaxMessageBytes))
}

// request sends entries in one request. What SQS refuses for its content is sent again alone, and once more in base64:
// servers differ in what they take for text.
func (s *sqsSink) request(ctx context.Context, client *sqs.Client, queueURL string, msgs []*message.Message, entries []sqsEntry, errs []error) {
	in := &sqs.SendMessageBatchInput{QueueUrl: &queueURL, Entries: make([]types.SendMessageBatchRequestEntry, len(entries))}
	byID := make(map[string]sqsEntry, len(entries))
	for i, e := range entries {
		in.Entries[i] = e.SendMessageBatchRequestEntry
		byID[*e.Id] = e
	}
	s.requests.WithLabelValues("SendMessageBatch").Inc()
	out, err := client.SendMessageBatch(ctx, in)
	if err != nil {
		var refused smithy.APIError
		if errors.As(err, &refused) && refusedContent(refused.ErrorCode()) {
			for _, e := range entries {
				s.refused(ctx, client, queueURL, msgs, e, len(entries) > 1, err, errs)
			}
			return
		}
		err = s.unavailable(err, queueURL, "sqs:SendMessage")
		for _, e := range entries {
			errs[e.index] = err
		}
		return
	}
	for _, e := range out.Successful {
		delete(byID, aws.ToString(e.Id))
	}
	for _, f := range out.Failed {
		e, ok := byID[aws.ToString(f.Id)]
		if !ok {
			continue
		}
		delete(byID, *e.Id)
		err := reason.Errorf("send to queue %s: %s: %s", queueURL, aws.ToString(f.Code), aws.ToString(f.Message))
		if refusedContent(aws.ToString(f.Code)) {
			s.refused(ctx, client, queueURL, msgs, e, false, err, errs)
			continue
		}
		errs[e.index] = err
	}
	for _, e := range byID {
		errs[e.index] = reason.Errorf("send to queue %s: the answer doesn't say what became of the message", queueURL)
	}
}

// refused sends a message again whose content was refused: alone when it was in company, else in base64, else not.
func (s *sqsSink) refused(ctx context.Context, client *sqs.Client, queueURL string, msgs []*message.Message, e sqsEntry, inCompany bool, cause error, errs []error) {
	if !inCompany {
		if e.encoded {
			errs[e.index] = pipeline.Permanent(cause)
			return
		}
		if e = s.entry(e.index, msgs[e.index], true); e.size > int(s.config.MaxMessageBytes) {
			errs[e.index] = s.tooLarge(e)
			return
		}
	}
	s.request(ctx, client, queueURL, msgs, []sqsEntry{e}, errs)
}

// refusedContent reports whether an error code speaks of the message and not of the queue or the moment.
func refusedContent(code string) bool {
	switch code[strings.LastIndexByte(code, '.')+1:] {
	case "InvalidMessageContents", "BatchRequestTooLong", "MessageTooLong", "InvalidParameterValue", "InvalidAttributeValue",
		"InvalidParameterValueException", "MissingParameter", "InvalidBatchEntryId":
		return true
	}
	return false
}

// unavailable is for errors at run time: a right or a queue that is missing may come back, and nothing is lost
// meanwhile.
func (s *sqsSink) unavailable(err error, queue, action string) error {
	return pipeline.Unavailable(awsclient.Describe(err, queue, action, sqsSinkRights))
}

// Metadata of the sqs source that belongs to one delivery: the next source sets its own.
var sqsDeliveryMetadata = map[string]bool{
	"sqs_message_id": true, "sqs_receive_count": true, "sqs_sent_at": true, "sqs_group_id": true, "sqs_queue": true,
	"sqs_trace_header": true,
}

const (
	sqsSentAt      = "sqs_sent_at"
	sqsFirstSentAt = "sqs_first_sent_at"
)

func (s *sqsSink) entry(index int, msg *message.Message, encode bool) sqsEntry {
	e := sqsEntry{index: index, encoded: encode}
	e.Id = aws.String(strconv.Itoa(index))
	attributes := make(map[string]string, len(msg.Metadata)+2)
	for k, v := range msg.Metadata {
		if !sqsDeliveryMetadata[k] {
			attributes[k] = v
		}
	}
	if first := msg.Metadata[sqsSentAt]; first != "" && attributes[sqsFirstSentAt] == "" {
		attributes[sqsFirstSentAt] = first
	}
	switch {
	case len(msg.Payload) == 0:
		e.MessageBody = aws.String("-") // SQS has no empty bodies
		attributes[awsclient.AttributeEncoding] = "empty"
	case encode:
		e.MessageBody = aws.String(base64.StdEncoding.EncodeToString(msg.Payload))
		attributes[awsclient.AttributeEncoding] = "base64"
	default:
		e.MessageBody = aws.String(string(msg.Payload))
	}
	attributes[wmsqs.UUIDAttribute] = msg.UUID
	pack(attributes)
	e.size = len(*e.MessageBody)
	e.MessageAttributes = make(map[string]types.MessageAttributeValue, len(attributes))
	for k, v := range attributes {
		e.MessageAttributes[k] = types.MessageAttributeValue{DataType: aws.String(wmsqs.AWSStringDataType), StringValue: aws.String(v)}
		e.size += len(k) + len(v) + len(wmsqs.AWSStringDataType)
	}
	if s.fifo {
		e.MessageGroupId = aws.String(sqsID(s.field(s.config.GroupID, msg), msg.UUID))
		id := msg.UUID
		if at := msg.Metadata["poison_at"]; at != "" {
			// A message that is put back and poisoned again within 5 minutes is not a duplicate.
			id += " " + at
		}
		e.MessageDeduplicationId = aws.String(sqsID(s.field(s.config.DeduplicationID, msg), id))
	}
	return e
}

// pack gathers in one attribute what SQS doesn't take as attributes of their own.
func pack(attributes map[string]string) {
	packed := map[string]string{}
	for k, v := range attributes {
		if !validAttributeName(k) || v == "" || !validBody([]byte(v)) {
			packed[k] = v
			delete(attributes, k)
		}
	}
	room := sqsMaxAttributes
	if len(packed) > 0 {
		room--
	}
	if len(attributes) > room {
		own := []string{wmsqs.UUIDAttribute, awsclient.AttributeEncoding, sqsFirstSentAt}
		room = sqsMaxAttributes - 1
		for _, k := range slices.Sorted(maps.Keys(attributes)) {
			if len(attributes) <= room {
				break
			}
			if !slices.Contains(own, k) {
				packed[k] = attributes[k]
				delete(attributes, k)
			}
		}
	}
	if len(packed) > 0 {
		attributes[awsclient.AttributeMetadata] = awsclient.PackMetadata(packed)
	}
}

// validBody reports whether SQS takes the bytes as text: characters of XML 1.0, at least one.
func validBody(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for len(b) > 0 {
		if c := b[0]; c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return false
			}
			b = b[1:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || r == 0xFFFE || r == 0xFFFF {
			return false
		}
		b = b[n:]
	}
	return true
}

func validAttributeName(name string) bool {
	if name == "" || len(name) > 256 || strings.Contains(name, "..") || name[0] == '.' || name[len(name)-1] == '.' {
		return false
	}
	if lower := strings.ToLower(name); strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon.") {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// sqsID is value, or fallback when there is none, in the form that SQS asks of group and deduplication ids: up to 128
// letters, digits and punctuation marks.
func sqsID(value, fallback string) string {
	if value == "" {
		value = fallback
	}
	valid := value != "" && len(value) <= sqsMaxID
	for _, c := range []byte(value) {
		valid = valid && c > ' ' && c < 0x7f
	}
	if valid {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// field finds what a setting such as "$.a.b" or "metadata_key" points to, or "".
func (s *sqsSink) field(where string, msg *message.Message) string {
	path, ok := strings.CutPrefix(where, "$.")
	if !ok {
		return msg.Metadata[where]
	}
	var value any
	d := json.NewDecoder(strings.NewReader(string(msg.Payload)))
	d.UseNumber() // ids may be larger than a float's 53 bits
	if d.Decode(&value) != nil {
		return ""
	}
	for name := range strings.SplitSeq(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = object[name]
	}
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
