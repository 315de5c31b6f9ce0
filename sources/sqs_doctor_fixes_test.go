package sources

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// pastes does what the printed commands of AWS's command line say.
func pastes(t *testing.T, client *awssdk.Client, script string) {
	t.Helper()
	for _, words := range testserver.Commands(t, "aws", script) {
		options := map[string]string{}
		for i := 2; i+1 < len(words); i += 2 {
			options[words[i]] = words[i+1]
		}
		var attributes map[string]string
		err := json.Unmarshal([]byte(options["--attributes"]), &attributes)
		delete(attributes, "FifoThroughputLimit") // which this server doesn't know
		delete(attributes, "DeduplicationScope")
		switch queue, name := options["--queue-url"], options["--queue-name"]; {
		case err != nil || options["--region"] != "us-east-1":
		case words[1] == "set-queue-attributes":
			_, err = client.SetQueueAttributes(t.Context(), &awssdk.SetQueueAttributesInput{QueueUrl: &queue, Attributes: attributes})
		case words[1] == "create-queue":
			_, err = client.CreateQueue(t.Context(), &awssdk.CreateQueueInput{QueueName: &name, Attributes: attributes})
		default:
			t.Fatalf("no command of sqs: %q", words)
		}
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
	}
}

func TestSQS_doctorsFixesMendTheQueue(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	create := func(name string, attributes map[string]string) string {
		out, err := client.CreateQueue(t.Context(), &awssdk.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			t.Fatal(err)
		}
		return *out.QueueUrl
	}
	create("poor-dead", map[string]string{"MessageRetentionPeriod": "345600"})
	create("long-dead", nil)
	to := func(name, receives string) string {
		return `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:` + name + `","maxReceiveCount":"` + receives + `"}`
	}
	for name, c := range map[string]struct {
		attributes map[string]string
		codes      string // what must be found, and mended
	}{
		"bare":         {map[string]string{"VisibilityTimeout": "1", "MessageRetentionPeriod": "3600"}, "PS111 PS120 PS122"},
		"poor":         {map[string]string{"VisibilityTimeout": "10", "RedrivePolicy": to("poor-dead", "1")}, "PS110 PS121 PS123"},
		"long":         {map[string]string{"MessageRetentionPeriod": "1209600", "RedrivePolicy": to("long-dead", "10")}, "PS123"},
		"lost":         {map[string]string{"RedrivePolicy": to("lost-dead", "10")}, "PS124"},
		"ordered.fifo": {map[string]string{"FifoQueue": "true"}, "PS120"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(c.codes, "PS124") {
				create("lost-dead", nil) // the server refuses a policy that leads nowhere
			}
			config := sqsConfig(func(c *SQSConfig) { c.AWS.Region, c.AWS.Endpoint = "us-east-1", endpoint })
			config.QueueURL = create(name, c.attributes)
			if strings.Contains(c.codes, "PS124") {
				lost := strings.Replace(config.QueueURL, "/lost", "/lost-dead", 1)
				if _, err := client.DeleteQueue(t.Context(), &awssdk.DeleteQueueInput{QueueUrl: &lost}); err != nil {
					t.Fatal(err)
				}
			}
			pipelineConfig := pipeline.DefaultConfig()
			look := func() (codes, fix string, found []pipeline.Finding) {
				found = config.Diagnose(t.Context(), pipeline.DoctorEnv{Pipeline: &pipelineConfig})
				for _, f := range found {
					if f.Severity == pipeline.SeverityNote {
						continue
					}
					if f.Fix == "" || fix != "" && f.Fix != fix {
						t.Errorf("one text to paste should mend all of them: %+v", found)
					}
					codes, fix = codes+" "+f.Code, f.Fix
				}
				return codes, fix, found
			}
			codes, fix, found := look()
			for want := range strings.FieldsSeq(c.codes) {
				if !strings.Contains(codes, want) {
					t.Fatalf("found %+v, want %s", found, c.codes)
				}
			}
			pastes(t, client, fix)
			if codes, _, found := look(); codes != "" {
				t.Errorf("after\n%s\nthere is still %+v", fix, found)
			}
		})
	}
}

func TestSQS_doctorComparesTheClocks(t *testing.T) {
	endpoint := testserver.SQS(t)
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		off  time.Duration // of the queue's clock
		want string
	}{
		"as ours": {0, ""},
		"ahead":   {10*time.Minute + 30*time.Second, "this machine's clock is 10m"},
		"behind":  {-20 * time.Second, "ahead of that of queue"},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
				ModifyResponse: func(r *http.Response) error {
					r.Header.Set("Date", time.Now().Add(c.off).UTC().Format(http.TimeFormat))
					return nil
				}}
			server := httptest.NewServer(proxy)
			defer server.Close()
			cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: server.URL, AccessKeyID: "test", SecretAccessKey: "test"})
			if err != nil {
				t.Fatal(err)
			}
			client := awsclient.SQS(cfg, server.URL)
			defer awsclient.CloseIdle(client)
			queueName := "clock"
			out, err := client.CreateQueue(t.Context(), &awssdk.CreateQueueInput{QueueName: &queueName})
			if err != nil {
				t.Fatal(err)
			}
			config := sqsConfig(func(c *SQSConfig) { c.AWS.Region, c.AWS.Endpoint = "us-east-1", server.URL })
			config.QueueURL = *out.QueueUrl
			pipelineConfig := pipeline.DefaultConfig()
			var told string
			for _, f := range config.Diagnose(t.Context(), pipeline.DoctorEnv{Pipeline: &pipelineConfig}) {
				if f.Code == "PS106" && f.Severity == pipeline.SeverityWarning {
					told = f.What
				}
			}
			if (told == "") != (c.want == "") || !strings.Contains(told, c.want) {
				t.Errorf("told %q, want %q", told, c.want)
			}
		})
	}
}
