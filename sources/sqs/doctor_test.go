package sqs_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources/sqs"
)

// patient is a queue that answers as told and notes what was asked.
type patient struct {
	queues    map[string]map[string]string // attributes by URL
	denied    []string                     // actions
	bodies    []string
	received  int
	returned  int // messages made visible again
	touched   []string
	overLimit bool
	hides     time.Duration // of the last receive; 0 is the queue's own
}

func (p *patient) allow(action string) error {
	if slices.Contains(p.denied, action) {
		return &smithy.GenericAPIError{Code: "AccessDenied", Message: "no " + action}
	}
	return nil
}

func (p *patient) GetQueueAttributes(_ context.Context, in *awssqs.GetQueueAttributesInput, _ ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error) {
	attributes, ok := p.queues[*in.QueueUrl]
	if !ok {
		return nil, &types.QueueDoesNotExist{}
	}
	return &awssqs.GetQueueAttributesOutput{Attributes: attributes}, p.allow("GetQueueAttributes")
}

func (p *patient) ReceiveMessage(_ context.Context, in *awssqs.ReceiveMessageInput, _ ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	p.received++
	p.hides = time.Duration(in.VisibilityTimeout) * time.Second
	if p.overLimit {
		return nil, &types.OverLimit{}
	}
	out := &awssqs.ReceiveMessageOutput{}
	for _, body := range p.bodies {
		out.Messages = append(out.Messages, types.Message{Body: &body, ReceiptHandle: aws.String("real")})
	}
	return out, p.allow("ReceiveMessage")
}

func (p *patient) DeleteMessageBatch(_ context.Context, in *awssqs.DeleteMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	for _, e := range in.Entries {
		p.touched = append(p.touched, *e.ReceiptHandle)
	}
	return &awssqs.DeleteMessageBatchOutput{}, p.allow("DeleteMessage")
}

func (p *patient) ChangeMessageVisibilityBatch(_ context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, _ ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
	for _, e := range in.Entries {
		if *e.ReceiptHandle == "real" && e.VisibilityTimeout == 0 {
			p.returned++
		}
	}
	return &awssqs.ChangeMessageVisibilityBatchOutput{}, p.allow("ChangeMessageVisibility")
}

const (
	queueURL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
	deadURL  = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead"
)

