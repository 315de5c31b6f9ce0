package tracing

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

func TestOrigin_readsW3CThenXRay(t *testing.T) {
	const w3c, xray = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8"
	const header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	for name, c := range map[string]struct {
		metadata message.Metadata
		want     string // trace-span, "" for none
		sampled  bool
	}{
		"nothing":                  {nil, "", false},
		"W3C":                      {message.Metadata{"traceparent": "00-" + w3c + "-01", "tracestate": "a=b"}, w3c, true},
		"W3C, not sampled":         {message.Metadata{"traceparent": "00-" + w3c + "-00"}, w3c, false},
		"both":                     {message.Metadata{"traceparent": "00-" + w3c + "-01", traceHeader: header}, w3c, true},
		"W3C broken, X-Ray whole":  {message.Metadata{"traceparent": "00-x", traceHeader: header}, xray, true},
		"X-Ray":                    {message.Metadata{traceHeader: header}, xray, true},
		"X-Ray in another order":   {message.Metadata{traceHeader: "Sampled=0;Self=1-x; Parent=53995c3f42cd8ad8;Root=1-5759E988-bd862e3fe1be46a994272793;Lineage=1:a:0"}, xray, false},
		"X-Ray without a parent":   {message.Metadata{traceHeader: "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"}, "", false},
		"X-Ray of another version": {message.Metadata{traceHeader: "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8"}, "", false},
		"X-Ray cut off":            {message.Metadata{traceHeader: header[:40]}, "", false},
		"X-Ray all zeros":          {message.Metadata{traceHeader: "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			sc := origin(c.metadata)
			got := ""
			if sc.IsValid() {
				got = sc.TraceID().String() + "-" + sc.SpanID().String()
			}
			if got != c.want || sc.IsSampled() != c.sampled {
				t.Errorf("got %q, sampled %t, want %q, %t", got, sc.IsSampled(), c.want, c.sampled)
			}
		})
	}
}

func FuzzParseTraceHeader(f *testing.F) {
	f.Add("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	f.Add(";;=;Root=;Parent")
	f.Fuzz(func(t *testing.T, header string) {
		sc := parseTraceHeader(header)
		if !sc.IsValid() {
			if sc.HasTraceID() || sc.HasSpanID() {
				t.Errorf("half a span of %q", header)
			}
			return
		}
		// What is valid is read back the same from the form that X-Ray writes.
		id := sc.TraceID().String()
		again := parseTraceHeader("Root=1-" + id[:8] + "-" + id[8:] + ";Parent=" + sc.SpanID().String())
		if again.TraceID() != sc.TraceID() || again.SpanID() != sc.SpanID() {
			t.Errorf("%q and back is another span", header)
		}
	})
}
