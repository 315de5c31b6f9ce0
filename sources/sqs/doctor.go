package sqs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
)

// Codes of what [Diagnose] finds beside those of package awsclient.
const (
	codeVisibilityShort    = "PS110"
	codeVisibilityUnusable = "PS111"
	codeExtendTooSlow      = "PS112"
	codeNoRedrive          = "PS120"
	codeOutage             = "PS121"
	codeRetention          = "PS122"
	codeDeadRetention      = "PS123"
	codeDeadQueue          = "PS124"
	codeFIFO               = "PS130"
	codeFIFOLimit          = "PS131"
	codeEnvelope           = "PS140"
	codeEnvelopeUnknown    = "PS141"
	codePointer            = "PS142"
	codeEncrypted          = "PS150"
)

const (
	// mostRetention is the longest that SQS keeps a message. A dead letter queue should have it, and the queue less: the
	// age of a message counts from its first sending.
	mostRetention    = 14 * 24 * time.Hour
	advisedRetention = 10 * 24 * time.Hour
	advisedReceives  = 10
)

// shortOutage is what a queue should survive at the least: a night in which nobody looks, and the day after it.
const shortOutage = 24 * time.Hour

// diagnose looks at the queues of the settings' topic. It receives only where the queue says that it is empty, or with
// env.Peek: a receive costs a message one of its receives. Nothing stays hidden.
func diagnose(ctx context.Context, settings Settings, env pipeline.DoctorEnv) []pipeline.Finding {
	settings.setDefaults()
	var found []pipeline.Finding
	reached, bodies := 0, 0
	queues := splitTopic(settings.Topic)
	for _, given := range queues {
		d := &doctor{s: &settings, env: env, given: given}
		d.queue(ctx)
		d.fixes.write(d.found, d.url)
		if len(queues) > 1 {
			for i := range d.found {
				d.found[i].What = path.Base(given) + ": " + d.found[i].What
			}
		}
		found = append(found, d.found...)
		bodies += d.bodies
		if d.reached {
			reached++
		}
	}
	if reached > 0 && bodies == 0 {
		found = append(found, pipeline.Finding{Code: codeEnvelopeUnknown, Severity: pipeline.SeverityNote,
			What:   "whether messages come in SNS envelopes is not known: no message was seen",
			Remedy: "if an SNS topic feeds the queue, see that RawMessageDelivery is true: aws sns get-subscription-attributes --subscription-arn ARN; unwrap takes envelopes off, too"})
	}
	return found
}

// doctor is the look at one queue.
type doctor struct {
	s      *Settings
	env    pipeline.DoctorEnv
	given  string
	client Client
	url    string
	found  []pipeline.Finding

	reached bool
	bodies  int // seen

	fixes queueFixes
}