// healthy has nothing worse than notes.
func healthy() *patient {
	return &patient{queues: map[string]map[string]string{
		queueURL: {
			"VisibilityTimeout": "30", "MessageRetentionPeriod": "345600", "ApproximateNumberOfMessages": "0",
			"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:123456789012:dead","maxReceiveCount":"10"}`,
		},
		deadURL: {"MessageRetentionPeriod": "1209600", "ApproximateNumberOfMessages": "0"},
	}}
}

type fetcher bool

func (f fetcher) FetchesPointers() bool { return bool(f) }

var _ configfacts.PointerFetcher = fetcher(false)

const (
	notification = `{"Type":"Notification","TopicArn":"arn:aws:sns:eu-west-1:1:t","Message":"{}"}`
	pointer      = `["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]`
)

func TestDoctor_findings(t *testing.T) {
	unwrap := func(fetches bool) []pipeline.TransformSpec {
		return []pipeline.TransformSpec{{Component: pipeline.Component{Name: "unwrap", Config: fetcher(fetches)}}}
	}
	for name, c := range map[string]struct {
		edit func(p *patient, s *sqs.Settings, env *pipeline.DoctorEnv)
		want string // code, severity and a part of the text: in this order
	}{
		"no such queue": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { delete(p.queues, queueURL) },
			"PS102 broken does not exist"},
		"may not look at the queue": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.denied = []string{"GetQueueAttributes"} },
			"PS104 warning sqs:GetQueueAttributes"},
		"may not look at the queue, so what waits is not known": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.denied = []string{"GetQueueAttributes"} },
			"PS105 note sqs:ReceiveMessage was not tried"},
		"may not delete": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.denied = []string{"DeleteMessage"} },
			"PS104 broken sqs:DeleteMessage"},
		"may not change visibility": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.denied = []string{"ChangeMessageVisibility"}
		},
			"PS104 broken sqs:ChangeMessageVisibility"},
		"may not receive": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.denied = []string{"ReceiveMessage"} },
			"PS104 broken sqs:ReceiveMessage"},
		"full": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.overLimit = true },
			"PS105 note as many messages as SQS hands out"},
		"messages wait": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["ApproximateNumberOfMessages"] = "7"
		}, "PS105 note about 7 messages wait"},
		"visibility of the queue": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["VisibilityTimeout"] = "29"
		},
			"PS110 warning the queue's visibility timeout (29s) is shorter than message_timeout (30s)"},
		"visibility of the settings": {func(_ *patient, s *sqs.Settings, _ *pipeline.DoctorEnv) { s.VisibilityTimeout = 10 * time.Second },
			"PS110 warning visibility_timeout (10s) is shorter than message_timeout (30s)"},
		"visibility 0": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["VisibilityTimeout"] = "0"
		},
			"PS111 warning too short to be extended in time: 30s is used"},
		"more in flight than can be extended": {func(_ *patient, _ *sqs.Settings, env *pipeline.DoctorEnv) { env.Pipeline.MaxInFlight = 1 << 53 },
			"PS112 warning take"},
		"no redrive policy": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { delete(p.queues[queueURL], "RedrivePolicy") },
			"PS120 warning comes back until it is 4 days old"},
		"no redrive policy, a poison queue": {func(p *patient, _ *sqs.Settings, env *pipeline.DoctorEnv) {
			delete(p.queues[queueURL], "RedrivePolicy")
			env.Pipeline.PoisonQueue = &pipeline.SinkSpec{}
		}, "PS120 note the pipeline's poison queue takes"},
		"outage without a redrive policy": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { delete(p.queues[queueURL], "RedrivePolicy") },
			"PS121 note may last 4 days"},
		"outage, retention bites": {func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {},
			"PS121 note after 4 days SQS deletes them (retention; maxReceiveCount 10 × 11.5 h would be 115 h)"},
		"outage, receives bite": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["RedrivePolicy"] = `{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:123456789012:dead","maxReceiveCount":5}`
		}, "PS121 note after 57.5 h the dead letter queue gets them (maxReceiveCount 5 × 11.5 h); a restart meanwhile costs each of them one of its 5"},
		"outage, few receives": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["RedrivePolicy"] = `{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:123456789012:dead","maxReceiveCount":1}`
		}, "PS121 warning after 11.5 h"},
		"retention": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["MessageRetentionPeriod"] = "3600"
		}, "PS122 warning SQS deletes messages that are 1 h old"},
		"dead letters kept no longer": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[deadURL]["MessageRetentionPeriod"] = "345600"
		}, "PS123 warning dead keeps messages for 4 days, the queue for 4 days"},
		"no dead letter queue": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { delete(p.queues, deadURL) },
			"PS124 warning dead can't be looked at"},
		"dead letters": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[deadURL]["ApproximateNumberOfMessages"] = "3"
		},
			"PS124 warning about 3 messages are in the dead letter queue"},
		"FIFO": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.queues[queueURL]["FifoQueue"] = "true" },
			"PS130 note lets the later ones of its group pass"},
		"FIFO, not in high throughput mode": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["FifoQueue"], p.queues[queueURL]["FifoThroughputLimit"] = "true", "perQueue"
		}, "PS131 note 300 requests a second"},
		"FIFO, deduplicated by queue": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["FifoQueue"], p.queues[queueURL]["FifoThroughputLimit"] = "true", "perMessageGroupId"
		}, "PS131 note 300 requests a second"},
		"SNS envelope": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) { p.bodies = []string{notification} },
			"PS140 warning arn:aws:sns:eu-west-1:1:t: nothing in this pipeline takes the envelope off"},
		"SNS envelope, taken off": {func(p *patient, _ *sqs.Settings, env *pipeline.DoctorEnv) {
			p.bodies, env.Pipeline.Transforms = []string{notification}, unwrap(false)
		}, "PS140 note unwrap takes the envelope off"},
		"no message seen": {func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {}, "PS141 note SNS envelopes is not known"},
		"pointer": {func(p *patient, _ *sqs.Settings, env *pipeline.DoctorEnv) {
			p.bodies, env.Pipeline.Transforms = []string{pointer}, unwrap(false)
		}, "PS142 warning a pointer to a payload in S3"},
		"encrypted": {func(p *patient, _ *sqs.Settings, _ *pipeline.DoctorEnv) {
			p.queues[queueURL]["KmsMasterKeyId"] = "alias/x"
		},
			"PS150 note alias/x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := healthy()
			found := diagnose(t, p, c.edit)
			code, rest, _ := strings.Cut(c.want, " ")
			severity, text, _ := strings.Cut(rest, " ")
			if !slices.ContainsFunc(found, func(f pipeline.Finding) bool {
				return f.Code == code && f.Severity.String() == severity && strings.Contains(f.What, text)
			}) {
				t.Errorf("got %+v\nwant %s", found, c.want)
			}
			for _, receipt := range p.touched {
				if receipt == "real" {
					t.Error("a message was deleted")
				}
			}
			if p.received > 0 && p.hides != time.Second {
				t.Errorf("a receive hid messages for %s", p.hides)
			}
			if p.returned != p.received*len(p.bodies) {
				t.Errorf("%d messages were received, %d given back", p.received*len(p.bodies), p.returned)
			}
		})
	}
}

