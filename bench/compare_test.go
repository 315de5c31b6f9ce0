package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCompare_intervalHoldsTheMedianWith95Percent(t *testing.T) {
	// From a table of the sign test: the rank from below, and as many from above.
	for n, rank := range map[int]int{6: 1, 8: 1, 9: 2, 12: 3, 17: 5, 20: 6, 25: 8, 30: 10, 40: 14, 100: 40} {
		var s sample
		for i := range n {
			s.add(float64((i*7919)%n + 1)) // 1 to n, shuffled
		}
		if low, high := s.interval(); low != float64(rank) || high != float64(n+1-rank) {
			t.Errorf("of %d values the interval is from rank %v to %v, want %d to %d", n, low, high, rank, n+1-rank)
		}
	}
	if low, high := (sample{1, 1, 1, 1, 1}).interval(); !math.IsInf(low, -1) || !math.IsInf(high, 1) {
		t.Errorf("5 values tell %v to %v", low, high)
	}
}

func TestCompare_saysWhatThePairsTell(t *testing.T) {
	series := func(f func(i int) float64) (s sample) {
		for i := range 20 {
			s.add(f(i))
		}
		return s
	}
	noisy := series(func(i int) float64 { return 100 + float64(i*37%20) }) // the machine is busy in some rounds
	for name, c := range map[string]struct {
		after sample
		want  string
	}{
		"3 % slower in every pair":     {series(func(i int) float64 { return 1.03 * noisy[i] }), "1.030 (1.030–1.030) slower"},
		"3 % faster in every pair":     {series(func(i int) float64 { return 0.97 * noisy[i] }), "0.970 (0.970–0.970) faster"},
		"as fast, but for four rounds": {series(func(i int) float64 { return noisy[i] * (1 + float64(i%5/4)) }), "1.000 (1.000–1.000) no difference beyond the noise"},
		"now slower and now faster": {
			series(func(i int) float64 { return noisy[i] * (0.98 + 0.04*float64(i%2)) }), "1.000 (0.980–1.020) no difference beyond the noise",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pairs{wall: [2]sample{{30.25, 20}, {12345, 10000}}, cpu: [2]sample{noisy, c.after}}
			cells := p.cells()
			if got := cells[3] + " " + cells[4]; got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := strings.Join(cells[:3], " | "); got != "25.1 (20.0) | 11,172 (10,000) | 500.000" {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestCompare_readsWhatBenchmarksPrint(t *testing.T) {
	got := benchmarkRuns("goos: linux\nBenchmarkA\nBenchmarkA/b-c_1         \t  123 \t  4567.5 ns/op\t  12.3 MB/s\t 0 B/op\nBenchmarkB 1 2 ns/op\nPASS\n")
	want := []benchmarkRun{{name: "BenchmarkA/b-c_1", iterations: 123, wall: 4567.5}, {name: "BenchmarkB", iterations: 1, wall: 2}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := exactly("BenchmarkA/b.c"); got != `^BenchmarkA$/^b\.c$` {
		t.Errorf("got %s", got)
	}
}

// TestCompare_twoFolders compares two modules; what the clock says of them is no matter here.
func TestCompare_twoFolders(t *testing.T) {
	folder := func(also string) string {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"go.mod": "module example.org/x\n\ngo 1.25\n",
			"x_test.go": "package x\n\nimport \"testing\"\n\nvar sum int\n\n" +
				"func BenchmarkSum(b *testing.B) {\n\tb.Run(\"100\", func(b *testing.B) {\n\t\tfor b.Loop() {\n\t\t\tfor i := range 100 {\n\t\t\t\tsum += i\n\t\t\t}\n\t\t}\n\t})\n}\n\n" +
				"func Benchmark" + also + "(b *testing.B) {\n\tfor b.Loop() {\n\t}\n}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	var out bytes.Buffer
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	args := []string{"-before", folder("Old"), "-after", folder("New"), "-pairs", "6", "-time", "1ms", "."}
	if err := compareMain(context.Background(), args, &out, say); err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| \. BenchmarkSum/100 \| [\d.,]+ \([\d.,]+\) \| [\d.,]+ \([\d.,]+\) \| [\d.]+ \| [\d.]+ \([\d.]+–[\d.]+\) \| (slower|faster|no difference beyond the noise) \|$`)
	if rows := strings.Count(out.String(), "| . "); rows != 1 || !row.MatchString(out.String()) {
		t.Errorf("got\n%s", out.String())
	}
	if want := []string{". BenchmarkOld: only before", ". BenchmarkSum/100", ". BenchmarkNew: only after"}; !slices.Equal(said, want) {
		t.Errorf("it says %q", said)
	}
	for name, args := range map[string][]string{
		"no package": {"-before", "HEAD"}, "nothing to compare with": {"./cache"}, "too few pairs": {"-before", "HEAD", "-pairs", "5", "./cache"},
		"no such commit": {"-before", "no-such-commit", "./cache"},
	} {
		if err := compareMain(context.Background(), args, &out, say); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
