package sinks

import (
	"slices"
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
				AWS: awsclient.Config{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: pipeline.NewSecret("test")}, MaxMessageBytes: 1 << 20}
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
