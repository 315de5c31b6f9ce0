package penstock_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

var (
	ages      = regexp.MustCompile(`\d+[a-z]+( \d+[a-z]+)? ago`)
	fileNames = regexp.MustCompile(`\b(poison/events|dropped)-\S+\.ndjson`)
	blanks    = regexp.MustCompile(` +`)
	ends      = regexp.MustCompile(`(?m) +$`)
)

func steady(output string) string {
	output = fileNames.ReplaceAllString(ages.ReplaceAllString(output, "N ago"), "$1-N.ndjson")
	return ends.ReplaceAllString(blanks.ReplaceAllString(output, " "), "")
}

// A block of the language "console" is a session: each line that begins with "$ " is a command, the lines up to the
// next one are what it prints on stdout. It runs from the top in an empty directory, with the program and a Redis. The
// first "cat" of a file that is not there yet is what a reader begins with.
func TestDocs_sessionsRunLineByLine(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "penstock"), "./cmd/penstock").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := 0
	for _, b := range blocks(t) {
		if b.language != "console" {
			continue
		}
		server := miniredis.RunT(t)
		work := t.TempDir()
		for _, step := range strings.Split("\n"+b.text, "\n$ ")[1:] {
			n++
			line, want, _ := strings.Cut(step, "\n")
			if name, ok := strings.CutPrefix(line, "cat "); ok {
				if _, err := os.Stat(filepath.Join(work, name)); err != nil {
					if err := os.WriteFile(filepath.Join(work, name), []byte(strings.TrimSuffix(want, "\n")+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd := exec.Command("sh", "-c", line)
			cmd.Dir = work
			cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + work, "REDIS_HOST=" + server.Addr()}
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s:%d: %s: %v\n%s", b.file, b.line, line, err, errs.String())
			}
			if got := strings.TrimRight(string(out), "\n"); steady(got) != steady(strings.TrimRight(want, "\n")) {
				t.Errorf("%s:%d: $ %s\nprints\n%s\nand not\n%s", b.file, b.line, line, got, want)
			}
		}
	}
	if n < 8 {
		t.Errorf("found %d commands: the search misses them", n)
	}
}
