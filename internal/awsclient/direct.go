package awsclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/segmentio/encoding/json"
)

// Direct is an SQS client for consumers that sends what comes with every ten messages (receives, deletes and changes
// of visibility) past the AWS SDK's middleware, which costs more than the requests themselves: it writes the body,
// signs it with the SDK's signer and credentials, and reads a plain success. Whatever else comes back, an error
// included, is given to the SDK as if it had asked itself, so that errors are its own. It is safe for concurrent use.
type Direct struct {
	*sqs.Client
	http        HTTPClient
	credentials aws.CredentialsProvider
	signer      *signer
	region      string
	url         *url.URL     // nil: the SDK does everything
	skew        atomic.Int64 // what to add to the clock, when the server's differs too much for signatures
}

// NewDirect makes one of a client that [SQS] made.
func NewDirect(ctx context.Context, client *sqs.Client) *Direct {
	o := client.Options()
	d := &Direct{Client: client, http: o.HTTPClient, credentials: o.Credentials, region: o.Region,
		signer: newSigner()}
	if o.Credentials == nil || aws.IsCredentialsProvider(o.Credentials, (*aws.AnonymousCredentials)(nil)) {
		return d
	}
	endpoint, err := o.EndpointResolverV2.ResolveEndpoint(ctx, sqs.EndpointParameters{
		Region: &o.Region, Endpoint: o.BaseEndpoint,
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	}.WithDefaults())
	if err != nil {
		return d // which the SDK will say itself
	}
	u := endpoint.URI
	if u.Path == "" {
		u.Path = "/"
	}
	d.url = &u
	return d
}

// ReceiveMessage is the SDK's, but that a wait of 0 s is one.
func (d *Direct) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	b := object("QueueUrl", aws.ToString(in.QueueUrl))
	if in.MaxNumberOfMessages != 0 {
		b = number(b, "MaxNumberOfMessages", in.MaxNumberOfMessages)
	}
	if in.VisibilityTimeout != 0 {
		b = number(b, "VisibilityTimeout", in.VisibilityTimeout)
	}
	// The SDK leaves 0 out, and the queue's own wait, up to 20 s, would hold.
	b = number(b, "WaitTimeSeconds", in.WaitTimeSeconds)
	if in.ReceiveRequestAttemptId != nil {
		b = member(b, "ReceiveRequestAttemptId", *in.ReceiveRequestAttemptId)
	}
	b = list(b, "MessageAttributeNames", in.MessageAttributeNames)
	b = list(b, "MessageSystemAttributeNames", in.MessageSystemAttributeNames)
	out, answer := d.call(ctx, "ReceiveMessage", append(b, '}'))
	if out != nil {
		return out.(*sqs.ReceiveMessageOutput), nil
	}
	return d.Client.ReceiveMessage(ctx, in, answer...)
}

// DeleteMessageBatch is the SDK's.
func (d *Direct) DeleteMessageBatch(ctx context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	b := append(object("QueueUrl", aws.ToString(in.QueueUrl)), `,"Entries":[`...)
	for i := range in.Entries {
		b = entry(b, i, in.Entries[i].Id, in.Entries[i].ReceiptHandle)
		b = append(b, '}')
	}
	out, answer := d.call(ctx, "DeleteMessageBatch", append(b, ']', '}'))
	if out != nil {
		return out.(*sqs.DeleteMessageBatchOutput), nil
	}
	return d.Client.DeleteMessageBatch(ctx, in, answer...)
}

// ChangeMessageVisibilityBatch is the SDK's.
func (d *Direct) ChangeMessageVisibilityBatch(ctx context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	b := append(object("QueueUrl", aws.ToString(in.QueueUrl)), `,"Entries":[`...)
	for i := range in.Entries {
		b = entry(b, i, in.Entries[i].Id, in.Entries[i].ReceiptHandle)
		b = append(number(b, "VisibilityTimeout", in.Entries[i].VisibilityTimeout), '}')
	}
	out, answer := d.call(ctx, "ChangeMessageVisibilityBatch", append(b, ']', '}'))
	if out != nil {
		return out.(*sqs.ChangeMessageVisibilityBatchOutput), nil
	}
	return d.Client.ChangeMessageVisibilityBatch(ctx, in, answer...)
}

// call returns what SQS answered, or nil and what has the SDK take the answer, or ask itself.
func (d *Direct) call(ctx context.Context, action string, body []byte) (any, []func(*sqs.Options)) {
	if d.url == nil {
		return nil, nil
	}
	credentials, err := d.credentials.Retrieve(ctx)
	if err != nil {
		return nil, nil
	}
	at := *d.url // signing writes to it
	req := (&http.Request{
		Method: http.MethodPost, URL: &at, Host: at.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"X-Amz-Target": {"AmazonSQS." + action}, "Content-Type": contentType, "User-Agent": userAgent,
			"X-Amzn-Query-Mode": queryMode, // errors then have the codes that the SDK knows
		},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}).WithContext(ctx)
	sum := sha256.Sum256(body)
	now := time.Now().Add(time.Duration(d.skew.Load())).UTC()
	if err := d.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(sum[:]), "sqs", d.region, now); err != nil {
		return nil, nil
	}
	resp, err := d.http.Do(req)
	if err == nil && resp.StatusCode == http.StatusOK {
		if whole, ok := resp.Body.(*wholeBodyReader); ok {
			if out, err := decoders[action](whole.all); err == nil {
				return out, nil
			}
		}
	}
	if err == nil {
		d.noteSkew(resp)
	}
	return nil, []func(*sqs.Options){func(o *sqs.Options) { o.HTTPClient = answer{resp, err} }}
}

// maxSkew is how far a clock may be off without a doubt: SQS refuses signatures that are off by more than 15 minutes.
const maxSkew = 4 * time.Minute

func (d *Direct) noteSkew(resp *http.Response) {
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		skew := time.Until(at)
		if skew.Abs() < maxSkew {
			skew = 0
		}
		d.skew.Store(int64(skew))
	}
}

// answer is an HTTP client with one answer.
type answer struct {
	resp *http.Response
	err  error
}

func (a answer) Do(req *http.Request) (*http.Response, error) {
	if a.resp != nil {
		a.resp.Request = req
	}
	return a.resp, a.err
}

var (
	contentType = []string{"application/x-amz-json-1.0"}
	userAgent   = []string{"penstock"}
	queryMode   = []string{"true"}
)

func object(name, value string) []byte {
	return member(append(make([]byte, 0, 512), '{'), name, value)
}

func name(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func member(b []byte, key, value string) []byte { return text(name(b, key), value) }

func text(b []byte, value string) []byte {
	b, _ = json.Append(b, value, 0) // a string always can be
	return b
}

func number(b []byte, key string, value int32) []byte {
	return strconv.AppendInt(name(b, key), int64(value), 10)
}

func list[S ~string](b []byte, key string, values []S) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(name(b, key), '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = text(b, string(v))
	}
	return append(b, ']')
}

func entry(b []byte, i int, id, receipt *string) []byte {
	b = slices.Grow(b, 64+len(aws.ToString(receipt)))
	if i > 0 {
		b = append(b, ',')
	}
	b = append(b, '{')
	b = member(b, "Id", aws.ToString(id))
	return member(b, "ReceiptHandle", aws.ToString(receipt))
}
