package transforms

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/schematest"
)

// beyondSchema are the broken files that the schema can't refuse, and why.
var beyondSchema = map[string]string{
	"refresh_nobody_to_ask.bad.yaml": "types are those of refresh_entitlements, too, where refresh is right",
	"refresh_timeout.bad.yaml":       "compares the sum of two settings with a third",
}

func TestSchema_judgesAsLoadDoes(t *testing.T) {
	schema, err := inside.Schema(registry())
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		valid := strings.HasSuffix(name, ".good.yaml") || beyondSchema[name] != ""
		if err := judge(text); (err == nil) != valid {
			t.Errorf("%s: %v, want valid = %t", name, err, valid)
		}
	}
}
