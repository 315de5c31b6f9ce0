package penstock_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/code"
)

func TestDocs_everyCodeOfTheDoctorIsInOperations(t *testing.T) {
	literal, row := regexp.MustCompile(`(?:= |Code: )"(PS[0-9]{3})"`), regexp.MustCompile(`(?m)^\| (PS[0-9]{3}) \| (.*?) \| (.*?) ?\|$`)
	used, told := map[string]bool{}, map[string]bool{}
	for _, folder := range []string{"internal", "pipeline", "sources", "transforms", "sinks"} {
		err := filepath.WalkDir(folder, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Dir(file) == filepath.Join("internal", "code") || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			text, err := os.ReadFile(file)
			for _, match := range literal.FindAllSubmatch(text, -1) {
				code := string(match[1])
				if used[code] {
					t.Errorf("%s: %s is declared twice", file, code)
				}
				used[code] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join("docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range row.FindAllSubmatch(text, -1) {
		told[string(match[1])] = true
		e, _ := code.Lookup(string(match[1]))
		if what, mend := plainCell(match[2]), plainCell(match[3]); e.Kind != code.Finding || e.Title != what || e.Means != mend {
			t.Errorf("penstock explain %s says %q, %q; docs/operations.md %q, %q", match[1], e.Title, e.Means, what, mend)
		}
	}
	for _, e := range code.All() {
		if e.Kind == code.Finding && !told[string(e.Code)] {
			t.Errorf("docs/operations.md has no %s", e.Code)
		}
	}
	if want, got := slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(told)); !slices.Equal(got, want) || len(want) < 10 {
		t.Errorf("docs/operations.md has %v\nthe code has %v", got, want)
	}
}

// plainCell is a cell of a table without its Markdown.
func plainCell(cell []byte) string {
	text := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(string(cell), "$1")
	return strings.TrimSpace(strings.ReplaceAll(text, "`", ""))
}
