package sinks

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestSQS_sendsAsTheAssumedRole(t *testing.T) {
	sts := testserver.STS(t)
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization") + " " + r.Header.Get("X-Amz-Security-Token")
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = w.Write([]byte(`{"Attributes":{}}`))
	}))
	t.Cleanup(server.Close)
	config := &SQSConfig{QueueURL: server.URL + "/1/q", AWS: awsclient.Config{Region: "eu-west-1", AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test"),
		AssumeRole: &awsclient.RoleConfig{ARN: "arn:aws:iam::123456789012:role/poison", ExternalID: "x-18", SessionName: "poison"}},
		Producers: 1, BatchSize: 10, MaxMessageBytes: 1 << 20, MaxBatchBytes: 1 << 20}
	sink, err := config.NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Publisher.Close() })
	if err := sink.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; !strings.Contains(got, "Credential="+sts.AccessKey(1)+"/") || !strings.HasSuffix(got, " "+sts.SessionToken(1)) {
		t.Errorf("a request of %s", got)
	}
	assumed := sts.Assumed()
	if len(assumed) != 1 || assumed[0].Get("RoleArn") != config.AWS.AssumeRole.ARN || assumed[0].Get("ExternalId") != "x-18" || assumed[0].Get("RoleSessionName") != "poison" {
		t.Errorf("assumed %v", assumed)
	}
}
