// Package pipetest runs the tests that stand beside a pipeline: messages go through its transforms, and what reaches
// the sink is compared with what the test expects. Source, sink, poison queue and record are replaced.
package pipetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
)

// Loader finds tests and the pipelines that they are for.
type Loader struct {
	// Registry holds the components that pipeline files may name.
	Registry *pipeline.Registry
	// ReadFile reads pipeline files, and the files that they mention.
	ReadFile func(name string) ([]byte, error)
	// Ready returns a ready pipeline and its tests by name; nil when there are none.
	Ready func(name string) (data, tests []byte, ok bool)

	suites   []Suite
	problems []pipeline.Problem
	checked  map[string]bool // pipeline files
}

// Suite is the tests of one file.
type Suite struct {
	// Pipeline is the file of the pipeline, File the one in which the tests stand; the two may be the same.
	Pipeline, File string
	// Tests are in the order of the file.
	Tests pipeline.TestCases

	pipeline, data []byte
	place          func(path string) (line, column int)
	inMemory       bool // of a ready pipeline: can't be updated
}

// TestsSuffix ends the name of a file of tests: NAME_test.yaml is beside NAME.yaml.
const TestsSuffix = "_test"

// Load returns the suites of files and of directories (in and below them). The error is a [pipeline.ConfigError] with
// everything that is wrong with any of the files.
func (l *Loader) Load(refs []string) ([]Suite, error) {
	l.suites, l.problems, l.checked = nil, nil, map[string]bool{}
	for _, ref := range refs {
		if info, err := os.Stat(ref); err == nil && info.IsDir() {
			l.directory(ref)
			continue
		}
		l.file(ref, true)
	}
	if len(l.problems) > 0 {
		return nil, &pipeline.ConfigError{Problems: l.problems}
	}
	return l.suites, nil
}

// looksLikeTests and looksLikePipeline tell, in a directory, the files that are meant from other YAML.
var (
	looksLikeTests    = regexp.MustCompile(`(?m)^["']?tests["']?\s*:`)
	looksLikePipeline = regexp.MustCompile(`(?m)^["']?(source|sink)["']?\s*:`)
)

func (l *Loader) directory(dir string) {
	n := len(l.suites) + len(l.problems)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !isYAML(path):
			return nil
		}
		data, err := l.ReadFile(path)
		if err != nil {
			return err
		}
		if looksLikePipeline.Match(data) && !isTests(path) && (looksLikeTests.Match(data) || exists(Beside(path))) {
			l.file(path, false)
		}
		return nil
	})
	if err != nil {
		l.problem(dir, err)
	} else if len(l.suites)+len(l.problems) == n {
		l.problem(dir, code.Markf(code.NoTests, "no pipeline file in or below it has tests"))
	}
}

// file loads the tests in a pipeline file and those beside it. named tells that the person named this file.
func (l *Loader) file(ref string, named bool) {
	path := ref
	if isTests(ref) {
		path = Of(ref) // asked for the file beside: the pipeline comes with it
	}
	if l.checked[path] {
		return
	}
	l.checked[path] = true
	data, err := l.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == ref && l.Ready != nil {
		if ready, tests, ok := l.Ready(strings.TrimSuffix(ref, ".yaml")); ok {
			name := "(ready pipeline) " + strings.TrimSuffix(ref, ".yaml")
			l.add(Suite{Pipeline: name + ".yaml", pipeline: ready, File: name + TestsSuffix + ".yaml", data: tests, inMemory: true})
			return
		}
	}
	if err != nil {
		if path != ref {
			err = fmt.Errorf("the pipeline that %s tests: %w", ref, reason(err))
		}
		l.problem(path, err)
		return
	}
	n := len(l.suites) + len(l.problems)
	l.check(path, data)
	if path == ref {
		l.add(Suite{Pipeline: path, pipeline: data, File: path, data: data})
	}
	tests, err := l.ReadFile(Beside(path))
	switch {
	case err == nil:
		l.add(Suite{Pipeline: path, pipeline: data, File: Beside(path), data: tests})
	case path != ref || !errors.Is(err, fs.ErrNotExist):
		l.problem(Beside(path), err)
	}
	if named && len(l.suites)+len(l.problems) == n {
		l.problem(path, code.Markf(code.NoTests, "no tests: they stand in it under tests:, or beside it in %s", filepath.Base(Beside(path))))
	}
}

func (l *Loader) add(s Suite) {
	tests, place, err := inside.LoadTests(s.File, s.data, s.File != s.Pipeline)
	if err != nil {
		l.problemsOf(err, nil)
		return
	}
	s.Tests, s.place = tests.(pipeline.TestCases), place
	if len(s.Tests) > 0 {
		l.suites = append(l.suites, s)
	}
}

// check reports what is wrong with the pipeline file in every environment: problems on lines with an expansion are
// those of an environment, and each test has its own.
func (l *Loader) check(file string, data []byte) {
	_, _, err := pipeline.LoadBytes(l.Registry, file, data, pipeline.LoadOptions{Env: noVariables, ReadFile: l.ReadFile})
	lines := bytes.Split(data, []byte("\n"))
	l.problemsOf(err, func(p pipeline.Problem) bool {
		expands := p.Line > 0 && p.Line <= len(lines) && bytes.Contains(lines[p.Line-1], []byte("${"))
		if slices.Contains(inEveryEnvironment, p.Code) {
			expands = false
		}
		return p.Path != "tests" && !strings.HasPrefix(p.Path, "tests[") && p.Variable == "" && !expands // tests are reported by add
	})
}

// inEveryEnvironment are the mistakes in expansions themselves.
var inEveryEnvironment = []string{string(code.ExpansionSyntax), string(code.QuotedExpansion), string(code.SettingsFromOneVar), string(code.BareExpansion)}

func noVariables(string) (string, bool) { return "", false }

func (l *Loader) problem(file string, err error) {
	l.problems = append(l.problems, pipeline.Problem{File: file, What: reason(err).Error(), Code: string(cmp.Or(code.Of(err), code.FileUnreadable))})
}

func (l *Loader) problemsOf(err error, keep func(pipeline.Problem) bool) {
	if config, ok := errors.AsType[*pipeline.ConfigError](err); ok {
		for _, p := range config.Problems {
			if (keep == nil || keep(p)) && !slices.Contains(l.problems, p) {
				l.problems = append(l.problems, p)
			}
		}
	}
}

// reason leaves out the name of a file that the problem tells already.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func isYAML(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".yaml" || ext == ".yml"
}

func isTests(path string) bool {
	return isYAML(path) && strings.HasSuffix(strings.TrimSuffix(path, filepath.Ext(path)), TestsSuffix) && exists(path) && exists(Of(path))
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// Beside returns the name of the file of tests beside a pipeline file.
func Beside(file string) string {
	ext := filepath.Ext(file)
	return strings.TrimSuffix(file, ext) + TestsSuffix + ext
}

// Of returns the name of the pipeline file that a file of tests stands beside.
func Of(file string) string {
	ext := filepath.Ext(file)
	return strings.TrimSuffix(strings.TrimSuffix(file, ext), TestsSuffix) + ext
}

// IsTests reports whether a file is there and holds tests, by its name, of a pipeline file beside it.
func IsTests(file string) bool { return isTests(file) }

// Check reports what is wrong with a file of tests. The error is a [pipeline.ConfigError].
func Check(file string, data []byte) (n int, err error) {
	tests, _, err := inside.LoadTests(file, data, true)
	if err != nil {
		return 0, err
	}
	return len(tests.(pipeline.TestCases)), nil
}
