package errorreport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// canary stands in everything that must not leave: payloads, ids, names, secrets, addresses. canaryNumber stands where
// a number is wanted, canaryBytes where a byte is quoted.
const (
	canary       = "CANARY"
	canaryNumber = "73917391"
	canaryBytes  = "ŁĦ"
)

// tells reports whether a report holds a part of a payload.
func tells(report string) bool {
	return strings.Contains(strings.ToUpper(report), canary) || strings.Contains(report, canaryNumber) || strings.ContainsAny(report, canaryBytes)
}

// output is a writer that can be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// badConfig is a sink of somebody's own whose errors and logs quote the message.
type badConfig struct {
	// How it fails.
	How string `yaml:"how" required:"true"`
}

// boastful is an error of somebody's own: everything in it may come from a message.
type boastful struct{ text string }

func (e *boastful) Error() string     { return e.text }
func (e *boastful) ErrorCode() string { return e.text }
func (e *boastful) Timeout() bool     { return true }

func (c *badConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		text := "no room for " + string(msg.Payload)
		switch c.How {
		case "panic":
			panic(text)
		case "index":
			var none []string
			_ = none[len(msg.Payload)]
		case "log":
			env.Logger.Error("can't store "+text, zap.Error(&boastful{text}))
		case "fatal":
			return pipeline.Fatal(errors.New(text))
		}
		return pipeline.Permanent(fmt.Errorf("%s: %w", text, &boastful{text}))
	}), nil
}

// run runs the command line until it ends, or until stop says that it has seen enough.
func run(t *testing.T, env map[string]string, yaml string, stop func()) (code int, log string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 2)
	var stdout, stderr output
	p := &cli.Program{
		Registry: pipeline.AddSink[badConfig](penstock.Builtins(), "bad"), Args: []string{"run", file}, Invocation: "penstock",
		Stdout: &stdout, Stderr: &stderr, Width: func() int { return 0 }, ReadFile: os.ReadFile, Signals: signals,
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
	done := make(chan int, 1)
	go func() { done <- p.Run(context.Background()) }()
	if stop != nil {
		stop()
		signals <- syscall.SIGTERM
	}
	return <-done, stderr.String()
}

// lines is a pipeline whose source is a file of these bodies, without what follows the source.
func lines(t *testing.T, bodies ...string) string {
	t.Helper()
	return "name: canaries\nsource: {file: {paths: ['" + linesFile(t, bodies...) + "'], format: lines}}\n" +
		"retry: {max_attempts: 2, initial_interval: 1ms, max_interval: 1ms}\n" +
		"poison_queue: {file: {dir: '" + filepath.Join(t.TempDir(), "poison") + "'}}\n"
}

