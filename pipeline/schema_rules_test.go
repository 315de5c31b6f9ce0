package pipeline

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/schematest"
)

type boundedConfig struct {
	Wait    time.Duration `yaml:"wait" range:"100ms..30s"`
	Whole   time.Duration `yaml:"whole" range:"0s..20s" step:"1s"`
	TTL     time.Duration `yaml:"ttl" range:"<0,1ms..876000h"`
	More    time.Duration `yaml:"more" range:">0"`
	Size    ByteSize      `yaml:"size" range:"1KiB..1GiB"`
	Count   int           `yaml:"count" range:"1..1000"`
	Ratio   float64       `yaml:"ratio" range:"0.1.."`
	Name    string        `yaml:"name" pattern:"^[a-z0-9-]{1,5}$" want:"up to five"`
	Enabled bool          `yaml:"enabled" default:"false"`
	File    string        `yaml:"file" needs:"key|enabled=true"`
	Key     string        `yaml:"key"`
	URL     string        `yaml:"url" when:";=redis://*" excludes:"host;enabled=true"`
	Host    string        `yaml:"host" default:"localhost"`
	Mode    string        `yaml:"mode" default:"slow" when:"=fast" needs:"inner.a"`
	Inner   boundedInner  `yaml:"inner"`
	List    []string      `yaml:"list" unique:"true" excludes:"inner.b"`
	X       string        `yaml:"x"`
	Y       string        `yaml:"y"`
}

type boundedInner struct {
	A string `yaml:"a"`
	B int    `yaml:"b" default:"3"`
}

func (*boundedConfig) NewSink(Env) (Sink, error) { return Sink{}, nil }

// What tags declare, the schema and the decoder judge alike, for values without expansions.
func TestTags_schemaAndLoadAgree(t *testing.T) {
	r := AddSink[boundedConfig](AddSource[tickConfig](NewRegistry(), "tick"), "bounded")
	schema, err := r.schema()
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	settings := []string{
		"name: abcde", "name: abcdef", "name: 12345", "count: 0", "count: 1", "count: 1000", "count: 1001", "ratio: 0.05", "ratio: 0.1", "ratio: 3",
		"file: a", "file: a, key: b", "file: a, enabled: true", "file: a, enabled: false", "file: ''",
		"url: http://a, host: b", "url: http://a, host: localhost", "url: redis://a, enabled: true", "url: http://a, enabled: true", "url: redis://a",
		"mode: fast", "mode: fast, inner: {a: x}", "mode: fast, inner: {b: 4}", "mode: slow", "mode: fast, inner: null",
		"list: [a, b]", "list: [a, a]", "list: [a], inner: {b: 3}", "list: [a], inner: {b: 4}", "list: [], inner: {b: 4}",
	}
	numbers := []int{0, 1, 2, 5, 9, 10, 19, 20, 21, 29, 30, 31, 60, 99, 100, 101, 999, 1000, 1024, 1048576, 1048577, 1073741824, 1073741825, 20000, 20001, 30000, 30001, 100000, 876000, 876001, 1073742, 99999999, 100000000}
	for _, n := range numbers {
		for _, unit := range []string{"ns", "us", "ms", "s", "m", "h"} {
			for _, field := range []string{"wait", "whole", "ttl", "more"} {
				settings = append(settings, fmt.Sprintf("%s: %d%s", field, n, unit), fmt.Sprintf("%s: -%d%s", field, n, unit), fmt.Sprintf("%s: 0%d%s", field, n, unit))
			}
		}
		for _, unit := range []string{"", "B", "KB", "MB", "GB", "KiB", "MiB", "GiB", " MiB"} {
			settings = append(settings, fmt.Sprintf("size: %d%s", n, unit))
		}
	}
	settings = append(settings, "wait: 1.5s", "wait: 29.9s", "wait: 31.5s", "wait: 0.01m", "whole: 1.0s", "whole: 1.5s", "whole: 0", "wait: 0", "ttl: -1.5h", "more: .5s", "wait: 1s500ms")
	refused := 0
	for _, s := range settings {
		file := "name: x\nsource: {tick: {}}\nsink: {bounded: {" + s + "}}\n"
		_, _, loadErr := LoadBytes(r, "x.yaml", []byte(file), testOptions())
		schemaErr := judge([]byte(file))
		if (loadErr == nil) != (schemaErr == nil) {
			t.Errorf("%s: load: %v, schema: %v", s, loadErr, schemaErr)
		}
		if loadErr != nil {
			refused++
		}
	}
	if refused < 300 || refused > len(settings)-300 {
		t.Errorf("%d of %d are refused", refused, len(settings))
	}
}

// What a variable will be, the schema can't know: nothing follows from it.
func TestTags_schemaTakesExpansionsForWhatTheyMayBe(t *testing.T) {
	r := AddSink[boundedConfig](AddSource[tickConfig](NewRegistry(), "tick"), "bounded")
	schema, err := r.schema()
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	for s, valid := range map[string]bool{
		"url: http://a, host: '${H}'":        true,
		"url: '${U}', host: b":               true,
		"file: a, key: '${K}'":               true,
		"file: '${F}'":                       true,
		"wait: '${W}'":                       true,
		"name: 'abc-${N}-and-more'":          true,
		"name: '${N:x}'":                     false,
		"name: '${N'":                        false,
		"name: '${file:/x}'":                 true,
		"name: '${fire:/x}'":                 false,
		"name: '${}'":                        false,
		"name: '${A:-${B:-c}}'":              true,
		"mode: '${M}'":                       true,
		"mode: fast, inner: {a: '${A}'}":     true,
		"list: ['${A}'], inner: {b: 4}":      false,
		"url: 'redis://${H}', enabled: true": false,
	} {
		if err := judge([]byte("name: x\nsource: {tick: {}}\nsink: {bounded: {" + s + "}}\n")); (err == nil) != valid {
			t.Errorf("%s: %v, want valid = %t", s, err, valid)
		}
	}
}

func TestCheckTags_saysWhatLoadSays(t *testing.T) {
	c := boundedConfig{Wait: time.Minute, Count: 1001, Ratio: 1, Name: "too long", File: "x", List: []string{"a", "a"}, Inner: boundedInner{B: 4}, Mode: "fast", Host: "localhost"}
	want := "wait: must be 100ms to 30s, got 1m0s\ncount: must be 1 to 1000, got 1001\nname: want up to five, got \"too long\"\nlist[1]: is [0] already: each may stand in the list once\n" +
		"file: needs key or enabled: true\nmode: fast needs inner.a\nlist: can't be combined with inner.b"
	if err := CheckTags(&c); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := CheckTags(boundedConfig{Host: "localhost", Inner: boundedInner{B: 3}, Mode: "slow"}); err != nil {
		t.Errorf("absent fields: %v", err)
	}
}

func TestRegistry_refusesTagsThatMakeNoSense(t *testing.T) {
	for name, config := range map[string]any{
		"a range of text": struct {
			A string `range:"1..2"`
		}{},
		"a range that is no number": struct {
			A int `range:"a..b"`
		}{},
		"a default out of its range": struct {
			A int `range:"1..2" default:"3"`
		}{},
		"an example out of its range": struct {
			A int `range:"1..2" example:"3"`
		}{},
		"a pattern without its words": struct {
			A string `pattern:"^a$"`
		}{},
		"a setting that is not there": struct {
			A string `needs:"b"`
		}{},
	} {
		if err := language.CheckTags(reflect.TypeOf(config)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
