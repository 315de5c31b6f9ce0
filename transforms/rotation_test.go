package transforms

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

type noSource struct{}

func (*noSource) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }

type noSink struct{}

func (*noSink) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }

// fromYAML makes transforms as a pipeline file does, each time anew.
func fromYAML(t *testing.T, transform string) func() pipeline.Transform {
	t.Helper()
	registry := Register(pipeline.NewRegistry())
	pipeline.AddSource[noSource](registry, "nothing")
	pipeline.AddSink[noSink](registry, "nowhere")
	conf, _, err := pipeline.LoadBytes(registry, "p.yaml", []byte("name: p\nsource: {nothing: {}}\nsink: {nowhere: {}}\ntransforms: ["+transform+"]\n"), pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return func() pipeline.Transform {
		made, err := conf.Transforms[0].New(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
}

func secretFile(t *testing.T, text string) (name string, replace func(text string)) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "secret")
	replace = func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(text)
	return name, replace
}

// eventually tries until it works; meanwhile it must be an outage.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if !pipeline.IsUnavailable(err) || time.Now().After(deadline) {
			t.Fatalf("after the secret is right again: %v", err)
		}
	}
}

func TestUnwrap_rotatedAccessKeyOfS3IsAnOutageThatEndsByItself(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	endpoint := testserver.SQS(t) // which serves S3, too
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.S3(cfg, endpoint)
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("payloads")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("payloads"), Key: new("a b+c"), Body: bytes.NewReader([]byte("{}"))}); err != nil {
		t.Fatal(err)
	}
	guard := testserver.GuardAWS(t, endpoint, "AKIAOLD", "old")
	id, replaceID := secretFile(t, "AKIAOLD")
	secret, replaceSecret := secretFile(t, "old")
	newTransform := fromYAML(t, "{unwrap: {s3: {region: us-east-1, endpoint: '"+guard.URL()+"', access_key_id: '${file:"+id+"}', secret_access_key: '${file:"+secret+"}'}}}")
	fetch := func(transform pipeline.Transform) error {
		_, err := transform(message.NewMessage("m", []byte(pointer("payloads", "a b+c"))))
		return err
	}
	transform := newTransform()
	if err := fetch(transform); err != nil {
		t.Fatal(err)
	}
	guard.Want("AKIANEW", "new")
	if err := fetch(transform); !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "S3 took before") {
		t.Fatalf("with the old key: %v, want an outage that says why", err)
	}
	if err := fetch(newTransform()); !pipeline.IsFatal(err) {
		t.Errorf("wrong from the start: %v, want a fatal error", err)
	}
	replaceID("AKIANEW")
	replaceSecret("new")
	eventually(t, func() error { return fetch(transform) })
}

func TestRefreshEntitlements_rotatedKeyOfTheEdgeAPIIsAnOutageThatEndsByItself(t *testing.T) {
	edge := testserver.Edge(t, "old-key")
	key, replace := secretFile(t, "old-key")
	transform := fromYAML(t, "{refresh_entitlements: {url: '"+edge.URL()+"', delay: 10ms, api_key: '${file:"+key+"}'}}")()
	ask := func() error {
		_, err := transform(message.NewMessage("m", []byte(`{"type":"X","customerId":"c"}`)))
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	edge.Want("new-key")
	if err := ask(); !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "the API key is refused") {
		t.Fatalf("with the old key: %v, want an outage that says why", err)
	}
	replace("new-key")
	if err := ask(); err != nil {
		t.Errorf("after the file has the new key: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("while the file is away: %v, want the key that it held last", err)
	}
}
