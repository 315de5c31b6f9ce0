// Package awsclient sets up clients of AWS services, and of servers that speak their protocols, for sources, sinks and
// transforms.
package awsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/internal/reason"
)

// Settings say where a service is and who asks. Zero fields are left to AWS's default chain: environment variables,
// shared config and profile, web identity, container and instance roles.
type Settings struct {
	// Region such as "us-east-1".
	Region string
	// Endpoint is the base URL of a compatible server, such as "http://127.0.0.1:4566"; "" means AWS.
	Endpoint string
	// AccessKeyID, SecretAccessKey and SessionToken are static credentials.
	AccessKeyID, SecretAccessKey, SessionToken string
	// Current returns these three as they are now; nil means that they never change.
	Current func() (accessKeyID, secretAccessKey, sessionToken string)
	// AssumeRole is the role to assume with the credentials found; a zero ARN means none.
	AssumeRole AssumeRole
}

// AssumeRole is a role of AWS STS.
type AssumeRole struct {
	ARN, ExternalID, SessionName string
}

// ErrNoRegion says that neither the settings nor AWS's default chain tell the region.
var ErrNoRegion = reason.New("the AWS region is not known: set region, or the variable AWS_REGION")

// responseTimeout is how long a server may take from the request's end to the headers of its answer: longer than SQS's
// longest poll of 20 s.
const responseTimeout = 30 * time.Second

// noticeSilence has a connection fail whose other end is gone without a word: a long poll is silent by itself, so that
// only the network can tell. It takes five seconds, or as long as the system's own settings say where it has no such
// option.
func noticeSilence(d *net.Dialer) {
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}
	d.Control = boundUnacknowledged
}

// unacknowledged is how long what was sent may stay without an acknowledgement of the other end's system.
const unacknowledged = 4 * time.Second

// Load resolves the settings. It reads files and environment variables; credentials are fetched with the first
// request and renewed by themselves.
func Load(ctx context.Context, s Settings) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		// The SDK would write lines of its own to standard error; what fails, its errors say.
		config.WithLogger(logging.Nop{}),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = 0 // bounded per host
			t.MaxIdleConnsPerHost = 64
			t.ResponseHeaderTimeout = responseTimeout
		}).WithDialerOptions(noticeSilence)),
	}
	if s.Region != "" {
		options = append(options, config.WithRegion(s.Region))
	}
	if s.AccessKeyID != "" {
		var provider aws.CredentialsProvider = credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, s.SessionToken)
		if s.Current != nil {
			provider = rotating(s.Current)
		}
		options = append(options, config.WithCredentialsProvider(provider))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		if s.Endpoint == "" {
			return aws.Config{}, ErrNoRegion
		}
		cfg.Region = "us-east-1" // a compatible server needs one in the signature, and any will do
	}
	if s.AssumeRole.ARN != "" {
		role := s.AssumeRole
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role.ARN,
			func(o *stscreds.AssumeRoleOptions) {
				if role.ExternalID != "" {
					o.ExternalID = aws.String(role.ExternalID)
				}
				if role.SessionName != "" {
					o.RoleSessionName = role.SessionName
				}
			}))
	}
	return cfg, nil
}

// SQS makes an SQS client of cfg; endpoint is as in [Settings]. It makes one attempt per call, so that its user sees
// every failure and decides about repeating, and it reads responses as [WholeBodies] does.
func SQS(cfg aws.Config, endpoint string) *sqs.Client {
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		client := HTTPClient(o.HTTPClient)
		if b, ok := client.(*awshttp.BuildableClient); ok {
			client = b.Freeze() // what it builds can close its connections, itself it can't
		}
		o.HTTPClient = WholeBodies(client)
		o.Retryer = aws.NopRetryer{}
		o.HTTPSignerV4 = newSigner()
		// One message with a wrong checksum fails a whole response, and ten messages stay hidden for a visibility timeout.
		// TLS and the length of the body guard the transfer.
		o.DisableMessageChecksumValidation = true
		o.APIOptions = append(o.APIOptions, fastDecoding)
	})
}

// HTTPClient is what AWS SDK clients send their requests with.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// WholeBodies returns a client that reads each response to its end before it returns it. The AWS SDK closes connections
// under bodies that it has not read yet, in a few of a thousand responses, and what SQS handed out in such a response
// stays hidden for a whole visibility timeout. A body that breaks off is an error of the request.
func WholeBodies(next HTTPClient) HTTPClient { return wholeBodies{next} }

