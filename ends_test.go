package penstock_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/penstock-dev/penstock/internal/code"
)

// Every error that ends a pipeline says so with a code, on stderr and in the log, and explain explains it.
func TestExplain_whatEndsAPipelineHasACode(t *testing.T) {
	t.Chdir(t.TempDir())
	store := miniredis.RunT(t)
	store.RequireAuth("right")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	writeTestFile(t, "in.ndjson", "bad\nbad\nbad\n")
	for want, text := range map[string]string{
		"PS202": "source: {file: {paths: [in.ndjson], format: lines}}\nsink: {redis: {host: 127.0.0.1, port: " + store.Port() + ", password: wrong, plain: {}}}\n",
		"PS481": "source: {file: {paths: [in.ndjson], format: lines}}\ntransforms: [decode_entitlements: {}]\nsink: {drop: {}}\npoison_queue: {file: {dir: poison}}\npoison_limit: {more_than: 1, of_last: 10}\nmax_in_flight: 1\n",
		"PS483": "source: {file: {paths: [no-such-file.ndjson]}}\nsink: {drop: {}}\n",
		"PS311": "source: {generate: {count: 1}}\nsink: {file: {dir: in.ndjson}}\n",
		"PS485": "source: {generate: {count: 1}}\nsink: {drop: {}}\nservice: {http: {address: '" + taken.Addr().String() + "'}}\n",
	} {
		writeTestFile(t, "p.yaml", "name: p\n"+text)
		exit, _, stderr := runWithoutVariables("run", "p.yaml")
		if exit != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d\n%s", want, exit, stderr)
		}
		if exit, stdout, stderr := runWithoutVariables("explain", want); exit != 0 || !strings.Contains(stdout, want) {
			t.Errorf("explain %s: exit %d %s%s", want, exit, stdout, stderr)
		}
	}
}

// withoutCode are the places that make an error fatal which has a code already, or is somebody else's.
var withoutCode = map[string]string{
	"sinks/fan_out.go":               "what a leg said",
	"internal/cli/poison_redrive.go": "the signal that ends a redrive",
	"internal/cli/dryrun.go":         "the command's own output, not the pipeline",
}

// Every other call of Fatal in the shipped source gives a code.
func TestExplain_everyFatalErrorIsMarked(t *testing.T) {
	found, used := 0, map[string]bool{}
	for _, folder := range []string{"internal", "pipeline", "sources", "transforms", "sinks"} {
		err := filepath.WalkDir(folder, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testserver") {
				return err
			}
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, file, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !isCall(call, "pipeline", "Fatal") {
					return true
				}
				found++
				inner, ok := call.Args[0].(*ast.CallExpr)
				if ok && isCall(inner, "code", "Mark") {
					return true
				}
				if withoutCode[filepath.ToSlash(file)] == "" {
					t.Errorf("%s: an error that ends a pipeline, without a code: wrap it in code.Mark", fset.Position(call.Pos()))
				}
				used[filepath.ToSlash(file)] = true
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 20 {
		t.Errorf("found %d calls: the search misses them", found)
	}
	for file := range withoutCode {
		if !used[file] {
			t.Errorf("withoutCode names %s, where every call gives a code", file)
		}
	}
	for _, e := range code.All() {
		if e.Kind == code.End && e.Means == "" {
			t.Errorf("%s says nothing", e.Code)
		}
	}
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		x, ok := f.X.(*ast.Ident)
		return ok && x.Name == pkg && f.Sel.Name == name
	case *ast.Ident: // inside package pipeline itself
		return pkg == "pipeline" && f.Name == name
	}
	return false
}
