package sinks

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
)

// Codes of what the sqs sink's doctor finds beside those of package awsclient.
const (
	codeSQSLoop      = "PS160"
	codeSQSSize      = "PS161"
	codeSQSRetention = "PS162"
	codePoisonWaits  = "PS163" // of the file sink, too
)

const poisonWaitsRemedy = "see why: penstock poison list --by reason; when the cause is gone: penstock poison redrive"

// poisonRetention is how long a poison queue should keep messages at the least: someone must find the time to look.
const poisonRetention = 4 * 24 * time.Hour

// Diagnose looks at the queue. It sends nothing: whether sending is allowed is not known.
func (c *SQSConfig) Diagnose(ctx context.Context, env pipeline.DoctorEnv) []pipeline.Finding {
	queues := c.queues()
	defer queues.Close()
	var found []pipeline.Finding
	add := func(code string, severity pipeline.Severity, remedy, format string, args ...any) {
		found = append(found, pipeline.Finding{Code: code, Severity: severity, What: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	client, url, err := queues.Connect(ctx, c.given())
	if err != nil {
		return []pipeline.Finding{awsclient.Diagnose(err, c.given(), "sqs:GetQueueUrl", awsclient.SinkRights)}
	}
	out, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		f := awsclient.Diagnose(err, url, "sqs:GetQueueAttributes", awsclient.SinkRights)
		if awsclient.FailureOf(err) == awsclient.Denied {
			f.Severity = pipeline.SeverityWarning
			f.What += "; without it nothing can be said of the queue before the first message"
		}
		return append(found, f)
	}
	found = append(found, awsclient.DiagnoseClock(out.ResultMetadata, url)...)
	if source, ok := env.Pipeline.Source.Config.(configfacts.QueueConsumer); ok &&
		(slices.Contains(source.Queues(), url) || slices.Contains(source.Queues(), c.given())) {
		add(codeSQSLoop, pipeline.SeverityBroken, "give it a queue of its own", "the source consumes this queue, too: what is sent to it comes back for ever")
	}
	attributes, first := map[string]string{}, len(found) // what is to be set, and the findings that it mends
	if size, _ := strconv.Atoi(out.Attributes["MaximumMessageSize"]); size > 0 && pipeline.ByteSize(size) < c.MaxMessageBytes {
		add(codeSQSSize, pipeline.SeverityWarning, fmt.Sprintf("set the queue's MaximumMessageSize to %d, or max_message_bytes to less", c.MaxMessageBytes),
			"the queue takes messages of up to %s, max_message_bytes is %s: larger ones are refused one by one", pipeline.ByteSize(size), c.MaxMessageBytes)
		attributes["MaximumMessageSize"] = strconv.Itoa(int(c.MaxMessageBytes))
	}
	seconds, _ := strconv.Atoi(out.Attributes["MessageRetentionPeriod"])
	if retention := time.Duration(seconds) * time.Second; env.Role == pipeline.RolePoisonQueue && seconds > 0 && retention < poisonRetention {
		add(codeSQSRetention, pipeline.SeverityWarning, "set MessageRetentionPeriod to 1209600 (14 days): it costs nothing",
			"SQS deletes what is poisoned after %s", retention)
		attributes["MessageRetentionPeriod"] = "1209600"
	}
	for i := first; i < len(found); i++ {
		found[i].Fix = awsclient.SetAttributes(url, attributes)
	}
	if n, _ := strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"]); env.Role == pipeline.RolePoisonQueue && n > 0 {
		add(codePoisonWaits, pipeline.SeverityWarning, poisonWaitsRemedy, "about %d messages are in the poison queue", n)
	}
	add(awsclient.CodeNotTried, pipeline.SeverityNote, "see that sqs:SendMessage is allowed on the queue", "sqs:SendMessage was not tried: it would send a message")
	found[len(found)-1].Fix = awsclient.Policy(awsclient.ARN(url), awsclient.SinkRights...)
	return found
}
