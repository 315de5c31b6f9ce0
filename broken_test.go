package penstock_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/code"
)

// Every file of testdata/broken has one mistake of a person who uses the shipped components; beside it is what
// validate says of it. run says the same, and so it does of the wrong examples of penstock explain.
func TestBroken_validateAndRunAgree(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(text)
	}
	for _, e := range code.All() {
		if e.Kind == code.Mistake && e.Wrong != "" && !strings.HasPrefix(e.Wrong, "$ ") {
			texts[string(e.Code)] = e.Wrong
		}
	}
	if len(files) < 35 || len(texts) < 80 {
		t.Errorf("%d files, %d mistakes in all: want at least 35 and 80", len(files), len(texts))
	}
	for file, text := range texts {
		t.Run(filepath.Base(file), func(t *testing.T) {
			exit, validated := told(t, text, "validate")
			if ran, said := told(t, text, "run"); exit != 2 || ran != 2 || said != validated {
				t.Errorf("validate: exit %d:\n%srun: exit %d:\n%s", exit, validated, ran, said)
			}
			if strings.Count(validated, "[PS") != 1 {
				t.Errorf("want one mistake:\n%s", validated)
			}
			if !strings.HasSuffix(file, ".yaml") {
				return
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
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
