package transforms

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// UnwrapS3Config says how objects are fetched from AWS S3, or from a server that speaks its protocol.
type UnwrapS3Config struct {
	// Names of the buckets that pointers may lead to; without it any bucket that the credentials open.
	Buckets []string `yaml:"buckets" example:"[payloads]"`
	// Where S3 is, and who asks.
	AWS awsclient.Config `yaml:",inline"`
}

// FetchesPointers reports whether pointers to payloads in S3 are fetched.
func (c *UnwrapConfig) FetchesPointers() bool { return c.S3 != nil }

var _ configfacts.PointerFetcher = (*UnwrapConfig)(nil)

// s3Pointers are the classes by which the extended client libraries of SQS and SNS mark a pointer.
var s3Pointers = map[string]bool{
	"software.amazon.payloadoffloading.PayloadS3Pointer": true,
	"com.amazon.sqs.javamessaging.MessageS3Pointer":      true,
}

type s3Pointer struct{ bucket, key string }

// pointerToS3 reads the array of two that the extended client libraries send in place of a payload. What can't be
// read of the pointer stays empty.
func pointerToS3(b []byte) (p s3Pointer, ok bool) {
	parts, ok := elements(b)
	if !ok || len(parts) != 2 {
		return p, false
	}
	if class, ok := text(parts[0]); !ok || !s3Pointers[class] {
		return p, false
	}
	pointer, _ := members(parts[1])
	p.bucket, _ = text(find(pointer, "s3BucketName"))
	p.key, _ = text(find(pointer, "s3Key"))
	return p, true
}

// fetchError is an error of S3, which says itself what becomes of the message.
type fetchError struct{ error }

func (e *fetchError) Unwrap() error { return e.error }

// fetch puts the object in the place of its pointer.
func (u *unwrapping) fetch(in *unwrapped, p s3Pointer) error {
	switch {
	case u.objects == nil:
		return reason.Errorf("the payload is not here but in S3, where unwrap looks only with its setting s3: bucket %q, key %q", p.bucket, p.key)
	case p.bucket == "" || p.key == "":
		return reason.Errorf("a pointer to a payload in S3 without bucket or key: bucket %q, key %q", p.bucket, p.key)
	case len(u.objects.config.Buckets) > 0 && !slices.Contains(u.objects.config.Buckets, p.bucket):
		return reason.Errorf("a pointer to a payload in S3 that s3.buckets doesn't allow: bucket %q, key %q", p.bucket, p.key)
	}
	if pipeline.Offline(u.ctx) {
		return reason.Errorf("the payload is in S3, which is not asked in a test: bucket %q, key %q", p.bucket, p.key)
	}
	body, err := u.objects.get(u.ctx, p, u.left)
	if errors.Is(err, pipeline.ErrNoRoom) {
		return err
	}
	if err != nil {
		return &fetchError{u.objects.outcome(u.ctx, p, err)}
	}
	if int64(len(body)) <= u.left {
		body, err = u.gunzip(body)
		if errors.Is(err, pipeline.ErrNoRoom) {
			return err
		}
		if err != nil {
			return reason.Errorf("broken gzip in S3, bucket %q, key %q: %w", p.bucket, p.key, err)
		}
	}
	if u.left -= int64(len(body)); u.left < 0 {
		return u.tooLarge()
	}
	in.body = body
	return nil
}

// s3Objects fetches objects. It is safe for concurrent use.
type s3Objects struct {
	config UnwrapS3Config

	mu     sync.Mutex
	client *s3.Client

	worked atomic.Bool // S3 has taken the credentials before
}

// connected returns the client, and sets it up when it is asked for first: that reads files and environment variables.
func (o *s3Objects) connected(ctx context.Context) (*s3.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client != nil {
		return o.client, nil
	}
	c := o.config
	settings := c.AWS.Settings()
	cfg, err := awsclient.Load(ctx, settings)
	if err != nil {
		return nil, pipeline.Fatal(code.Mark(code.S3Access, err))
	}
	o.client = awsclient.S3(cfg, c.AWS.Endpoint)
	return o.client, nil
}

// get returns the object, or its first limit+1 bytes.
func (o *s3Objects) get(ctx context.Context, p s3Pointer, limit int64) ([]byte, error) {
	client, err := o.connected(ctx)
	if err != nil {
		return nil, err
	}
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &p.bucket, Key: &p.key})
	if err != nil {
		return nil, err
	}
	if !o.worked.Load() {
		o.worked.Store(true)
	}
	defer out.Body.Close() //nolint:errcheck // it was read, or is not wanted
	size := aws.ToInt64(out.ContentLength)
	if size > limit {
		return nil, pipeline.Permanent(reason.Errorf("it has %d bytes, more than max_size allows", size))
	}
	if err := pipeline.Reserve(ctx, size); err != nil {
		return nil, err
	}
	body := make([]byte, 0, size+1)
	for {
		n, err := out.Body.Read(body[len(body):cap(body)])
		switch body = body[:len(body)+n]; {
		case errors.Is(err, io.EOF) || int64(len(body)) > limit:
			return body, nil
		case err != nil:
			return nil, err
		case len(body) == cap(body):
			body = slices.Grow(body, 32<<10)
		}
	}
}

// throttlePause is how long to leave S3 alone that asks for it.
const throttlePause = time.Second

// outcome says what an error of S3 means for the message: one bad pointer must not stop a pipeline, and S3 away must
// not cost a message.
func (o *s3Objects) outcome(ctx context.Context, p s3Pointer, err error) error {
	err = reason.Errorf("fetch the payload from S3, bucket %q, key %q: %w", p.bucket, p.key, err)
	if ctx.Err() != nil || pipeline.IsFatal(err) || pipeline.IsPermanent(err) {
		return err
	}
	answer, status := "", 0
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		answer = api.ErrorCode()
	}
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
	}
	switch answer {
	case "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException":
		return pipeline.RetryAfter(err, throttlePause)
	case "ExpiredToken": // the chain renews it
		return pipeline.Unavailable(err)
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return reason.Errorf("the bucket is in another region: set s3.region to it: %w", err)
	}
	switch awsclient.FailureOf(err) {
	case awsclient.Denied:
		return reason.Errorf("s3:GetObject is denied, or the object doesn't exist: allow it on arn:aws:s3:::%s/* (and kms:Decrypt on the bucket's key): %w", p.bucket, err)
	case awsclient.Credentials:
		if o.worked.Load() { // replaced: held until the files, or the server, are right again
			return pipeline.Unavailable(reason.Errorf("the credentials are refused, which S3 took before: %w", err))
		}
		return pipeline.Fatal(code.Mark(code.S3Access, err))
	default:
	}
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return pipeline.RetryAfter(err, throttlePause)
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return pipeline.Permanent(err)
	}
	return pipeline.Unavailable(err)
}
