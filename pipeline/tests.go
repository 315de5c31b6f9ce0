package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// TestCases are the tests of a pipeline, as its file or the file of tests beside it declares them. Running a pipeline
// ignores them; "penstock test" runs them.
type TestCases []TestCase

// TestCase is one test: messages that go through the transforms, and what must come of them. Source, sink, poison
// queue and record are replaced, and no network is touched. An expansion (${…}) in a test is plain text.
type TestCase struct {
	// What the test shows; unique among the tests of a pipeline.
	Name string `yaml:"name" required:"true" text:"free" example:"a revoked entitlement is stored as denied"`
	// The environment variables with which the pipeline file is read, in place of the process's.
	Env map[string]string `yaml:"env" text:"free" example:"{ENVIRONMENT_PREFIX: staging}"`
	// What time it is for the transforms (RFC 3339), such as 2026-11-01T00:00:00Z. Without it the time of the test.
	Now string `yaml:"now" pattern:"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$" want:"a time (RFC 3339) such as 2026-11-01T00:00:00Z" code:"PS036" example:"2026-11-01T00:00:00Z"`
	// The messages: one, or a list. They are processed one after another.
	Input []TestInput `yaml:"input" required:"true" single:"true" example:"{payload: {id: c-1}}"`
	// What becomes of every message of the input: "written", "filtered" (the transforms return nothing), or "poisoned"
	// (it can never be processed). Without it a message may be written or filtered.
	Outcome string `yaml:"outcome" enum:"written,filtered,poisoned"`
	// A part of the reason for which the messages are poisoned.
	Reason string `yaml:"reason" text:"free" needs:"outcome=poisoned" example:"customer id is missing"`
	// What reaches the sink, in order; an empty list for nothing. Without it nothing is checked. A payload of several JSON
	// texts, one a line (the cache writes of one event), counts as several outputs.
	Output []TestOutput `yaml:"output" excludes:"outcome=filtered,outcome=poisoned" example:"[{payload: {key: c_acme}}]"`
	// Each output may have members that its payload here doesn't name, and others may stand between them.
	Partial bool `yaml:"partial" default:"false"`
}

// TestInput is one message of a test, or the messages of recordings.
type TestInput struct {
	// The body: text as it stands, or a mapping or list, which becomes JSON.
	Payload any `yaml:"payload" either:"recording" example:"{id: c-1}"`
	// The message's metadata.
	Metadata map[string]string `yaml:"metadata" text:"free" example:"{source: unit}"`
	// A recording in place of a payload: a path or a glob, relative to the file that the test stands in.
	Recording string `yaml:"recording" excludes:"payload,metadata" example:"recordings/*.ndjson"`
}

// TestOutput is what a test expects to reach the sink.
type TestOutput struct {
	// The body: a mapping or list is compared as JSON, text as JSON when both are JSON and else byte by byte.
	Payload any `yaml:"payload" required:"true" example:"{key: c_acme}"`
	// Metadata that the message must have; it may have more.
	Metadata map[string]string `yaml:"metadata" text:"free" example:"{source: unit}"`
	// The body may have members that payload doesn't name, at any depth.
	Partial bool `yaml:"partial" default:"false"`
}

// Validate reports two tests of one name.
func (all TestCases) Validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, c := range all {
		if seen[c.Name] && c.Name != "" {
			errs = append(errs, code.Mark(code.NamedTwice, Invalid(fmt.Sprintf("[%d].name", i), "%q is the name of another test already", c.Name)))
		}
		seen[c.Name] = true
	}
	return errors.Join(errs...)
}

// Validate reports expectations that contradict each other.
func (c TestCase) Validate() error {
	var errs []error
	if _, err := c.Time(); err != nil {
		errs = append(errs, code.Mark(code.NotParsed, Invalid("now", "want a time (RFC 3339) such as 2026-11-01T00:00:00Z, got %q", plaintext.Cut(c.Now))))
	}
	return errors.Join(errs...)
}

// Time returns Now; the zero time when there is none.
func (c TestCase) Time() (time.Time, error) {
	if c.Now == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, c.Now)
}

// Validate reports an input that is neither a message nor a recording, or both.
func (in TestInput) Validate() error { return CheckTags(in) }

func init() { inside.LoadTests = loadTests }

// testsFile is what a file of tests holds.
type testsFile struct {
	// Tests of the pipeline in the file beside this one, NAME.yaml for NAME_test.yaml.
	Tests TestCases `yaml:"tests" verbatim:"true"`
}

// loadTests decodes the tests of a pipeline file alone, whatever the rest of it says; with beside, of a file that
// holds nothing but tests.
func loadTests(file string, data []byte, beside bool) (tests any, place func(path string) (line, column int), err error) {
	if len(data) > maxFile {
		return nil, nil, configError([]Problem{{File: file, What: tooLarge, Code: string(code.FileTooLarge)}})
	}
	var found testsFile
	opts := yamlfile.Options{Catalog: catalog{NewRegistry()}}
	if !beside {
		for _, f := range language.Fields(reflect.TypeFor[Config]()) {
			if f.Name != "tests" {
				opts.Skip = append(opts.Skip, f.Name)
			}
		}
		opts.IgnoreUnknown = true
	}
	decoded := language.Decode(data, &found, opts)
	problems := problemsIn(file, decoded.Problems)
	if beside {
		for i := range problems {
			problems[i].What = strings.Replace(problems[i].What, "want a pipeline", "want tests: and a list", 1)
		}
		if len(problems) == 0 && len(found.Tests) == 0 {
			problems = append(problems, Problem{File: file, Line: 1, Column: 1, Path: "tests", What: "is required: at least one", Code: string(code.Required)})
		}
	}
	place = func(path string) (line, column int) {
		at := decoded.Places.Nearest(path)
		return cmp.Or(at.Line, 1), cmp.Or(at.Column, 1)
	}
	return found.Tests, place, configError(problems)
}

type testKey int

const (
	nowKey testKey = iota
	offlineKey
)

// WithNow returns a context in which it is t for transforms: the clock of "penstock test", and of a transform's own
// tests.
func WithNow(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, nowKey, t)
}

// Now returns what time it is for the message that ctx belongs to: that of [WithNow], or else the machine's. A
// transform that looks at it, and not at the machine's clock, can be tested at any time.
func Now(ctx context.Context) time.Time {
	if t, ok := ctx.Value(nowKey).(time.Time); ok {
		return t
	}
	return time.Now()
}

// WithoutNetwork returns a context in which transforms must not touch a network.
func WithoutNetwork(ctx context.Context) context.Context {
	return context.WithValue(ctx, offlineKey, true)
}

// Offline reports whether the message that ctx belongs to is one of "penstock test", for which no network may be
// touched. A transform that needs one returns a [Permanent] error then, which says so.
func Offline(ctx context.Context) bool {
	offline, _ := ctx.Value(offlineKey).(bool)
	return offline
}
