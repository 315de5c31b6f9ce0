package sinks

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// An access key that is replaced while the sink runs is an outage, which ends by itself when the files hold the new
// one. Wrong from the start it stays a fatal error.
func TestSQS_rotatedAccessKey(t *testing.T) {
	endpoint := testserver.SQS(t)
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	t.Cleanup(func() { awsclient.CloseIdle(client) })
	queue, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: new("rotated")})
	if err != nil {
		t.Fatal(err)
	}
	guard := testserver.GuardAWS(t, endpoint, "AKIAOLD", "old")
	dir := t.TempDir()
	write := func(id, secret string) {
		t.Helper()
		for name, text := range map[string]string{"id": id, "secret": secret} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("AKIAOLD", "old")
	registry := pipeline.NewRegistry()
	Register(registry)
	pipeline.AddSource[noSource](registry, "nothing")
	text := "name: p\nsource: {nothing: {}}\nsink:\n  sqs:\n    queue_url: " + *queue.QueueUrl + "\n    endpoint: " + guard.URL() +
		"\n    region: us-east-1\n    access_key_id: ${file:" + filepath.Join(dir, "id") + "}\n    secret_access_key: ${file:" + filepath.Join(dir, "secret") + "}\n"
	conf, _, err := pipeline.LoadBytes(registry, "p.yaml", []byte(text), pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	open := func() pipeline.Sink {
		sink, err := conf.Sink.New(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sink.Publisher.Close() })
		return sink
	}
	sink := open()
	if err := sink.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish := func() error { return sink.Publisher.Publish("", message.NewMessage("m", []byte("x"))) }
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	guard.Want("AKIANEW", "new")
	if err := publish(); !pipeline.IsUnavailable(err) {
		t.Fatalf("with the old key: %v, want an outage", err)
	}
	if err := open().Publisher.(pipeline.Starter).Start(t.Context()); !pipeline.IsFatal(err) {
		t.Errorf("wrong from the start: %v, want a fatal error", err)
	}
	write("AKIANEW", "new")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = publish(); err == nil {
			break
		}
		if !pipeline.IsUnavailable(err) || time.Now().After(deadline) {
			t.Fatalf("after the files have the new key: %v", err)
		}
	}
}
