package cli

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

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
	for _, name := range templateNames() {
		dir := filepath.Join(t.TempDir(), "new")
		code, stdout, stderr := shipped("init", name, dir)
		file := filepath.Join(dir, "pipeline.yaml")
		if code != 0 || strings.Count(stdout, "\n") != 3 || !strings.Contains(stdout, "penstock validate "+file) {
			t.Fatalf("%s: exit %d: %s%s", name, code, stdout, stderr)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := judge(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		if _, _, err := pipeline.Load(r, file, pipeline.LoadOptions{Env: lookup}); err != nil {
			t.Error(err)
		}
		// What is there stays as it is.
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := shipped("init", name, dir); code != 2 || !strings.Contains(stderr, "is there already") {
			t.Errorf("%s again: exit %d: %s", name, code, stderr)
		}
		if text, _ := os.ReadFile(file); string(text) != "mine" {
			t.Errorf("%s was written over", file)
		}
	}
	if code, _, stderr := shipped("init", "own-jsn", t.TempDir()); code != 2 || !strings.Contains(stderr, "did you mean own-json?") {
		t.Errorf("exit %d: %s", code, stderr)
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
