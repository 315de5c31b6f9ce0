package sqs_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources/sqs"
)

// The policy that is printed for a right that is missing allows all that the source needs on that queue, and heals it.
func TestDoctor_thePolicyHealsMissingRights(t *testing.T) {
	none := func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {}
	for _, action := range []string{"ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes"} {
		p := healthy()
		p.denied = []string{action}
		var policy string
		for _, f := range diagnose(t, p, none) {
			if f.Code == "PS104" {
				policy = f.Fix
			}
		}
		var got struct {
			Version   string
			Statement []struct {
				Effect, Resource string
				Action           []string
			}
		}
		if err := json.Unmarshal([]byte(policy), &got); err != nil || len(got.Statement) != 1 {
			t.Fatalf("%s: %v: %q", action, err, policy)
		}
		statement := got.Statement[0]
		if got.Version != "2012-10-17" || statement.Effect != "Allow" || statement.Resource != "arn:aws:sqs:eu-west-1:123456789012:events" {
			t.Errorf("%s: %s", action, policy)
		}
		p.denied = slices.DeleteFunc(p.denied, func(denied string) bool { return slices.Contains(statement.Action, "sqs:"+denied) })
		for _, f := range diagnose(t, p, none) {
			if f.Code == "PS104" {
				t.Errorf("%s: with %s there is still %+v", action, policy, f)
			}
		}
	}
}

func TestDoctor_aKeyOfItsOwnHasItsPolicy(t *testing.T) {
	p := healthy()
	p.queues[queueURL]["KmsMasterKeyId"] = "arn:aws:kms:eu-west-1:123456789012:key/k"
	found := diagnose(t, p, func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {})
	if !slices.ContainsFunc(found, func(f pipeline.Finding) bool {
		return f.Code == "PS150" && strings.Contains(f.Fix, `"kms:Decrypt"`) && strings.Contains(f.Fix, `"arn:aws:kms:eu-west-1:123456789012:key/k"`)
	}) {
		t.Errorf("found %+v", found)
	}
}

func TestDoctor_highThroughputModeIsACommand(t *testing.T) {
	p := healthy()
	p.queues[queueURL]["FifoQueue"] = "true"
	found := diagnose(t, p, func(*patient, *sqs.Settings, *pipeline.DoctorEnv) {})
	if !slices.ContainsFunc(found, func(f pipeline.Finding) bool {
		return f.Code == "PS131" && strings.Contains(f.Fix, `{"DeduplicationScope":"messageGroup","FifoThroughputLimit":"perMessageGroupId"}`)
	}) {
		t.Errorf("found %+v", found)
	}
}
