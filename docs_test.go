package penstock_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/alicebob/miniredis/v2"
	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
)

// block is a fenced block of a document.
type block struct {
	file     string
	line     int // of its first line
	language string
	text     string
}

var fence = regexp.MustCompile("^ *```(\\S*)")

// blocks returns the fenced blocks of every document.
func blocks(t *testing.T) []block {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, file := range append(append([]string{"README.md", "CONTRIBUTING.md"}, files...), more...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var open *block
		for i, line := range strings.SplitAfter(string(text), "\n") {
			match := fence.FindStringSubmatch(line)
			switch {
			case match != nil && open == nil:
				open = &block{file: file, line: i + 2, language: match[1]}
			case match != nil:
				all = append(all, *open)
				open = nil
			case open != nil:
				open.text += line
			}
		}
		if open != nil {
			t.Errorf("%s:%d: a fence is not closed", file, open.line)
		}
	}
	return all
}

// sampleEnvironment has a value for every variable that the documents use.
var sampleEnvironment = map[string]string{
	"QUEUE_URL":  "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
	"REDIS_HOST": "redis.internal", "SECOND_REDIS_HOST": "redis2.internal", "REDIS_PASSWORD": "secret", "REDIS_PORT": "6379",
	"ENVIRONMENT_PREFIX": "production", "PORT": "4000", "ADMIN_TOKEN": "secret",
	"PRODUCTION_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/production", "STAGING_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/staging",
}

// load loads what may be a whole pipeline or some of its keys: the rest is made up.
func load(b block) (*pipeline.Config, error) {
	var part map[string]yaml.Node
	if err := yaml.Unmarshal([]byte(b.text), &part); err != nil {
		return nil, err
	}
	text := b.text
	_, source := part["source"]
	if _, transforms := part["transforms"]; !source && !transforms && !strings.Contains(b.text, "plain:") {
		text += "transforms: [{decode_entitlements: {}}]\n"
	}
	for key, value := range map[string]string{"name": "name: made-up\n", "source": "source: {generate: {}}\n", "sink": "sink: {drop: {}}\n"} {
		if _, ok := part[key]; !ok {
			text += value
		}
	}
	config, _, err := pipeline.LoadBytes(penstock.Builtins(), b.file, []byte(text), pipeline.LoadOptions{
		Env:      func(name string) (string, bool) { v, ok := sampleEnvironment[name]; return v, ok },
		ReadFile: func(string) ([]byte, error) { return []byte("secret\n"), nil },
	})
	return config, err
}

// chartValues is how a block of values for the chart begins: the tests of the module deploy/helm render it.
var chartValues = regexp.MustCompile(`\A# \S*values\.yaml\n`)

func TestDocs_everyYAMLLoads(t *testing.T) {
	n := 0
	for _, b := range blocks(t) {
		if b.language != "yaml" && b.language != "yml" {
			continue
		}
		if chartValues.MatchString(b.text) {
			continue
		}
		n++
		if strings.Contains(b.text, "webhook:") {
			continue // the custom sink's: its own module loads that file
		}
		if strings.Contains(b.text, "scrape_configs:") {
			continue // Prometheus's: test/monitoring has promtool check it
		}
		config, err := load(b)
		if err != nil {
			t.Errorf("%s:%d: %v", b.file, b.line, err)
			continue
		}
		t.Run(fmt.Sprintf("%s:%d", b.file, b.line), func(t *testing.T) { writesAMessageOfItsKind(t, config) })
	}
	if n < 3 {
		t.Errorf("found %d blocks: the search misses them", n)
	}
}

// command is how a line of a document calls penstock.
var command = regexp.MustCompile(`^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:(?:\./)?(?:dist/)?penstock|go run \./cmd/penstock)((?: |$).*)`)

