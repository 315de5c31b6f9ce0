package sqs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/pipeline"
)

type errKind uint8

const (
	errUnreachable errKind = iota // network, throttling, 5xx: whatever may pass
	errMissing
	errDenied
	errCredentials
	errOverLimit
	errSettings
)

// ErrSettings marks errors of Connect that no waiting cures, such as a region that is not known.
var ErrSettings = errors.New("settings")

// kindOf tells what an error of SQS means. See "Common errors" of the SQS API reference.
func kindOf(err error) errKind {
	if errors.Is(err, ErrSettings) {
		return errSettings
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code := api.ErrorCode()
		switch code[strings.LastIndexByte(code, '.')+1:] {
		case "NonExistentQueue", "QueueDoesNotExist", "QueueDeletedRecently", "InvalidAddress":
			return errMissing
		case "AccessDenied", "AccessDeniedException", "AuthorizationError", "KmsAccessDenied", "OptInRequired":
			return errDenied
		case "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
			"InvalidSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
			"IncompleteSignature", "ExpiredToken", "ExpiredTokenException", "InvalidSecurity", "AuthFailure":
			return errCredentials
		case "OverLimit":
			return errOverLimit
		}
		return errUnreachable
	}
	// The chain has no type for "nothing found": the last provider it asks is the instance's metadata service.
	if text := err.Error(); strings.Contains(text, "no EC2 IMDS role found") || strings.Contains(text, "static credentials are empty") {
		return errCredentials
	}
	return errUnreachable
}

// describe says what the error means to an operator and what to do. It is [pipeline.Fatal] when waiting won't help,
// [pipeline.Unavailable] otherwise, and nil when err is.
func describe(err error, queue, action string) error {
	if err == nil {
		return nil
	}
	switch kindOf(err) {
	case errMissing:
		return pipeline.Fatal(fmt.Errorf("queue %s does not exist, or its owner's account is hidden: create it or correct the queue's URL, name or region (queues are never created here): %w", queue, err))
	case errDenied:
		return pipeline.Fatal(fmt.Errorf("%s on queue %s is denied: allow sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility, sqs:GetQueueAttributes and sqs:GetQueueUrl on the queue in the policy of the identity, or the queue's own (and kms:Decrypt on the key of an encrypted queue): %w", action, queue, err))
	case errCredentials:
		return pipeline.Fatal(fmt.Errorf("AWS credentials for queue %s are missing or refused: set access_key_id and secret_access_key, or give the process a role or a profile: %w", queue, err))
	case errSettings:
		return pipeline.Fatal(fmt.Errorf("queue %s: %w", queue, err))
	case errUnreachable, errOverLimit:
	}
	return pipeline.Unavailable(fmt.Errorf("%s on queue %s: %w", action, queue, err))
}

// invalidReceipt reports whether an entry of a batch failed because its receipt handle is no good any more.
func invalidReceipt(code *string) bool {
	if code == nil {
		return false
	}
	switch (*code)[strings.LastIndexByte(*code, '.')+1:] {
	case "ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue", "InvalidIdFormat":
		return true
	}
	return false
}
