package pipeline

import (
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/penstock-dev/penstock/internal/inside"
)

// documented is a registry that was given the source of the components in load_test.go.
func documented(t *testing.T) *Registry {
	t.Helper()
	source, err := os.ReadFile("load_test.go")
	if err != nil {
		t.Fatal(err)
	}
	other := "package pipeline\n\n// storeConfig is another package's.\ntype storeConfig struct {\n\t// Not this one.\n\tHost string\n}\n"
	return testRegistry().
		Document(fstest.MapFS{"other.go": {Data: []byte(other)}, "README.md": {Data: []byte("# no Go")}}).
		Document(fstest.MapFS{"sub/components.go": {Data: source}, "bad_test.go": {Data: []byte("no Go either")}})
}

func outline(fields []inside.Field) []string {
	var lines []string
	for _, f := range fields {
		line := f.Path + ": " + f.Type
		if f.Default != "" {
			line += " = " + f.Default
		}
		if f.Required {
			line += " required"
		}
		if len(f.Enum) > 0 {
			line += " " + strings.Join(f.Enum, "|")
		}
		if f.Doc != "" {
			line += " // " + f.Doc
		}
		lines = append(lines, line)
		lines = append(lines, outline(f.Fields)...)
	}
	return lines
}

func TestDescribe_readsTagsAndDocComments(t *testing.T) {
	d, err := documented(t).describeComponent(KindSink, "store")
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != string(KindSink) || d.Name != "store" || d.Type != "settings" {
		t.Errorf("got %s %s of type %s", d.Kind, d.Name, d.Type)
	}
	if d.Summary != "Keeps messages, e.g. for e.g. tests." || d.Doc != d.Summary+" It has every type of field.\n\nIts second paragraph." {
		t.Errorf("summary %q, doc %q", d.Summary, d.Doc)
	}
	want := `
prefix: text = production // Put before every key.
host: text required // The server, by name or address. Two lines of comment.
port: whole number = 6379
db: whole number
small: whole number
ratio: number = 0.5
password: secret
ttl: duration = 168h // How long entries live.
size: size = 1MiB
batch: settings // See Batch.
batch.count: whole number = 256 // Most messages in a batch; at least 1.
batch.bytes: size = 1MiB // Most bytes of payload in a batch. A single larger message is a batch of its own.
batch.period: duration = 0s // How long to wait for a batch to fill. With 0 a batch is whatever has gathered while the one before it was being stored, so that a lone message is not delayed.
tls: settings
tls.enabled: true or false
tls.ca_file: text
verify: true or false
modes: list of text = [safe] fast|safe
limits: mapping of whole numbers
since: text`
	if got := strings.Join(outline(d.Fields), "\n"); got != strings.TrimSpace(want) {
		t.Errorf("got:\n%s", got)
	}
}

func TestDescribe_listConfigs(t *testing.T) {
	d, err := documented(t).describeComponent(KindSink, "fan_out")
	if err != nil {
		t.Fatal(err)
	}
	if d.Type != "list of sinks" || d.Summary != "A sink made of sinks." || len(d.Fields) != 0 {
		t.Errorf("got %+v", d)
	}
}

func TestDescribePipeline_everyKeyIsDocumented(t *testing.T) {
	d, err := inside.DescribePipeline(NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	var check func([]inside.Field)
	check = func(fields []inside.Field) {
		for _, f := range fields {
			if f.Doc == "" {
				t.Errorf("%s has no doc comment", f.Path)
			}
			check(f.Fields)
		}
	}
	check(d.Fields)
	lines := strings.Join(outline(d.Fields), "\n")
	for _, want := range []string{
		"source: source required // Where messages come from: one component.",
		"transforms: list of transforms // ",
		"record.<sink>: sink required // The sink to record to: one component.",
		"retry.on_exhausted: text = release release|poison // ",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is missing in:\n%s", want, lines)
		}
	}
}

func TestDescribe_refuses(t *testing.T) {
	_, err := testRegistry().describeComponent(KindSink, "stoer")
	if err == nil || err.Error() != "no sink is called stoer (did you mean store?)" {
		t.Errorf("got %v", err)
	}
	_, err = testRegistry().Document(fstest.MapFS{"x.go": {Data: []byte("no Go")}}).describeComponent(KindSink, "store")
	if err == nil || !strings.HasPrefix(err.Error(), "read the documentation of components: x.go:1:1") {
		t.Errorf("got %v", err)
	}
}

func TestDescribe_canBeCalledConcurrently(t *testing.T) {
	r := documented(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if d, err := r.describeComponent(KindSource, "tick"); err != nil || d.Summary == "" {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
	wg.Wait()
}

// nestedConfig contains itself.
type nestedConfig struct {
	nowhereConfig `yaml:"-"`
	Inner         []nestedConfig `yaml:"inner"`
}

func TestDescribe_typesThatContainThemselvesAreDescribedOnce(t *testing.T) {
	r := AddSink[nestedConfig](NewRegistry(), "nested")
	d, err := r.describeComponent(KindSink, "nested")
	if err != nil {
		t.Fatal(err)
	}
	if got := outline(d.Fields); !reflect.DeepEqual(got, []string{"inner: list of settings"}) {
		t.Errorf("got %q", got)
	}
}

type (
	badDefault struct {
		nowhereConfig `yaml:"-"`
		Port          int `default:"many"`
	}
	badEnum struct {
		nowhereConfig `yaml:"-"`
		Mode          string `default:"slow" enum:"fast,safe"`
	}
	badNested struct {
		nowhereConfig `yaml:"-"`
		Inner         []*struct {
			TTL int `default:"1s"`
		}
	}
	sameKey struct {
		nowhereConfig `yaml:"-"`
		Host, HOST    string
	}
	badInline struct {
		nowhereConfig `yaml:"-"`
		Rest          map[string]string `yaml:",inline"`
	}
)

func TestRegistry_refusesMistakesOfTheProgram(t *testing.T) {
	tests := map[string]struct {
		add  func(*Registry)
		want string
	}{
		"name taken":      {func(r *Registry) { AddSink[nowhereConfig](AddSink[nowhereConfig](r, "x"), "x") }, `pipeline: sink "x" is registered twice`},
		"name":            {func(r *Registry) { AddSink[nowhereConfig](r, "X") }, `pipeline: sink name "X": want snake_case, a-z first`},
		"default":         {func(r *Registry) { AddSink[badDefault](r, "x") }, `pipeline: sink "x": pipeline.badDefault.Port: default "many": want a whole number, got "many"`},
		"default of enum": {func(r *Registry) { AddSink[badEnum](r, "x") }, `pipeline: sink "x": pipeline.badEnum.Mode: default "slow": want fast or safe, got "slow"`},
		"inner default":   {func(r *Registry) { AddSink[badNested](r, "x") }, `default "1s": want a whole number, got "1s"`},
		"two of one key":  {func(r *Registry) { AddSink[sameKey](r, "x") }, `pipeline: sink "x": pipeline.sameKey.HOST: the key "host" is taken`},
		"inline":          {func(r *Registry) { AddSink[badInline](r, "x") }, `pipeline: sink "x": pipeline.badInline.Rest: only structs and components can be inline`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got, _ := recover().(string); !strings.HasSuffix(got, test.want) {
					t.Errorf("panicked with %q, want %q", got, test.want)
				}
			}()
			test.add(NewRegistry())
		})
	}
}
