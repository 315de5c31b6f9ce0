package transforms

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// anyConfig stands for sources and sinks, which are not what these tests are about.
type anyConfig map[string]any

func (*anyConfig) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }
func (*anyConfig) NewSink(pipeline.Env) (pipeline.Sink, error)     { return pipeline.Sink{}, nil }

func registry() *pipeline.Registry {
	r := Register(pipeline.NewRegistry())
	pipeline.AddSource[anyConfig](r, "none")
	pipeline.AddSource[anyConfig](r, "file")
	pipeline.AddSink[anyConfig](r, "none")
	pipeline.AddSink[anyConfig](r, "redis")
	return r
}

func TestConfigs_mistakesAreToldWithTheirPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, _, err := pipeline.Load(registry(), file, pipeline.LoadOptions{})
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.ReplaceAll(err.Error(), filepath.ToSlash(file), filepath.Base(file)) + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestConfigs_settingsAndDefaultsArrive(t *testing.T) {
	c, _, err := pipeline.Load(registry(), "testdata/all.good.yaml", pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []any{
		&UnwrapConfig{MaxDepth: 3, MaxSize: 1 << 20},
		&DecodeEntitlementsConfig{
			Layout: "v4", UpdatePolicy: "update_if_exists", Usage: "if_customer_cached", Types: map[string]string{"MY_EVENT": "ignore"},
			Fields: DecodeEntitlementsFields{Customer: "$.a[0].b", TotalConsumed: "$.c"},
		},
		&UnwrapConfig{MaxDepth: 8, MaxSize: 16 << 20},
		&DecodeEntitlementsConfig{Layout: "dual", UpdatePolicy: "upsert", Usage: "always"},
		&RefreshEntitlementsConfig{
			DecodeEntitlementsConfig: DecodeEntitlementsConfig{Layout: "v3", UpdatePolicy: "upsert", Usage: "always", Types: map[string]string{"MY_EVENT": "refresh"}},
			APIKey:                   pipeline.NewSecret("key"), URL: "http://127.0.0.1:3060", Endpoint: "entitlements_state",
			RequestTimeout: 2 * time.Second, RequestsPerSecond: 0.5,
		},
		&RefreshEntitlementsConfig{
			DecodeEntitlementsConfig: DecodeEntitlementsConfig{Layout: "dual", UpdatePolicy: "upsert", Usage: "always"},
			URL:                      "https://edge.api.stigg.io", Endpoint: "auto",
			Delay: time.Second, RequestTimeout: 10 * time.Second, RequestsPerSecond: 100,
		},
	}
	for i, spec := range c.Transforms {
		if !reflect.DeepEqual(spec.Config, want[i]) {
			t.Errorf("%s: %+v\nwant %+v", spec.Path, spec.Config, want[i])
		}
	}
}

// TestDocs_exampleOfEventsWorks loads the pipeline of docs/events.md and decodes an event in its spellings.
func TestDocs_exampleOfEventsWorks(t *testing.T) {
	page, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 1 {
		t.Fatalf("%d examples", len(blocks))
	}
	c, _, err := pipeline.LoadBytes(registry(), "events.md", blocks[0][1], pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	msgs := []*message.Message{message.NewMessage("id", []byte(
		`{"type":"acme.usage-changed","head":{"at":"2026-11-20T10:15:30.250Z"},"account":{"id":"c"},"featureId":"f","currentUsage":1}`))}
	for _, spec := range c.Transforms {
		transform, err := spec.New(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if msgs, err = transform(msgs[0]); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"key":"c_c:f_f","version":1795169730250,"lock":"c","value":{"currentUsage":1}}` + "\n"
	if got := string(msgs[0].Payload); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}
