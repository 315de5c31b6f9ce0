package awsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	wmsqs "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// Queues makes SQS clients, one for each place that queues are in. It is safe for concurrent use.
type Queues struct {
	settings Settings

	mu      sync.Mutex
	clients map[place]*sqs.Client
}

type place struct{ region, endpoint string }

// NewQueues takes the settings; a queue's URL fills in the region and the endpoint where they don't say.
func NewQueues(settings Settings) *Queues {
	return &Queues{settings: settings, clients: map[place]*sqs.Client{}}
}

// Connect returns a client for the queue, given by URL or name, and the queue's URL. It asks SQS only about names.
func (q *Queues) Connect(ctx context.Context, queue string) (*sqs.Client, string, error) {
	if strings.Contains(queue, "/") {
		region, endpoint, err := QueueLocation(queue)
		if err != nil {
			return nil, "", settingsError{err}
		}
		client, err := q.client(ctx, place{region, endpoint})
		return client, queue, err
	}
	client, err := q.client(ctx, place{})
	if err != nil {
		return nil, "", err
	}
	resolver := wmsqs.NewGetQueueUrlByNameUrlResolver(wmsqs.GetQueueUrlByNameUrlResolverConfig{DoNotCacheQueues: true})
	found, err := resolver.ResolveQueueUrl(ctx, wmsqs.ResolveQueueUrlParams{
		Topic: queue, SqsClient: client, Logger: watermill.NopLogger{},
	})
	if err != nil {
		return nil, "", err
	}
	if found.QueueURL == nil {
		return nil, "", &types.QueueDoesNotExist{}
	}
	return client, string(*found.QueueURL), nil
}

func (q *Queues) client(ctx context.Context, at place) (*sqs.Client, error) {
	settings := q.settings
	if settings.Region != "" {
		at.region = settings.Region
	}
	if settings.Endpoint != "" {
		at.endpoint = settings.Endpoint
	}
	settings.Region, settings.Endpoint = at.region, at.endpoint
	q.mu.Lock()
	defer q.mu.Unlock()
	if client := q.clients[at]; client != nil {
		return client, nil
	}
	cfg, err := Load(ctx, settings)
	if err != nil {
		return nil, settingsError{err}
	}
	client := SQS(cfg, at.endpoint)
	q.clients[at] = client
	return client, nil
}

// Close closes the connections that are kept.
func (q *Queues) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, client := range q.clients {
		CloseIdle(client)
	}
}

// settingsError is one that no waiting cures.
type settingsError struct{ error }

func (e settingsError) Unwrap() error { return e.error }

// Failure is what an error of SQS means.
type Failure uint8

// The failures of SQS.
const (
	// Unreachable is whatever may pass: network, throttling, 5xx.
	Unreachable Failure = iota
	// Missing is a queue that doesn't exist.
	Missing
	// Denied is a right that is not granted.
	Denied
	// Credentials are missing, expired or refused.
	Credentials
	// OverLimit says that SQS has handed out all that it may.
	OverLimit
	// BadSettings are settings with which no request can be made.
	BadSettings
)

// FailureOf tells what an error of SQS means. See "Common errors" of the SQS API reference.
func FailureOf(err error) Failure {
	if _, ok := errors.AsType[settingsError](err); ok {
		return BadSettings
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code := bareCode(api.ErrorCode())
		if ofRole(err) {
			switch code {
			case "AccessDenied", "ValidationError", "InvalidIdentityToken", "IDPRejectedClaim", "RegionDisabledException":
				return Credentials
			}
		}
		switch code {
		case "NonExistentQueue", "QueueDoesNotExist", "QueueDeletedRecently", "InvalidAddress":
			return Missing
		case "AccessDenied", "AccessDeniedException", "AuthorizationError", "KmsAccessDenied", "OptInRequired":
			return Denied
		case "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
			"InvalidSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
			"IncompleteSignature", "ExpiredToken", "ExpiredTokenException", "InvalidSecurity", "AuthFailure":
			return Credentials
		case "OverLimit":
			return OverLimit
		}
		return Unreachable
	}
	// The chain has no type for "nothing found": the last provider it asks is the instance's metadata service.
	if text := err.Error(); strings.Contains(text, "no EC2 IMDS role found") || strings.Contains(text, "static credentials are empty") {
		return Credentials
	}
	return Unreachable
}

// ofRole reports whether it was STS that failed: a role that is to be assumed, or a web identity.
func ofRole(err error) bool {
	for err != nil {
		operation, ok := errors.AsType[*smithy.OperationError](err)
		if !ok {
			return false
		}
		if operation.ServiceID == sts.ServiceID {
			return true
		}
		err = operation.Err
	}
	return false
}

// bareCode takes the name space off an error code, such as "AWS.SimpleQueueService.NonExistentQueue".
func bareCode(code string) string { return code[strings.LastIndexByte(code, '.')+1:] }

// Describe says what an error of SQS means to an operator and what to do. action is the right that was used, such as
// "sqs:ReceiveMessage", rights are all that are needed. The error is [pipeline.Fatal] when waiting won't help,
// [pipeline.Unavailable] otherwise, and nil when err is.
func Describe(err error, queue, action, rights string) error {
	if err == nil {
		return nil
	}
	switch FailureOf(err) {
	case Missing:
		return pipeline.Fatal(code.Mark(code.QueueMissing, reason.Errorf("queue %s does not exist, or is hidden from this account: create it, or correct its URL, name or region (queues are never created here): %w", queue, err)))
	case Denied:
		return pipeline.Fatal(code.Mark(code.QueueRight, reason.Errorf("%s on queue %s is denied: allow %s on it, in a policy of the identity or of the queue (and for a queue with a key of its own the use of that key): %w", action, queue, rights, err)))
	case Credentials:
		if ofRole(err) {
			return pipeline.Fatal(code.Mark(code.AWSCredentials, reason.Errorf("the role for queue %s can't be assumed: allow sts:AssumeRole on it to the credentials found, and name them in its trust policy (which may ask for an external_id): %w", queue, err)))
		}
		return pipeline.Fatal(code.Mark(code.AWSCredentials, reason.Errorf("AWS credentials for queue %s are missing or refused: set access_key_id and secret_access_key, or give the process a role or a profile: %w", queue, err)))
	case BadSettings:
		return pipeline.Fatal(code.Mark(code.AWSCredentials, fmt.Errorf("queue %s: %w", queue, err)))
	case Unreachable, OverLimit:
	}
	return pipeline.Unavailable(fmt.Errorf("%s on queue %s: %w", action, queue, err))
}
