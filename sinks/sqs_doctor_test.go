package sinks

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// consumes is the config of a source of these queues.
type consumes []string

func (c consumes) Queues() []string { return c }

var _ configfacts.QueueConsumer = consumes(nil)

func TestSQS_doctorLooksAtAPoisonQueue(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	out, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: new("poison"),
		Attributes: map[string]string{"MaximumMessageSize": "262144", "MessageRetentionPeriod": "86400"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*SQSConfig, *pipeline.DoctorEnv)
		want []string
	}{
		"as poison queue": {func(_ *SQSConfig, env *pipeline.DoctorEnv) { env.Role = pipeline.RolePoisonQueue }, []string{"PS161", "PS162", "PS105"}},
		"as sink":         {func(c *SQSConfig, _ *pipeline.DoctorEnv) { c.MaxMessageBytes = 256 << 10 }, []string{"PS105"}},
		"the source's own": {func(c *SQSConfig, env *pipeline.DoctorEnv) {
			c.MaxMessageBytes = 256 << 10
			env.Pipeline.Source.Config = consumes{*out.QueueUrl}
		}, []string{"PS160", "PS105"}},
		"absent":      {func(c *SQSConfig, _ *pipeline.DoctorEnv) { c.QueueURL += "x" }, []string{"PS102"}},
		"unreachable": {func(c *SQSConfig, _ *pipeline.DoctorEnv) { c.AWS.Endpoint = "http://127.0.0.1:1" }, []string{"PS101"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := &SQSConfig{QueueURL: *out.QueueUrl,
				AWS: awsclient.Config{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test")}, MaxMessageBytes: 1 << 20}
			pipelineConfig := pipeline.DefaultConfig()
			env := pipeline.DoctorEnv{Pipeline: &pipelineConfig, Role: pipeline.RoleSink}
			c.edit(config, &env)
			var codes []string
			for _, f := range config.Diagnose(t.Context(), env) {
				t.Logf("%+v", f)
				codes = append(codes, f.Code)
			}
			if !slices.Equal(codes, c.want) {
				t.Errorf("found %v, want %v", codes, c.want)
			}
		})
	}
}

func TestSQS_doctorsFixesMendAPoisonQueue(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	out, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: new("poison"),
		Attributes: map[string]string{"MaximumMessageSize": "262144", "MessageRetentionPeriod": "86400"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: out.QueueUrl, MessageBody: new("x")}); err != nil {
		t.Fatal(err)
	}
	config := &SQSConfig{QueueURL: *out.QueueUrl,
		AWS: awsclient.Config{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test")}, MaxMessageBytes: 1 << 20}
	pipelineConfig := pipeline.DefaultConfig()
	look := func(role pipeline.Role) map[string]pipeline.Finding {
		found := map[string]pipeline.Finding{}
		for _, f := range config.Diagnose(t.Context(), pipeline.DoctorEnv{Pipeline: &pipelineConfig, Role: role}) {
			found[f.Code] = f
		}
		return found
	}
	found := look(pipeline.RolePoisonQueue)
	if f := found["PS163"]; f.Severity != pipeline.SeverityWarning || f.What != "about 1 messages are in the poison queue" {
		t.Errorf("what waits: %+v", f)
	}
	if f, ok := look(pipeline.RoleSink)["PS163"]; ok {
		t.Errorf("a queue that is no poison queue: %+v", f)
	}
	if f := found["PS105"]; !strings.Contains(f.Fix, `"sqs:SendMessage"`) || !strings.Contains(f.Fix, `"arn:aws:sqs:us-east-1:000000000000:poison"`) {
		t.Errorf("the right that can't be tried: %+v", f)
	}
	if found["PS161"].Fix != found["PS162"].Fix {
		t.Errorf("two commands for one queue: %+v", found)
	}
	words := testserver.Commands(t, "aws", found["PS161"].Fix)[0]
	var attributes map[string]string
	if err := json.Unmarshal([]byte(words[len(words)-1]), &attributes); err != nil || words[1] != "set-queue-attributes" {
		t.Fatalf("%v: %q", err, words)
	}
	if _, err := client.SetQueueAttributes(t.Context(), &awssqs.SetQueueAttributesInput{QueueUrl: out.QueueUrl, Attributes: attributes}); err != nil {
		t.Fatal(err)
	}
	found = look(pipeline.RolePoisonQueue)
	if len(found) != 2 { // what waits, and what can't be tried
		t.Errorf("after %q there is still %+v", words, found)
	}
}
