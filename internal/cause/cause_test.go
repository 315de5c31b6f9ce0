package cause_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/cause"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

type nasty struct{}

func (nasty) Error() string { panic("CANARY") }

type code string

func (c code) Error() string                 { return string(c) }
func (c code) ErrorCode() string             { return string(c) }
func (c code) ErrorMessage() string          { return string(c) }
func (c code) ErrorFault() smithy.ErrorFault { return smithy.FaultUnknown }

func TestOf_tellsTheCauseAndNothingElse(t *testing.T) {
	_, parseError := cache.Parse(nil, []byte(`{"key":"CANARY","CANARY":1}`))
	decoder, err := entitlement.NewDecoder(entitlement.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, inEvent := decoder.Append(nil, entitlement.Input{Body: []byte(`{"CANARY":1,"entitlements":[{},{"feature":{"CANARY":1,"refId":7}}]}`)})
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a plain error":         {errors.New("customer CANARY"), "retryable: an error of no type of its own"},
		"wrapped and permanent": {fmt.Errorf("CANARY: %w", pipeline.Permanent(errors.New("CANARY"))), "permanent: an error of no type of its own"},
		"a known end":           {pipeline.Unavailable(fmt.Errorf("CANARY: %w", context.DeadlineExceeded)), "unavailable: context deadline exceeded"},
		"no such host":          {&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "CANARY", Name: "CANARY", IsNotFound: true}}, "retryable: *net.OpError dial tcp, *net.DNSError: no such host"},
		"an operation made up":  {&net.OpError{Op: "CANARY", Net: "CANARY", Err: syscall.EPIPE}, "retryable: *net.OpError, broken pipe"},
		"a URL":                 {&url.Error{Op: "Post", URL: "http://CANARY", Err: syscall.ECONNRESET}, "retryable: *url.Error Post, connection reset by peer"},
		"a file":                {&fs.PathError{Op: "open", Path: "/CANARY", Err: syscall.ENOSPC}, "retryable: *fs.PathError open, no space left on device"},
		"TLS":                   {tls.AlertError(42), "retryable: tls.AlertError: tls: bad certificate"},
		"an answer of Redis":    {redisclient.ReplyError("WRONGPASS CANARY"), "retryable: redisclient.ReplyError WRONGPASS"},
		"an answer made up":     {redisclient.ReplyError("CANARY CANARY"), "retryable: redisclient.ReplyError"},
		"a code of AWS":         {code("QueueDoesNotExist"), "retryable: cause_test.code QueueDoesNotExist"},
		"a code made up":        {code("customer-CANARY"), "retryable: cause_test.code"},
		"a place in an event":   {inEvent, "retryable: *entitlement.Error, at entitlements[].feature.refId, want a string, got a number"},
		"somebody else's":       {&entitlement.Error{Path: "entitlements[12].id", What: "want a string"}, "retryable: *entitlement.Error"},
		"a write":               {parseError, "retryable: *cache.ParseError, unknown field …"},
		"several":               {errors.Join(syscall.EPIPE, context.Canceled), "retryable: broken pipe, context canceled"},
		"a type without a name": {struct{ error }{errors.New("CANARY")}, "retryable: an error of a type without a name"},
		"one that panics":       {nasty{}, "retryable: cause_test.nasty"},
		"a nil pointer in it":   {(*entitlement.Error)(nil), "retryable: an error that can't be looked at"},
		"retries":               {reason.Errorf("retry budget of %q spent: %w", "CANARY", syscall.EPIPE), "retryable: retry budget of … spent, broken pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := cause.Of(c.err).String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// FuzzOf_aTextNeverGetsThrough puts a word that no text of ours has into whatever comes, and looks for it.
func FuzzOf_aTextNeverGetsThrough(f *testing.F) {
	f.Add("want a string, got ", " x")
	f.Add("entitlements[1].", ": missing")
	f.Add("WRONGPASS ", "")
	f.Add("", ".QueueDoesNotExist")
	f.Fuzz(func(t *testing.T, before, after string) {
		const word = "Xyzzyxx"
		text := before + word + after
		for _, err := range []error{
			errors.New(text), &entitlement.Error{Path: text, What: text}, &cache.ParseError{What: text}, redisclient.ReplyError(text),
			&net.OpError{Op: text, Net: text, Err: &net.DNSError{Err: text, Name: text, Server: text}}, &url.Error{Op: text, URL: text, Err: errors.New(text)},
			&fs.PathError{Op: text, Path: text, Err: errors.New(text)},
		} {
			if got := cause.Of(pipeline.Permanent(fmt.Errorf("%s: %w", text, err))).String(); strings.Contains(got, word) {
				t.Errorf("%T: %q tells %q", err, text, got)
			}
		}
	})
}

// TestOf_aPayloadNeverGetsThrough: every parser of ours tells what is wrong, each with a payload that is nothing but
// the word and what makes it fail. What they tell is put together from constants of the source: package reason.
func TestOf_aPayloadNeverGetsThrough(t *testing.T) {
	decoder, err := entitlement.NewDecoder(entitlement.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var parser recording.Parser
	for _, text := range []string{
		`CANARY`, `"CANARY`, `"CANARY\q"`, "\"CANARY\x01\"", `["CANARY",]`, `{"CANARY" 1}`, `{"CANARY":1e400}`, `{"CANARY":"\ud83d"}`, "{\"CANARY\":\"\xff\"}",
		`{"key":"CANARY","CANARY":1}`, `{"key":"CANARY","key":"CANARY","value":1}`, `{"key":"CANARY"}`, `{"key":"CANARY","version":CANARY}`, `{"key":"CANARY","value":"CANARY"}CANARY`,
		`{"key":"CANARY","if_any_exists":["CANARY",CANARY]}`, `{"key":"CANARY","ttl":"CANARY"}`, `{"key":"CANARY","value":CANARY}`, `{"key":"CANARY","value":{"CANARY":{"CANARY":CANARY}}}`,
		`{"type":"CANARY"}`, `{"customerId":"CANARY","customer":{"id":"CANARY2"}}`, `{"customerId":{"CANARY":1}}`, `{"customer":{"id":"CANARY","CANARY":CANARY}}`,
		`{"entitlements":[{"feature":{"refId":7,"CANARY":1}}]}`, `{"entitlements":[{"entitlementUpdatedAt":"CANARY"}]}`, `{"entitlements":[{"enumValues":["CANARY",CANARY]}]}`,
		`{"timestamp":"CANARY"}`, `{"entitlementReference":{"type":"CANARY"}}`, `{"type":"usage.updated","customerId":"CANARY","featureId":"CANARY"}`, `{"CANARY":{"id":CANARY}}`,
		`{"id":"CANARY","payload":"CANARY","payload_base64":"CANARY"}`, `{"payload":"CANARY","metadata":{"CANARY":1}}`, `{"payload":"CANARY","metadata":{"CANARY":"a","CANARY":"b"}}`,
		`{"payload_base64":"CANARY!"}`, `{"payload":"CANARY","time":"CANARY"}`, `{"payload":"CANARY","poison":{"reason":7,"CANARY":CANARY}}`, `{"id":"CANARY","id":"CANARY"}`,
		`{"payload":"CANARY","metadata_base64":{"CANARY!":"CANARY"}}`, `{"payload":"CANARY","poison":"CANARY"}`, `{"payload":"CANARY"}CANARY`, `{"payload":"CANARY","metadata":["CANARY"]}`,
	} {
		_, inWrites := cache.Parse(nil, []byte(text))
		_, _, inEvent := decoder.Append(nil, entitlement.Input{Body: []byte(text)})
		var entry recording.Entry
		inLine := parser.Parse([]byte(text), &entry)
		for name, err := range map[string]error{"cache writes": inWrites, "event": inEvent, "recording": inLine} {
			if err == nil {
				continue
			}
			got := cause.Of(pipeline.Permanent(fmt.Errorf("%s: %w", text, err))).String()
			if strings.Contains(strings.ToUpper(got), "CANARY") || !strings.ContainsAny(got, ",: ") {
				t.Errorf("%s %s: it tells %q", name, text, got)
			}
			if strings.HasSuffix(got, "no type of its own") || strings.HasSuffix(got, "Error") && !strings.Contains(got, ", ") && !strings.Contains(got, "json.") {
				t.Errorf("%s %s: it tells nothing but %q of %v", name, text, got, err)
			}
		}
	}
}

func TestOf_goesOwnPanicsAreToldByTheirKind(t *testing.T) {
	of := func(f func()) (got string) {
		defer func() { got = cause.Of(&inside.PanicError{Value: recover()}).Text }()
		f()
		return ""
	}
	var none []int
	var nothing map[string]int
	var pointer *cause.Cause
	var value any = "CANARY"
	zero := len(none)
	for name, c := range map[string]struct {
		f    func()
		want string
	}{
		"index":    {func() { none[zero] = 1 }, "index out of range"},
		"slice":    {func() { _ = none[1:zero] }, "slice bounds out of range"},
		"map":      {func() { nothing["CANARY"] = 1 }, "assignment to entry in nil map"},
		"nil":      {func() { pointer.Kind = "CANARY" }, "invalid memory address or nil pointer dereference"},
		"zero":     {func() { zero = 1 / zero }, "integer divide by zero"},
		"type":     {func() { _ = value.(int) }, "interface conversion"},
		"a value":  {func() { panic("index out of range CANARY") }, "an error of no type of its own"},
		"an error": {func() { panic(errors.New("interface conversion: CANARY")) }, "an error of no type of its own"},
	} {
		if got := of(c.f); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
