package cli

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/schematest"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

func TestInit_everyTemplateIsAValidPipeline(t *testing.T) {
	r := sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry())))
	schema, err := inside.Schema(r)
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/events", "REDIS_HOST": "localhost"}
	for _, template := range templates {
		name, dir := template.name, filepath.Join(t.TempDir(), "new")
		code, stdout, stderr := shipped(initArgs(name, dir)...)
		file := filepath.Join(dir, "pipeline.yaml")
		if code != 0 || strings.Count(stdout, "\n") != 3 {
			t.Fatalf("%s: exit %d: %s%s", name, code, stdout, stderr)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# yaml-language-server: $schema=pipeline.schema.json\n# ") {
			t.Errorf("%s: the schema, or a comment, is missing in the first lines:\n%s", name, text)
		}
		if template.program {
			continue // its own test loads it: the sink is its own
		}
		if _, err := os.Stat(filepath.Join(dir, "pipeline.schema.json")); err != nil {
			t.Error(err)
		}
		if err := judge(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		if _, _, err := pipeline.Load(r, file, pipeline.LoadOptions{Env: lookup}); err != nil {
			t.Error(err)
		}
	}
	if code, _, stderr := shipped("init", "own-jsn", t.TempDir()); code != 2 || !strings.Contains(stderr, "did you mean own-json?") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// initArgs name the checkout, because a test may be built without the machine's paths.
func initArgs(name, dir string) []string {
	args := []string{"init", name, dir}
	if name == "custom-program" {
		args = append(args, "--checkout", filepath.Join("..", ".."))
	}
	return args
}

func TestInit_neverWritesOverAFile(t *testing.T) {
	for _, name := range templateNames() {
		dir := filepath.Join(t.TempDir(), "new")
		if code, _, stderr := shipped(initArgs(name, dir)...); code != 0 {
			t.Fatal(stderr)
		}
		made, err := os.ReadDir(dir)
		if err != nil || len(made) < 3 {
			t.Fatalf("%s: made %v, %v", name, made, err)
		}
		for _, f := range made { // whichever is there: nothing is written
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, f.Name()), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, _, stderr := shipped(initArgs(name, dir)...); code != 2 || !strings.Contains(stderr, filepath.Join(dir, f.Name())+" is there already") {
				t.Errorf("%s with %s: exit %d: %s", name, f.Name(), code, stderr)
			}
			text, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if left, _ := os.ReadDir(dir); err != nil || string(text) != "mine" || len(left) != 1 {
				t.Errorf("%s with %s: it says %q, %v; in the directory is %v", name, f.Name(), text, err, left)
			}
		}
	}
}

func TestInit_copiesSayNothingOfTheReadyPipelineThatTheyWere(t *testing.T) {
	dir := t.TempDir()
	if code, _, stderr := shipped("init", "cache-service", dir); code != 0 {
		t.Fatal(stderr)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pipeline.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ready, _ := configs.Read(configs.PersistentCache)
	_, body, _ := strings.Cut(string(ready), "\nname:")
	if !strings.Contains(string(text), "\nname:"+body+"\npoison_queue:") {
		t.Errorf("it is not the ready pipeline with a poison queue:\n%s", text)
	}
	if strings.Contains(string(text), "without a file") || strings.Contains(string(text), "POISON_QUEUE_URL") {
		t.Errorf("its comment is that of the built-in service, which reads other variables:\n%s", text)
	}
	tests, err := os.ReadFile(filepath.Join(dir, "pipeline_test.yaml"))
	if err != nil || !strings.Contains(string(tests), "penstock test pipeline.yaml") || strings.Contains(string(tests), "penstock test persistent-cache") {
		t.Errorf("%v: %.200s", err, tests)
	}
}

func TestInit_ownJSONRuns(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := shipped("init", "own-json", dir)
	if code != 0 {
		t.Fatal(stderr)
	}
	redis := miniredis.RunT(t)
	host, port, err := net.SplitHostPort(redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"REDIS_HOST": host, "REDIS_PORT": port}
	for _, word := range strings.Fields(stdout) { // the commands that it prints are to be run from where they were printed
		if name, value, ok := strings.Cut(word, "="); ok && name != "REDIS_HOST" {
			env[name] = value
		}
	}
	r := sinks.Register(transforms.Register(sources.Register(pipeline.NewRegistry())))
	config, _, err := pipeline.Load(r, filepath.Join(dir, "pipeline.yaml"), pipeline.LoadOptions{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	if err != nil {
		t.Fatal(err)
	}
	built, err := config.Build(pipeline.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pipeline.New(pipeline.Settings{}, built)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if l := engine.Ledgers()[0]; l.Written != 2 {
		t.Errorf("got %+v", l)
	}
	if got, err := redis.Get("own:customer-1"); err != nil || !strings.Contains(got, `"plan":"team"`) {
		t.Errorf("customer-1 is %q, %v; keys %q", got, err, redis.Keys())
	}
}
