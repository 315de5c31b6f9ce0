package awsclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// ARN is the ARN of a queue, given by URL or name, as a policy may have it: what the URL doesn't tell is "*".
func ARN(queue string) string {
	region, account, name := "*", "*", path.Base(queue)
	if strings.Contains(queue, "/") {
		if found, _, err := QueueLocation(queue); err == nil && found != "" {
			region = found
		}
		if u, err := url.Parse(queue); err == nil {
			if owner := path.Base(path.Dir(u.Path)); len(owner) == 12 && strings.Trim(owner, "0123456789") == "" {
				account = owner
			}
		}
	}
	return "arn:" + partition(region) + ":sqs:" + region + ":" + account + ":" + name
}

// partition is the part of AWS that a region is in.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// Policy is an IAM policy that allows the actions on a resource.
func Policy(arn string, actions ...string) string {
	actions = slices.Compact(slices.Sorted(slices.Values(actions)))
	statement := struct {
		Effect   string
		Action   []string
		Resource string
	}{"Allow", actions, arn}
	return indented(struct {
		Version   string
		Statement []any
	}{"2012-10-17", []any{statement}})
}

func indented(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // strings, and lists of them
	return strings.TrimSpace(b.String())
}

// SetAttributes is the command of AWS's command line that sets attributes of a queue.
func SetAttributes(queueURL string, attributes map[string]string) string {
	return command("set-queue-attributes", queueURL, "--queue-url", queueURL, attributes)
}

// CreateQueue is the command that creates a queue in the account and the region of another one.
func CreateQueue(beside, name string, attributes map[string]string) string {
	return command("create-queue", beside, "--queue-name", name, attributes)
}

func command(action, queueURL, flag, value string, attributes map[string]string) string {
	words := []string{"aws", "sqs", action}
	if region, endpoint, err := QueueLocation(queueURL); err == nil {
		if region != "" {
			words = append(words, "--region", region)
		}
		if endpoint != "" {
			words = append(words, "--endpoint-url", endpoint)
		}
	}
	text, _ := json.Marshal(attributes) // strings, sorted by their names
	words = append(words, flag, value, "--attributes", string(text))
	for i, word := range words {
		if strings.ContainsAny(word, " \"'\\$`{}*?;&|<>()#~") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// Redrive is a RedrivePolicy.
func Redrive(deadARN string, receives int) string {
	return fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, deadARN, receives)
}
