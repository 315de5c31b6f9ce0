package pipetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stepConfig is a transform that does what the body says, and else adds a member and the time to it.
type stepConfig struct {
	Word string `yaml:"word" required:"true"`
}

func (c *stepConfig) NewTransform(pipeline.Env) (pipeline.Transform, error) {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		switch text := string(msg.Payload); text {
		case "filter":
			return nil, nil
		case "permanent":
			return nil, pipeline.Permanent(errors.New("never"))
		case "retryable":
			return nil, errors.New("not now")
		case "away":
			return nil, pipeline.Unavailable(errors.New("the backend is away"))
		case "fatal":
			return nil, pipeline.Fatal(errors.New("wrong key"))
		case "panic":
			panic("at the disco")
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		case "two":
			second := message.NewMessage("2", []byte(`{"n":2}`))
			msg.Payload = []byte(`{"n":1}`)
			return []*message.Message{msg, second}, nil
		case "lines":
			msg.Payload = []byte("{\"n\":1}\n{\"n\":2}\n")
		case "text":
			msg.Payload = []byte("some text\n")
		case "now":
			msg.Payload = []byte(`{"now":"` + pipeline.Now(ctx).UTC().Format(time.RFC3339) + `"}`)
		case "offline":
			if !pipeline.Offline(ctx) {
				return nil, pipeline.Permanent(errors.New("it could touch a network"))
			}
		default:
			msg.Metadata.Set("word", c.Word)
			msg.Payload = []byte(`{"word":"` + c.Word + `","body":` + text + `}`)
		}
		return []*message.Message{msg}, nil
	}, nil
}

// reachConfig is a source and a sink that must never be made.
type reachConfig struct {
	Host string `yaml:"host" required:"true"`
}

func (*reachConfig) NewSource(pipeline.Env) (pipeline.Source, error) {
	panic("a test makes the source of the file")
}

func (*reachConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	panic("a test makes a sink of the file")
}

func registry() *pipeline.Registry {
	r := pipeline.NewRegistry()
	pipeline.AddSource[reachConfig](r, "reach")
	pipeline.AddSink[reachConfig](r, "reach")
	return pipeline.AddTransform[stepConfig](r, "step")
}

const pipelineText = `name: p
source: {reach: {host: "${SOURCE:?where to}"}}
transforms:
  - step:
      word: ${WORD:-none}
sink: {reach: {host: "${SINK:-}"}}
poison_queue: {reach: {host: x}}
record: {reach: {host: x}}
message_timeout: 300ms
service: {http: {address: "${ADDRESS}"}}
`

