package pipeline

import (
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// Whatever a variable holds, it stays the value of its field.
func FuzzLoad_aVariableNeverBecomesYAML(f *testing.F) {
	for _, s := range []string{"x", "a: b", "x\nsink: {}", "*a", "&a", "- 1", "${HOST}", "$${HOST}", "\x00", "'", `"`, "#", "~", "!!int 5", "12", "\xff"} {
		f.Add(s)
	}
	const file = `
name: x
source: {files: {paths: ["${V}", 'a${V}b']}}
transforms: [{rename: {fields: {a: "${V}"}, extra: ["${V}"]}}]
sink: {nowhere: {}}
`
	f.Fuzz(func(t *testing.T, value string) {
		if value == "" {
			return // counts as absent
		}
		env := func(string) (string, bool) { return value, true }
		c, _, err := LoadBytes(testRegistry(), "x.yaml", []byte(file), LoadOptions{Env: env})
		value = strings.TrimRight(value, "\r\n")
		if broken := plaintext.Check(value); broken != nil || plaintext.Check("a"+value+"b") != nil || value == "" {
			if err == nil && value != "" {
				t.Errorf("%q is taken, though it %v", value, broken)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		files := c.Source.Config.(*filesConfig)
		rename := c.Transforms[0].Config.(*renameConfig)
		if files.Paths[0] != value || files.Paths[1] != "a"+value+"b" || rename.Fields["a"] != value || rename.Extra.([]any)[0] != value {
			t.Errorf("%q became %q, %q, %q", value, files.Paths, rename.Fields, rename.Extra)
		}
	})
}

func FuzzLoad_neverPanics(f *testing.F) {
	for _, s := range []string{
		"name: x\nsource: {tick: {}}\nsink: {store: {host: ${HOST}}}\n",
		"a: &a [*a]\n<<: *a\n", "- - -", "? {a: b}\n: *x", "--- a\n--- b\n", "sink: {fan_out: [{route: {cases: {a: {}}}}]}",
		"transforms: [{rename: {extra: {1: 2, ~: 3, [a]: 4}}}]", "\t", "!!binary a", "x-a: &x {<<: [*x]}\nsink: *x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := LoadBytes(testRegistry(), "x.yaml", data, testOptions())
		if (c == nil) == (err == nil) {
			t.Errorf("config %v, error %v", c, err)
		}
	})
}
