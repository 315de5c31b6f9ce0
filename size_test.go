package penstock_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	mostFileLines     = 700
	mostFunctionLines = 80
)

// tables are functions that may be longer, because they are one list of like cases, in which a reader looks up one:
// by file and name.
var tables = map[string]string{
	"cache/wire.go write":                 "the members of a write, one case each",
	"entitlement/encode.go appendFeature": "the members of a feature's entry, in the order of the provider's",
	"entitlement/parse.go item":           "the members of an entitlement, one case each",
	"internal/jsonscan/jsonscan.go value": "the two states of one loop without recursion, on the path of every value",
	"internal/recording/parse.go fast":    "the members of a recorded line, one case each",
	"bench/sqs.go measure":                "one measurement, step by step; not part of the program",
}

// What is longer is divided, so that a reader can hold it. Functions of tests may be long, as many are tables.
func TestSize_filesAndFunctionsAreShort(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		files++
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		line := func(pos token.Pos) int { return positions.Position(pos).Line }
		if n := positions.File(file.Pos()).LineCount(); n > mostFileLines {
			t.Errorf("%s has %d lines, at most %d are allowed: divide it", path, n, mostFileLines)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil || strings.HasSuffix(path, "_test.go") {
				continue
			}
			name := filepath.ToSlash(path) + " " + f.Name.Name
			if n := line(f.End()) - line(f.Pos()) + 1; n > mostFunctionLines && tables[name] == "" {
				t.Errorf("%s: %s has %d lines, at most %d are allowed: divide it", path, f.Name.Name, n, mostFunctionLines)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("looked at %d files: the walk misses the code", files)
	}
}

// A comment that is wider than a page is not read to its end.
func TestSize_commentLinesEndAt120Columns(t *testing.T) {
	const most = 120
	files, lines := 0, 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(strings.TrimLeft(line, "\t"), "// ") {
				continue
			}
			lines++
			if n := utf8.RuneCountInString(line); n > most {
				t.Errorf("%s:%d: the comment has %d columns, at most %d are allowed", path, i+1, n, most)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 || lines < 3000 {
		t.Errorf("looked at %d comment lines in %d files: the walk misses the code", lines, files)
	}
}
