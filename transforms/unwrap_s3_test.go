package transforms

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func pointer(bucket, key string) string {
	return fmt.Sprintf(`["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName":%s,"s3Key":%s}]`, quote(bucket), quote(key))
}

func s3Config(endpoint string) *UnwrapS3Config {
	return &UnwrapS3Config{AWS: awsclient.Config{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test")}}
}

// fetches makes a transform whose connections end with the test.
func fetches(t *testing.T, c UnwrapConfig) pipeline.Transform {
	t.Helper()
	t.Setenv("AWS_MAX_ATTEMPTS", "1") // the SDK's waits between attempts are the SDK's to test
	return unwrap(t, c)
}

func TestUnwrap_fetchesPayloadsFromS3(t *testing.T) {
	endpoint := testserver.SQS(t) // which serves S3, too
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.S3(cfg, endpoint)
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("payloads")}); err != nil {
		t.Fatal(err)
	}
	const event = `{"customerId":"c","n":12345678901234567890}`
	for key, body := range map[string]string{
		"event": event, "客户/a b+c?d": event, "text": "hello", "empty": "",
		"base64": base64.StdEncoding.EncodeToString([]byte(gzipped(event))), "gzip": gzipped(event),
		"array": `[` + event + `,` + event + `]`, "sns": sns(event), "pointer": pointer("payloads", "event"), "loop": pointer("payloads", "loop"),
		"bomb": gzipped(strings.Repeat(" ", 1<<16) + event), "large": strings.Repeat("x", 1<<16),
	} {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("payloads"), Key: &key, Body: bytes.NewReader([]byte(body))}); err != nil {
			t.Fatal(err)
		}
	}
	transform := fetches(t, UnwrapConfig{S3: s3Config(endpoint), MaxSize: 1 << 14})
	for name, c := range map[string]struct {
		body string
		want []string
		err  string // of a permanent error
	}{
		"an event":             {pointer("payloads", "event"), []string{event}, ""},
		"the old class":        {strings.Replace(pointer("payloads", "event"), "software.amazon.payloadoffloading.PayloadS3Pointer", "com.amazon.sqs.javamessaging.MessageS3Pointer", 1), []string{event}, ""},
		"in an SNS envelope":   {sns(pointer("payloads", "event")), []string{event}, ""},
		"an SNS envelope":      {pointer("payloads", "sns"), []string{event}, ""},
		"a key of all sorts":   {pointer("payloads", "客户/a b+c?d"), []string{event}, ""},
		"text":                 {pointer("payloads", "text"), []string{"hello"}, ""},
		"nothing":              {pointer("payloads", "empty"), []string{""}, ""},
		"base64 and gzip":      {pointer("payloads", "base64"), []string{event}, ""},
		"gzip":                 {pointer("payloads", "gzip"), []string{event}, ""},
		"an array":             {pointer("payloads", "array"), []string{event, event}, ""},
		"a pointer":            {pointer("payloads", "pointer"), []string{event}, ""},
		"a pointer to itself":  {pointer("payloads", "loop"), nil, "more than 8 envelopes"},
		"too large":            {pointer("payloads", "large"), nil, "it has 65536 bytes, more than max_size allows"},
		"too large, unpacked":  {pointer("payloads", "bomb"), nil, "unpacks to more than 16KiB"},
		"no such object":       {pointer("payloads", "absent"), nil, `bucket "payloads", key "absent"`},
		"no such bucket":       {pointer("absent", "event"), nil, `bucket "absent", key "event"`},
		"a pointer to nowhere": {`["software.amazon.payloadoffloading.PayloadS3Pointer",{}]`, nil, "without bucket or key"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := transform(message.NewMessage("id", []byte(c.body)))
			if c.err != "" {
				if !pipeline.IsPermanent(err) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v (permanent %t), want %s", err, pipeline.IsPermanent(err), c.err)
				}
				return
			}
			if err != nil || len(got) != len(c.want) {
				t.Fatalf("got %d messages, %v; want %d", len(got), err, len(c.want))
			}
			for i, msg := range got {
				if string(msg.Payload) != c.want[i] {
					t.Errorf("got %q, want %q", msg.Payload, c.want[i])
				}
			}
		})
	}
	config := s3Config(endpoint)
	config.Buckets = []string{"others"}
	if _, err := fetches(t, UnwrapConfig{S3: config})(message.NewMessage("id", []byte(pointer("payloads", "event")))); !pipeline.IsPermanent(err) ||
		!strings.Contains(err.Error(), "s3.buckets doesn't allow") {
		t.Errorf("a bucket that is not allowed: %v", err)
	}
}

