package pipeline

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// tickConfig makes messages by itself.
type tickConfig struct {
	// How many.
	Count int `yaml:"count" default:"10"`
	// How often, per second.
	Rate float64 `yaml:"rate"`
}

func (*tickConfig) NewSource(Env) (Source, error) { return Source{}, nil }

// Paths has a rule of its own, as types in configs may.
type globs []string

type filesConfig struct {
	// Which files.
	Paths globs `yaml:"paths" required:"true"`
	// How they are written.
	Format string `yaml:"format" default:"recording" enum:"recording,lines"`
}

func (*filesConfig) NewSource(Env) (Source, error) { return Source{}, nil }

// pickyConfig is a sink with rules about the rest of its pipeline.
type pickyConfig struct {
	Want string `yaml:"want"`
}

func (*pickyConfig) NewSink(Env) (Sink, error) { return Sink{}, nil }

func (c *pickyConfig) Check(whole *Config) error {
	if whole.Source.Name == c.Want {
		return nil
	}
	return errors.Join(Invalid("want", "the source is %s", whole.Source.Name), Invalid("", "not with %d transforms", len(whole.Transforms)))
}

func (c *pickyConfig) Warnings(whole *Config) []error {
	return []error{Invalid("want", "is odd")}
}

type renameConfig struct {
	// New names by old ones.
	Fields map[string]string `yaml:"fields"`
	// Anything at all.
	Extra any `yaml:"extra"`
}

func (*renameConfig) NewTransform(Env) (Transform, error) { return nil, nil }

type tlsConfig struct {
	Enabled bool   `yaml:"enabled"`
	CAFile  string `yaml:"ca_file"`
}

func (t tlsConfig) Validate() error {
	if t.CAFile != "" && !t.Enabled {
		return Invalid("ca_file", "wants enabled: true")
	}
	return nil
}

// Common is inlined.
type Common struct {
	// Put before every key.
	Prefix string `yaml:"prefix" default:"production"`
}

func (c Common) Validate() error {
	if strings.Contains(c.Prefix, " ") {
		return Invalid("prefix", "must be without spaces")
	}
	return nil
}

// storeConfig keeps messages, e.g. for e.g. tests. It has every type of field.
//
// Its second paragraph.
type storeConfig struct {
	Common Common `yaml:",inline"`
	// The server, by name or address. Two
	// lines of comment.
	Host     string        `yaml:"host" required:"true"`
	Port     uint16        `yaml:"port" default:"6379"`
	DB       int           `yaml:"db"`
	Small    int8          `yaml:"small"`
	Ratio    float64       `yaml:"ratio" default:"0.5"`
	Password Secret        `yaml:"password"`
	TTL      time.Duration `yaml:"ttl" default:"168h"` // How long entries live.
	Size     ByteSize      `yaml:"size" default:"1MiB"`
	// See [Batch].
	Batch  Batch      `yaml:"batch"`
	TLS    *tlsConfig `yaml:"tls"`
	Verify *bool      `yaml:"verify"`
	Modes  []string   `yaml:"modes" enum:"fast,safe" default:"[safe]"`
	Limits map[string]int
	Since  time.Time `yaml:"since"`
}

func (*storeConfig) NewSink(Env) (Sink, error) { return Sink{}, nil }

func (c *storeConfig) Validate() error {
	var errs []error
	if c.TTL == 0 {
		errs = append(errs, Invalid("ttl", "must not be 0; negative means no expiry"))
	}
	if c.Host == "localhost" && !c.Password.IsZero() {
		errs = append(errs, errors.New("localhost wants no password"))
	}
	for i, m := range c.Modes {
		if m == "safe" && i > 0 {
			errs = append(errs, Invalid(fmt.Sprintf("modes[%d]", i), "safe comes first"))
		}
	}
	return errors.Join(errs...)
}

type nowhereConfig struct{}

func (*nowhereConfig) NewSink(Env) (Sink, error) { return Sink{}, nil }

// allConfig is a sink made of sinks.
type allConfig []SinkSpec

func (allConfig) NewSink(Env) (Sink, error) { return Sink{}, nil }

func (allConfig) MinItems() int { return 2 }

type routeConfig struct {
	Cases map[string]SinkSpec `yaml:"cases"`
	Else  *SinkSpec           `yaml:"else"`
}

