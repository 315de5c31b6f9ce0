package reference_test

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/penstock-dev/penstock/internal/reference"
	"github.com/penstock-dev/penstock/pipeline"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// echoConfig repeats what it hears | reads.
//
// It takes `a*b` as it is, and <this> and *that* as words.
type echoConfig struct {
	// How long to wait.
	//
	// A second paragraph | with a bar.
	Delay time.Duration `yaml:"delay" default:"5s"`
	// How to speak.
	Voice string `yaml:"voice" default:"low" enum:"low,high"`
	// Who listens.
	Listeners []struct {
		// What they are called.
		Name string `yaml:"name" required:"true"`
	} `yaml:"listeners"`
}

func (*echoConfig) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }
func (*echoConfig) NewSink(pipeline.Env) (pipeline.Sink, error)     { return pipeline.Sink{}, nil }

// muteConfig is a sink that says nothing.
type muteConfig struct{}

func (*muteConfig) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }

type choirConfig []pipeline.SinkSpec

func (*choirConfig) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }

func registry(t *testing.T) *pipeline.Registry {
	t.Helper()
	source, err := os.ReadFile("reference_test.go")
	if err != nil {
		t.Fatal(err)
	}
	r := pipeline.NewRegistry()
	pipeline.AddSource[echoConfig](r, "echo")
	pipeline.AddSink[echoConfig](r, "echo")
	pipeline.AddSink[muteConfig](r, "mute")
	pipeline.AddSink[choirConfig](r, "choir")
	return r.Document(fstest.MapFS{"components.go": {Data: source}})
}

func TestWrite_everyComponentWithItsSettings(t *testing.T) {
	var b strings.Builder
	if err := reference.Write(&b, registry(t)); err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), "testdata/reference.md")
}

// compare compares with a golden file.
func compare(t *testing.T, got, file string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s is stale (make docs renews it) from line %d on:\n%s", file, i+1, gotLines[i])
		}
	}
	t.Errorf("%s is stale (make docs renews it): it has %d lines more", file, len(wantLines)-len(gotLines))
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

var errBroken = errors.New("broken pipe")

func TestWrite_reportsErrors(t *testing.T) {
	if err := reference.Write(brokenPipe{}, registry(t)); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	r := registry(t).Document(fstest.MapFS{"x.go": {Data: []byte("no Go")}})
	if err := reference.Write(&strings.Builder{}, r); err == nil {
		t.Error("source that is not Go was accepted")
	}
}