func diagnose(t *testing.T, p *patient, edit func(*patient, *sqs.Settings, *pipeline.DoctorEnv)) []pipeline.Finding {
	t.Helper()
	config := pipeline.DefaultConfig()
	env := pipeline.DoctorEnv{Pipeline: &config}
	settings := sqs.Settings{Topic: queueURL, Connect: func(_ context.Context, queue string) (sqs.Client, string, error) {
		if queue == "unreachable" {
			return nil, "", errors.New("no route")
		}
		return p, queue, nil
	}}
	edit(p, &settings, &env)
	return sqs.Diagnose(t.Context(), settings, env)
}

func TestDoctor_aHealthyQueueHasNotesOnly(t *testing.T) {
	for _, f := range diagnose(t, healthy(), func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {}) {
		if f.Severity != pipeline.SeverityNote {
			t.Errorf("found %+v", f)
		}
	}
}

func TestDoctor_aFIFOQueueInHighThroughputModeWithItsDeadLetters(t *testing.T) {
	p := healthy()
	for attribute, value := range map[string]string{"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"} {
		p.queues[queueURL][attribute] = value
	}
	p.queues[deadURL]["MessageRetentionPeriod"] = "345600" // enough: the age of a message begins anew there
	for _, f := range diagnose(t, p, func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {}) {
		if f.Code == "PS123" || f.Code == "PS131" {
			t.Errorf("found %+v", f)
		}
	}
}

func TestDoctor_receivesFromABusyQueueOnlyWhenAllowedTo(t *testing.T) {
	for name, peek := range map[string]bool{"not asked to peek": false, "asked to peek": true} {
		t.Run(name, func(t *testing.T) {
			p := healthy()
			p.queues[queueURL]["ApproximateNumberOfMessages"], p.bodies = "1", []string{pointer}
			found := diagnose(t, p, func(_ *patient, _ *sqs.Settings, env *pipeline.DoctorEnv) { env.Peek = peek })
			saw := slices.ContainsFunc(found, func(f pipeline.Finding) bool { return f.Code == "PS142" })
			if (p.received > 0) != peek || saw != peek {
				t.Errorf("peek %t: received %d times, found %+v", peek, p.received, found)
			}
		})
	}
}

func TestDoctor_pointersThatAreFetchedAreFine(t *testing.T) {
	p := healthy()
	p.bodies = []string{pointer}
	for _, f := range diagnose(t, p, func(_ *patient, _ *sqs.Settings, env *pipeline.DoctorEnv) {
		env.Pipeline.Transforms = []pipeline.TransformSpec{{Component: pipeline.Component{Name: "unwrap", Config: fetcher(true)}}}
	}) {
		if f.Code == "PS142" {
			t.Errorf("found %+v", f)
		}
	}
}

func TestDoctor_ofAQueueThatIsNotThereSaysNoMore(t *testing.T) {
	if found := diagnose(t, &patient{}, func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {}); len(found) != 1 {
		t.Errorf("found %+v, want one", found)
	}
}

func TestDoctor_looksAtEveryQueue(t *testing.T) {
	p := healthy()
	other := strings.Replace(queueURL, "events", "low", 1)
	p.queues[other] = maps.Clone(p.queues[queueURL])
	p.queues[other]["VisibilityTimeout"] = "1"
	found := diagnose(t, p, func(_ *patient, s *sqs.Settings, _ *pipeline.DoctorEnv) {
		s.Topic = "unreachable," + queueURL + "," + other
	})
	codes := map[string]int{}
	for _, f := range found {
		codes[f.Code]++
		if f.Code == "PS111" && !strings.HasPrefix(f.What, "low: ") {
			t.Errorf("which queue it is, is not told: %s", f.What)
		}
	}
	if codes["PS101"] != 1 || codes["PS121"] != 2 || codes["PS111"] != 1 {
		t.Errorf("found %+v", found)
	}
}
