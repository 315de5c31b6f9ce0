package tracing

import (
	"context"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceHeader is the metadata in which the SQS source hands on AWS's trace header.
const traceHeader = "sqs_trace_header"

// origin returns the span that sent the message, as its metadata tells: W3C's traceparent and tracestate, else AWS's
// trace header. It is invalid when neither tells.
func origin(metadata message.Metadata) trace.SpanContext {
	if metadata["traceparent"] != "" {
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(metadata))
		if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
			return sc
		}
	}
	return parseTraceHeader(metadata[traceHeader])
}

// parseTraceHeader reads X-Ray's "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1", in any
// order and with other fields between. A header without a parent names no span, and what is returned for it is
// invalid. See "Tracing header" in the X-Ray developer guide.
func parseTraceHeader(header string) trace.SpanContext {
	var c trace.SpanContextConfig
	for field := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Root":
			version, id, _ := strings.Cut(value, "-")
			seconds, rest, _ := strings.Cut(id, "-")
			if version != "1" || len(seconds) != 8 || len(rest) != 24 {
				return trace.SpanContext{}
			}
			parsed, err := trace.TraceIDFromHex(strings.ToLower(seconds + rest))
			if err != nil {
				return trace.SpanContext{}
			}
			c.TraceID = parsed
		case "Parent":
			parsed, err := trace.SpanIDFromHex(strings.ToLower(value))
			if err != nil {
				return trace.SpanContext{}
			}
			c.SpanID = parsed
		case "Sampled":
			if value == "1" {
				c.TraceFlags = trace.FlagsSampled
			}
		}
	}
	c.Remote = true
	if sc := trace.NewSpanContext(c); sc.IsValid() {
		return sc
	}
	return trace.SpanContext{}
}
