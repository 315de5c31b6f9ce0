package sqs_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/sources/sqs"
)

// stub serves a fake over HTTP as SQS does, in AWS JSON 1.0, and follows a script for what no emulator does.
type stub struct {
	*fake
	// torn tells which responses break off in the middle of their body, slow how long one takes on its way.
	torn func(action string) bool
	slow func(action string) time.Duration
}

func (s stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	body, _ := io.ReadAll(r.Body)
	var out any
	var err error
	switch action {
	case "ReceiveMessage":
		out, err = answerTo(r.Context(), body, s.ReceiveMessage)
	case "DeleteMessageBatch":
		out, err = answerTo(r.Context(), body, s.DeleteMessageBatch)
	case "ChangeMessageVisibilityBatch":
		out, err = answerTo(r.Context(), body, s.ChangeMessageVisibilityBatch)
	case "GetQueueAttributes":
		out, err = answerTo(r.Context(), body, s.GetQueueAttributes)
	}
	if s.slow != nil {
		time.Sleep(s.slow(action))
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if err != nil {
		var api *smithy.GenericAPIError
		code, status := "InternalFailure", http.StatusInternalServerError
		if errors.As(err, &api) {
			code, status = api.Code, http.StatusBadRequest
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": err.Error()})
		return
	}
	answer, _ := json.Marshal(out)
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	if s.torn != nil && s.torn(action) {
		_, _ = w.Write(answer[:len(answer)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(answer)
}

func answerTo[In, Out any](ctx context.Context, body []byte, call func(context.Context, *In, ...func(*awssqs.Options)) (*Out, error)) (any, error) {
	var in In
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	return call(ctx, &in)
}

func TestSubscriber_overHTTP(t *testing.T) {
	oneIn := func(n int) bool { return rand.N(n) == 0 }
	for name, script := range map[string]func(*stub){
		"well-behaved": func(*stub) {},
		"torn responses": func(s *stub) {
			s.torn = func(action string) bool { return action != "GetQueueAttributes" && oneIn(8) }
		},
		"slow responses": func(s *stub) {
			s.slow = func(string) time.Duration { return rand.N(300 * time.Millisecond) }
		},
		"throttling and server errors": func(s *stub) {
			s.fail = func(action string) error {
				switch {
				case action == "GetQueueAttributes" || !oneIn(5):
					return nil
				case oneIn(2):
					return apiError("RequestThrottled")
				}
				return errors.New("out of order")
			}
		},
		"partial failures": func(s *stub) {
			s.failEntry = func(string, string) string {
				if oneIn(4) {
					return "InternalError"
				}
				return ""
			}
		},
		"duplicates while held": func(s *stub) {
			s.fail = func(action string) error {
				if action == "ReceiveMessage" {
					s.again("body 1", "body 11", "body 22", "body 133")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(2 * time.Second)
			s := &stub{fake: f}
			script(s)
			web := httptest.NewServer(s)
			defer web.Close()
			client := dial(t, web.URL)
			const n = 300
			f.send("", bodies(n)...)
			settings := client.settings()
			sub := sqs.New(settings)
			msgs, err := sub.Subscribe(t.Context(), web.URL+"/1/q")
			if err != nil {
				t.Fatal(err)
			}
			times := map[string]int{}
			deadline := time.After(45 * time.Second)
			for len(times) < n {
				select {
				case msg := <-msgs:
					times[string(msg.Payload)]++
					time.AfterFunc(rand.N(3*time.Second), func() { msg.Ack() })
				case <-deadline:
					t.Fatalf("%d of %d messages came", len(times), n)
				}
			}
			for end := time.Now().Add(30 * time.Second); f.left() > 0 && time.Now().Before(end); {
				select {
				case msg := <-msgs:
					times[string(msg.Payload)]++
					msg.Ack()
				case <-time.After(50 * time.Millisecond):
				}
			}
			closeSubscriber(t, sub)
			for body, k := range times {
				if k != 1 {
					t.Errorf("%s was handled %d times", body, k)
				}
			}
			if left := f.left(); left != 0 {
				t.Errorf("%d messages are left", left)
			}
		})
	}
}