func TestUnwrap_whatBecomesOfAMessageWhenS3Fails(t *testing.T) {
	retryable := func(err error) bool {
		return err != nil && !pipeline.IsPermanent(err) && !pipeline.IsUnavailable(err) && !pipeline.IsFatal(err)
	}
	throttled := func(err error) bool { return retryable(err) && pipeline.RetryDelay(err) > 0 }
	for name, c := range map[string]struct {
		status int
		code   string
		is     func(error) bool
		want   string
	}{
		"no such key":        {404, "NoSuchKey", pipeline.IsPermanent, "NoSuchKey"},
		"archived":           {403, "InvalidObjectState", pipeline.IsPermanent, "InvalidObjectState"},
		"any other refusal":  {400, "KeyTooLongError", pipeline.IsPermanent, "KeyTooLongError"},
		"denied":             {403, "AccessDenied", retryable, "allow it on arn:aws:s3:::b/*"},
		"another region":     {301, "PermanentRedirect", retryable, "set s3.region"},
		"throttled":          {503, "SlowDown", throttled, "SlowDown"},
		"too many requests":  {429, "Whatever", throttled, "Whatever"},
		"busy":               {503, "ServiceUnavailable", throttled, "ServiceUnavailable"},
		"broken":             {500, "InternalError", pipeline.IsUnavailable, "InternalError"},
		"expired":            {400, "ExpiredToken", pipeline.IsUnavailable, "ExpiredToken"},
		"wrong key":          {403, "InvalidAccessKeyId", pipeline.IsFatal, "InvalidAccessKeyId"},
		"wrong secret":       {403, "SignatureDoesNotMatch", pipeline.IsFatal, "SignatureDoesNotMatch"},
		"torn":               {200, "", pipeline.IsUnavailable, "unexpected EOF"},
		"torn, no such size": {206, "", pipeline.IsPermanent, "more than max_size allows"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				switch c.status {
				case 200:
					w.Header().Set("Content-Length", "100")
					_, _ = w.Write([]byte("half"))
				case 206:
					w.Header().Set("Content-Length", "100000000000")
					w.WriteHeader(200)
				default:
					w.Header().Set("Content-Type", "application/xml")
					w.WriteHeader(c.status)
					_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", c.code)
				}
			}))
			defer server.Close()
			_, err := fetches(t, UnwrapConfig{S3: s3Config(server.URL)})(message.NewMessage("id", []byte(sns(pointer("b", "k")))))
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (permanent %t, unavailable %t, fatal %t, delay %s)", err, pipeline.IsPermanent(err),
					pipeline.IsUnavailable(err), pipeline.IsFatal(err), pipeline.RetryDelay(err))
			}
		})
	}
	t.Run("away", func(t *testing.T) {
		_, err := fetches(t, UnwrapConfig{S3: s3Config("http://127.0.0.1:1")})(message.NewMessage("id", []byte(pointer("b", "k"))))
		if !pipeline.IsUnavailable(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stopped meanwhile", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			cancel()
			<-r.Context().Done()
		}))
		defer server.Close()
		msg := message.NewMessage("id", []byte(pointer("b", "k")))
		msg.SetContext(ctx)
		_, err := fetches(t, UnwrapConfig{S3: s3Config(server.URL)})(msg)
		if !errors.Is(err, context.Canceled) || !retryable(err) || asked.Load() != 1 {
			t.Errorf("got %v after %d requests", err, asked.Load())
		}
	})
}

