package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// LoadOptions are what loading a pipeline file depends on besides the file. The zero value takes them from the process.
type LoadOptions struct {
	// Env looks up an environment variable for ${NAME}; nil means os.LookupEnv.
	Env func(name string) (value string, set bool)
	// ReadFile reads the pipeline file and the files of ${file:path}, relative to the working directory; nil means
	// os.ReadFile.
	ReadFile func(name string) ([]byte, error)
	// Skip names top-level keys that are left out, as if they did not exist: neither decoded nor required. A command that
	// brings its own source, or needs only the sink, thus does not ask for the settings of the rest.
	Skip []string
}

// Problem is one thing that is wrong with a pipeline file.
type Problem struct {
	// File is the name that the file was loaded by. Line and Column count from 1; 0 means that the problem has no place.
	File         string
	Line, Column int
	// Path is the place in the pipeline, such as "sink.redis.host", or "".
	Path string
	// What is wrong, in a phrase.
	What string
	// Variable is the environment variable that is missing, if that is the problem.
	Variable string
}

// String is "file:line:column: path: what is wrong", without the parts that are not known.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.What)
	return strings.TrimPrefix(b.String(), ": ")
}

// Warning is something in a pipeline file that works but may not be what was meant.
type Warning = Problem

// ConfigError is everything that is wrong with a pipeline file, in the order of the file.
type ConfigError struct {
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// configError sorts the problems and leaves out those that are told twice; it returns nil when there are none.
func configError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &ConfigError{Problems: tidy(problems)}
}

func tidy(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	seen := map[Problem]bool{}
	return slices.DeleteFunc(problems, func(p Problem) bool {
		told := seen[p]
		seen[p] = true
		return told
	})
}

// Load reads a pipeline file: YAML, then the expansions in it, then the checks of every part. It touches nothing but
// files. The error is a [ConfigError] with all problems at once; the config is nil then. Warnings come with or
// without an error.
func Load(r *Registry, file string, opts LoadOptions) (*Config, []Warning, error) {
	if opts.ReadFile == nil {
		opts.ReadFile = os.ReadFile
	}
	data, err := opts.ReadFile(file)
	if err != nil {
		// The name is in the problem already, and should not be told twice.
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err
		}
		return nil, nil, configError([]Problem{{File: file, What: err.Error()}})
	}
	return LoadBytes(r, file, data, opts)
}

// LoadBytes is [Load] for a file that has been read (or was never on a disk); name is what problems call it.
func LoadBytes(r *Registry, name string, data []byte, opts LoadOptions) (*Config, []Warning, error) {
	if opts.Env == nil {
		opts.Env = os.LookupEnv
	}
	if opts.ReadFile == nil {
		opts.ReadFile = os.ReadFile
	}
	root, problem := parse(data)
	if problem != nil {
		problem.File = name
		return nil, nil, configError([]Problem{*problem})
	}
	d := decoder{
		registry: r, file: name, skip: opts.Skip,
		expander: expander{env: opts.Env, readFile: opts.ReadFile},
	}
	config := DefaultConfig()
	config.File, config.skipped = name, opts.Skip
	d.setMark("", markOf(root))
	if !d.value(root, reflect.ValueOf(&config).Elem(), "", nil) {
		d.report(markOf(root), "", "the file is empty: want a pipeline")
	}
	if err := configError(d.problems); err != nil {
		return nil, tidy(d.warnings), err
	}
	config.marks = d.marks
	if err := configError(config.check()); err != nil {
		return nil, tidy(d.warnings), err
	}
	return &config, tidy(append(d.warnings, config.warnings()...)), nil
}

// check asks the components that have rules about the rest of the pipeline.
func (c *Config) check() []Problem {
	var all []Problem
	c.Walk(func(_ Role, _ Kind, component *Component) {
		if checker, ok := component.Config.(Checker); ok {
			all = append(all, c.problemsOf(component, checker.Check(c))...)
		}
	})
	return all
}

// warnings asks the components that may have some.
func (c *Config) warnings() []Warning {
	var all []Warning
	c.Walk(func(_ Role, _ Kind, component *Component) {
		if warner, ok := component.Config.(Warner); ok {
			all = append(all, c.problemsOf(component, warner.Warnings(c)...)...)
		}
	})
	return all
}

func (c *Config) problemsOf(component *Component, errs ...error) []Problem {
	var all []Problem
	for _, err := range fieldErrors(errors.Join(errs...), component.Path) {
		all = append(all, c.problem(err.path, err.what))
	}
	return all
}

// parse returns the one document of a file.
func parse(data []byte) (*yaml.Node, *Problem) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root *yaml.Node
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		switch {
		case errors.Is(err, io.EOF) && root == nil:
			return nil, &Problem{Line: 1, Column: 1, What: "the file is empty: want a pipeline"}
		case errors.Is(err, io.EOF):
			return root, nil
		case err != nil:
			return nil, syntaxProblem(data, err)
		}
		content := document.Content[0]
		switch {
		case root == nil || root.ShortTag() == "!!null":
			root = content
		case content.ShortTag() != "!!null":
			return nil, &Problem{
				Line: content.Line, Column: content.Column,
				What: "a second document: a file holds one pipeline, put the other one into a file of its own",
			}
		}
	}
}

var (
	yamlErrorLine     = regexp.MustCompile(`^line (\d+): `)
	yamlUnknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxProblem gives an error of the YAML parser a place and, for the usual slips, a hint.
func syntaxProblem(data []byte, err error) *Problem {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	lines := strings.Split(string(data), "\n")
	if m := yamlUnknownAnchor.FindStringSubmatch(what); m != nil {
		// The name is left out: it may be a password.
		p := &Problem{Line: 1, Column: 1, What: "no anchor (&name) for this alias (*name): a value that begins with * needs quotes"}
		for i, line := range lines {
			if at := strings.Index(line, "*"+m[1]); at >= 0 && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				p.Line, p.Column = i+1, len([]rune(line[:at]))+1
				break
			}
		}
		return p
	}
	what = yamlErrorLine.ReplaceAllString(what, "")
	number := brokenLine(lines, err)
	line := strings.TrimSuffix(lines[number-1], "\r")
	indent := len(line) - len(strings.TrimLeft(line, " \t"))
	switch before, _, expansion := strings.Cut(line, "${"); {
	case strings.Contains(line[:indent], "\t"):
		what += " (YAML wants spaces, not tabs, before a key)"
	case expansion && strings.ContainsAny(before, "{["):
		what += " (inside { } and [ ] an expansion needs quotes, and stays text; on a line of its own it needs none)"
	case expansion:
		what += ` (an expansion with ": " or " #" in it needs quotes)`
	}
	return &Problem{Line: number, Column: indent + 1, What: "not YAML: " + what}
}

// brokenLine returns the first line after the longest part of the file that is YAML. The parser's own line is often that
// of the mapping or list around the mistake.
func brokenLine(lines []string, err error) int {
	const affordable = 2000 // lines: every part is parsed anew
	if len(lines) > affordable {
		if m := yamlErrorLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: ")); m != nil {
			n, _ := strconv.Atoi(m[1])
			return min(max(n, 1), len(lines))
		}
		return 1
	}
	n := len(lines) - 1
	for ; n > 0; n-- {
		var any yaml.Node
		if yaml.Unmarshal([]byte(strings.Join(lines[:n], "\n")), &any) == nil {
			break
		}
	}
	return n + 1
}