func (*routeConfig) NewSink(Env) (Sink, error) { return Sink{}, nil }

type labelConfig struct {
	Labels map[string]string `yaml:"labels" required:"true"`
}

func (*labelConfig) NewTransform(Env) (Transform, error) { return nil, nil }

func testRegistry() *Registry {
	r := NewRegistry()
	AddSource[tickConfig](r, "tick")
	AddSource[filesConfig](r, "files")
	AddTransform[renameConfig](r, "rename")
	AddTransform[renameConfig](r, "flatten")
	AddTransform[labelConfig](r, "label")
	AddSink[storeConfig](r, "store")
	AddSink[nowhereConfig](r, "nowhere")
	AddSink[allConfig](r, "fan_out")
	AddSink[routeConfig](r, "route")
	return r
}

var testFiles = map[string]string{
	"/run/secrets/password": "correct horse\n",
	"/run/secrets/crlf":     "battery\r\n",
	"/run/secrets/empty":    "\n",
	"/run/secrets/number":   "twelve\n",
}

var testEnv = map[string]string{
	"HOST":     "redis.internal",
	"PORT":     "6380",
	"EMPTY":    "",
	"YES":      "Yes",
	"ONE":      "1",
	"TTL":      "90s",
	"SECONDS":  "604800",
	"WORD":     "twelve",
	"INJECT":   "x\nsink: {nowhere: {}} # ${HOST}",
	"ZIP":      "0123",
	"LINK":     "tcp://10.0.0.7:6379",
	"HEX":      "0x10",
	"FILE":     "/run/secrets/password",
	"PASSWORD": "hunter2",
}

func testOptions() LoadOptions {
	return LoadOptions{
		Env: func(name string) (string, bool) { v, ok := testEnv[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			if s, ok := testFiles[name]; ok {
				return []byte(s), nil
			}
			if strings.HasPrefix(name, "testdata/") {
				return os.ReadFile(name)
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
}

// Every file holds one mistake; beside it is what is reported about it.
func TestLoad_mistakesAreReportedWithTheirPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			config, _, err := Load(testRegistry(), file, testOptions())
			if err == nil {
				t.Fatalf("loaded: %+v", config)
			}
			if _, ok := errors.AsType[*ConfigError](err); !ok || config != nil {
				t.Errorf("got config %v and a %T, want none and a *ConfigError", config, err)
			}
			got := strings.ReplaceAll(err.Error(), "testdata/", "") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
			if strings.Contains(got, "hunter2") || strings.Contains(got, "correct horse") || strings.Contains(got, "twelve\n") {
				t.Error("a secret is in the report")
			}
		})
	}
}

func TestLoad_componentsCheckTheRestOfThePipeline(t *testing.T) {
	r := testRegistry()
	AddSink[pickyConfig](r, "picky")
	for name, c := range map[string]struct{ file, problems, warnings string }{
		"fits":         {"name: a\nsource: {tick: {}}\nsink: {picky: {want: tick}}\n", "", "x.yaml:3:22: sink.picky.want: is odd [PS099]"},
		"does not fit": {"name: a\nsource: {tick: {}}\nsink: {picky: {want: files}}\n", "x.yaml:3:8: sink.picky: not with 0 transforms [PS090]\nx.yaml:3:22: sink.picky.want: the source is tick [PS090]", ""},
		"not asked while a part is wrong": {"name: a\nsource: {tick: {}}\nsink: {picky: {want: files}}\nmax_in_flight: 0\n",
			"x.yaml:4:16: max_in_flight: must be at least 1, got 0 [PS051]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			config, warnings, err := LoadBytes(r, "x.yaml", []byte(c.file), LoadOptions{})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.problems || (config == nil) != (err != nil) {
				t.Errorf("got %v, %v\nwant %s", config, err, c.problems)
			}
			var texts []string
			for _, w := range warnings {
				texts = append(texts, w.String())
			}
			if got := strings.Join(texts, "\n"); got != c.warnings {
				t.Errorf("warnings: got %s\nwant %s", got, c.warnings)
			}
		})
	}
}

func storeDefaults() storeConfig {
	return storeConfig{
		Common: Common{Prefix: "production"}, Port: 6379, Ratio: 0.5, TTL: 168 * time.Hour, Size: 1 << 20,
		Batch: Batch{Count: 256, Bytes: 1 << 20}, Modes: []string{"safe"},
	}
}

