package transforms

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/schematest"
)

// beyondSchema are the broken files whose mistakes are rules of the components.
var beyondSchema = []string{
	"decode_fields.bad.yaml", "decode_types.bad.yaml", "refresh_nobody_to_ask.bad.yaml",
	"refresh_timeout.bad.yaml", "unwrap_max_depth.bad.yaml", "unwrap_max_size.bad.yaml",
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
		valid := strings.HasSuffix(name, ".good.yaml") || slices.Contains(beyondSchema, name)
		if err := judge(text); (err == nil) != valid {
			t.Errorf("%s: %v, want valid = %t", name, err, valid)
		}
	}
}
