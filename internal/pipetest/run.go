package pipetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/bmatcuk/doublestar/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// Result is what came of one test.
type Result struct {
	// File is where the test stands, at Line.
	File string
	Line int
	// Name is the test's.
	Name string
	// Took is how long it ran.
	Took time.Duration
	// Failures are what is wrong; none: the test passed.
	Failures []Failure
	// Updated tells that the test's outputs were written into the file.
	Updated bool

	unexpected bool     // an outcome is not what the test expects: its outputs are not worth keeping
	outputs    []output // that reached the sink
	changes    []change // between them and what the test expects
}

// Passed reports whether everything was as expected.
func (r Result) Passed() bool { return len(r.Failures) == 0 }

// Failure is one thing that is not as the test says.
type Failure struct {
	// Line and Column are where the test says so.
	Line, Column int
	// What is wrong, in a phrase.
	What string
	// Diff has lines that begin with "-" (expected), "+" (seen) or " " (both); "" when there is nothing to compare.
	Diff string
}

// output is a message, or a line of it, that reached the sink.
type output struct {
	payload  []byte
	metadata map[string]string
}

// patience is how long a test may take beyond the attempts of its messages.
const patience = 5 * time.Second

// Run runs one test of a suite.
func (l *Loader) Run(ctx context.Context, s Suite, i int) (r Result) {
	test := s.Tests[i]
	line, column := s.place(fmt.Sprintf("tests[%d]", i))
	r = Result{File: s.File, Line: line, Name: test.Name}
	begin := time.Now()
	defer func() { r.Took = time.Since(begin) }()
	fail := func(err error) Result {
		r.Failures = append(r.Failures, Failure{Line: line, Column: column, What: err.Error()})
		return r
	}
	messages, err := s.input(test)
	if err != nil {
		return fail(err)
	}
	seen, err := l.process(ctx, s, test, messages)
	if err != nil {
		return fail(err)
	}
	r.judge(s, i, seen)
	return r
}

// input makes the messages of a test.
func (s Suite) input(test pipeline.TestCase) ([]*message.Message, error) {
	var all []*message.Message
	for n, in := range test.Input {
		if in.Recording != "" {
			recorded, err := s.recorded(in.Recording)
			if err != nil {
				return nil, err
			}
			all = append(all, recorded...)
			continue
		}
		payload, ok := in.Payload.(string)
		if !ok {
			text, err := json.Marshal(in.Payload)
			if err != nil {
				return nil, fmt.Errorf("input[%d].payload: %w", n, err)
			}
			payload = string(text)
		}
		msg := message.NewMessage(fmt.Sprintf("input-%d", n), []byte(payload))
		for k, v := range in.Metadata {
			msg.Metadata[k] = v
		}
		all = append(all, msg)
	}
	return all, nil
}

// recorded reads the entries of the recordings that a glob leads to.
func (s Suite) recorded(glob string) ([]*message.Message, error) {
	if s.inMemory {
		return nil, errors.New("recording: a ready pipeline has no files beside it")
	}
	path := glob
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(s.File), path)
	}
	files, err := doublestar.FilepathGlob(path, doublestar.WithFilesOnly(), doublestar.WithFailOnIOErrors())
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", glob, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("recording %s: no such file", glob)
	}
	slices.Sort(files)
	var all []*message.Message
	for _, file := range files {
		read, err := readRecording(file)
		if err != nil {
			return nil, err
		}
		all = append(all, read...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("recording %s: holds no message", glob)
	}
	return all, nil
}

func readRecording(file string) (all []*message.Message, err error) {
	lines, err := recording.OpenLines(file, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lines.Close() }()
	reader := recording.NewReader(lines, file)
	for {
		var e recording.Entry
		switch err := reader.Next(&e); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		msg := message.NewMessage(e.ID, bytes.Clone(e.Payload))
		for k, v := range e.Metadata {
			msg.Metadata[k] = v
		}
		if !e.Time.IsZero() {
			msg.Metadata["recorded_at"] = e.TimeText // as the file source says it
		}
		all = append(all, msg)
	}
}

// process sends messages through the pipeline, one after another.
func (l *Loader) process(ctx context.Context, s Suite, test pipeline.TestCase, messages []*message.Message) (*stage, error) {
	config, _, err := pipeline.LoadBytes(l.Registry, s.Pipeline, s.pipeline, pipeline.LoadOptions{
		Env:      func(name string) (string, bool) { v, ok := test.Env[name]; return v, ok },
		ReadFile: l.ReadFile,
		Skip:     []string{"source", "sink", "poison_queue", "record", "service", "tests"},
	})
	if problems, ok := errors.AsType[*pipeline.ConfigError](err); ok &&
		slices.ContainsFunc(problems.Problems, func(p pipeline.Problem) bool { return p.Variable != "" }) {
		return nil, fmt.Errorf("%w\na test has the variables of its env: and no others", err)
	}
	if err != nil {
		return nil, err
	}
	at := &stage{messages: messages, closed: make(chan struct{})}
	at.now, _ = test.Time() // checked when the file was loaded
	config.Source.Component = pipeline.Component{Name: "test", Config: (*testSource)(at), Path: "source"}
	config.Sink.Component = pipeline.Component{Name: "test", Config: (*testSink)(at), Path: "sink"}
	config.PoisonQueue = &pipeline.SinkSpec{Component: pipeline.Component{Name: "test", Config: (*testPoison)(at), Path: "poison_queue"}}
	config.Order = pipeline.OrderSource
	config.Retry.MaxAttempts = 1

	settings := pipeline.Settings{Metrics: prometheus.NewRegistry()}
	built, err := config.Build(settings)
	if err != nil {
		return nil, err
	}
	built.Middleware = append(built.Middleware, at.watch)
	engine, err := pipeline.New(settings, built)
	if err != nil {
		return nil, err
	}
	limit := time.Duration(len(messages))*config.MessageTimeout + patience
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := engine.Run(ctx); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("did not end in %s", limit)
		}
		return nil, err
	}
	return at, nil
}