func withStore(change func(*storeConfig)) *storeConfig {
	c := storeDefaults()
	change(&c)
	return &c
}

func sinkSpec(path, name string, config any) SinkSpec {
	return SinkSpec{Component{Name: name, Config: config, Path: path}}
}

func TestLoad_goodFilesBecomeConfigs(t *testing.T) {
	yes := true
	tests := map[string]Config{
		"minimal": {
			Name:   "minimal",
			Source: SourceSpec{Component{"tick", &tickConfig{Count: 10}, "source.tick"}},
			Sink:   sinkSpec("sink.store", "store", withStore(func(c *storeConfig) { c.Host = "localhost" })),
			Retry: RetryConfig{
				InitialInterval: 100 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2, MaxAttempts: 5,
				MaxElapsedTime: time.Minute, OnExhausted: "release",
			},
			MaxInFlight: 1024, MaxInFlightBytes: 64 << 20, MessageTimeout: 30 * time.Second, ShutdownTimeout: 8 * time.Second,
		},
		"full": {
			Name:   "every-key",
			Source: SourceSpec{Component{"files", &filesConfig{Paths: globs{"a/*.ndjson", "b"}, Format: "lines"}, "source.files"}},
			Transforms: []TransformSpec{
				{Component{"rename", &renameConfig{
					Fields: map[string]string{"a": "b", "12": "c", "d": "${HOST}"},
					Extra: map[string]any{
						"number": 12, "big": uint64(12345678901234567890), "float": 1.5, "yes": "yes", "true": true, "null": nil,
						"empty": "", "date": "2026-11-22", "hex": 16, "from_variable": 6380, "quoted_variable": "6380",
						"zip": "0123", "said": "Yes", "list": []any{1, map[string]any{"a": "b"}},
					},
				}, "transforms[0].rename"}},
				{Component{"flatten", &renameConfig{}, "transforms[1].flatten"}},
				{Component{"flatten", &renameConfig{}, "transforms[2].flatten"}},
			},
			Sink: sinkSpec("sink.fan_out", "fan_out", &allConfig{
				sinkSpec("sink.fan_out[0].store", "store", &storeConfig{
					Common: Common{"stage"}, Host: "redis.internal", Port: 7000, DB: 1, Small: -128, Ratio: 2,
					Password: NewSecret("correct horse"), TTL: -time.Second, Size: 64 << 20,
					Batch: Batch{10, 1000, 5 * time.Millisecond}, TLS: &tlsConfig{true, "ca.pem"}, Verify: &yes,
					Modes: []string{"safe", "fast"}, Limits: map[string]int{"a": 1, "b": 6380},
					Since: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
				}),
				sinkSpec("sink.fan_out[1].store", "store", withStore(func(c *storeConfig) {
					c.Host, c.TTL, c.TLS, c.Size = "127.0.0.1", 90*time.Second, &tlsConfig{true, "ca.pem"}, 604800
				})),
				sinkSpec("sink.fan_out[2].route", "route", &routeConfig{
					Cases: map[string]SinkSpec{
						"small": sinkSpec("sink.fan_out[2].route.cases.small.nowhere", "nowhere", &nowhereConfig{}),
						"1": sinkSpec("sink.fan_out[2].route.cases.1.fan_out", "fan_out", &allConfig{
							sinkSpec("sink.fan_out[2].route.cases.1.fan_out[0].nowhere", "nowhere", &nowhereConfig{}),
							sinkSpec("sink.fan_out[2].route.cases.1.fan_out[1].nowhere", "nowhere", &nowhereConfig{}),
						}),
					},
					Else: ptr(sinkSpec("sink.fan_out[2].route.else.store", "store", withStore(func(c *storeConfig) {
						c.Host, c.TTL = "else", 604800*time.Second
					}))),
				}),
			}),
			Retry: RetryConfig{
				InitialInterval: 50 * time.Millisecond, MaxInterval: 5 * time.Second, Multiplier: 1.5, MaxAttempts: 3,
				MaxElapsedTime: 2 * time.Minute, OnExhausted: "poison",
			},
			PoisonQueue: ptr(sinkSpec("poison_queue.store", "store", withStore(func(c *storeConfig) { c.Host = "poison" }))),
			Record:      &RecordConfig{Sink: sinkSpec("record.nowhere", "nowhere", &nowhereConfig{}), OnError: "block"},
			MaxInFlight: 10, MaxInFlightBytes: 1 << 20, MessageTimeout: time.Second, ShutdownTimeout: 90 * time.Second,
			Service: &ServiceConfig{HTTP: &HTTPConfig{":4000"}, Admin: &AdminConfig{Address: ":4001", Token: NewSecret("hunter2")}},
		},
	}
	reread := language.Reread
	language.Reread = nil // functions are never equal
	defer func() { language.Reread = reread }()
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			file := "testdata/" + name + ".good.yaml"
			got, warnings, err := Load(testRegistry(), file, testOptions())
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%v, warnings %v", err, warnings)
			}
			got.places = nil
			want.File = file
			if g, w := dump(*got), dump(want); g != w {
				t.Errorf("got:\n%s\nwant:\n%s", g, w)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Error("the dumps are equal, the configs are not")
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// dump prints a config with what its pointers point to, secrets revealed.
func dump(x any) string {
	var b strings.Builder
	var walk func(v reflect.Value, indent string)
	walk = func(v reflect.Value, indent string) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if v.IsNil() {
				b.WriteString("nil\n")
				return
			}
			walk(v.Elem(), indent)
		case reflect.Struct:
			if s, ok := v.Interface().(Secret); ok {
				fmt.Fprintf(&b, "%q\n", s.Reveal())
				return
			}
			fmt.Fprintf(&b, "%s\n", v.Type())
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					fmt.Fprintf(&b, "%s%s: ", indent, v.Type().Field(i).Name)
					walk(v.Field(i), indent+"  ")
				}
			}
		case reflect.Slice:
			fmt.Fprintf(&b, "%s of %d\n", v.Type(), v.Len())
			for i := range v.Len() {
				fmt.Fprintf(&b, "%s- ", indent)
				walk(v.Index(i), indent+"  ")
			}
		case reflect.Map:
			fmt.Fprintf(&b, "%s\n", v.Type())
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, k := range keys {
				fmt.Fprintf(&b, "%s%v: ", indent, k)
				walk(v.MapIndex(k), indent+"  ")
			}
		default:
			fmt.Fprintf(&b, "%#v\n", v.Interface())
		}
	}
	walk(reflect.ValueOf(x), "")
	return b.String()
}