func TestDocs_everyCommandExists(t *testing.T) {
	targets, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, b := range blocks(t) {
		for i, line := range strings.Split(b.text, "\n") {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			at := func() string { return b.file + ": " + line }
			if target, ok := strings.CutPrefix(strings.TrimPrefix(line, "$ "), "make "); ok && (b.language == "sh" || strings.HasPrefix(line, "$ ")) {
				n++
				if !strings.Contains(string(targets), "\n"+strings.TrimSpace(target)+":") {
					t.Errorf("%s: no such target", at())
				}
				continue
			}
			match := command.FindStringSubmatch(line)
			if match == nil || b.language != "sh" && !strings.HasPrefix(line, "$ ") {
				continue
			}
			n++
			args := strings.Fields(match[1])
			if i := slices.IndexFunc(args, func(a string) bool { return strings.ContainsAny(a, "|>&;") }); i >= 0 {
				args = args[:i]
			}
			var stdout, stderr bytes.Buffer
			p := &cli.Program{Registry: penstock.Builtins(), Args: append(args, "--help"), Invocation: "penstock", Stdout: &stdout, Stderr: &stderr}
			// Flags are parsed before --help is obeyed, so that unknown ones are found.
			if code := p.Run(context.Background()); code != 0 {
				t.Errorf("%s (line %d of the block at %d): %s", at(), i+1, b.line, stderr.String())
			}
			for _, arg := range args {
				if strings.HasPrefix(arg, "configs/") {
					if _, err := os.Stat(arg); err != nil {
						t.Errorf("%s: %v", at(), err)
					}
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("found %d commands: the search misses them", n)
	}
}

func TestReadme_threeLinesSwapSourceAndSink(t *testing.T) {
	quickstart, err := os.ReadFile("configs/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(blocks(t), func(b block) bool { return b.file == "README.md" && b.language == "diff" })
	if i < 0 {
		t.Fatal("no diff in README.md")
	}
	lines := strings.Split(string(quickstart), "\n")
	var at, removed int
	for line := range strings.Lines(blocks(t)[i].text) {
		line = strings.TrimRight(line, "\n")
		switch body := line[1:]; line[0] {
		case '+':
			lines = slices.Insert(lines, at, body)
			at++
		default:
			// The document leaves comments at the ends of lines out.
			found := slices.IndexFunc(lines[at:], func(l string) bool { l, _, _ = strings.Cut(l, " #"); return strings.TrimRight(l, " ") == body })
			if found < 0 {
				t.Fatalf("configs/quickstart.yaml has no line %q after line %d", body, at)
			}
			at += found
			if line[0] == '-' {
				lines = slices.Delete(lines, at, at+1)
				removed++
			} else {
				at++
			}
		}
	}
	if removed != 3 {
		t.Errorf("it changes %d lines", removed)
	}
	if _, err := load(block{file: "configs/quickstart.yaml with the diff", text: strings.Join(lines, "\n")}); err != nil {
		t.Error(err)
	}
}

func TestDocs_theWalkThroughShowsTheExample(t *testing.T) {
	text, err := os.ReadFile("docs/custom-components.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, parts := range map[string][2]string{
		"examples/custom-sink/webhook.go": {"// WebhookConfig posts", "}), nil\n}\n"},
		"examples/custom-sink/main.go":    {"//go:embed webhook.go", "registry.Document(source))\n}\n"},
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		from := strings.Index(string(source), parts[0])
		to := strings.Index(string(source), parts[1])
		if from < 0 || to < from {
			t.Fatalf("%s has no %q … %q", file, parts[0], parts[1])
		}
		if want := string(source)[from : to+len(parts[1])]; !strings.Contains(string(text), want) {
			t.Errorf("docs/custom-components.md does not show what %s says:\n%s", file, want)
		}
	}
}

func TestDocs_referenceIsFresh(t *testing.T) {
	var stdout, stderr bytes.Buffer
	p := &cli.Program{Registry: penstock.Builtins(), Args: []string{"components", "--markdown"}, Stdout: &stdout, Stderr: &stderr}
	if code := p.Run(context.Background()); code != 0 {
		t.Fatal(stderr.String())
	}
	got, err := os.ReadFile("docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, stdout.Bytes()) {
		t.Error("docs/reference.md is stale: make docs")
	}
}

var link = regexp.MustCompile(`\]\(([^()#\s]+)(?:#[^)]*)?\)`)

func TestDocs_linksLeadSomewhere(t *testing.T) {
	files, _ := filepath.Glob("docs/*.md")
	more, _ := filepath.Glob("docs/*/*.md")
	for _, file := range append(append([]string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}, files...), more...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), match[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// TestDocs_migrationHasEveryVariable: what operations.md says of a variable, the page for those who come from the
// existing service must not leave out.
func TestDocs_migrationHasEveryVariable(t *testing.T) {
	variables := func(file string) map[string]bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			if cells := strings.Split(line, "|"); len(cells) > 2 {
				for _, name := range regexp.MustCompile("`([A-Z][A-Z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
					found[name[1]] = true
				}
			}
		}
		return found
	}
	want, got := variables("docs/operations.md"), variables("docs/migration.md")
	if len(want) < 20 {
		t.Fatalf("found %d variables: the search misses them", len(want))
	}
	for name := range want {
		if !got[name] {
			t.Errorf("docs/migration.md has no %s", name)
		}
	}
}

// writesAMessageOfItsKind runs a pipeline with its own transforms and sinks on one message such as it is made for,
// which must end as written. The source becomes a file with that message, a Redis one of the test; sinks that would
// leave this machine or write here drop it.
func writesAMessageOfItsKind(t *testing.T, config *pipeline.Config) {
	message := `{"type":"ENTITLEMENTS_UPDATED","timestamp":"2026-11-20T10:15:30.000Z","customerId":"c","entitlements":[]}`
	for _, test := range config.Tests { // a pipeline with tests of its own says what it takes
		if text, ok := test.Input[0].Payload.(string); ok && test.Outcome == "written" {
			message = text
			break
		}
	}
	config.PoisonQueue, config.Record, config.Service = nil, nil, nil
	redis := miniredis.RunT(t).Addr()
	config.Walk(func(role pipeline.Role, kind pipeline.Kind, c *pipeline.Component) {
		if kind != pipeline.KindSink {
			return
		}
		switch sink := c.Config.(type) {
		case *sinks.RedisConfig:
			local := &sinks.RedisConfig{}
			pipeline.SetDefaults(local)
			local.Host, local.Plain, local.Prefix, local.TTL = redis, sink.Plain, sink.Prefix, sink.TTL
			c.Config = local
			if p := sink.Plain; p != nil {
				message = fmt.Sprintf(`{%q:"k",%q:{"total":3},%q:"2026-11-27T10:00:00Z"}`, p.Key, p.Value, cmp.Or(p.Version, "version"))
			}
		case *sinks.SQSConfig, *sinks.FileConfig, *sinks.StdoutConfig:
			c.Config = &sinks.DropConfig{}
		}
	})
	file := filepath.Join(t.TempDir(), "message.txt")
	if err := os.WriteFile(file, []byte(message+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := &sources.FileConfig{}
	pipeline.SetDefaults(source)
	source.Paths, source.Format, source.Redeliveries = []string{file}, "lines", 0
	config.Retry.MaxAttempts = 1
	config.Source.Component = pipeline.Component{Name: "file", Config: source, Path: "source.file"}

	built, err := config.Build(pipeline.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pipeline.New(pipeline.Settings{}, built)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := engine.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if l := engine.Ledgers()[0]; l.Written != 1 {
		t.Errorf("the message %s became %+v, want it written", message, l)
	}
}

// TestDocs_architectureNamesEveryPackage: whoever looks for a thing finds its folder in the table.
func TestDocs_architectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*", "internal/*", "pipeline/internal/*", "test/*"} {
		folders, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			if files, _ := filepath.Glob(folder + "/*.go"); len(files) == 0 {
				continue
			}
			if !bytes.Contains(text, []byte("`"+folder+"`")) && !bytes.Contains(text, []byte("`"+folder+"/`")) {
				t.Errorf("docs/architecture.md does not name %s", folder)
			}
		}
	}
}
