package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/schematest"
)

// beyondSchema names the broken files that the schema lets through, each with the reason for which no JSON Schema could
// refuse it.
const beyondSchema = "testdata/beyond_schema.txt"

func TestSchema_judgesAsLoadDoes(t *testing.T) {
	schema, err := documented(t).schema()
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	var passed []string
	refused := 0
	for _, pattern := range []string{"testdata/*.good.yaml", "testdata/*.bad.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(file)
			switch err := judge(text); {
			case errors.Is(err, schematest.ErrNotYAML):
				if strings.HasSuffix(name, ".good.yaml") {
					t.Errorf("%s: %v", name, err)
				}
			case strings.HasSuffix(name, ".good.yaml"):
				if err != nil {
					t.Errorf("%s is refused: %v", name, err)
				}
			case err == nil:
				passed = append(passed, name)
			default:
				refused++
			}
		}
	}
	beyond, err := schematest.Beyond(beyondSchema)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range passed {
		if beyond[name] == "" {
			t.Errorf("%s: the schema lets it through, and %s gives no reason", name, beyondSchema)
		}
		delete(beyond, name)
	}
	for name := range beyond {
		t.Errorf("%s is in %s, and the schema refuses it", name, beyondSchema)
	}
	if refused < 40 {
		t.Errorf("it refuses %d files", refused)
	}
}

func TestSchema_saysWhatTheDeclarationSays(t *testing.T) {
	schema, err := documented(t).schema()
	if err != nil {
		t.Fatal(err)
	}
	store := schema["$defs"].(object)["sink.store"].(object)
	if !strings.HasPrefix(store["description"].(string), "Keeps messages") {
		t.Errorf("description %v", store["description"])
	}
	properties := store["properties"].(object)
	port := properties["port"].(object)
	if port["default"] != 6379 {
		t.Errorf("default of port: %#v", port["default"])
	}
	if host := properties["host"].(object); host["description"] != "The server, by name or address. Two lines of comment." {
		t.Errorf("description of host: %v", host["description"])
	}
	if password := properties["password"].(object); password["writeOnly"] != true {
		t.Errorf("password: %v", password)
	}
}
