// Package tracing sends a span for every message to an OpenTelemetry collector, over OTLP/HTTP. A span begins when
// the pipeline received the message and ends when it is settled; it is linked to the span that sent the message. It
// holds no part of a payload: why something failed is told by package cause.
package tracing

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/cause"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline"
)

// Config is whether and where spans are sent.
type Config struct {
	// Enabled says that they are.
	Enabled bool
	// Host is where they go, for people.
	Host string

	endpoint string // "": the exporter takes it from its variables
	ratio    *float64
}

// FromEnv puts together what a pipeline file says (nil: nothing) and OpenTelemetry's variables. The file wins over
// the variable for the same. OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none switch spans off, whatever else
// says.
func FromEnv(file *pipeline.TracingConfig, lookup func(string) (string, bool)) (Config, error) {
	get := func(name string) string { v, _ := lookup(name); return strings.TrimSpace(v) }
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") || get("OTEL_TRACES_EXPORTER") == "none" {
		return Config{}, nil
	}
	var c Config
	address, from := "", ""
	for _, name := range [...]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if address == "" {
			address, from = get(name), name
		}
	}
	if file != nil {
		c.ratio = &file.SampleRatio
		if file.Endpoint != "" {
			address, from, c.endpoint = file.Endpoint, "service.tracing.endpoint", file.Endpoint
		}
		if address == "" {
			return Config{}, fmt.Errorf("service.tracing: endpoint is missing, and OTEL_EXPORTER_OTLP_ENDPOINT is not set")
		}
	}
	if address == "" {
		return Config{}, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || plaintext.CheckURLHost(u) != nil {
		return Config{}, fmt.Errorf("%s: want http://HOST:PORT or https://HOST:PORT", from) // not shown: it may hold a password
	}
	for _, name := range [...]string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := get(name); protocol != "" && protocol != "http/protobuf" {
			return Config{}, fmt.Errorf("%s: want http/protobuf (usually on port 4318), got %q", name, plaintext.Cut(protocol))
		}
	}
	if c.endpoint != "" && strings.Trim(u.Path, "/") == "" {
		c.endpoint = u.JoinPath("v1", "traces").String()
	}
	c.Enabled, c.Host = true, u.Host
	return c, nil
}

// Tracer is the [pipeline.Tracer] of a process.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	export   *exporter
}

const (
	// maxPending bounds the spans that wait to be sent, and with them the memory: about 1 KB each.
	maxPending = 8192
	// sendTimeout bounds one request, retryTime all tries of one.
	sendTimeout = 5 * time.Second
	retryTime   = 10 * time.Second
	// flushTimeout bounds how long the end of the process waits for the last spans.
	flushTimeout = 2 * time.Second
)

// New makes a tracer for a config that is enabled. It connects to nothing yet. Close it.
func New(c Config, version string, log *zap.Logger, metrics prometheus.Registerer) (*Tracer, error) {
	options := []otlptracehttp.Option{
		otlptracehttp.WithTimeout(sendTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: 2 * time.Second, MaxElapsedTime: retryTime,
		}),
	}
	if c.endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(c.endpoint))
	}
	ctx := context.Background()
	otlp, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("make the exporter of spans: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "penstock"), attribute.String("service.version", version)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	e := &exporter{SpanExporter: otlp, log: log, spans: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "penstock_spans_total", Help: "Spans of traces, by what became of them: sent or dropped.",
	}, []string{"result"})}
	if err := metrics.Register(e.spans); err != nil {
		return nil, err
	}
	all := []sdk.TracerProviderOption{
		sdk.WithResource(about),
		sdk.WithSpanProcessor(&bounded{SpanProcessor: sdk.NewBatchSpanProcessor(e, sdk.WithMaxQueueSize(maxPending)), export: e}),
	}
	if c.ratio != nil {
		all = append(all, sdk.WithSampler(sdk.TraceIDRatioBased(*c.ratio)))
	}
	t := &Tracer{provider: sdk.NewTracerProvider(all...), export: e}
	t.tracer = t.provider.Tracer("github.com/penstock-dev/penstock", trace.WithInstrumentationVersion(version))
	return t, nil
}

// Close sends what is still to send, for two seconds at most, unless at once is asked for.
func (t *Tracer) Close(atOnce bool) {
	timeout := flushTimeout
	if atOnce {
		timeout = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx)
	t.export.closed()
}