// linesFile is a file of these lines.
func linesFile(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// broken are bodies that don't decode, each in a way of its own.
var broken = []string{
	`{"type":"CANARY"}`,
	`{"CANARY":1}`,
	`CANARY`,
	`{"type":"entitlements.updated","customerId":"CANARY","customer":{"id":"CANARY2"}}`,
	`{"type":"entitlements.updated","customerId":{"CANARY":1}}`,
	`{"type":"entitlements.updated","customerId":"CANARY","entitlements":"CANARY"}`,
	`{"type":"entitlements.updated","customerId":"CANARY","entitlements":[{"feature":{"refId":7}}]}`,
	`{"type":"entitlements.updated","customerId":"CANARY","entitlements":[{"type":"CANARY","entitlementReference":{"type":"CANARY","id":"x"}}]}`,
	`{"type":"entitlements.updated","customerId":"CANARY","timestamp":"CANARY","entitlements":[]}`,
	`{"type":"entitlements.updated","CANARY":{"CANARY":[CANARY]}}`,
	`{"type":"entitlements.updated","customerId":"CANARY\q"}`,
	`{"type":"entitlements.updated","customerId":"CANARY`,
	`{"type":"usage.updated","customerId":"CANARY","featureId":"CANARY"}`,
	`{"type":"usage.updated","customerId":"CANARY","featureId":"CANARY","currentUsage":73917391e400}`,
	`{"type":"usage.updated","customerId":"CANARY","timestamp":73917391}`,
	`{"type":"usage.updated","customerId":"CANARY","timestamp":73917391739173917391}`,
	`{"type":"ŁĦ","customerId":"ŁĦ"}`,
	`{"customerId":ŁĦ}`,
	`{"customerId":"CANARY","ŁĦ":{"id":ŁĦ}}`,
	`{"customerId":"CANARY","entitlements":[{"feature":{"id":"CANARY","CANARY":[73917391,}}]}`,
	`{"Type":"UnsubscribeConfirmation","TopicArn":"arn:aws:sns:eu-west-1:1:CANARY","Message":"CANARY"}`,
	`{"s3Pointer":{"s3BucketName":"CANARY","s3Key":"CANARY"}}`,
	`["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"CANARY","s3Key":"CANARY"}]`,
	`{"errors":[{"message":"CANARY"}],"data":{"CANARY":null}}`,
}

func TestReports_holdNothingOfAMessageAndNoSecret(t *testing.T) {
	redis := testserver.Redis(t, "--requirepass", "other"+canary)
	host, port, _ := net.SplitHostPort(redis)
	open := testserver.Redis(t)
	_, openPort, _ := net.SplitHostPort(open)
	for name, c := range map[string]struct {
		yaml string
		want []string // each is a part of an event's cause
		runs bool     // until an event has come
	}{
		"bodies that don't decode": {lines(t, broken...) + "transforms: [{unwrap: {}}, {decode_entitlements: {}}]\nsink: {drop: {}}\n", []string{
			"transforms[1].decode_entitlements: permanent: *entitlement.Error, at type, unknown event type …",
			"transforms[1].decode_entitlements: permanent: *entitlement.Error, at entitlements, want an array, got a string",
			"transforms[1].decode_entitlements: permanent: *entitlement.Error, at entitlements[].feature.refId, want a string, got a number",
			"another id than elsewhere in the event",
			"transforms[0].unwrap: permanent: this is no event but an SNS",
			"the payload is not here but in S3",
		}, false},
		"a wrong password": {lines(t, "x"+canary) + "sink: {redis: {host: " + host + ", port: " + port + ", user: " + canary + ", password: pass" + canary + "}}\n",
			[]string{"WRONGPASS"}, false},
		"no Redis there": {lines(t, "x"+canary) + "sink: {redis: {host: 127.0.0.1, port: 1, user: " + canary + ", password: pass" + canary + ", prefix: " + canary + "}}\n",
			[]string{"*net.OpError dial tcp, connection refused"}, true},
		"no cache writes": {lines(t, canary, `{"key":"CANARY","CANARY":1}`) + "sink: {redis: {host: 127.0.0.1, port: " + openPort + ", prefix: " + canary + "}}\n",
			[]string{"redis: the payload is not cache writes, *cache.ParseError, unknown field"}, false},
		"lines that are no entries": {"name: canaries\nsource: {file: {paths: ['" + linesFile(t, `CANARY`, `{"id":"CANARY","payload":"CANARY","payload_base64":"CANARY"}`, `{"payload":"CANARY","metadata":{"CANARY":73917391}}`,
			`{"payload":"CANARY","time":"ŁĦ"}`, `{"payload_base64":"ŁĦ"}`, `{"payload":"x"}`) + "']}}\nretry: {max_attempts: 1}\nsink: {drop: {}}\npoison_queue: {drop: {}}\n",
			[]string{"source: permanent: *recording.LineError, both payload and payload_base64", "*recording.LineError, metadata, want a string that UTF-8 can carry", "*recording.LineError, time, *time.ParseError"}, false},
		"a queue that isn't there": {"name: canaries\nsource: {sqs: {queue_url: 'http://CANARY:CANARY@127.0.0.1:1/1/CANARY', region: eu-west-1, access_key_id: CANARY, secret_access_key: CANARY}}\nsink: {drop: {}}\n",
			[]string{"connection refused"}, true},
		"an error that quotes":    {lines(t, canary) + "sink: {bad: {how: permanent}}\n", []string{"sink.bad: permanent: *errorreport_test.boastful"}, false},
		"a log line that quotes":  {lines(t, canary) + "sink: {bad: {how: log}}\n", []string{"*errorreport_test.boastful"}, false},
		"a fatal error":           {lines(t, canary) + "sink: {bad: {how: fatal}}\n", []string{"sink.bad: fatal: an error of no type of its own"}, false},
		"a panic that quotes":     {lines(t, canary) + "sink: {bad: {how: panic}}\n", []string{"panic in github.com/penstock-dev/penstock/internal/errorreport_test.(*badConfig).NewSink.func1"}, false},
		"a panic of the language": {lines(t, canary) + "sink: {bad: {how: index}}\n", []string{"index out of range"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			stub := newSentry(t)
			var stop func()
			if c.runs {
				stop = func() { stub.wait(t, "of any kind", func(sentEvent) bool { return true }) }
			}
			_, log := run(t, map[string]string{"SENTRY_DSN": stub.dsn()}, c.yaml, stop)
			events, raw := stub.received()
			if tells(raw) {
				t.Errorf("it got\n%s", raw)
			}
			for _, want := range c.want {
				if !slices.ContainsFunc(events, func(e sentEvent) bool { return strings.Contains(e.Exception[0].Value, want) }) {
					t.Errorf("no event tells %q\ngot %s\nlog %s", want, raw, log)
				}
			}
			host, _ := os.Hostname()
			for _, e := range events {
				if e.ServerName != "" || len(e.Breadcrumbs) > 0 || len(e.Modules) > 0 || host != "" && strings.Contains(raw, `"`+host+`"`) {
					t.Errorf("the event has more than it should: %s", raw)
				}
				for _, x := range e.Exception {
					for _, f := range x.Stacktrace.Frames {
						if f.ContextLine != "" || len(f.Vars) > 0 || strings.ContainsAny(f.Filename, `/\`) {
							t.Errorf("frame %+v", f)
						}
					}
				}
				if len(e.Contexts) > 2 { // ours, and the SDK's made-up trace
					t.Errorf("contexts %v", e.Contexts)
				}
			}
		})
	}
}

func TestReports_onePerCauseNotOnePerMessage(t *testing.T) {
	var bodies []string
	for i := range 500 {
		bodies = append(bodies, fmt.Sprintf(`{"type":"no-such-%d"}`, i), fmt.Sprintf(`{"type":"usage.updated","customerId":"c%d","featureId":"f"}`, i))
	}
	stub := newSentry(t)
	code, log := run(t, map[string]string{"SENTRY_DSN": stub.dsn()}, lines(t, bodies...)+"transforms: [{decode_entitlements: {}}]\nsink: {drop: {}}\n", nil)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, log)
	}
	events, _ := stub.received()
	told := map[string]int{}
	prints := map[string]bool{}
	for _, e := range events {
		told[e.Exception[0].Type+" | "+e.Exception[0].Value]++
		prints[strings.Join(e.Fingerprint, "|")] = true
		if e.Level != "warning" || e.Tags["pipeline"] != "canaries" || e.Release == "" {
			t.Errorf("event %+v", e)
		}
	}
	// Both causes, although the log has one line of the first: the engine mutes what is like the last one.
	for _, want := range []string{
		"message poisoned | transforms[0].decode_entitlements: permanent: *entitlement.Error, at type, unknown event type …",
		"message poisoned | transforms[0].decode_entitlements: permanent: *entitlement.Error, at currentUsage, missing",
	} {
		if told[want] != 1 {
			t.Errorf("%q came %d times, want once: %v", want, told[want], told)
		}
	}
	if len(events) > 3 || len(prints) != len(events) { // the decoder itself complains once, too
		t.Errorf("%d events with %d fingerprints: %v", len(events), len(prints), told)
	}
}

func TestReports_nothingIsSentUnlessConfigured(t *testing.T) {
	bad := lines(t, "x") + "sink: {bad: {how: permanent}}\n"
	for name, c := range map[string]struct {
		env    func(dsn string) map[string]string
		events bool
		says   string
	}{
		"no DSN": {func(string) map[string]string { return nil }, false, `"sends":"nothing to anyone"`},
		"a DSN":  {func(dsn string) map[string]string { return map[string]string{"SENTRY_DSN": dsn} }, true, `"sends":"errors to Sentry at 127.0.0.1"`},
		"switched off": {func(dsn string) map[string]string {
			return map[string]string{"SENTRY_DSN": dsn, "DISABLE_SENTRY": "yes"}
		}, false, `"sends":"nothing to anyone"`},
		"not switched off": {func(dsn string) map[string]string { return map[string]string{"SENTRY_DSN": dsn, "DISABLE_SENTRY": "0"} }, true, `"sends":"errors to Sentry at 127.0.0.1"`},
		"from a file": {func(dsn string) map[string]string {
			file := filepath.Join(t.TempDir(), "dsn")
			if err := os.WriteFile(file, []byte(dsn+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return map[string]string{"SENTRY_DSN_FILE": file}
		}, true, `"sends":"errors to Sentry at 127.0.0.1"`},
	} {
		t.Run(name, func(t *testing.T) {
			stub := newSentry(t)
			_, log := run(t, c.env(stub.dsn()), bad, nil)
			events, raw := stub.received()
			if len(events) > 0 != c.events || !c.events && raw != "" {
				t.Errorf("%d events: %s", len(events), raw)
			}
			if !strings.Contains(log, c.says) {
				t.Errorf("the log doesn't say %s:\n%s", c.says, log)
			}
			if strings.Contains(log, "k3y") {
				t.Errorf("the log has the key:\n%s", log)
			}
		})
	}
}

func TestReports_aWrongSettingEndsTheRunBeforeItBegins(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"DSN":    {map[string]string{"SENTRY_DSN": "https://s3cret.example"}, "SENTRY_DSN: want https://KEY@HOST/PROJECT"},
		"switch": {map[string]string{"DISABLE_SENTRY": "s3cret", "SENTRY_DSN": ""}, "DISABLE_SENTRY: want true or false (or 1, 0, yes, no)"},
		"file":   {map[string]string{"SENTRY_DSN_FILE": "/none/at/all"}, "SENTRY_DSN_FILE: open /none/at/all"},
	} {
		t.Run(name, func(t *testing.T) {
			code, log := run(t, c.env, lines(t, "x")+"sink: {drop: {}}\n", nil)
			if code != 2 || !strings.Contains(log, c.want) {
				t.Errorf("exit %d\n%s", code, log)
			}
			if name == "DSN" && strings.Contains(log, "s3cret") {
				t.Errorf("it shows the DSN:\n%s", log)
			}
		})
	}
}

func TestReports_aSentryThatIsAwayChangesNothing(t *testing.T) {
	hanging := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	go func() {
		defer close(hanging)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c) // and never answers
		}
	}()
	defer func() {
		_ = l.Close()
		<-hanging
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for name, dsn := range map[string]string{"refuses": "http://k3y@127.0.0.1:1/1", "hangs": "http://k3y@" + l.Addr().String() + "/1"} {
		t.Run(name, func(t *testing.T) {
			code, log := run(t, map[string]string{"SENTRY_DSN": dsn, "LOG_LEVEL": "debug"}, lines(t, "a", "b")+"sink: {bad: {how: permanent}}\n", nil)
			if code != 0 || !strings.Contains(log, `"poisoned":2`) {
				t.Errorf("exit %d\n%s", code, log)
			}
			if name == "refuses" && !strings.Contains(log, `"an error report was not sent"`) {
				t.Errorf("no line at debug:\n%s", log)
			}
			if strings.Contains(log, `"level":"error"`) {
				t.Errorf("it complains:\n%s", log)
			}
		})
	}
}
