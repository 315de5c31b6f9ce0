package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

func TestInspect_endsWith1WhenNothingIsCachedAndItsJSONHasUnits(t *testing.T) {
	server := miniredis.RunT(t)
	for key, value := range map[string]string{
		"p:c_known": `{"f":{"calculatedEntitlement":{"feature":{"id":"f","featureType":"BOOLEAN"}},"featureUsage":{}}}`, "p:c_known#timestamp": "1795169730250",
	} {
		if err := server.Set(key, value); err != nil {
			t.Fatal(err)
		}
		server.SetTTL(key, 90*time.Second)
	}
	text := "name: x\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: " + server.Addr() + "\n    prefix: p\n"
	run := func(args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		p := &Program{
			Registry: sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry()))), Args: append([]string{"inspect", "-f", "p.yaml"}, args...),
			Invocation: "penstock", Stdout: &stdout, Stderr: &stderr, LookupEnv: fromMap(nil), ReadFile: func(string) ([]byte, error) { return []byte(text), nil },
		}
		code := p.Run(context.Background())
		return code, stdout.String() + stderr.String()
	}
	if code, out := run("known"); code != 0 || strings.Contains(out, "not cached") {
		t.Errorf("known: code %d\n%s", code, out)
	}
	if code, out := run("unknown"); code != 1 || !strings.Contains(out, "not cached: an SDK asks the provider's API") {
		t.Errorf("unknown: code %d\n%s", code, out)
	}
	code, out := run("known", "--json")
	var report struct {
		TTL  float64 `json:"ttl_seconds"`
		Rows []struct {
			ID  string  `json:"id"`
			TTL float64 `json:"ttl_seconds"`
		} `json:"rows"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		t.Fatalf("code %d, %v\n%s", code, err, out)
	}
	if report.TTL <= 0 || report.TTL > 90 || len(report.Rows) != 1 || report.Rows[0].ID != "f" || strings.Contains(out, `"ttl"`) {
		t.Errorf("%+v\n%s", report, out)
	}
	if code, out := run("unknown", "--json"); code != 1 || !strings.Contains(out, `"ttl_seconds": 0`) {
		t.Errorf("unknown as JSON: code %d\n%s", code, out)
	}
}
