package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// compareUsage is what "go run . compare -h" says first.
const compareUsage = `usage: go run . compare -before COMMIT [flags] PACKAGE...

Says whether the Go benchmarks of some packages are slower or faster than they were, on a machine that is not quiet:
the benchmarks of both sides run in turn, one process each, with the same number of iterations. What counts is the
CPU time of a pair of runs, after ÷ before: the median of the pairs, and the interval in which the true median lies
with 95 % confidence. A difference is told when 1 is outside of it.

A side is a commit, or a folder with a checkout. Two builds of the same code may differ by 1 or 2 % because their
functions lie at other addresses: compare a commit with one that changes nothing of the package to see how much.

`

// comparison is one run of "compare".
type comparison struct {
	root, dir string // the repository, and a folder for files
	pairs     int
	time      time.Duration // of one run of a benchmark
	match     string
	say       func(format string, args ...any)
	cleanup   []func()
}

// side is one of the two that are compared.
type side struct{ title, dir string }

// compareMain runs "compare" and prints a table in Markdown to out.
func compareMain(ctx context.Context, args []string, out io.Writer, say func(string, ...any)) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = io.WriteString(flags.Output(), compareUsage)
		flags.PrintDefaults()
	}
	c := &comparison{say: say}
	before := flags.String("before", "", "commit or folder to compare with")
	after := flags.String("after", "", "commit or folder to compare; the repository as it stands when empty")
	flags.StringVar(&c.match, "bench", ".", "benchmarks to run: a regular expression, as in go test -bench")
	flags.IntVar(&c.pairs, "pairs", 20, "runs of each side; at least 6, below which nothing can be told")
	flags.DurationVar(&c.time, "time", 200*time.Millisecond, "how long one run of a benchmark takes, about")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *before == "" || flags.NArg() == 0 || c.pairs < leastPairs || c.time <= 0 {
		return fmt.Errorf("compare: want -before, at least one package such as ./cache, -pairs of at least %d and a -time above 0", leastPairs)
	}
	var err error
	if c.root, err = moduleRoot(); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "penstock-compare-"); err != nil {
		return err
	}
	defer func() {
		for _, f := range slices.Backward(c.cleanup) {
			f()
		}
		_ = os.RemoveAll(c.dir)
	}()
	b, err := c.side(ctx, "before", *before)
	if err != nil {
		return err
	}
	a, err := c.side(ctx, "after", *after)
	if err != nil {
		return err
	}
	t := table{header: []string{"benchmark", "before, ns: median (least)", "after", "least ÷ least", "CPU, after ÷ before (95 %)", ""}}
	for _, pkg := range flags.Args() {
		if err := c.compare(ctx, &t, pkg, b, a); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "before %s, after %s, %d pairs of %v\n\n%s", b.title, a.title, c.pairs, c.time, t.String())
	return err
}

// side checks a commit out, unless it is a folder.
func (c *comparison) side(ctx context.Context, name, what string) (side, error) {
	if what == "" {
		return side{"as it stands", c.root}, nil
	}
	if _, err := os.Stat(filepath.Join(what, "go.mod")); err == nil {
		dir, err := filepath.Abs(what)
		return side{filepath.Base(dir), dir}, err
	}
	dir := filepath.Join(c.dir, name)
	if out, err := command(ctx, c.root, "git", "worktree", "add", "--detach", dir, what).CombinedOutput(); err != nil {
		return side{}, fmt.Errorf("%s: %q is neither a folder with a go.mod nor a commit: %w: %s", name, what, err, out)
	}
	c.cleanup = append(c.cleanup, func() { // also after an interrupt
		_ = command(context.WithoutCancel(ctx), c.root, "git", "worktree", "remove", "--force", dir).Run()
	})
	return side{what, dir}, nil
}

func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}

// compare adds a row for each benchmark of a package that both sides have.
func (c *comparison) compare(ctx context.Context, t *table, pkg string, before, after side) error {
	var tests [2]test
	var names [2][]string
	for i, s := range []side{before, after} {
		tests[i] = test{binary: filepath.Join(c.dir, strconv.Itoa(i)+".test"), dir: filepath.Join(s.dir, pkg)}
		if out, err := command(ctx, s.dir, "go", "test", "-c", "-o", tests[i].binary, pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("build the tests of %s of %s: %w: %s", pkg, s.title, err, out)
		}
		runs, err := tests[i].run(ctx, c.match, "1x")
		if err != nil {
			return err
		}
		for _, r := range runs {
			names[i] = append(names[i], r.name)
		}
	}
	for _, name := range names[0] {
		if !slices.Contains(names[1], name) {
			c.say("%s %s: only before", pkg, name)
		}
	}
	for _, name := range names[1] {
		if !slices.Contains(names[0], name) {
			c.say("%s %s: only after", pkg, name)
			continue
		}
		c.say("%s %s", pkg, name)
		m, err := c.measure(ctx, tests, name)
		if err != nil {
			return err
		}
		t.add(append([]string{pkg + " " + name}, m.cells()...)...)
	}
	return nil
}

