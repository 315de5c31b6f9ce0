package tracing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// otlpStub is a collector that speaks OTLP over HTTP and keeps what it is sent.
type otlpStub struct {
	*httptest.Server
	mu       sync.Mutex
	requests int
	raw      bytes.Buffer
	header   http.Header
	resource map[string]string
	spans    []*tracepb.Span
}

func newCollector(t *testing.T) *otlpStub {
	t.Helper()
	s := &otlpStub{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *otlpStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.header = r.Header
	s.raw.Write(body)
	var request collector.ExportTraceServiceRequest
	if r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, resource := range request.ResourceSpans {
		s.resource = map[string]string{}
		for _, a := range resource.Resource.Attributes {
			s.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeSpans {
			s.spans = append(s.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// named returns the spans whose name begins so.
func (s *otlpStub) named(prefix string) []*tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.spans), func(span *tracepb.Span) bool { return !strings.HasPrefix(span.Name, prefix) })
}

func attribute(span *tracepb.Span, key string) string {
	for _, a := range span.Attributes {
		if a.Key == key {
			if a.Value.GetStringValue() != "" {
				return a.Value.GetStringValue()
			}
			return fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return ""
}

// run runs a pipeline until it ends, or stop returns.
func run(t *testing.T, yaml string, stop func()) (code int, log string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 2)
	var stdout, stderr bytes.Buffer
	p := &cli.Program{
		Registry: penstock.Builtins(), Args: []string{"run", file}, Invocation: "penstock", Stdout: &stdout, Stderr: &stderr,
		Width: func() int { return 0 }, LookupEnv: os.LookupEnv, ReadFile: os.ReadFile, Signals: signals,
	}
	done := make(chan int, 1)
	go func() { done <- p.Run(context.Background()) }()
	if stop != nil {
		stop()
		signals <- syscall.SIGTERM
	}
	return <-done, stderr.String()
}

// byXRay is in the bodies of messages that AWS X-Ray has put its header on.
const byXRay = "sent-under-xray"

// withTraceHeader stands before an SQS server and adds what the server doesn't know: the system attribute
// AWSTraceHeader, to whoever asks for it by name.
func withTraceHeader(t *testing.T, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	transport := &http.Transport{}
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.Context().Value(asksForHeader{}) == nil || resp.StatusCode != http.StatusOK {
			return nil
		}
		var answer map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return err
		}
		messages, _ := answer["Messages"].([]any)
		for _, m := range messages {
			message := m.(map[string]any)
			if body, _ := message["Body"].(string); strings.Contains(body, byXRay) {
				message["Attributes"].(map[string]any)["AWSTraceHeader"] = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
			}
		}
		body, err := json.Marshal(answer)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return err
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ReceiveMessage") && bytes.Contains(body, []byte(`"AWSTraceHeader"`)) {
			r = r.WithContext(context.WithValue(r.Context(), asksForHeader{}, true))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

type asksForHeader struct{}

func TestTracing_aSpanForEveryMessageOfAQueue(t *testing.T) {
	endpoint := withTraceHeader(t, testserver.SQS(t))
	cfg, err := awsclient.Load(t.Context(), awsclient.Settings{Endpoint: endpoint, Region: "us-east-1", AccessKeyID: "test", SecretAccessKey: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client := awsclient.SQS(cfg, endpoint)
	defer awsclient.CloseIdle(client)
	queue, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("events")})
	if err != nil {
		t.Fatal(err)
	}
	const w3cTrace, w3cSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const xrayTrace, xraySpan = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
	event := `{"type":"usage.updated","customerId":"CANARY","featureId":"f","currentUsage":1}`
	ids := map[string]string{}
	send := func(name, body, traceparent string) {
		in := &sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: &body}
		if traceparent != "" {
			in.MessageAttributes = map[string]types.MessageAttributeValue{"traceparent": {DataType: aws.String("String"), StringValue: &traceparent}}
		}
		out, err := client.SendMessage(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		ids[*out.MessageId] = name
	}
	send("w3c", event, "00-"+w3cTrace+"-"+w3cSpan+"-01")
	send("xray", strings.Replace(event, "CANARY", byXRay, 1), "")
	send("plain", event, "")
	send("poisoned", `{"type":"CANARY"}`, "")

	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	recordings := t.TempDir()
	began := time.Now()
	code, log := run(t, `name: traced
source: {sqs: {queue_url: '`+*queue.QueueUrl+`', endpoint: '`+endpoint+`', region: us-east-1, access_key_id: test, secret_access_key: test, wait_time: 1s}}
transforms: [{decode_entitlements: {}}]
sink: {drop: {}}
poison_queue: {file: {dir: '`+filepath.Join(t.TempDir(), "poison")+`'}}
record: {file: {dir: '`+recordings+`'}}
service: {tracing: {endpoint: '`+c.URL+`'}}
`, func() {
		for deadline := time.Now().Add(30 * time.Second); len(c.named("process")) < len(ids) && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
	})
	if code != 0 || !strings.Contains(log, `"sends":"traces to 127.0.0.1`) {
		t.Fatalf("exit %d\n%s", code, log)
	}
	spans := c.named("process events")
	if len(spans) != len(ids) {
		t.Fatalf("%d spans, want %d\n%s", len(spans), len(ids), log)
	}
	stored := map[string]*tracepb.Span{}
	for _, span := range c.named("store sink.drop") {
		stored[string(span.ParentSpanId)] = span
	}
	traces := map[string]bool{}
	for _, span := range spans {
		name := ids[attribute(span, "messaging.message.id")]
		traces[string(span.TraceId)] = true
		from, to := time.Unix(0, int64(span.StartTimeUnixNano)), time.Unix(0, int64(span.EndTimeUnixNano))
		if from.Before(began) || to.Before(from) || span.Kind != tracepb.Span_SPAN_KIND_CONSUMER || len(span.ParentSpanId) > 0 ||
			attribute(span, "messaging.system") != "aws_sqs" || attribute(span, "messaging.destination.name") != "events" || attribute(span, "penstock.attempts") != "1" {
			t.Errorf("%s: %v", name, span)
		}
		link := ""
		for _, l := range span.Links {
			link += fmt.Sprintf("%x-%x", l.TraceId, l.SpanId)
		}
		if want := map[string]string{"w3c": w3cTrace + "-" + w3cSpan, "xray": xrayTrace + "-" + xraySpan}[name]; link != want {
			t.Errorf("%s is linked to %q, want %q", name, link, want)
		}
		outcome, child := attribute(span, "penstock.outcome"), stored[string(span.SpanId)]
		if name == "poisoned" {
			want := "transforms[0].decode_entitlements: permanent: *entitlement.Error, at type, unknown event type …"
			if outcome != "poisoned" || span.Status.Code != tracepb.Status_STATUS_CODE_ERROR || span.Status.Message != want || child != nil {
				t.Errorf("%s: %v", name, span)
			}
			if len(span.Events) != 1 || span.Events[0].Name != "attempt failed" {
				t.Errorf("events %v", span.Events)
			}
			continue
		}
		if outcome != "written" || span.Status.GetCode() != tracepb.Status_STATUS_CODE_UNSET || child == nil {
			t.Fatalf("%s: %v", name, span)
		}
		if child.StartTimeUnixNano < span.StartTimeUnixNano || child.EndTimeUnixNano > span.EndTimeUnixNano || string(child.TraceId) != string(span.TraceId) {
			t.Errorf("%s: stored outside of its span: %v", name, child)
		}
	}
	if len(traces) != len(ids) {
		t.Errorf("%d traces of %d messages", len(traces), len(ids))
	}
	if c.resource["service.name"] != "penstock" || c.resource["deployment.environment"] != "test" || c.header.Get("api-key") != "s3cret" {
		t.Errorf("resource %v, headers %v", c.resource, c.header)
	}
	if bytes.Contains(c.raw.Bytes(), []byte("CANARY")) {
		t.Errorf("a part of a payload is in a span: %q", c.raw.String())
	}
	// What is recorded is what came: no span of ours in it.
	files, _ := filepath.Glob(filepath.Join(recordings, "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.Count(string(text), "traceparent") != 1 {
			t.Errorf("recording: %v\n%s", err, text)
		}
	}
}

const generated = "name: traced\nsource: {generate: {count: 20}}\nsink: {drop: {}}\n"

func TestTracing_isOffUnlessConfigured(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string // ADDRESS is the collector's address
		yaml string
		code int
		on   bool
		want string
	}{
		"nothing set":             {nil, "", 0, false, `"sends":"nothing to anyone"`},
		"by the environment":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "ADDRESS"}, "", 0, true, `"sends":"traces to 127.0.0.1`},
		"by the traces' own":      {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ADDRESS/v1/traces"}, "", 0, true, `"sends":"traces to 127.0.0.1`},
		"by the file":             {nil, "service: {tracing: {endpoint: 'ADDRESS'}}\n", 0, true, `"sends":"traces to 127.0.0.1`},
		"file without an address": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "ADDRESS"}, "service: {tracing: {}}\n", 0, true, `"sends":"traces to 127.0.0.1`},
		"no sample":               {nil, "service: {tracing: {endpoint: 'ADDRESS', sample_ratio: 0}}\n", 0, false, `"sends":"traces to 127.0.0.1`},
		"switched off":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "ADDRESS", "OTEL_SDK_DISABLED": "true"}, "", 0, false, `"sends":"nothing to anyone"`},
		"another exporter":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "ADDRESS", "OTEL_TRACES_EXPORTER": "none"}, "", 0, false, `"sends":"nothing to anyone"`},
		"gRPC":                    {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "ADDRESS", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "", 2, false, "OTEL_EXPORTER_OTLP_PROTOCOL: want http/protobuf"},
		"no address at all":       {nil, "service: {tracing: {}}\n", 2, false, "service.tracing: endpoint is missing"},
		"no URL":                  {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "", 2, false, "OTEL_EXPORTER_OTLP_ENDPOINT: want http://HOST:PORT"},
		"no such host":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://-collector:4318"}, "", 2, false, "OTEL_EXPORTER_OTLP_ENDPOINT: want http://HOST:PORT"},
		"no such port in a file":  {nil, "service: {tracing: {endpoint: 'http://x:70000'}}\n", 2, false, "service.tracing.endpoint: must be http://HOST:PORT"},
		"a ratio that is none":    {nil, "service: {tracing: {endpoint: 'ADDRESS', sample_ratio: 2}}\n", 2, false, "service.tracing.sample_ratio: must be 0 to 1, got 2"},
		"a password in the file":  {nil, "service: {tracing: {endpoint: 'http://u:p@x'}}\n", 2, false, "service.tracing.endpoint: want http://HOST:PORT or https://HOST:PORT, without user and password"},
	} {
		t.Run(name, func(t *testing.T) {
			stub := newCollector(t)
			for name, value := range c.env {
				t.Setenv(name, strings.ReplaceAll(value, "ADDRESS", stub.URL))
			}
			code, log := run(t, generated+strings.ReplaceAll(c.yaml, "ADDRESS", stub.URL), nil)
			if code != c.code || !strings.Contains(log, c.want) {
				t.Errorf("exit %d, want %d and %q\n%s", code, c.code, c.want, log)
			}
			spans := stub.named("process traced")
			if c.on && len(spans) != 20 || !c.on && stub.requests > 0 {
				t.Errorf("%d spans in %d requests", len(spans), stub.requests)
			}
		})
	}
}

func TestTracing_aCollectorThatIsAwayCostsSpansOnly(t *testing.T) {
	code, log := run(t, generated+"service: {tracing: {endpoint: 'http://127.0.0.1:1'}}\n", nil)
	if code != 0 || !strings.Contains(log, `"written":20`) {
		t.Fatalf("exit %d\n%s", code, log)
	}
	if n := strings.Count(log, "spans are dropped: the collector does not take them"); n != 1 {
		t.Errorf("told %d times, want once\n%s", n, log)
	}
	if !strings.Contains(log, `"msg":"spans were dropped","dropped":40`) { // of each message its own and that of the store
		t.Errorf("the number is not told\n%s", log)
	}
}