func (d *doctor) add(code string, severity pipeline.Severity, remedy, format string, args ...any) {
	d.found = append(d.found, pipeline.Finding{Code: code, Severity: severity, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// fix says what mends the last finding.
func (d *doctor) fix(text string) { d.found[len(d.found)-1].Fix = text }

// attribute has the commands mend the last finding by setting an attribute of the queue, too.
func (d *doctor) attribute(name, value string) { d.fixes.set(len(d.found)-1, name, value) }

func (d *doctor) queue(ctx context.Context) {
	client, url, err := d.s.Connect(ctx, d.given)
	if err != nil {
		d.found = append(d.found, awsclient.Diagnose(err, d.given, "sqs:GetQueueUrl", awsclient.SourceRights))
		return
	}
	d.client, d.url = client, url
	attributes, answer, err := d.attributes(ctx, url)
	switch {
	case err == nil:
		d.found = append(d.found, awsclient.DiagnoseClock(answer, url)...)
	case awsclient.FailureOf(err) == awsclient.Denied:
		f := awsclient.Diagnose(err, url, "sqs:GetQueueAttributes", awsclient.SourceRights)
		f.Severity = pipeline.SeverityWarning
		f.What += fmt.Sprintf("; without it a visibility timeout of %s is used unless visibility_timeout says another, there are no metrics of the queue, and nothing can be said of its settings here", fallbackVisibility)
		d.found = append(d.found, f)
	default:
		d.found = append(d.found, awsclient.Diagnose(err, url, "sqs:GetQueueAttributes", awsclient.SourceRights))
		return
	}
	d.reached = true
	latency := d.rights(ctx)
	d.receive(ctx, attributes)
	if attributes == nil {
		return
	}
	d.visibility(attributes, latency)
	d.outage(ctx, attributes)
	d.fifo(attributes)
	if key := attributes["KmsMasterKeyId"]; key != "" {
		d.add(codeEncrypted, pipeline.SeverityNote, "allow kms:Decrypt on the key (the sender needs kms:GenerateDataKey)",
			"the queue is encrypted with the key %s: who may receive but not use the key gets nothing", key)
		if strings.HasPrefix(key, "arn:") {
			d.fix(awsclient.Policy(key, "kms:Decrypt"))
		}
	}
}

// attributes asks for all of them; nil comes with an error only.
func (d *doctor) attributes(ctx context.Context, url string) (map[string]string, middleware.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := d.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		return nil, middleware.Metadata{}, err
	}
	if out.Attributes == nil {
		return map[string]string{}, out.ResultMetadata, nil
	}
	return out.Attributes, out.ResultMetadata, nil
}

// noReceipt is a receipt handle of no message: requests with it change nothing, and rights are looked at before it is.
const noReceipt = "penstock-doctor"

// rights tries the rights to delete and to change visibility, and returns how long a request takes.
func (d *doctor) rights(ctx context.Context) time.Duration {
	try := func(action string, call func(context.Context) error) time.Duration {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		began := time.Now()
		if err := call(ctx); err != nil {
			switch awsclient.FailureOf(err) {
			case awsclient.Denied:
				d.found = append(d.found, awsclient.Diagnose(err, d.url, action, awsclient.SourceRights))
			default:
				d.add(awsclient.CodeNotTried, pipeline.SeverityNote, "", "%s could not be tried: %v", action, err)
			}
		}
		return time.Since(began)
	}
	try("sqs:DeleteMessage", func(ctx context.Context) error {
		_, err := d.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &d.url,
			Entries: []types.DeleteMessageBatchRequestEntry{{Id: aws.String("0"), ReceiptHandle: aws.String(noReceipt)}}})
		return err
	})
	return try("sqs:ChangeMessageVisibility", func(ctx context.Context) error {
		_, err := d.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &d.url,
			Entries: []types.ChangeMessageVisibilityBatchRequestEntry{{Id: aws.String("0"), ReceiptHandle: aws.String(noReceipt)}}})
		return err
	})
}

// receive tries the right to receive, and looks at a message if there is one.
func (d *doctor) receive(ctx context.Context, attributes map[string]string) {
	waiting, err := strconv.Atoi(attributes["ApproximateNumberOfMessages"])
	if !d.env.Peek && (err != nil || waiting > 0) {
		what := "what waits in the queue is not known"
		if err == nil {
			what = fmt.Sprintf("about %d messages wait", waiting)
		}
		d.add(awsclient.CodeNotTried, pipeline.SeverityNote, "run doctor with --peek to try it; a run that may not receive says so at once",
			"sqs:ReceiveMessage was not tried: %s, and it costs a message one of its receives", what)
		d.fix(awsclient.Policy(awsclient.ARN(d.url), awsclient.SourceRights...))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := d.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &d.url, MaxNumberOfMessages: 1,
		// One second hides it for as long as the second request takes, should SQS not want to hide it for none.
		VisibilityTimeout: 1, MessageAttributeNames: allAttributes})
	if err != nil {
		if awsclient.FailureOf(err) == awsclient.OverLimit {
			d.add(awsclient.CodeNotTried, pipeline.SeverityNote, "", "sqs:ReceiveMessage could not be tried: consumers hold as many messages as SQS hands out")
			return
		}
		d.found = append(d.found, awsclient.Diagnose(err, d.url, "sqs:ReceiveMessage", awsclient.SourceRights))
		return
	}
	for _, msg := range out.Messages {
		_, _ = d.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &d.url,
			Entries: []types.ChangeMessageVisibilityBatchRequestEntry{{Id: aws.String("0"), ReceiptHandle: msg.ReceiptHandle}}})
		d.body([]byte(aws.ToString(msg.Body)))
	}
}