// runTests runs the tests of a text, which stands beside a pipeline.
func runTests(t *testing.T, tests string) ([]Result, *Loader, Suite) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "p.yaml"), pipelineText)
	write(t, filepath.Join(dir, "p_test.yaml"), tests)
	l := &Loader{Registry: registry(), ReadFile: os.ReadFile}
	suites, err := l.Load([]string{filepath.Join(dir, "p.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if len(suites) != 1 {
		t.Fatalf("%d suites", len(suites))
	}
	return runAll(t, l, suites[0]), l, suites[0]
}

func runAll(t *testing.T, l *Loader, s Suite) (all []Result) {
	t.Helper()
	for i := range s.Tests {
		all = append(all, l.Run(t.Context(), s, i))
	}
	return all
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func told(r Result) string {
	var b strings.Builder
	for _, f := range r.Failures {
		b.WriteString(f.What + "\n" + f.Diff)
	}
	return b.String()
}

// Each case is the rest of one test, and what it fails with: "" is nothing.
func TestRun_comparesWhatIsSeenWithWhatIsExpected(t *testing.T) {
	for name, c := range map[string]struct{ test, want string }{
		"the environment is the test's":         {"env: {WORD: w}\ninput: {payload: 1}\noutput: [{payload: {word: w, body: 1}}]", ""},
		"and not another":                       {"input: {payload: 1}\noutput: [{payload: {word: w, body: 1}}]", "differs from output 1 of 1 that reached the sink\n  {\n    \"body\": 1,\n-   \"word\": \"w\"\n+   \"word\": \"none\"\n  }\n"},
		"the clock is the test's":               {"now: 2026-11-01T00:00:00Z\ninput: {payload: now}\noutput: [{payload: {now: \"2026-11-01T00:00:00Z\"}}]", ""},
		"transforms are told":                   {"input: {payload: offline}\noutcome: written", ""},
		"an input may be a mapping":             {"input: {payload: {b: [1, 2.5, null]}}\noutput: [{payload: {word: none, body: {b: [1, 2.5, null]}}}]", ""},
		"text that is JSON is compared as JSON": {"input: {payload: \"1.0\"}\noutput: [{payload: '{\"body\": 1, \"word\": \"none\"}'}]", ""},
		"large numbers are exact in text": {
			"input: {payload: \"12345678901234567890123\"}\noutput: [{payload: '{\"word\":\"none\",\"body\":12345678901234567890124}'}]",
			"differs from output 1 of 1 that reached the sink\n  {\n-   \"body\": 12345678901234567890124,\n+   \"body\": 12345678901234567890123,\n    \"word\": \"none\"\n  }\n",
		},
		"text is compared byte by byte":      {"input: {payload: text}\noutput: [{payload: some text}]", "differs from output 1 of 1 that reached the sink\n- some text (no line end)\n+ some text\n"},
		"text that is the same":              {"input: {payload: text}\noutput: [{payload: \"some text\\n\"}]", ""},
		"metadata that is named":             {"input: {payload: 1, metadata: {a: b}}\noutput: [{payload: {word: none, body: 1}, metadata: {a: b, word: none}}]", ""},
		"metadata that differs":              {"input: {payload: 1, metadata: {a: b}}\noutput: [{payload: {word: none, body: 1}, metadata: {a: c, z: z}}]", "differs from output 1 of 1 that reached the sink\n- metadata a: c\n- metadata z: z\n+ metadata a: b\n"},
		"a member too many":                  {"input: {payload: 1}\noutput: [{payload: {body: 1}}]", "differs from output 1 of 1 that reached the sink\n  {\n-   \"body\": 1\n+   \"body\": 1,\n+   \"word\": \"none\"\n  }\n"},
		"which partial lets be":              {"input: {payload: 1}\noutput: [{payload: {body: 1}, partial: true}]", ""},
		"partial at any depth":               {"input: {payload: {a: {b: 1, c: 2}}}\noutput: [{payload: {body: {a: {c: 2}}}, partial: true}]", ""},
		"partial, and different":             {"input: {payload: {a: {b: 1, c: 2}}}\noutput: [{payload: {body: {a: {c: 3}}}, partial: true}]", "differs from output 1 of 1 that reached the sink\n  {\n    \"body\": {\n      \"a\": {\n-       \"c\": 3\n+       \"c\": 2\n      }\n    }\n  }\n"},
		"lines count as outputs":             {"input: {payload: lines}\noutput: [{payload: {n: 1}}, {payload: {n: 2}}]", ""},
		"so do messages":                     {"input: {payload: two}\noutput: [{payload: {n: 1}}, {payload: {n: 2}}]", ""},
		"order matters":                      {"input: {payload: two}\noutput: [{payload: {n: 2}}, {payload: {n: 1}}]", "did not reach the sink\n- {\n-   \"n\": 2\n- }\noutput 2 of 2 that reached the sink is not expected\n+ {\n+   \"n\": 2\n+ }\n"},
		"one too few":                        {"input: {payload: two}\noutput: [{payload: {n: 2}}]", "output 1 of 2 that reached the sink is not expected\n+ {\n+   \"n\": 1\n+ }\n"},
		"partial lets others between":        {"partial: true\ninput: {payload: two}\noutput: [{payload: {n: 2}}]", ""},
		"but not in another order":           {"partial: true\ninput: {payload: two}\noutput: [{payload: {n: 2}}, {payload: {n: 1}}]", "did not reach the sink\n- {\n-   \"n\": 2\n- }\n"},
		"nothing expected":                   {"input: {payload: 1}\noutput: []", "output 1 of 1 that reached the sink is not expected\n+ {\n+   \"body\": 1,\n+   \"word\": \"none\"\n+ }\n"},
		"filtered":                           {"input: {payload: filter}\noutcome: filtered\noutput: []", ""},
		"written, and not filtered":          {"input: {payload: 1}\noutcome: filtered", "want filtered, was written\n"},
		"filtered needs no outcome":          {"input: {payload: filter}", ""},
		"poisoned needs one":                 {"input: {payload: permanent}", "was poisoned: transforms[0].step: never\n"},
		"poisoned":                           {"input: {payload: permanent}\noutcome: poisoned\nreason: never", ""},
		"for another reason":                 {"input: {payload: permanent}\noutcome: poisoned\nreason: ever again", "the reason has no \"ever again\": transforms[0].step: never\n"},
		"a panic poisons":                    {"input: {payload: panic}\noutcome: poisoned\nreason: at the disco", ""},
		"an error that would be tried again": {"input: {payload: retryable}\noutcome: written", "want written, was released: transforms[0].step: not now\n"},
		"a backend that is away":             {"input: {payload: away}\noutcome: poisoned", "want poisoned, was released: transforms[0].step: the backend is away\n"},
		"an error that would end it":         {"input: [{payload: fatal}, {payload: 1}]", "message 1 of 2: was released: transforms[0].step: wrong key\n"},
		"a transform that hangs":             {"input: {payload: hang}", "was released: took longer than message_timeout: transforms[0].step: context deadline exceeded\n"},
		"each message has the outcome":       {"input: [{payload: 1}, {payload: filter}, {payload: permanent}]\noutcome: written", "message 2 of 3: want written, was filtered\nmessage 3 of 3: want written, was poisoned: transforms[0].step: never\n"},
		"no recording":                       {"input: {recording: nowhere/*.ndjson}", "recording nowhere/*.ndjson: no such file\n"},
	} {
		t.Run(name, func(t *testing.T) {
			results, _, _ := runTests(t, "tests:\n  - name: x\n    "+strings.ReplaceAll(c.test, "\n", "\n    ")+"\n")
			if got := told(results[0]); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
			if results[0].Passed() != (c.want == "") {
				t.Error("passed and told disagree")
			}
		})
	}
}
