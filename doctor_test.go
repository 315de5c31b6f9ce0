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
)

func TestDocs_everyCodeOfTheDoctorIsInOperations(t *testing.T) {
	literal, row := regexp.MustCompile(`"(PS[0-9]{3})"`), regexp.MustCompile(`(?m)^\| (PS[0-9]{3}) \|`)
	used, told := map[string]bool{}, map[string]bool{}
	for _, folder := range []string{"internal", "pipeline", "sources", "transforms", "sinks"} {
		err := filepath.WalkDir(folder, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
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
	}
	if want, got := slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(told)); !slices.Equal(got, want) || len(want) < 10 {
		t.Errorf("docs/operations.md has %v\nthe code has %v", got, want)
	}
}
