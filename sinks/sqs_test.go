package sinks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/pipeline"
)

func sqsSinkConfig(edit func(*SQSConfig)) *SQSConfig {
	c := &SQSConfig{
		AWS:       awsclient.Config{AccessKeyID: pipeline.NewSecret("test"), SecretAccessKey: pipeline.NewSecret("test")},
		Producers: 4, BatchSize: 10, MaxMessageBytes: 1 << 20, MaxBatchBytes: 1 << 20, GroupID: "sqs_group_id",
	}
	edit(c)
	return c
}

func TestSQSConfig_validate(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*SQSConfig)
		want []string // parts of the error, none of a valid config
	}{
		"a URL":            {func(c *SQSConfig) { c.QueueURL = "https://sqs.eu-west-1.amazonaws.com/1/q" }, nil},
		"a name":           {func(c *SQSConfig) { c.Queue = "q" }, nil},
		"no queue":         {func(*SQSConfig) {}, []string{"queue_url: is required"}},
		"a URL and a name": {func(c *SQSConfig) { c.QueueURL, c.Queue = "https://sqs.eu-west-1.amazonaws.com/1/q", "q" }, []string{"can't be combined"}},
		"a name as a URL":  {func(c *SQSConfig) { c.QueueURL = "q" }, []string{"queue_url: "}},
		"out of range": {func(c *SQSConfig) {
			c.Queue, c.Producers, c.BatchSize, c.MaxMessageBytes, c.MaxBatchBytes = "q", 0, 11, 1, 2<<20
		}, []string{"producers: ", "batch_size: ", "max_message_bytes: ", "max_batch_bytes: "}},
	} {
		t.Run(name, func(t *testing.T) {
			err := sqsSinkConfig(c.edit).Validate()
			if len(c.want) == 0 && err != nil {
				t.Errorf("got %v, want none", err)
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

type sqsStubEntry struct {
	Id, MessageBody, MessageGroupId, MessageDeduplicationId string
	MessageAttributes                                       map[string]struct{ DataType, StringValue string }
}

// sqsStub is an SQS server that follows a script and keeps what it takes.
type sqsStub struct {
	refuse  func(sqsStubEntry) string                                 // an error code for an entry, or ""
	request func(action string, entries []sqsStubEntry) (int, string) // a status and a code for a request, or 0

	mu       sync.Mutex
	requests [][]sqsStubEntry
	taken    []sqsStubEntry
}

func (s *sqsStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	var in struct{ Entries []sqsStubEntry }
	_ = json.NewDecoder(r.Body).Decode(&in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if s.request != nil {
		if status, code := s.request(action, in.Entries); status != 0 {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "scripted"})
			return
		}
	}
	var out struct {
		Successful []map[string]any
		Failed     []map[string]any
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if action == "SendMessageBatch" {
		s.requests = append(s.requests, in.Entries)
	}
	for _, e := range in.Entries {
		code := ""
		if s.refuse != nil {
			code = s.refuse(e)
		}
		if code != "" {
			out.Failed = append(out.Failed, map[string]any{"Id": e.Id, "Code": code, "SenderFault": true})
			continue
		}
		s.taken = append(s.taken, e)
		out.Successful = append(out.Successful, map[string]any{"Id": e.Id, "MessageId": "m", "MD5OfMessageBody": "x"})
	}
	_ = json.NewEncoder(w).Encode(out)
}

func startSQSSink(t *testing.T, stub *sqsStub, queue string, edit func(*SQSConfig)) pipeline.Sink {
	t.Helper()
	server := httptest.NewServer(stub)
	t.Cleanup(server.Close)
	sink, err := sqsSinkConfig(func(c *SQSConfig) {
		c.QueueURL = server.URL + "/1/" + queue
		if edit != nil {
			edit(c)
		}
	}).NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sink.Publisher.Close(); err != nil {
			t.Error(err)
		}
	})
	return sink
}

// publishEach publishes every message in a call of its own, all at the same time, and returns their errors.
func publishEach(sink pipeline.Sink, payloads ...string) map[string]error {
	var mu sync.Mutex
	errs := map[string]error{}
	var wg sync.WaitGroup
	for i, payload := range payloads {
		wg.Go(func() {
			err := sink.Publisher.Publish(sink.Topic, message.NewMessage(fmt.Sprint(i), []byte(payload)))
			mu.Lock()
			defer mu.Unlock()
			errs[payload] = err
		})
	}
	wg.Wait()
	return errs
}

func TestSQS_partialFailuresArePerMessage(t *testing.T) {
	stub := &sqsStub{refuse: func(e sqsStubEntry) string {
		switch {
		case e.MessageBody == "busy":
			return "InternalError"
		case strings.HasPrefix(e.MessageBody, "bad") || e.MessageBody == "YmFk": // base64 of bad
			return "InvalidMessageContents"
		case e.MessageBody == "odd":
			return "InvalidMessageContents"
		}
		return ""
	}}
	sink := startSQSSink(t, stub, "q", nil)
	errs := publishEach(sink, "good 1", "busy", "bad", "odd", "good 2")
	for payload, check := range map[string]func(error) bool{
		"good 1": func(err error) bool { return err == nil },
		"good 2": func(err error) bool { return err == nil },
		"odd":    func(err error) bool { return err == nil }, // in base64 it is taken
		"busy": func(err error) bool {
			return err != nil && !pipeline.IsPermanent(err) && !pipeline.IsUnavailable(err)
		},
		"bad": pipeline.IsPermanent,
	} {
		if err := errs[payload]; !check(err) {
			t.Errorf("%s: got %v", payload, err)
		}
	}
	if len(stub.taken) != 3 {
		t.Errorf("%d messages were taken, want 3", len(stub.taken))
	}
}

func TestSQS_refusedRequestIsTakenApart(t *testing.T) {
	stub := &sqsStub{request: func(_ string, entries []sqsStubEntry) (int, string) {
		for _, e := range entries {
			if e.MessageBody == "bad" || e.MessageBody == "YmFk" {
				return 400, "com.amazonaws.sqs#InvalidMessageContents"
			}
		}
		return 0, ""
	}}
	sink := startSQSSink(t, stub, "q", nil)
	errs := publishEach(sink, "a", "b", "bad", "c", "d")
	for payload, err := range errs {
		if payload == "bad" && !pipeline.IsPermanent(err) || payload != "bad" && err != nil {
			t.Errorf("%s: got %v", payload, err)
		}
	}
}

func TestSQS_requestsStayWithinCountAndBytes(t *testing.T) {
	stub := &sqsStub{}
	gate := make(chan struct{})
	var once sync.Once
	stub.request = func(string, []sqsStubEntry) (int, string) {
		once.Do(func() { <-gate }) // the rest gathers behind the first
		return 0, ""
	}
	sink := startSQSSink(t, stub, "q", func(c *SQSConfig) { c.MaxMessageBytes, c.MaxBatchBytes, c.Producers = 2000, 5000, 1 })
	payloads := []string{strings.Repeat("l", 2000)} // with its attributes too large
	for i := range 50 {
		payloads = append(payloads, fmt.Sprintf("%02d%s", i, strings.Repeat("x", i*30)))
	}
	time.AfterFunc(50*time.Millisecond, func() { close(gate) })
	errs := publishEach(sink, payloads...)
	for payload, err := range errs {
		if large := len(payload) == 2000; large != pipeline.IsPermanent(err) || !large && err != nil {
			t.Errorf("%d bytes: got %v", len(payload), err)
		}
	}
	if len(stub.taken) != 50 {
		t.Errorf("%d messages were taken, want 50", len(stub.taken))
	}
	if len(stub.requests) > 25 {
		t.Errorf("%d requests for 50 messages that were there together", len(stub.requests))
	}
	for _, entries := range stub.requests {
		size := 0
		for _, e := range entries {
			size += len(e.MessageBody)
			for k, v := range e.MessageAttributes {
				size += len(k) + len(v.DataType) + len(v.StringValue)
			}
		}
		if len(entries) > 10 || size > 5000 {
			t.Errorf("a request of %d messages and %d bytes", len(entries), size)
		}
	}
}

func TestSQS_fifoIDs(t *testing.T) {
	for name, c := range map[string]struct {
		group, deduplication string
		payload              string
		metadata             message.Metadata
		want                 [2]string
	}{
		"defaults":           {"sqs_group_id", "", "x", nil, [2]string{"id", "id"}},
		"as it came":         {"sqs_group_id", "", "x", message.Metadata{"sqs_group_id": "g"}, [2]string{"g", "id"}},
		"from metadata":      {"customer", "dedup", "x", message.Metadata{"customer": "c", "dedup": "d"}, [2]string{"c", "d"}},
		"from the payload":   {"$.a.b", "$.n", `{"a":{"b":"c"},"n":12345678901234567890}`, nil, [2]string{"c", "12345678901234567890"}},
		"not in the payload": {"$.a.b", "$.n", `[]`, nil, [2]string{"id", "id"}},
		"not an id": {"customer", "", "x", message.Metadata{"customer": "with space"},
			[2]string{"*", "id"}},
		"poisoned at another time": {"sqs_group_id", "", "x", message.Metadata{"poison_at": "2026-01-01T00:00:00Z"}, [2]string{"id", "*"}},
	} {
		t.Run(name, func(t *testing.T) {
			stub := &sqsStub{}
			sink := startSQSSink(t, stub, "q.fifo", func(s *SQSConfig) { s.GroupID, s.DeduplicationID = c.group, c.deduplication })
			msg := message.NewMessage("id", []byte(c.payload))
			if msg.Metadata = c.metadata; msg.Metadata == nil {
				msg.Metadata = message.Metadata{}
			}
			if err := sink.Publisher.Publish(sink.Topic, msg); err != nil {
				t.Fatal(err)
			}
			e := stub.taken[0]
			if name == "not an id" {
				if len(e.MessageGroupId) != 64 {
					t.Errorf("group %q: want a hash", e.MessageGroupId)
				}
				return
			}
			if c.want[1] == "*" {
				if e.MessageDeduplicationId == "id" || e.MessageDeduplicationId == "" {
					t.Errorf("deduplication id %q: want one of this time", e.MessageDeduplicationId)
				}
				return
			}
			if got := [2]string{e.MessageGroupId, e.MessageDeduplicationId}; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSQS_whatIsWrongWithTheQueue(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
	}{
		"missing":      {400, "AWS.SimpleQueueService.NonExistentQueue"},
		"denied":       {403, "AccessDenied"},
		"throttled":    {400, "ThrottlingException"},
		"server error": {500, "InternalFailure"},
	} {
		t.Run(name, func(t *testing.T) {
			stub := &sqsStub{request: func(string, []sqsStubEntry) (int, string) { return c.status, c.code }}
			sink := startSQSSink(t, stub, "q", nil)
			err := sink.Publisher.(pipeline.Starter).Start(t.Context())
			switch name {
			case "missing":
				if !pipeline.IsFatal(err) || !strings.Contains(err.Error(), "/1/q does not exist") {
					t.Errorf("start: got %v, want fatal", err)
				}
			case "denied": // whether it may be sent to is another right
				if err != nil {
					t.Errorf("start: got %v, want none", err)
				}
			default:
				if !pipeline.IsUnavailable(err) {
					t.Errorf("start: got %v, want unavailable", err)
				}
			}
			for _, err := range publishEach(sink, "x") {
				if !pipeline.IsUnavailable(err) || pipeline.IsFatal(err) || !strings.Contains(err.Error(), "/1/q") {
					t.Errorf("publish: got %v, want unavailable", err)
				}
			}
		})
	}
}

func TestSQS_answerThatLeavesAMessageOut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprint(w, `{"Successful":[],"Failed":[]}`)
	}))
	defer server.Close()
	sink, err := sqsSinkConfig(func(c *SQSConfig) { c.QueueURL = server.URL + "/1/q" }).NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(publishEach(sink, "x")["x"])
	if err == nil {
		t.Error("a message that nobody confirmed counts as stored")
	}
	if err := sink.Publisher.Close(); err != nil {
		t.Error(err)
	}
}
