package penstock_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/schematest"
)

// beyondSchema names the broken files that the schema lets through, each with the reason for which no JSON Schema could
// refuse it. Examples of penstock explain are in it by their codes.
const beyondSchema = "testdata/broken/beyond_schema.txt"

// Every file of testdata/broken has one mistake of a person who uses the shipped components; beside it is what
// validate says of it. run and test say the same, and the schema refuses it, and so it is with the wrong examples of
// penstock explain.
func TestBroken_validateRunTestAndTheSchemaAgree(t *testing.T) {
	texts, files := brokenFiles(t)
	if files < 100 || len(texts) < 150 {
		t.Errorf("%d files, %d mistakes in all: want at least 100 and 150", files, len(texts))
	}
	schema, err := inside.Schema(penstock.Builtins())
	if err != nil {
		t.Fatal(err)
	}
	judge, err := schematest.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	beyond, err := schematest.Beyond(beyondSchema)
	if err != nil {
		t.Fatal(err)
	}
	for file := range beyond {
		if texts[file] == "" {
			t.Errorf("%s: there is no %s", beyondSchema, file)
		}
	}
	for file, text := range texts {
		t.Run(file, func(t *testing.T) {
			exit, validated := told(t, text, "validate")
			if ran, said := told(t, text, "run"); exit != 2 || ran != 2 || said != validated {
				t.Errorf("validate: exit %d:\n%srun: exit %d:\n%s", exit, validated, ran, said)
			}
			if strings.Count(validated, "[PS") != 1 {
				t.Errorf("want one mistake:\n%s", validated)
			}
			tested, said := told(t, text, "test")
			if ofEnvironment(validated) {
				// Each test has its own environment: what is wrong in this one, test does not know.
				if tested != 2 || !strings.Contains(said, string(code.NoTests)) {
					t.Errorf("test: exit %d:\n%s", tested, said)
				}
			} else if tested != 2 || said != validated {
				t.Errorf("validate:\n%stest: exit %d:\n%s", validated, tested, said)
			}
			switch err := judge([]byte(text)); {
			case err == nil && beyond[file] == "":
				t.Errorf("the schema lets it through, and %s gives no reason:\n%s", beyondSchema, validated)
			case err != nil && beyond[file] != "":
				t.Errorf("the schema refuses it, and %s says that it can't", beyondSchema)
			case errors.Is(err, schematest.ErrNotYAML) && !strings.Contains(validated, "[PS0"):
				t.Error(err)
			}
			if !strings.HasSuffix(file, ".yaml") {
				return
			}
			golden := "testdata/broken/" + strings.TrimSuffix(file, ".yaml") + ".golden"
			if *updateAPI {
				if err := os.WriteFile(golden, []byte(validated), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || validated != string(want) {
				t.Errorf("got\n%swant\n%s(%v)", validated, want, err)
			}
		})
	}
}

// brokenFiles are the broken files by their names, and the wrong examples of penstock explain by their codes.
func brokenFiles(t *testing.T) (texts map[string]string, files int) {
	t.Helper()
	names, err := filepath.Glob("testdata/broken/*.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts = map[string]string{}
	for _, file := range names {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	for _, e := range code.All() {
		if e.Kind == code.Mistake && e.Wrong != "" && !strings.HasPrefix(e.Wrong, "$ ") {
			texts[string(e.Code)] = e.Wrong
		}
	}
	return texts, len(names)
}

// ofEnvironment reports whether a mistake is one of the environment: a variable or a file that is not there.
func ofEnvironment(said string) bool {
	for _, c := range []code.Code{code.VariableNotSet, code.VariableEmpty, code.ExpandedFile} {
		if strings.Contains(said, "["+string(c)+"]") {
			return true
		}
	}
	return false
}

// told is what a command says of a pipeline file.
func told(t *testing.T, text, command string) (exit int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what run accepts by mistake ends at once
	var out, errs bytes.Buffer
	exit = (&cli.Program{
		Registry: penstock.Builtins(), Args: []string{command, "broken.yaml"}, Invocation: "penstock", Stdout: &out, Stderr: &errs,
		LookupEnv: func(string) (string, bool) { return "", false },
		ReadFile: func(name string) ([]byte, error) {
			if name == "broken.yaml" {
				return []byte(text), nil
			}
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		},
	}).Run(ctx)
	return exit, errs.String()
}
