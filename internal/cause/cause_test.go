package cause_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/cause"
	"github.com/penstock-dev/penstock/internal/reason"
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
		"a place in an event":   {&entitlement.Error{Path: "entitlements[12].feature.refId", What: `want a string, got a number "CANARY"`}, "retryable: *entitlement.Error, at entitlements[].feature.refId, want a string, got a number"},
		"a place made up":       {&entitlement.Error{Path: "entitlements[12].CANARY", What: "want a string"}, "retryable: *entitlement.Error, want a string"},
		"a write":               {parseError, "retryable: *cache.ParseError, unknown field"},
		"several":               {errors.Join(syscall.EPIPE, context.Canceled), "retryable: broken pipe, context canceled"},
		"a type without a name": {struct{ error }{errors.New("CANARY")}, "retryable: an error of a type without a name"},
		"one that panics":       {nasty{}, "retryable: an error that can't be looked at"},
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

func TestPhrases_standInTheSource(t *testing.T) {
	var source strings.Builder
	for _, folder := range []string{"pipeline", "cache", "entitlement", "sources", "transforms", "sinks", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(file string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || filepath.Base(filepath.Dir(file)) == "cause" {
				return err
			}
			text, err := os.ReadFile(file)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range cause.Phrases {
		in := strings.Contains(source.String(), p)
		for _, first := range []string{"want ", "got ", "start "} { // put together there
			rest, ok := strings.CutPrefix(p, first)
			in = in || ok && (strings.Contains(source.String(), `"`+rest+`"`))
		}
		if !in && !fromRuntime[p] {
			t.Errorf("%q is nowhere in the source", p)
		}
		if i > 0 && len(cause.Phrases[i-1]) < len(p) {
			t.Errorf("%q comes after a shorter one", p)
		}
	}
}

// fromRuntime are what Go itself says when a component panics.
var fromRuntime = map[string]bool{
	"index out of range": true, "slice bounds out of range": true, "invalid memory address or nil pointer dereference": true,
	"assignment to entry in nil map": true, "integer divide by zero": true, "interface conversion": true,
}
