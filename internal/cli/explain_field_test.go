package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

// shipped runs the command line with the shipped components.
func shipped(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = (&Program{
		Registry: sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry()))), Args: args, Invocation: "penstock",
		Stdout: &out, Stderr: &errs, LookupEnv: func(string) (string, bool) { return "", false },
	}).Run(context.Background())
	return code, out.String(), errs.String()
}

func TestExplain_settings(t *testing.T) {
	for path, wants := range map[string][]string{
		"sinks.redis.ttl":               {"  type     duration, a number with its unit", "  default  168h", "  example  ttl: 168h"},
		"sink.file.compression":         {"  one of   none, gzip, zstd", "  default  none"},
		"sources.sqs.assume_role.arn":   {"  default  none: it is required"},
		"sources.sqs.secret_access_key": {"  example  secret_access_key: ${file:/run/secrets/secret_access_key}"},
		"retry.max_attempts":            {"  type     whole number", "  default  5"},
		"max_in_flight_bytes":           {"powers of 1024"},
		"transforms.unwrap":             {"transform unwrap", "max_depth"},
	} {
		code, stdout, stderr := shipped("explain", path)
		if code != 0 {
			t.Errorf("%s: exit %d: %s", path, code, stderr)
		}
		for _, want := range wants {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: %q is missing in:\n%s", path, want, stdout)
			}
		}
	}
	for path, want := range map[string]string{
		"sinks.redis.ttll":  "did you mean ttl?",
		"sinks.reids.ttl":   "did you mean redis?",
		"retry.max_atempts": "did you mean retry.max_attempts?",
	} {
		if code, _, stderr := shipped("explain", path); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q, want %q", path, code, stderr, want)
		}
	}
}

func TestComponents_formats(t *testing.T) {
	code, stdout, stderr := shipped("components", "--format", "json", "redis")
	var all []componentJSON
	if err := json.Unmarshal([]byte(stdout), &all); code != 0 || err != nil {
		t.Fatal(code, stderr, err)
	}
	if len(all) != 1 || all[0].Kind != "sink" || all[0].Name != "redis" || len(all[0].Fields) < 20 || all[0].Summary == "" {
		t.Errorf("got %+v", all)
	}
	_, old, _ := shipped("components", "--markdown")
	if code, stdout, _ = shipped("components", "--format", "markdown"); code != 0 || stdout != old || !strings.Contains(old, "# Reference") {
		t.Errorf("exit %d: --format markdown is not what --markdown prints", code)
	}
	if code, _, stderr = shipped("components", "--format", "xml"); code != 2 || !strings.Contains(stderr, "text, json or markdown") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
