package sinks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/penstock-dev/penstock/pipeline"
)

func TestRedact_leavesOutWhatItShouldAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ body, paths, want string }{
		"a value":                   {`{"customer":{"email":"a@b","id":1.50},"x":"<&>"}`, "customer.email", `{"customer":{"email":"[redacted]","id":1.50},"x":"<&>"}`},
		"an object":                 {`{"customer":{"email":"a@b"},"x":1e3}`, "customer", `{"customer":"[redacted]","x":1e3}`},
		"in lists":                  {`[{"a":[{"b":1},{"c":2}]},{"a":{"b":3}}]`, "a.b", `[{"a":[{"b":"[redacted]"},{"c":2}]},{"a":{"b":"[redacted]"}}]`},
		"in JSON within a string":   {`{"Message":"{\"customer\":{\"email\":\"a@b\"}}"}`, "Message.customer.email", `{"Message":"{\"customer\":{\"email\":\"[redacted]\"}}"}`},
		"in what can't be read":     {`{"Message":"{\"email\":"}`, "Message.email", `{"Message":"[redacted]"}`},
		"two":                       {`{"a":1,"b":2,"c":3}`, "a b", `{"a":"[redacted]","b":"[redacted]","c":3}`},
		"nothing to find, as it is": {"{ \"b\" : 1,\n\"a\":2}", "x.y", "{ \"b\" : 1,\n\"a\":2}"},
		"no JSON":                   {"mail a@b", "email", "[redacted]"},
		"JSON and more":             {`{"a":1} a@b`, "a", "[redacted]"},
	} {
		t.Run(name, func(t *testing.T) {
			var paths [][]string
			for _, p := range strings.Fields(c.paths) {
				paths = append(paths, strings.Split(p, "."))
			}
			if got := string(redact([]byte(c.body), paths)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFile_redactsAndKeepsWhatItIsTold(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "p-20200101T000000.000000000Z-h-1-a-000001.ndjson")
	if err := os.WriteFile(old, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-200*time.Hour)); err != nil {
		t.Fatal(err)
	}
	c := &FileConfig{Dir: dir, Keep: 168 * time.Hour, Redact: []string{"customer.email"}}
	pipeline.SetDefaults(c)
	metrics := prometheus.NewRegistry()
	s, err := c.NewSink(pipeline.Env{Pipeline: "p", Role: pipeline.RoleRecord, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Publisher.Publish("", message.NewMessage("1", []byte(`{"customer":{"email":"a@b"}}`))); err != nil {
		t.Fatal(err)
	}
	if err := s.Publisher.Close(); err != nil {
		t.Fatal(err)
	}
	all := entries(t, dir)
	if len(all) != 1 || string(all[0].Payload) != `{"customer":{"email":"[redacted]"}}` {
		t.Errorf("%+v", all)
	}
	if err := testutil.GatherAndCompare(metrics, strings.NewReader("# HELP penstock_files_removed_total Files of a file sink that were removed because of keep or max_size.\n"+
		"# TYPE penstock_files_removed_total counter\npenstock_files_removed_total 1\n")); err != nil {
		t.Error(err)
	}
	if _, err := c.NewSink(pipeline.Env{Pipeline: "p", Role: pipeline.RolePoisonQueue}); err == nil {
		t.Error("a poison queue may lose entries")
	}
}
