package penstock_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateAPI = flag.Bool("update-api", false, "write testdata/api: run it when a change of what packages export is meant, and look at the difference")

// publicPackages are the packages that a program outside of this module can import, by folder.
func publicPackages(t *testing.T) []string {
	t.Helper()
	var folders []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case path != "." && (strings.HasPrefix(name, ".") || name == "internal" || name == "testdata" || name == "node_modules"),
			path == "test", path == "cmd", path == "docs", path != "." && isModule(path):
			return filepath.SkipDir
		}
		if files, _ := filepath.Glob(filepath.Join(path, "*.go")); slices.ContainsFunc(files, func(f string) bool { return !strings.HasSuffix(f, "_test.go") }) {
			folders = append(folders, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

// Every change of an exported name, signature, field or tag is a change of a file under testdata/api, so that nobody
// makes one without noticing. docs/stability.md says which of them are promises.
func TestAPI_isWhatTestdataSays(t *testing.T) {
	known := map[string]bool{}
	for _, folder := range publicPackages(t) {
		name := strings.NewReplacer(".", "penstock", "/", "_").Replace(filepath.ToSlash(folder))
		golden := filepath.Join("testdata", "api", name+".txt")
		known[golden] = true
		got := exportedAPI(t, folder)
		if *updateAPI {
			if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Errorf("package %s is new: %v\nrun go test -run TestAPI . -update-api", folder, err)
			continue
		}
		if got != string(want) {
			t.Errorf("what package %s exports has changed:\n%s\nif that is meant, run go test -run TestAPI . -update-api, and say it in the changelog",
				folder, changedLines(string(want), got))
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "api", "*.txt"))
	if err != nil || len(known) < 8 {
		t.Fatalf("%d packages, %v: the walk misses the code", len(known), err)
	}
	for _, file := range files {
		if !known[file] {
			t.Errorf("%s: there is no such package any more", file)
		}
	}
}

// What components need of the engine, and what only this program needs, must not meet in one place again.
func TestAPI_namesNothingInternal(t *testing.T) {
	inside := regexp.MustCompile(`\b(inside|yamlfile|expand|suggest|docs|gate|edgeapi|configfacts)\.[A-Z]\w*`)
	for _, folder := range publicPackages(t) {
		if found := inside.FindString(exportedAPI(t, folder)); found != "" {
			t.Errorf("package %s exports %s, which its users can't name", folder, found)
		}
	}
}

// exportedAPI lists what a package exports, without comments and bodies, sorted by name.
func exportedAPI(t *testing.T, folder string) string {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, module+"/"+filepath.ToSlash(folder))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	blank := regexp.MustCompile(`\n\n+`) // where comments were
	show := func(decl ast.Decl) {
		if f, ok := decl.(*ast.FuncDecl); ok {
			f.Body = nil
		}
		var b bytes.Buffer
		if err := (&printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}).Fprint(&b, fset, decl); err != nil {
			t.Fatal(err)
		}
		out.WriteString(blank.ReplaceAllString(b.String(), "\n") + "\n")
	}
	values := func(all []*doc.Value) {
		for _, v := range all {
			show(v.Decl)
		}
	}
	funcs := func(all []*doc.Func) {
		for _, f := range all {
			show(f.Decl)
		}
	}
	fmt.Fprintln(&out, "package", pkg.Name)
	values(pkg.Consts)
	values(pkg.Vars)
	funcs(pkg.Funcs)
	for _, typ := range pkg.Types {
		fmt.Fprintln(&out)
		show(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	return out.String()
}

// changedLines lists the lines that only one of two texts has.
func changedLines(old, now string) string {
	var b strings.Builder
	before, after := strings.Split(old, "\n"), strings.Split(now, "\n")
	for _, line := range before {
		if !slices.Contains(after, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}
