package pipetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// anyValue makes a JSON value that is hard on YAML.
func anyValue(r *rand.Rand, depth int) any {
	texts := []string{"", "a", "yes", "null", "~", "1", "1e3", "0x1F", "2026-11-01", "2026-11-01T00:00:00Z", "a: b", "a #b", "- a", "*a", "&a", "!a", "%a", "@a", "`a",
		" a ", "a\nb", "a\n", "\ta", "\"q\"", "'q'", "{a}", "[a]", "${HOME}", "<<", "=", "ü€😀", "\u0000", "\u0085", "\u200b", "\ufeff", "\\", "?", "---", strings.Repeat("long ", 40)}
	numbers := []string{"0", "-1", "1.5", "1e300", "1e400", "9007199254740993", "18446744073709551616", "1.10", "0.1234567890123456789", "-0"}
	switch n := r.IntN(8); {
	case n < 3 && depth < 3:
		m := map[string]any{}
		for range r.IntN(4) {
			m[texts[r.IntN(len(texts))]] = anyValue(r, depth+1)
		}
		return m
	case n < 4 && depth < 3:
		list := []any{}
		for range r.IntN(4) {
			list = append(list, anyValue(r, depth+1))
		}
		return list
	case n < 6:
		return texts[r.IntN(len(texts))]
	case n < 7:
		return json.Number(numbers[r.IntN(len(numbers))])
	}
	return []any{true, false, nil}[r.IntN(3)]
}

// What an update has written passes, whatever was expected and seen, and is not written a second time.
func TestUpdate_whatItWritesPasses(t *testing.T) {
	ran := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		var b strings.Builder
		b.WriteString("# first\ntests:\n")
		for n := range 1 + r.IntN(3) {
			fmt.Fprintf(&b, "  - name: test %d   # its name\n    input:\n", n)
			for range 1 + r.IntN(3) {
				text, err := json.Marshal(anyValue(r, 0))
				if err != nil {
					t.Fatal(err)
				}
				quoted, err := json.Marshal(string(text)) // a YAML text in double quotes, too
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "      - payload: %s\n", quoted)
			}
			if r.IntN(4) == 0 {
				continue // no output at all
			}
			b.WriteString("    output: # in order\n")
			for range r.IntN(3) {
				text, err := yaml.Marshal(map[string]any{"word": "none", "body": anyValue(r, 0)})
				if err != nil {
					t.Fatal(err)
				}
				b.WriteString("      # above\n      - payload:\n")
				for line := range strings.Lines(string(text)) {
					b.WriteString("          " + line)
				}
				if r.IntN(3) == 0 {
					b.WriteString("        partial: true\n")
				}
			}
			b.WriteString("    # behind\n    partial: false\n\n")
		}
		before := strings.ReplaceAll(strings.ReplaceAll(b.String(), "# in order\n    # behind", "[]\n    # behind"), "!!float ", "")
		if _, err := Check("x", []byte(before)); err != nil {
			continue // Go's YAML writes some values in ways that pipeline files refuse
		}
		ran++
		results, l, s := runTests(t, before)
		if _, err := l.Update(t.Context(), s, results); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, before)
		}
		after, err := os.ReadFile(s.File)
		if err != nil {
			t.Fatal(err)
		}
		suites, err := l.Load([]string{s.Pipeline})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, after)
		}
		again := runAll(t, l, suites[0])
		for _, result := range again {
			if !result.Passed() {
				t.Fatalf("seed %d: %s: %s\nbefore:\n%s\nafter:\n%s", seed, result.Name, told(result), before, after)
			}
		}
		for _, comment := range []string{"# first", "# its name", "# behind"} {
			if strings.Count(before, comment) != strings.Count(string(after), comment) {
				t.Errorf("seed %d: %q is lost\nbefore:\n%s\nafter:\n%s", seed, comment, before, after)
			}
		}
	}
	if ran < 100 {
		t.Errorf("%d files were updated: the others were no tests", ran)
	}
}
