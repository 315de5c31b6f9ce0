package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// sqs is a real SQS server, which all rows share: each has a queue of its own.
type sqs struct {
	endpoint string
	client   *http.Client
	queues   atomic.Int64
	server   *testserver.SQSServer
}

func startSQS(t testing.TB) *sqs {
	t.Helper()
	server := testserver.StartSQS(t)
	s := &sqs{server: server, endpoint: server.Endpoint(), client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 20}}}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// call speaks to the server by plain HTTP: nothing here is penstock's own.
func (s *sqs) call(action string, request, response any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodPost, s.endpoint, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "AmazonSQS."+action)
	res, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", action, err)
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s: %s", action, res.Status, body)
	case response == nil:
		return nil
	}
	return json.Unmarshal(body, response)
}

// queue is one queue of the server.
type queue struct {
	*sqs
	name, url  string
	visibility int
}

// queue makes a queue with that visibility timeout, in seconds.
func (s *sqs) queue(t testing.TB, visibility int) *queue {
	t.Helper()
	q := &queue{sqs: s, name: fmt.Sprintf("events-%d", s.queues.Add(1)), visibility: visibility}
	if err := q.create(); err != nil {
		t.Fatal(err)
	}
	return q
}

func (q *queue) create() error {
	var created struct{ QueueURL string }
	err := q.call("CreateQueue", map[string]any{"QueueName": q.name,
		"Attributes": map[string]string{"VisibilityTimeout": strconv.Itoa(q.visibility)}}, &created)
	q.url = created.QueueURL
	return err
}

func (q *queue) delete() error {
	return q.call("DeleteQueue", map[string]any{"QueueUrl": q.url}, nil)
}

func (q *queue) send(bodies ...string) error {
	for chunk := range slices.Chunk(bodies, 10) {
		entries := make([]map[string]any, len(chunk))
		for i, body := range chunk {
			entries[i] = map[string]any{"Id": strconv.Itoa(i), "MessageBody": body}
		}
		var sent struct{ Failed []json.RawMessage }
		if err := q.call("SendMessageBatch", map[string]any{"QueueUrl": q.url, "Entries": entries}, &sent); err != nil {
			return err
		}
		if len(sent.Failed) > 0 {
			return fmt.Errorf("SendMessageBatch: %s", sent.Failed[0])
		}
	}
	return nil
}

// left returns how many messages the queue holds: visible ones, and those that a consumer has.
func (q *queue) left() (visible, held int, err error) {
	var got struct {
		Attributes struct {
			ApproximateNumberOfMessages           int `json:",string"`
			ApproximateNumberOfMessagesNotVisible int `json:",string"`
		}
	}
	err = q.call("GetQueueAttributes", map[string]any{"QueueUrl": q.url, "AttributeNames": []string{"All"}}, &got)
	return got.Attributes.ApproximateNumberOfMessages, got.Attributes.ApproximateNumberOfMessagesNotVisible, err
}

func address(endpoint string) string { return strings.TrimPrefix(endpoint, "http://") }
