package sources

import (
	"slices"
	"testing"

	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestSQS_doctorLooksAtAQueueAndLeavesItAsItIs(t *testing.T) {
	endpoint := testserver.SQS(t)
	config := sqsConfig(func(c *SQSConfig) { c.AWS.Region, c.AWS.Endpoint = "us-east-1", endpoint })
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	create := func(name string, attributes map[string]string) string {
		out, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			t.Fatal(err)
		}
		return *out.QueueUrl
	}
	create("dead", nil)
	config.QueueURL = create("events", map[string]string{"VisibilityTimeout": "10",
		"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":2}`})
	if _, err := client.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: &config.QueueURL,
		MessageBody: new(`{"Type":"Notification","TopicArn":"t","Message":"{}"}`)}); err != nil {
		t.Fatal(err)
	}
	pipelineConfig := pipeline.DefaultConfig()
	var codes []string
	for _, f := range config.Diagnose(t.Context(), pipeline.DoctorEnv{Pipeline: &pipelineConfig, Peek: true}) {
		t.Logf("%+v", f)
		codes = append(codes, f.Code)
	}
	if want := []string{"PS140", "PS110", "PS121", "PS123"}; !slices.Equal(codes, want) {
		t.Errorf("found %v, want %v", codes, want)
	}
	out, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{QueueUrl: &config.QueueURL})
	if err != nil || len(out.Messages) != 1 {
		t.Errorf("after the doctor %d messages can be received (%v), want the one", len(out.Messages), err)
	}
}
