package reference_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reference"
	"github.com/penstock-dev/penstock/internal/schematest"
)

const schemaLine = "# yaml-language-server: $schema=pipeline.schema.json\n"

func TestSchema_isUpToDate(t *testing.T) {
	var b strings.Builder
	if err := reference.WriteSchema(&b, builtins()); err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), "../../configs/pipeline.schema.json")
}

func TestSchema_readyPipelinesNameItAndAreValid(t *testing.T) {
	schema, err := inside.Schema(builtins())
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.yaml") {
			continue // tests beside a pipeline, which are no pipeline
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), schemaLine) {
			t.Errorf("%s doesn't begin with %s", file, schemaLine)
		}
		if err := judge(text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		// A slip that an editor should mark.
		if err := judge([]byte(strings.Replace(string(text), "\nsink:", "\nsnik:", 1))); err == nil {
			t.Errorf("%s: an unknown key was accepted", file)
		}
	}
}

func TestTestsSchema_isUpToDateAndHoldsForTheShippedTests(t *testing.T) {
	var b strings.Builder
	if err := reference.WriteTestsSchema(&b, builtins()); err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), "../../configs/tests.schema.json")
	schema, err := inside.TestsSchema(builtins())
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../configs/*_test.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# yaml-language-server: $schema=tests.schema.json\n") {
			t.Errorf("%s doesn't name its schema", file)
		}
		if err := judge(text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := judge([]byte(strings.Replace(string(text), "outcome: ", "outcom: ", 1))); err == nil {
			t.Errorf("%s: an unknown key was accepted", file)
		}
	}
	for text, valid := range map[string]bool{
		"tests: [{name: a, input: {payload: '${X:y}'}}]":           true, // plain text in a test
		"tests: [{name: a, input: {payload: x, recording: r}}]":    false,
		"tests: [{name: a, input: {payload: x}, reason: because}]": false,
		"tests: [{name: a}]": false,
	} {
		if err := judge([]byte(text)); (err == nil) != valid {
			t.Errorf("%s: %v", text, err)
		}
	}
}
