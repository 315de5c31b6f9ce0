package awsclient

import (
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"
)

// canned answers every request with the same body.
type canned string

func (c canned) Do(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(strings.NewReader(string(c))), ContentLength: int64(len(c)), Request: r,
	}, nil
}

// What the fast decoder makes of a response is what the SDK makes of it.
func TestFastDecoding_agreesWithTheSDK(t *testing.T) {
	cfg, err := Load(t.Context(), Settings{Region: "us-east-1", Endpoint: "http://127.0.0.1:1", AccessKeyID: "a", SecretAccessKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	options := SQS(cfg, "http://127.0.0.1:1").Options()
	queueURL := aws.String("http://127.0.0.1:1/1/q")
	receive := func(c *sqs.Client) (any, error) {
		out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: queueURL})
		if out != nil {
			for i := range out.Messages { // nobody looks at checksums
				out.Messages[i].MD5OfBody, out.Messages[i].MD5OfMessageAttributes = nil, nil
			}
			if len(out.Messages) == 0 {
				out.Messages = nil
			}
			out.ResultMetadata = middleware.Metadata{}
		}
		return out, err
	}
	remove := func(c *sqs.Client) (any, error) {
		out, err := c.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: queueURL,
			Entries: []types.DeleteMessageBatchRequestEntry{{Id: aws.String("0"), ReceiptHandle: aws.String("h")}}})
		if out != nil {
			out.ResultMetadata = middleware.Metadata{}
		}
		return out, err
	}
	change := func(c *sqs.Client) (any, error) {
		out, err := c.ChangeMessageVisibilityBatch(t.Context(), &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: queueURL,
			Entries: []types.ChangeMessageVisibilityBatchRequestEntry{{Id: aws.String("0"), ReceiptHandle: aws.String("h")}}})
		if out != nil {
			out.ResultMetadata = middleware.Metadata{}
		}
		return out, err
	}
	const batch = `{"Failed":[{"Code":"ReceiptHandleIsInvalid","Id":"1","Message":"no","SenderFault":true}],"Successful":[{"Id":"0"}]}`
	for name, c := range map[string]struct {
		call func(*sqs.Client) (any, error)
		body string
	}{
		"messages": {receive, `{"Messages":[{"MessageId":"m","ReceiptHandle":"r","MD5OfBody":"x","Body":"b","Attributes":{"SentTimestamp":"1","ApproximateReceiveCount":"2"},
			"MessageAttributes":{"t":{"DataType":"String","StringValue":"s"},"n":{"StringValue":"7","DataType":"Number.int"},"b":{"DataType":"Binary","BinaryValue":"AP8="}}},
			{"MessageId":"m2","ReceiptHandle":"r2","Body":"b2"}]}`},
		"escapes":       {receive, `{"Messages":[{"MessageId":"m","Body":"\u00e9\n\t\"\\\/ \ud83d\ude42 é 🙂 \u0000 {\"a\":1}"}]}`},
		"half a pair":   {receive, `{"Messages":[{"MessageId":"m","Body":"a\ud83db"}]}`},
		"empty":         {receive, `{}`},
		"empty list":    {receive, `{"Messages":[]}`},
		"nulls":         {receive, `{"Messages":[{"MessageId":null,"Body":null,"Attributes":null,"MessageAttributes":null}]}`},
		"unknown field": {receive, `{"Messages":[{"MessageId":"m","Body":"b","New":{"a":[1,{}]}}],"New":1}`},
		"cut off":       {receive, `{"Messages":[{"MessageId":"m","Bo`},
		"not JSON":      {receive, `<html>`},
		"nothing":       {receive, ``},
		"deletes":       {remove, batch},
		"no deletes":    {remove, `{"Failed":[],"Successful":[]}`},
		"cut off too":   {remove, batch[:len(batch)-3]},
		"changes":       {change, batch},
	} {
		t.Run(name, func(t *testing.T) {
			fastOptions, slowOptions := options.Copy(), options.Copy()
			fastOptions.HTTPClient = WholeBodies(canned(c.body))
			slowOptions.HTTPClient = WholeBodies(canned(c.body))
			slowOptions.APIOptions = nil
			fast, fastErr := c.call(sqs.New(fastOptions))
			slow, slowErr := c.call(sqs.New(slowOptions))
			if (fastErr == nil) != (slowErr == nil) {
				t.Fatalf("errors: fast %v, SDK %v", fastErr, slowErr)
			}
			if fastErr == nil && !reflect.DeepEqual(fast, slow) {
				t.Errorf("fast %+v\n SDK %+v", fast, slow)
			}
		})
	}
}
