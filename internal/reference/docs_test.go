package reference_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
)

var (
	yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	example   = regexp.MustCompile("(?ms)^```\n(pipeline.yaml:.*?)^```$")
)

// docsEnv is the environment that the examples in the docs are loaded with.
func docsEnv(name string) (string, bool) {
	const queue = "https://sqs.us-east-1.amazonaws.com/123456789012/events"
	env := map[string]string{"QUEUE_URL": queue, "PRODUCTION_QUEUE_URL": queue, "STAGING_QUEUE_URL": queue, "REDIS_HOST": "localhost"}
	value, ok := env[name]
	return value, ok
}

func TestDocs_everyPipelineLoads(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if readme := "../../README.md"; exists(readme) {
		files = append(files, readme)
	}
	loaded := 0
	for _, file := range files {
		if filepath.Base(file) == "custom-components.md" {
			continue // its components are the reader's own; examples/ runs them
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range yamlBlock.FindAllStringSubmatchIndex(string(text), -1) {
			source := string(text[block[2]:block[3]])
			line := strings.Count(string(text[:block[2]]), "\n")
			whole := strings.HasPrefix(source, "name:")
			if !whole && filepath.Base(file) != "configuration.md" {
				continue // part of something else, such as a compose file
			}
			if !whole {
				source += "\nname: part\n"
				if !strings.Contains(source, "source:") {
					source += "source: {generate: {}}\n"
				}
				if !strings.Contains(source, "sink:") {
					source += "sink: {drop: {}}\n"
				}
			}
			// The blank lines make the lines of problems those of the page.
			source = strings.Repeat("\n", line) + source
			if _, _, err := pipeline.LoadBytes(builtins(), file, []byte(source), pipeline.LoadOptions{Env: docsEnv}); err != nil {
				t.Error(err)
			}
			loaded++
		}
	}
	if loaded < 3 {
		t.Errorf("found %d pipelines in the docs", loaded)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func TestDocs_showErrorsAsTheyAre(t *testing.T) {
	const file = `name: x
source: {sqs: {queue_url: "https://sqs.us-east-1.amazonaws.com/123456789012/events"}}

sink:
  redis:
    prefix: staging
    hots: redis.internal
    ttl: 604800

retry:
  initial_interval: 1s
  on_exhausted: drop
`
	_, _, err := pipeline.LoadBytes(builtins(), "pipeline.yaml", []byte(file), pipeline.LoadOptions{Env: docsEnv})
	if err == nil {
		t.Fatal("no error")
	}
	text, readErr := os.ReadFile("../../docs/configuration.md")
	if readErr != nil {
		t.Fatal(readErr)
	}
	shown := example.FindStringSubmatch(string(text))
	if shown == nil || strings.TrimSpace(shown[1]) != err.Error() {
		t.Errorf("the page shows %q, these are the errors:\n%v", shown, err)
	}
}