func TestLoad_refusesAFileThatIsNoPipelineByItsSize(t *testing.T) {
	_, _, err := LoadBytes(testRegistry(), "x.yaml", []byte(strings.Repeat("# comment\n", 50<<20/10)), testOptions())
	if err == nil || err.Error() != "x.yaml: is larger than 1 MiB: a pipeline file is a few kilobytes; is it a recording? [PS003]" {
		t.Errorf("got %.200v", err)
	}
}

func TestLoad_missingFileIsAConfigError(t *testing.T) {
	_, _, err := Load(testRegistry(), "no/such.yaml", testOptions())
	if _, ok := errors.AsType[*ConfigError](err); !ok || err.Error() != "no/such.yaml: file does not exist [PS001]" {
		t.Errorf("got %T %v", err, err)
	}
}

func TestLoad_emptyValueInPlaceOfADefaultIsAWarning(t *testing.T) {
	const file = "name: x\nsource: {tick: {}}\nsink:\n  store:\n    host: a\n    prefix: \"\"\n"
	c, warnings, err := LoadBytes(testRegistry(), "x.yaml", []byte(file), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sink.Config.(*storeConfig).Common.Prefix; got != "production" {
		t.Errorf("prefix is %q", got)
	}
	const want = `x.yaml:6:13: sink.store.prefix: an empty value counts as absent: the default "production" applies [PS081]`
	if len(warnings) != 1 || warnings[0].String() != want {
		t.Errorf("got %v, want %s", warnings, want)
	}
}

func TestLoad_skippedKeysAreNotAskedFor(t *testing.T) {
	const file = `
name: x
source: {files: {paths: ["${NO_SUCH_VARIABLE}"]}}
sink: {nowhere: {}}
retry: {on_exhausted: poison}
poison_queue: {stoer: {}}
`
	opts := testOptions()
	opts.Skip = []string{"source", "poison_queue"}
	c, _, err := LoadBytes(testRegistry(), "x.yaml", []byte(file), opts)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Source.IsZero() || c.PoisonQueue != nil || c.Sink.Name != "nowhere" {
		t.Errorf("got %+v", c)
	}
}

// The commands tell in one message which variables are missing.
func TestLoad_namesTheMissingVariables(t *testing.T) {
	_, _, err := Load(testRegistry(), "testdata/missing_variables.bad.yaml", testOptions())
	ce, ok := errors.AsType[*ConfigError](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, p := range ce.Problems {
		if p.Variable != "" {
			got = append(got, p.Variable)
		}
	}
	if want := "NAME DIR GLOB EMPTY REDIS_PORT"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLoad_booleansOfVariables(t *testing.T) {
	tests := map[string]any{
		"1": true, "true": true, "TRUE": true, "yes": true, "Yes": true, "on": true, "true\n": true,
		"0": false, "false": false, "no": false, "NO": false, "off": false,
		"": nil, "2": "want true or false", "y": "want true or false", "enabled": "want true or false",
	}
	for value, want := range tests {
		t.Run(value, func(t *testing.T) {
			opts := LoadOptions{Env: func(string) (string, bool) { return value, true }}
			c, _, err := LoadBytes(testRegistry(), "x.yaml", []byte("name: x\nsource: {tick: {}}\nsink:\n  store:\n    host: a\n    verify: ${V}\n"), opts)
			var got any
			switch {
			case err != nil:
				got = err.Error()
			case c.Sink.Config.(*storeConfig).Verify != nil:
				got = *c.Sink.Config.(*storeConfig).Verify
			}
			if s, ok := want.(string); ok && strings.Contains(fmt.Sprint(got), s) {
				return
			}
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestConfig_walkMeetsEveryComponent(t *testing.T) {
	c, _, err := Load(testRegistry(), "testdata/full.good.yaml", testOptions())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	c.Walk(func(role Role, kind Kind, component *Component) {
		got = append(got, fmt.Sprintf("%s %s %s", role, kind, component.Path))
		component.Path = "seen"
	})
	want := []string{
		"source source source.files",
		"transform transform transforms[0].rename",
		"transform transform transforms[1].flatten",
		"transform transform transforms[2].flatten",
		"sink sink sink.fan_out",
		"sink sink sink.fan_out[0].store",
		"sink sink sink.fan_out[1].store",
		"sink sink sink.fan_out[2].route",
		"sink sink sink.fan_out[2].route.cases.1.fan_out",
		"sink sink sink.fan_out[2].route.cases.1.fan_out[0].nowhere",
		"sink sink sink.fan_out[2].route.cases.1.fan_out[1].nowhere",
		"sink sink sink.fan_out[2].route.cases.small.nowhere",
		"sink sink sink.fan_out[2].route.else.store",
		"poison_queue sink poison_queue.store",
		"record sink record.nowhere",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
	c.Walk(func(_ Role, _ Kind, component *Component) {
		if component.Path != "seen" {
			t.Errorf("the change of %s was lost", component.Path)
		}
	})
}

func TestCheckTogether_oneNameAndOneServiceInAProcess(t *testing.T) {
	load := func(file, text string) *Config {
		c, _, err := LoadBytes(testRegistry(), file, []byte(text), testOptions())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const service = "service: {http: {address: ':4000'}}\n"
	const rest = "source: {tick: {}}\nsink: {nowhere: {}}\n"
	a, b := load("a.yaml", "name: a\n"+rest+service), load("b.yaml", "name: b\n"+rest)
	if err := checkTogether(a, b); err != nil {
		t.Error(err)
	}
	err := checkTogether(a, b, load("c.yaml", service+"name: a\n"+rest))
	want := "c.yaml:1:1: service: one service a process: a.yaml has it already [PS057]\n" +
		`c.yaml:2:7: name: "a" is the name of the pipeline in a.yaml already [PS056]`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v", err)
	}
}

func TestSetDefaults_leavesWhatIsSet(t *testing.T) {
	c := storeConfig{Port: 1, TLS: &tlsConfig{}}
	SetDefaults(&c)
	want := storeDefaults()
	want.Port, want.TLS = 1, &tlsConfig{}
	if dump(c) != dump(want) {
		t.Errorf("got:\n%s", dump(c))
	}
}
