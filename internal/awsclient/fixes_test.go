package awsclient

import (
	"reflect"
	"testing"

	"github.com/penstock-dev/penstock/internal/testserver"
)

func TestARN_isWhatTheQueueTells(t *testing.T) {
	for queue, want := range map[string]string{
		"https://sqs.eu-west-1.amazonaws.com/123456789012/events":     "arn:aws:sqs:eu-west-1:123456789012:events",
		"https://sqs.cn-north-1.amazonaws.com.cn/123456789012/events": "arn:aws-cn:sqs:cn-north-1:123456789012:events",
		"https://sqs.us-gov-west-1.amazonaws.com/123456789012/x.fifo": "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:x.fifo",
		"http://localhost:9324/queue/events":                          "arn:aws:sqs:*:*:events",
		"events":                                                      "arn:aws:sqs:*:*:events",
	} {
		if got := ARN(queue); got != want {
			t.Errorf("%s: %s, want %s", queue, got, want)
		}
	}
}

func TestSetAttributes_isACommandForAShell(t *testing.T) {
	attributes := map[string]string{"VisibilityTimeout": "60", "RedrivePolicy": Redrive("arn:aws:sqs:eu-west-1:1:it's", 10)}
	for queue, want := range map[string][]string{
		"https://sqs.eu-west-1.amazonaws.com/123456789012/events": {"--region", "eu-west-1", "--queue-url", "https://sqs.eu-west-1.amazonaws.com/123456789012/events"},
		"http://localhost:9324/queue/events":                      {"--endpoint-url", "http://localhost:9324", "--queue-url", "http://localhost:9324/queue/events"},
	} {
		want = append(append([]string{"sqs", "set-queue-attributes"}, want...), "--attributes",
			`{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:eu-west-1:1:it's\",\"maxReceiveCount\":\"10\"}","VisibilityTimeout":"60"}`)
		if got := testserver.Commands(t, "aws", SetAttributes(queue, attributes)); !reflect.DeepEqual(got, [][]string{want}) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
}