// exporter counts what it sends, and what it can't.
type exporter struct {
	sdk.SpanExporter
	log     *zap.Logger
	spans   *prometheus.CounterVec
	pending atomic.Int64
	dropped atomic.Int64
	failing atomic.Bool
}

// ExportSpans returns no error: the SDK would write it to stderr, each time.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.pending.Add(-int64(len(spans)))
	if err != nil {
		e.drop(len(spans), cause.Of(err).String())
		return nil
	}
	e.spans.WithLabelValues("sent").Add(float64(len(spans)))
	if e.failing.Swap(false) {
		e.log.Info("the collector takes spans again", zap.Int64("dropped", e.dropped.Load()))
	}
	return nil
}

func (e *exporter) drop(n int, why string) {
	e.dropped.Add(int64(n))
	e.spans.WithLabelValues("dropped").Add(float64(n))
	if !e.failing.Swap(true) {
		complaint.Warn(e.log, "spans are dropped: the collector does not take them", zap.String("cause", why))
	}
}

// closed counts what was not sent at the end.
func (e *exporter) closed() {
	if n := e.pending.Swap(0); n > 0 {
		e.drop(int(n), "the process ends")
	}
	if n := e.dropped.Load(); n > 0 {
		e.log.Info("spans were dropped", zap.Int64("dropped", n))
	}
}

// bounded drops spans when too many wait, and counts them; the SDK's own processor drops them silently.
type bounded struct {
	sdk.SpanProcessor
	export *exporter
}

func (b *bounded) OnEnd(span sdk.ReadOnlySpan) {
	if !span.SpanContext().IsSampled() {
		return
	}
	if b.export.pending.Add(1) > maxPending {
		b.export.pending.Add(-1)
		b.export.drop(1, "too many spans wait to be sent")
		return
	}
	b.SpanProcessor.OnEnd(span)
}

// Start begins the span of a message. Its attributes are those of OpenTelemetry's conventions for messaging.
func (t *Tracer) Start(ctx context.Context, name string, received time.Time, msg *message.Message) (context.Context, pipeline.Trace) {
	destination := name
	attributes := []attribute.KeyValue{
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("penstock.pipeline", name),
	}
	if queue := msg.Metadata["sqs_queue"]; queue != "" {
		destination = queue
		attributes = append(attributes, attribute.String("messaging.system", "aws_sqs"), attribute.String("messaging.destination.name", queue))
	}
	if id := msg.Metadata["sqs_message_id"]; id != "" {
		attributes = append(attributes, attribute.String("messaging.message.id", id))
	}
	options := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(received), trace.WithAttributes(attributes...),
	}
	if from := origin(msg.Metadata); from.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
	}
	ctx, span := t.tracer.Start(ctx, "process "+destination, options...)
	return ctx, &delivery{tracer: t.tracer, span: span}
}

// delivery is the trace of one message.
type delivery struct {
	tracer trace.Tracer
	span   trace.Span
}

func (d *delivery) Publish(ctx context.Context, stage string) (context.Context, func(error)) {
	if !d.span.IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := d.tracer.Start(ctx, "store "+stage, trace.WithAttributes(attribute.String("penstock.stage", stage)))
	return ctx, func(err error) {
		failed(span, err)
		span.End()
	}
}

func (d *delivery) Failed(err error) {
	if d.span.IsRecording() {
		d.span.AddEvent("attempt failed", trace.WithAttributes(attribute.String("penstock.cause", cause.Of(err).String())))
	}
}

func (d *delivery) End(r pipeline.TraceResult) {
	if d.span.IsRecording() {
		d.span.SetAttributes(attribute.String("penstock.outcome", r.Outcome), attribute.Int("penstock.attempts", r.Attempts))
		if r.Held > 0 {
			d.span.SetAttributes(attribute.Float64("penstock.held_seconds", r.Held.Seconds()))
		}
		failed(d.span, r.Err)
	}
	d.span.End()
}

// failed marks a span as failed, if err says so.
func failed(span trace.Span, err error) {
	if err == nil {
		return
	}
	c := cause.Of(err)
	span.SetStatus(codes.Error, c.String())
	span.SetAttributes(attribute.String("error.type", c.Kind))
}
