package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// dashboard is as much of a Grafana dashboard as is looked at.
type dashboard struct {
	Panels []struct {
		ID          int
		Type, Title string
		Description string
		Datasource  *datasource
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct {
			Expr       string
			Datasource datasource
		}
	}
	Annotations struct {
		List []struct {
			Expr       string
			Datasource datasource
		}
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

type datasource struct{ Type, UID string }

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/penstock.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// expression is PromQL, and where it is.
type expression struct{ at, text string }

// variables stand for what Grafana puts in.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$namespace", ".*", "$pipeline", ".*")

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), \w+\)$`)
	queries     = regexp.MustCompile("(?s)```promql\n(.*?)```")
)

// expressions returns the PromQL of the rules, the dashboard and the documents.
func expressions(t *testing.T) []expression {
	t.Helper()
	var all []expression
	for _, a := range alerts(t) {
		all = append(all, expression{a.Alert, a.Expr})
	}
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, expression{"panel " + p.Title, variables.Replace(target.Expr)})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, expression{"annotation", variables.Replace(a.Expr)})
	}
	for _, v := range d.Templating.List {
		if match := labelValues.FindStringSubmatch(v.Definition); match != nil {
			all = append(all, expression{"variable " + v.Name, variables.Replace(match[1])})
		} else if v.Type == "query" {
			t.Errorf("variable %s: %q", v.Name, v.Definition)
		}
	}
	files, err := filepath.Glob(runbooks + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := queries.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s: no query", file)
			continue
		}
		all = append(all, expression{filepath.Base(file), blocks[0][1]}) // the rule's, which may have several lines
		for _, block := range blocks[1:] {
			for line := range strings.Lines(block[1]) {
				all = append(all, expression{filepath.Base(file), line})
			}
		}
	}
	if len(all) < 60 {
		t.Errorf("%d expressions: does this test still find them all?", len(all))
	}
	return all
}

func TestExpressions_areGoodPromQL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A file each: promtool then tells which.
	args := []string{"check", "rules"}
	at := map[string]expression{}
	for i, e := range expressions(t) {
		text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "x", "rules": []any{
			map[string]any{"record": fmt.Sprintf("expression:%d", i), "expr": e.text},
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		args, at[file] = append(args, file), e
	}
	if said, ok := promtool(t, args...); !ok {
		for file, e := range at {
			if one, ok := promtool(t, "check", "rules", file); !ok {
				t.Errorf("%s: %s\n%s", e.at, e.text, one)
			}
		}
		if !t.Failed() {
			t.Error(said)
		}
	}
}

// everything is a pipeline of which the rules and the dashboard are about.
const everything = decoded + `
poison_queue: {file: {dir: "${POISON}"}}
`

var desc = regexp.MustCompile(`^Desc\{fqName: "([^"]+)".*variableLabels: \{(.*)\}\}$`)

// exported returns the metrics of a running penstock, each with its labels; those that nothing has happened to yet,
// too.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	q := newQueue(t)
	address := testserver.Redis(t, "--maxmemory", "1gb")
	env := map[string]string{"QUEUE_URL": q.url, "ENDPOINT": q.endpoint, "REDIS": address, "POISON": t.TempDir()}
	q.send(10, anEvent)
	p := q.start(everything, "REDIS="+address, "POISON="+env["POISON"])
	p.is(written, positive)
	metrics := map[string][]string{"up": nil} // Prometheus's own
	for series := range p.scrape().values {
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		for _, match := range labelName.FindAllStringSubmatch(labels, -1) {
			metrics[name] = append(metrics[name], match[1])
		}
		if labels == "" {
			metrics[name] = nil
		}
	}

	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cfg, _, err := pipeline.LoadBytes(penstock.Builtins(), "test.yaml", []byte("name: it\n"+everything), pipeline.LoadOptions{Env: lookup})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	built, err := cfg.Build(pipeline.Settings{Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	for _, close := range []func() error{built.Source.Subscriber.Close, built.Sink.Publisher.Close, built.PoisonQueue.Publisher.Close} {
		defer close() //nolint:errcheck // nothing was started
	}
	descs := make(chan *prometheus.Desc, 1000)
	registry.Describe(descs)
	close(descs)
	for d := range descs {
		match := desc.FindStringSubmatch(d.String())
		if match == nil {
			t.Fatalf("not understood: %s", d)
		}
		if _, scraped := metrics[match[1]]; !scraped {
			metrics[match[1]] = append(strings.Split(match[2], ","), "pipeline")
		}
	}
	return metrics
}

var (
	// metricName finds the names of metrics in PromQL: nothing else in our expressions begins like that.
	metricName = regexp.MustCompile(`\b(?:up|(?:penstock|process|go)_\w+)\b`)
	selector   = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
)

func TestExpressions_areAboutMetricsThatPenstockExports(t *testing.T) {
	t.Parallel()
	metrics := exported(t)
	for _, e := range expressions(t) {
		names := metricName.FindAllString(e.text, -1)
		if len(names) == 0 {
			t.Errorf("%s: %s: no metric", e.at, e.text)
		}
		for _, name := range names {
			if _, ok := metrics[name]; !ok {
				t.Errorf("%s: %s: penstock exports no %s", e.at, e.text, name)
			}
		}
		for _, match := range selector.FindAllStringSubmatch(e.text, -1) {
			for _, label := range labelName.FindAllStringSubmatch(match[2], -1) {
				if label[1] != "namespace" && !slices.Contains(metrics[match[1]], label[1]) {
					t.Errorf("%s: %s: %s has no label %s", e.at, e.text, match[1], label[1])
				}
			}
		}
	}
}

func TestDashboard_canBeImportedAnywhere(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	var rows []string
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %s: id %d is another's", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %s is over %q or out of sight", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 || p.Datasource == nil {
			t.Errorf("panel %s: no description, no query or no data source", p.Title)
			continue
		}
		sources := []datasource{*p.Datasource}
		for _, target := range p.Targets {
			sources = append(sources, target.Datasource)
			if !strings.Contains(target.Expr, `namespace=~"$namespace", pipeline=~"$pipeline"`) {
				t.Errorf("panel %s: %s: shows more than what is chosen", p.Title, target.Expr)
			}
		}
		for _, s := range sources {
			if s != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("panel %s: data source %v is somebody's own", p.Title, s)
			}
		}
	}
	if want := []string{"At a glance", "Queue", "Engine", "Redis", "Process"}; !slices.Equal(rows, want) {
		t.Errorf("rows %v, want %v", rows, want)
	}
}

// A scrape configuration of the documents is one that Prometheus takes.
func TestDocs_theScrapeConfigurationIsGood(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "```yaml\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed || !strings.Contains(block, "scrape_configs:") {
		t.Fatal("docs/monitoring.md has no scrape configuration")
	}
	dir := t.TempDir()
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"prometheus.yml": []byte(block), "alerts.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if said, ok := promtool(t, "check", "config", filepath.Join(dir, "prometheus.yml")); !ok {
		t.Error(said)
	}
}