// body says what a message that was seen is wrapped in.
func (d *doctor) body(body []byte) {
	d.bodies++
	var notification struct{ Type, TopicArn, Message string }
	unwraps := d.transform("unwrap") != nil
	if json.Unmarshal(body, &notification) == nil && notification.Type == "Notification" && notification.TopicArn != "" {
		severity, consequence := pipeline.SeverityNote, "unwrap takes the envelope off, but SNS's message attributes don't arrive as attributes"
		if !unwraps {
			severity, consequence = pipeline.SeverityWarning, "nothing in this pipeline takes the envelope off"
		}
		d.add(codeEnvelope, severity, "set RawMessageDelivery to true on the subscription of the queue to the topic, or have unwrap among the transforms",
			"raw message delivery is off for SNS topic %s: %s", notification.TopicArn, consequence)
		body = []byte(notification.Message)
	}
	if pointer := bytes.TrimSpace(body); bytes.HasPrefix(pointer, []byte("[")) && bytes.Contains(pointer, []byte("MessageS3Pointer")) ||
		bytes.HasPrefix(pointer, []byte("[")) && bytes.Contains(pointer, []byte("PayloadS3Pointer")) {
		if fetcher, ok := d.transform("unwrap").(configfacts.PointerFetcher); !ok || !fetcher.FetchesPointers() {
			d.add(codePointer, pipeline.SeverityWarning, "give unwrap its setting s3: {}, and the process the right s3:GetObject on the bucket",
				"a message is a pointer to a payload in S3, which nothing in this pipeline fetches")
		}
	}
}

// transform returns the config of the pipeline's transform of that name, or nil.
func (d *doctor) transform(name string) any {
	for _, t := range d.env.Pipeline.Transforms {
		if t.Name == name {
			return t.Config
		}
	}
	return nil
}

func (d *doctor) visibility(attributes map[string]string, latency time.Duration) {
	visibility, setting := d.s.VisibilityTimeout, "visibility_timeout"
	if visibility == 0 {
		given, err := strconv.Atoi(attributes["VisibilityTimeout"])
		visibility, setting = time.Duration(given)*time.Second, "the queue's visibility timeout"
		if err != nil || visibility < minVisibility {
			d.add(codeVisibilityUnusable, pipeline.SeverityWarning, "set the queue's VisibilityTimeout to 30 s or more, or visibility_timeout in the source",
				"the queue's visibility timeout (%s) is too short to be extended in time: %s is used", visibility, fallbackVisibility)
			d.attribute("VisibilityTimeout", inWholeSeconds(max(2*d.env.Pipeline.MessageTimeout, fallbackVisibility)))
			visibility = fallbackVisibility
		}
	}
	if timeout := d.env.Pipeline.MessageTimeout; visibility < timeout {
		d.add(codeVisibilityShort, pipeline.SeverityWarning, fmt.Sprintf("set it to %ds or more (or message_timeout to less)", int(max(2*timeout, fallbackVisibility).Seconds())),
			"%s (%s) is shorter than message_timeout (%s): it is extended while a message is held, but when extending fails for a moment, a message is delivered again while its first attempt still runs", setting, visibility, timeout)
		if d.s.VisibilityTimeout == 0 {
			d.attribute("VisibilityTimeout", inWholeSeconds(max(2*timeout, fallbackVisibility)))
		}
	}
	// Everything held must be extended once in half the timeout, extendWorkers requests at a time.
	if needed := time.Duration(d.env.Pipeline.MaxInFlight/(maxBatch*extendWorkers)+1) * latency; needed > visibility/4 {
		d.add(codeExtendTooSlow, pipeline.SeverityWarning, "set a longer visibility timeout, or a smaller max_in_flight",
			"%d messages in flight take %s to extend (a request took %s), too long for %s of %s", d.env.Pipeline.MaxInFlight,
			needed.Round(time.Millisecond), latency.Round(time.Millisecond), setting, visibility)
	}
}

