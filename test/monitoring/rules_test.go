package monitoring

import (
	"os"
	"testing"

	"gopkg.in/yaml.v3"
)

// alert is a rule.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// alerts returns the rules of deploy/prometheus/alerts.yaml.
func alerts(t testing.TB) []alert {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("%s has %d alerts: does this test still find them?", rulesFile, len(all))
	}
	return all
}