func TestUnwrap_s3OfAFile(t *testing.T) {
	for name, c := range map[string]struct {
		yaml, err string
		fetches   bool
	}{
		"without":     {"{}", "", false},
		"with":        {"{s3: {}}", "", true},
		"half a key":  {"{s3: {access_key_id: x}}", "transforms[0].unwrap.s3.access_key_id: needs secret_access_key", false},
		"half a role": {"{s3: {assume_role: {external_id: x}}}", "transforms[0].unwrap.s3.assume_role.arn: ", false},
	} {
		t.Run(name, func(t *testing.T) {
			config, _, err := pipeline.LoadBytes(Register(pipeline.NewRegistry()), "x.yaml",
				[]byte("name: x\ntransforms: [{unwrap: "+c.yaml+"}]\n"), pipeline.LoadOptions{Skip: []string{"source", "sink"}})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := config.Transforms[0].Config.(*UnwrapConfig).FetchesPointers(); got != c.fetches {
				t.Errorf("fetches pointers: %t, want %t", got, c.fetches)
			}
		})
	}
}

func TestUnwrap_fetchesAsTheAssumedRole(t *testing.T) {
	sts := testserver.STS(t)
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Authorization") + " " + r.Header.Get("X-Amz-Security-Token")
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	config := s3Config(server.URL)
	config.AWS.AssumeRole = &awsclient.RoleConfig{ARN: "arn:aws:iam::123456789012:role/reader", ExternalID: "x-19", SessionName: "reader"}
	if _, err := fetches(t, UnwrapConfig{S3: config})(message.NewMessage("id", []byte(pointer("b", "k")))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(asked, "Credential="+sts.AccessKey(1)+"/") || !strings.HasSuffix(asked, " "+sts.SessionToken(1)) {
		t.Errorf("a request of %s", asked)
	}
	if assumed := sts.Assumed(); len(assumed) != 1 || assumed[0].Get("ExternalId") != "x-19" || assumed[0].Get("RoleSessionName") != "reader" {
		t.Errorf("assumed %v", assumed)
	}
}

func TestUnwrap_holdsMessagesWhileS3IsAway(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	var refused atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if away.Load() {
			refused.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{"a":1}`))
	}))
	defer server.Close()
	queue, store, poison := pipelinetest.NewQueue(true, pointer("b", "k"), pointer("b", "k")), &pipelinetest.Store{}, &pipelinetest.Store{}
	poisonSink := poison.Sink()
	settings := pipeline.DefaultConfig()
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "p", Source: queue.Source(), Sink: store.Sink(), PoisonQueue: &poisonSink,
		Transforms:  []pipeline.Transform{fetches(t, UnwrapConfig{S3: s3Config(server.URL)})},
		Retry:       pipeline.RetryConfig{MaxAttempts: 1, OnExhausted: "poison"},
		MaxInFlight: settings.MaxInFlight, MaxInFlightBytes: int64(settings.MaxInFlightBytes),
		MessageTimeout: settings.MessageTimeout, ShutdownTimeout: settings.ShutdownTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(t.Context()) }()
	for refused.Load() < 2 {
		time.Sleep(5 * time.Millisecond)
	}
	away.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := store.Payloads(); len(got) != 2 || got[0] != `{"a":1}` {
		t.Errorf("stored %q", got)
	}
	if got := poison.Payloads(); len(got) != 0 {
		t.Errorf("poisoned %q", got)
	}
}

// A message of "penstock test" must not make a request, whatever the settings.
func TestUnwrap_asksNoS3InATest(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	msg := message.NewMessage("id", []byte(pointer("b", "k")))
	msg.SetContext(pipeline.WithoutNetwork(t.Context()))
	_, err := fetches(t, UnwrapConfig{S3: s3Config(server.URL)})(msg)
	if !pipeline.IsPermanent(err) || !strings.Contains(err.Error(), "not asked in a test") || requests.Load() != 0 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
}