// measure runs one benchmark of both sides in turn.
func (c *comparison) measure(ctx context.Context, tests [2]test, name string) (pairs, error) {
	var m pairs
	pattern := exactly(name)
	runs, err := tests[0].run(ctx, pattern, c.time.String())
	if err != nil {
		return m, err
	}
	if len(runs) != 1 {
		return m, fmt.Errorf("%s: %d benchmarks ran, want 1", name, len(runs))
	}
	n := runs[0].iterations
	var start [2]float64 // what a process takes without the benchmark
	for i := range tests {
		start[i] = math.Inf(1)
		for range 3 {
			runs, err := tests[i].run(ctx, pattern, "1x")
			if err != nil {
				return m, err
			}
			start[i] = min(start[i], runs[0].cpu)
		}
	}
	for round := range c.pairs {
		for k := range tests {
			i := (round + k) % 2 // who begins changes
			runs, err := tests[i].run(ctx, pattern, strconv.Itoa(n)+"x")
			if err != nil {
				return m, err
			}
			m.wall[i].add(runs[0].wall)
			m.cpu[i].add(max(runs[0].cpu-start[i], 1) / float64(n))
		}
	}
	return m, nil
}

// exactly is the pattern for -test.bench that only this benchmark matches.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// test is a test binary, and the folder that it runs in.
type test struct{ binary, dir string }

// benchmarkRun is what one run of a benchmark told. The CPU time, in nanoseconds, is that of the whole process.
type benchmarkRun struct {
	name       string
	iterations int
	wall       float64 // ns an iteration
	cpu        float64
}

func (t test) run(ctx context.Context, pattern, benchtime string) ([]benchmarkRun, error) {
	cmd := command(ctx, t.dir, t.binary, "-test.run", "^$", "-test.cpu", "1", "-test.bench", pattern, "-test.benchtime", benchtime)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	runs := benchmarkRuns(string(out))
	if len(runs) == 0 {
		return nil, fmt.Errorf("%s: no benchmark matches %q", t.dir, pattern)
	}
	for i := range runs {
		runs[i].cpu = float64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
	}
	return runs, nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^(Benchmark\S+)\s+(\d+)\s+([0-9.]+) ns/op`)

// benchmarkRuns reads what a test binary prints.
func benchmarkRuns(out string) []benchmarkRun {
	var runs []benchmarkRun
	for _, m := range benchmarkLine.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[2])
		wall, err2 := strconv.ParseFloat(m[3], 64)
		if errors.Join(err, err2) == nil {
			runs = append(runs, benchmarkRun{name: m[1], iterations: n, wall: wall})
		}
	}
	return runs
}

// pairs are runs of both sides, before and after, in ns an iteration; those with the same index belong together.
type pairs struct{ wall, cpu [2]sample }

// ratios are after ÷ before of each pair, in CPU time.
func (p *pairs) ratios() sample {
	var r sample
	for i, before := range p.cpu[0] {
		r.add(p.cpu[1][i] / before)
	}
	return r
}

func (p *pairs) cells() []string {
	ratios := p.ratios()
	low, high := ratios.interval()
	ns := func(s sample) string {
		decimals := 0
		if s.median() < 100 {
			decimals = 1
		}
		return number(s.median(), decimals) + " (" + number(slices.Min(s), decimals) + ")"
	}
	return []string{
		ns(p.wall[0]), ns(p.wall[1]), number(slices.Min(p.wall[1])/slices.Min(p.wall[0]), 3),
		fmt.Sprintf("%.3f (%.3f–%.3f)", ratios.median(), low, high), outcome(low, high),
	}
}

// outcome says what an interval of ratios tells.
func outcome(low, high float64) string {
	switch {
	case low > 1:
		return "slower"
	case high < 1:
		return "faster"
	}
	return "no difference beyond the noise"
}

// leastPairs is the number below which no interval of the values has a confidence of 95 %.
const leastPairs = 6

// interval is where the median of what s is a sample of lies with a confidence of at least 95 %, whatever its
// distribution: each value is above it or below it like a coin that is thrown, so as many of the least and of the
// greatest values are left out as come up less than once in 40 times.
func (s sample) interval() (low, high float64) {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	if n < leastPairs {
		return math.Inf(-1), math.Inf(1)
	}
	left := 0
	p := math.Pow(0.5, float64(n)) // of exactly that many values below the median
	for sum := p; sum <= 0.025; sum += p {
		p *= float64(n-left) / float64(left+1)
		left++
	}
	return sorted[left-1], sorted[n-left]
}
