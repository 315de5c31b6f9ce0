package penstock_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every proof that docs/reliability.md names is there: a test, a row of the fault suite, or a file.
func TestDocs_reliabilityNamesItsProofs(t *testing.T) {
	page, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("test/faults/table_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile(`name: "([^"]+)"`).FindAllSubmatch(table, -1) {
		rows = append(rows, string(m[1]))
	}
	tests := testFunctions(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	proofs := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 2 || strings.HasPrefix(line, "|---") {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			proofs++
			name := m[1]
			switch prefix, open := strings.CutSuffix(name, "…"); {
			case strings.HasPrefix(name, "Test"):
				if !tests[name] {
					t.Errorf("there is no test %s", name)
				}
			case strings.Contains(name, "/"):
				if _, err := os.Stat(name); err != nil {
					t.Error(err)
				}
			case open:
				if !slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, prefix) }) {
					t.Errorf("the fault suite has no row that begins with %q", prefix)
				}
			case !slices.ContainsFunc(rows, func(row string) bool { return row == name }):
				t.Errorf("the fault suite has no row %q", name)
			}
		}
	}
	if proofs < 20 {
		t.Errorf("found only %d proofs: has the page another form?", proofs)
	}
}

// testFunctions are the names of all tests of this module.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
	for _, file := range testFiles(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllSubmatch(source, -1) {
			found[string(m[1])] = true
		}
	}
	return found
}

func testFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "node_modules" {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
