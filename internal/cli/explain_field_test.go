package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/inside"
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
		"sinks.redis.ttl":               {"  type     duration\n", "  unit     behind each number: ns", "  default  168h\n", "  range    negative, or 1ms to 876000h\n", "  example  ttl: 168h\n"},
		"sink.file.compression":         {"  range    none, gzip, zstd", "  default  none"},
		"sinks.redis.connections":       {"  unit     connections\n", "  range    1 to 1000\n", "  example  connections: 2\n"},
		"sources.sqs.wait_time":         {"  range    0s to 20s in whole seconds\n"},
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

// Every setting of the shipped components, and of the pipeline, has an example.
func TestExplain_everySettingHasAnExample(t *testing.T) {
	registry := sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry())))
	descriptions := []inside.Description{}
	d, err := inside.DescribePipeline(registry)
	if err != nil {
		t.Fatal(err)
	}
	descriptions = append(descriptions, d)
	for _, kind := range kinds {
		for _, reg := range registry.Components(kind) {
			d, err := inside.Describe(registry, string(kind), reg.Name)
			if err != nil {
				t.Fatal(err)
			}
			descriptions = append(descriptions, d)
		}
	}
	n := 0
	for _, d := range descriptions {
		for _, f := range flat(d.Fields) {
			if n++; exampleOf(f) == "" {
				t.Errorf("%s.%s.%s, a %s, has no example", d.Kind, d.Name, f.Path, f.Type)
			}
		}
	}
	if n < 150 {
		t.Errorf("%d settings", n)
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