// redrivePolicy is the attribute of that name. Servers differ in how they write the number.
type redrivePolicy struct {
	Target      string      `json:"deadLetterTargetArn"`
	MaxReceives json.Number `json:"maxReceiveCount"`
}

// outage says what a long outage costs. Held messages stay invisible for holdLimit; then, and with every restart,
// they are received again. What waits in the queue is not received while the gate is closed.
func (d *doctor) outage(ctx context.Context, attributes map[string]string) {
	retention := inSeconds(attributes["MessageRetentionPeriod"])
	var policy redrivePolicy
	_ = json.Unmarshal([]byte(attributes["RedrivePolicy"]), &policy) // absent or not to be read: none
	receives, _ := policy.MaxReceives.Int64()
	if retention > 0 && retention < shortOutage {
		d.add(codeRetention, pipeline.SeverityWarning, "set MessageRetentionPeriod to 864000 (10 days): it costs nothing, and leaves a dead letter queue with its 14 days some time",
			"SQS deletes messages that are %s old, handled or not: a longer outage loses events", hours(retention))
		d.attribute("MessageRetentionPeriod", inWholeSeconds(advisedRetention))
	}
	if policy.Target == "" || receives < 1 {
		severity, consequence := pipeline.SeverityWarning, fmt.Sprintf("a message that can never be processed comes back until it is %s old, and is lost then", hours(retention))
		if d.env.Pipeline.PoisonQueue != nil {
			severity, consequence = pipeline.SeverityNote, "the pipeline's poison queue takes what can never be processed; what takes the process down with it comes back until it is too old"
		}
		d.add(codeNoRedrive, severity, "create a dead letter queue that keeps messages for 14 days, and give the queue a RedrivePolicy with a maxReceiveCount of 10 or so",
			"the queue has no redrive policy: %s", consequence)
		d.redrive(attributes, "")
		if retention >= shortOutage {
			d.add(codeOutage, pipeline.SeverityNote, "", "an outage of the sink may last %s, counted from a message's sending: then SQS deletes it (retention)", hours(retention))
		}
		return
	}
	bites := time.Duration(receives) * holdLimit
	severity, remedy := pipeline.SeverityNote, ""
	if bites < shortOutage {
		severity, remedy = pipeline.SeverityWarning, "set maxReceiveCount to 10 or so, and MessageRetentionPeriod to 10 days"
	}
	first := fmt.Sprintf("after %s the dead letter queue gets them (maxReceiveCount %d × %s)", hours(bites), receives, hours(holdLimit))
	if retention > 0 && retention <= bites {
		first = fmt.Sprintf("after %s SQS deletes them (retention; maxReceiveCount %d × %s would be %s)", hours(retention), receives, hours(holdLimit), hours(bites))
	}
	d.add(codeOutage, severity, remedy,
		"in an outage of the sink up to %d messages are held, and %s; a restart meanwhile costs each of them one of its %d receives", d.env.Pipeline.MaxInFlight, first, receives)
	if severity == pipeline.SeverityWarning {
		d.redrive(attributes, policy.Target)
		if retention < advisedRetention {
			d.attribute("MessageRetentionPeriod", inWholeSeconds(advisedRetention))
		}
	}
	d.deadQueue(ctx, policy.Target, retention, attributes["FifoQueue"] == "true")
}