type wholeBodies struct{ next HTTPClient }

// maxBody is far above the largest answer of SQS: ten messages of 1 MiB, escaped.
const maxBody = 128 << 20

func (c wholeBodies) Do(req *http.Request) (*http.Response, error) {
	resp, err := c.next.Do(req)
	if err != nil {
		return nil, err
	}
	var body []byte
	wait, bounded := req.Context().Value(roomKey{}).(func(context.Context, int64) error)
	if bounded && resp.ContentLength <= maxBody {
		err = wait(req.Context(), resp.ContentLength)
	}
	switch {
	case err != nil:
	case resp.ContentLength > maxBody:
		err = errBodyTooLarge
	case resp.ContentLength > 0:
		body = make([]byte, resp.ContentLength)
		_, err = io.ReadFull(resp.Body, body)
	default:
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
		if len(body) > maxBody {
			err = errBodyTooLarge
		}
	}
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	resp.Body = newWholeBodyReader(body)
	return resp, nil
}

type roomKey struct{}

// WithRoom has a client of [WholeBodies] call wait before it reads a body, with its length, or -1 when the server does
// not say it. An error of wait is one of the request.
func WithRoom(ctx context.Context, wait func(ctx context.Context, length int64) error) context.Context {
	return context.WithValue(ctx, roomKey{}, wait)
}

var errBodyTooLarge = reason.Errorf("body is larger than %d bytes", maxBody)

var (
	// sqs.us-east-1.amazonaws.com, sqs-fips.us-gov-west-1.amazonaws.com, sqs.cn-north-1.amazonaws.com.cn,
	// sqs.eu-west-1.api.aws
	awsHost = regexp.MustCompile(`^(?:sqs|sqs-fips)\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$`)
	// eu-west-1.queue.amazonaws.com and queue.amazonaws.com are SQS's old names.
	awsOldHost = regexp.MustCompile(`^(?:([a-z0-9-]+)\.)?queue\.amazonaws\.com(?:\.cn)?$`)
	// vpce-0a1b-2c3d.sqs.us-east-1.vpce.amazonaws.com: only this name reaches the endpoint.
	vpcHost = regexp.MustCompile(`\.sqs\.([a-z0-9-]+)\.vpce\.amazonaws\.com(?:\.cn)?$`)
	// sqs.us-east-1.localhost.localstack.cloud:4566: emulators put the region where AWS does.
	otherHost = regexp.MustCompile(`^sqs\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.`)
)

// QueueLocation derives from an SQS queue URL what it tells: the region, or "", and the endpoint to talk to, or "" for
// AWS's own.
func QueueLocation(queueURL string) (region, endpoint string, err error) {
	u, err := url.Parse(queueURL)
	switch {
	case err != nil: // not shown: it may hold a password
		return "", "", errors.New("queue URL: want https://HOST/ACCOUNT/NAME")
	case u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") == "":
		return "", "", fmt.Errorf("queue URL %q: want https://HOST/ACCOUNT/NAME", plaintext.Cut(u.Redacted()))
	}
	if err := plaintext.CheckURLHost(u); err != nil {
		return "", "", fmt.Errorf("queue URL: %w", err)
	}
	host := strings.ToLower(u.Hostname())
	if m := awsHost.FindStringSubmatch(host); m != nil {
		return m[1], "", nil
	}
	if m := awsOldHost.FindStringSubmatch(host); m != nil {
		if m[1] == "" {
			return "us-east-1", "", nil
		}
		return m[1], "", nil
	}
	endpoint = u.Scheme + "://" + u.Host
	if m := vpcHost.FindStringSubmatch(host); m != nil {
		return m[1], endpoint, nil
	}
	if m := otherHost.FindStringSubmatch(host); m != nil {
		return m[1], endpoint, nil
	}
	return "", endpoint, nil
}

// CloseIdle closes the connections that the client keeps for its next requests.
func CloseIdle(client *sqs.Client) {
	if c, ok := client.Options().HTTPClient.(wholeBodies); ok {
		if h, ok := c.next.(interface{ CloseIdleConnections() }); ok {
			h.CloseIdleConnections()
		}
	}
}