// outcome is what became of one message.
type outcome struct {
	name   string
	reason string
}

// stage is what stands around the transforms in a test: it is the source, the sink and the poison queue.
type stage struct {
	messages []*message.Message
	now      time.Time
	closing  sync.Once
	closed   chan struct{}

	mu       sync.Mutex
	outcomes []outcome
	outputs  []output
	written  bool   // something of the message in hand reached the sink
	poison   string // why it is in the poison queue
	failure  error  // of the attempt on it
	backend  bool   // the failure says something of a backend, nothing of the message
}

type (
	testSource stage
	testSink   stage
	testPoison stage
)

func (s *testSource) NewSource(pipeline.Env) (pipeline.Source, error) {
	return pipeline.FromSubscriber((*stage)(s), "test"), nil
}

func (s *testSink) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc((*stage)(s).store), nil
}

func (s *testPoison) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.poison = msg.Metadata[pipeline.MetadataPoisonReason]
		return nil
	}), nil
}

// Subscribe hands on one message after another, each when the one before is settled.
func (s *stage) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for _, msg := range s.messages {
			of := pipeline.WithoutNetwork(ctx)
			if !s.now.IsZero() {
				of = pipeline.WithNow(of, s.now)
			}
			msg.SetContext(of)
			select {
			case out <- msg:
			case <-s.closed:
				return
			}
			select {
			case <-msg.Acked():
				s.settle(false)
			case <-msg.Nacked():
				s.settle(true)
			case <-s.closed:
				return
			}
		}
	}()
	return out, nil
}

func (s *stage) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}

// Unresolved makes the source one that comes to an end.
func (s *stage) Unresolved() (int64, []string) { return 0, nil }

func (s *stage) settle(released bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := outcome{name: "filtered"}
	switch {
	case released || s.backend:
		o.name = "released"
		if s.failure != nil {
			o.reason = s.failure.Error()
		}
	case s.poison != "":
		o = outcome{"poisoned", s.poison}
	case s.written:
		o.name = "written"
	}
	s.outcomes = append(s.outcomes, o)
	s.written, s.poison, s.failure, s.backend = false, "", nil, false
}

// watch notes why an attempt failed. In a test no backend comes back, and no pipeline is stopped by its message.
func (s *stage) watch(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		if err == nil {
			return out, nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if errors.Is(err, context.DeadlineExceeded) && msg.Context().Err() != nil {
			err = fmt.Errorf("took longer than message_timeout: %w", err)
		}
		s.failure = err
		if s.backend = pipeline.IsUnavailable(err) || pipeline.IsFatal(err); s.backend {
			err = errors.New(err.Error())
		}
		return nil, err
	}
}

// store is the sink.
func (s *stage) store(_ context.Context, msg *message.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = true
	metadata := make(map[string]string, len(msg.Metadata))
	for k, v := range msg.Metadata {
		metadata[k] = v
	}
	for _, payload := range split(msg.Payload) {
		s.outputs = append(s.outputs, output{payload: bytes.Clone(payload), metadata: metadata})
	}
	return nil
}

// split takes a payload of several JSON texts, one a line, apart: the cache writes of one event. Every other payload
// is one.
func split(payload []byte) [][]byte {
	var parts [][]byte
	for line := range bytes.Lines(payload) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if !json.Valid(line) {
			return [][]byte{payload}
		}
		parts = append(parts, line)
	}
	if len(parts) < 2 {
		return [][]byte{payload}
	}
	return parts
}

// judge compares what was seen with what the test expects.
func (r *Result) judge(s Suite, i int, seen *stage) {
	test, path := s.Tests[i], fmt.Sprintf("tests[%d]", i)
	fail := func(below, what, diff string) {
		line, column := s.place(path + below)
		r.Failures = append(r.Failures, Failure{Line: line, Column: column, What: what, Diff: diff})
	}
	for n, o := range seen.outcomes {
		which := ""
		if len(seen.outcomes) > 1 {
			which = fmt.Sprintf("message %d of %d: ", n+1, len(seen.outcomes))
		}
		because := ""
		if o.reason != "" {
			because = ": " + o.reason
		}
		switch {
		case test.Outcome != "" && o.name != test.Outcome:
			fail(".outcome", fmt.Sprintf("%swant %s, was %s%s", which, test.Outcome, o.name, because), "")
		case test.Outcome == "" && (o.name == "poisoned" || o.name == "released"):
			fail("", fmt.Sprintf("%swas %s%s", which, o.name, because), "")
		case test.Reason != "" && !strings.Contains(o.reason, test.Reason):
			fail(".reason", fmt.Sprintf("%sthe reason has no %q%s", which, test.Reason, because), "")
		}
	}
	r.outputs, r.unexpected = seen.outputs, len(r.Failures) > 0
	if test.Output == nil {
		return
	}
	r.changes = compare(test, seen.outputs)
	for _, c := range r.changes {
		if what, diff := c.tell(test, seen.outputs); what != "" {
			below := ".output"
			if c.want >= 0 {
				below = fmt.Sprintf(".output[%d]", c.want)
			}
			fail(below, what, diff)
		}
	}
}