// deadQueue looks at the dead letter queue, which is in the queue's own region and account.
func (d *doctor) deadQueue(ctx context.Context, arn string, retention time.Duration, fifo bool) {
	name := arn[strings.LastIndexByte(arn, ':')+1:]
	url := strings.TrimSuffix(d.url, path.Base(d.url)) + name
	attributes, _, err := d.attributes(ctx, url)
	if err != nil {
		severity, remedy := pipeline.SeverityNote, "allow sqs:GetQueueAttributes on it to look at it"
		if awsclient.FailureOf(err) == awsclient.Missing {
			severity, remedy = pipeline.SeverityWarning, "create it, or correct the queue's RedrivePolicy"
		}
		d.add(codeDeadQueue, severity, remedy, "the dead letter queue %s can't be looked at: %v", name, err)
		if severity == pipeline.SeverityWarning {
			d.fixes.create(len(d.found)-1, d.url, name)
		} else if awsclient.FailureOf(err) == awsclient.Denied {
			d.fix(awsclient.Policy(arn, "sqs:GetQueueAttributes"))
		}
		return
	}
	dead := inSeconds(attributes["MessageRetentionPeriod"])
	// The age of a message counts from its first sending, but on FIFO queues, where moving it begins anew.
	if !fifo && dead > 0 && dead <= retention {
		d.add(codeDeadRetention, pipeline.SeverityWarning, "set MessageRetentionPeriod of the dead letter queue to 1209600 (14 days), and the queue's to less",
			"the dead letter queue %s keeps messages for %s, the queue for %s: the age counts from the first sending, so one that is moved late is deleted at once", name, hours(dead), hours(retention))
		d.fixes.setOf(len(d.found)-1, url, "MessageRetentionPeriod", inWholeSeconds(mostRetention))
		if retention > advisedRetention {
			d.fixes.shorten(len(d.found) - 1)
		}
	} else if _, longer := d.fixes.attributes["MessageRetentionPeriod"]; !fifo && longer && dead > 0 && dead <= advisedRetention {
		// What is advised for the queue would be more than the dead letter queue has.
		d.fixes.alsoOf(url, "MessageRetentionPeriod", inWholeSeconds(mostRetention))
	}
	if n, _ := strconv.Atoi(attributes["ApproximateNumberOfMessages"]); n > 0 {
		d.add(codeDeadQueue, pipeline.SeverityWarning, "look at them, and move them back when the cause is gone: aws sqs start-message-move-task",
			"about %d messages are in the dead letter queue %s", n, name)
	}
}

func (d *doctor) fifo(attributes map[string]string) {
	if attributes["FifoQueue"] != "true" {
		return
	}
	what := "a FIFO queue: the messages of a group are handled one by one, groups in parallel; retries and releases of a message hold up its group"
	if attributes["RedrivePolicy"] != "" {
		what += "; a message that goes to the dead letter queue lets the later ones of its group pass"
	}
	d.add(codeFIFO, pipeline.SeverityNote, "", "%s", what)
	if attributes["FifoThroughputLimit"] != "perMessageGroupId" || attributes["DeduplicationScope"] != "messageGroup" {
		d.add(codeFIFOLimit, pipeline.SeverityNote, "set FifoThroughputLimit to perMessageGroupId and DeduplicationScope to messageGroup for more",
			"the queue is not in high throughput mode: 300 requests a second each to send, receive and delete, 3,000 messages in batches of ten")
		d.attribute("FifoThroughputLimit", "perMessageGroupId")
		d.attribute("DeduplicationScope", "messageGroup")
	}
}

func inSeconds(attribute string) time.Duration {
	n, _ := strconv.Atoi(attribute)
	return time.Duration(n) * time.Second
}

// hours prints a duration as an operator thinks of it: "57.5 h", "4 days".
func hours(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Hour:
		return strconv.FormatFloat(float64(d.Round(6*time.Minute))/float64(time.Hour), 'f', -1, 64) + " h"
	}
	return d.String()
}
