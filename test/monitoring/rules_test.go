package monitoring

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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

func TestRules_areRulesAndDoWhatTheirTestsSay(t *testing.T) {
	t.Parallel()
	if said, ok := promtool(t, "check", "rules", rulesFile); !ok {
		t.Error(said)
	}
	if said, ok := promtool(t, "test", "rules", "../../deploy/prometheus/alerts_test.yaml"); !ok {
		t.Error(said)
	}
}

const (
	runbooks    = "../../docs/runbooks/"
	runbooksURL = "https://github.com/penstock-dev/penstock/blob/main/docs/runbooks/"
)

func TestRules_everyAlertHasARunbookThatSaysTheSame(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, a := range alerts(t) {
		want[a.Alert+".md"] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s: severity %q", a.Alert, a.Labels["severity"])
		}
		for _, name := range []string{"summary", "description"} {
			if !strings.HasSuffix(a.Annotations[name], ".") {
				t.Errorf("%s: %s %q: want a sentence", a.Alert, name, a.Annotations[name])
			}
		}
		if got, want := a.Annotations["runbook_url"], runbooksURL+a.Alert+".md"; got != want {
			t.Errorf("%s: runbook_url %q, want %q", a.Alert, got, want)
		}
		text, err := os.ReadFile(runbooks + a.Alert + ".md")
		if err != nil {
			t.Errorf("%s has no runbook: %v", a.Alert, err)
			continue
		}
		when := "at once"
		if a.For != "" {
			when = "after " + a.For
		}
		head := "# " + a.Alert + "\n\n**" + a.Labels["severity"] + "**, " + when + ":\n\n```promql\n" + strings.TrimSpace(a.Expr) + "\n```\n"
		if !strings.HasPrefix(string(text), head) {
			t.Errorf("%s.md doesn't begin as its rule says:\n%s", a.Alert, head)
		}
		for _, section := range []string{"\n**Readers** ", "\n## Look\n", "\n## Do\n", "goes "} {
			if !strings.Contains(string(text), section) {
				t.Errorf("%s.md: no %q", a.Alert, section)
			}
		}
	}
	files, err := filepath.Glob(runbooks + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !want[filepath.Base(file)] {
			t.Errorf("%s is about no alert", file)
		}
	}
}

// row is an alert in the table of docs/monitoring.md.
var row = regexp.MustCompile(`(?m)^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|`)

func TestDocs_theTableHasEveryAlert(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		if match[1] != match[2] {
			t.Errorf("%s leads to %s", match[1], match[2])
		}
		got = append(got, match[1]+" "+match[3])
	}
	for _, a := range alerts(t) {
		want = append(want, a.Alert+" "+a.Labels["severity"])
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/monitoring.md has\n%s\nthe rules are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
