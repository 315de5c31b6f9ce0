package awsclient

import (
	"fmt"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/penstock-dev/penstock/pipeline"
)

// Codes of what any component that uses a queue may find.
const (
	CodeUnreachable = "PS101"
	CodeNoQueue     = "PS102"
	CodeCredentials = "PS103"
	CodeDenied      = "PS104"
	CodeNotTried    = "PS105"
	CodeClock       = "PS106"
)

// Rights are what a component needs on its queue.
var (
	SourceRights = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"}
	SinkRights   = []string{"sqs:SendMessage", "sqs:GetQueueAttributes"}
)

// Diagnose says what an error of SQS means, as a finding. action is the right that was used, such as
// "sqs:ReceiveMessage", rights are all that are needed.
func Diagnose(err error, queue, action string, rights []string) pipeline.Finding {
	f := pipeline.Finding{Severity: pipeline.SeverityBroken}
	switch FailureOf(err) {
	case Missing:
		f.Code = CodeNoQueue
		f.What = fmt.Sprintf("queue %s does not exist, or is hidden from this account", queue)
		f.Remedy = "create it, or correct its URL, name or region: queues are never created here"
	case Denied:
		f.Code = CodeDenied
		f.What = fmt.Sprintf("%s on queue %s is denied: %v", action, queue, err)
		f.Remedy = fmt.Sprintf("allow %s on the queue, in a policy of the identity or of the queue (and for a queue with a key of its own the use of that key)", action)
		f.Fix = Policy(ARN(queue), append([]string{action}, rights...)...)
	case Credentials:
		f.Code = CodeCredentials
		f.What = fmt.Sprintf("AWS credentials for queue %s are missing or refused: %v", queue, err)
		f.Remedy = "set access_key_id and secret_access_key, or give the process a role or a profile"
		if ofRole(err) {
			f.What = fmt.Sprintf("the role for queue %s can't be assumed: %v", queue, err)
			f.Remedy = "allow sts:AssumeRole on the role to the credentials found, and name them in the role's trust policy (which may ask for an external_id)"
		}
	case BadSettings:
		f.Code = CodeCredentials
		f.What = fmt.Sprintf("queue %s: %v", queue, err)
		f.Remedy = "correct the source's or sink's settings"
	case Unreachable, OverLimit:
		f.Code = CodeUnreachable
		f.What = fmt.Sprintf("queue %s can't be reached: %v", queue, err)
		f.Remedy = "check endpoint and region, and the network between: DNS, proxy, VPC endpoint, security group"
	}
	return f
}

// mostSkew is how far two clocks may be apart before it is told. The time of an answer is in whole seconds.
const mostSkew = 5 * time.Second

// DiagnoseClock compares this machine's clock with that of the server that gave an answer, by the answer's metadata.
func DiagnoseClock(answer middleware.Metadata, queue string) []pipeline.Finding {
	there, ok := awsmiddleware.GetServerTime(answer)
	here, known := awsmiddleware.GetResponseAt(answer)
	if !ok || !known {
		return nil // a server without a Date header
	}
	skew := here.Sub(there)
	if skew >= 0 {
		skew = max(skew-time.Second, 0) // the header leaves out the part of a second
	}
	if skew.Abs() <= mostSkew {
		return nil
	}
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}
	return []pipeline.Finding{{Code: CodeClock, Severity: pipeline.SeverityWarning,
		What: fmt.Sprintf("this machine's clock is %s %s that of queue %s: ages, lag and the times in recordings are wrong by as much, and AWS refuses requests that are minutes off",
			skew.Abs().Round(time.Second), direction, queue),
		Remedy: "have NTP keep this machine's clock: timedatectl status, chronyc tracking"}}
}
