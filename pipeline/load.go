package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/pipeline/internal/expand"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
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
	// Code says what kind of problem it is, whatever the words: "PS012", as penstock explain has it. "" when a problem was
	// made by a program.
	Code string
	// Hint is the part of What that says what may have been meant, such as "did you mean host?", or "".
	Hint string
	// Variable is the environment variable that is missing, if that is the problem.
	Variable string
}

// String is "file:line:column: path: what is wrong [code]", without the parts that are not known.
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
	if p.Code != "" {
		b.WriteString(" [" + p.Code + "]")
	}
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
		return nil, nil, configError([]Problem{{File: file, What: err.Error(), Code: string(code.FileUnreadable)}})
	}
	return LoadBytes(r, file, data, opts)
}

// maxFile is far beyond every pipeline that a person writes, and small enough that parsing it costs little memory.
const (
	maxFile  = 1 << 20
	tooLarge = "is larger than 1 MiB: a pipeline file is a few kilobytes; is it a recording?"
)

// LoadBytes is [Load] for a file that has been read (or was never on a disk); name is what problems call it.
func LoadBytes(r *Registry, name string, data []byte, opts LoadOptions) (*Config, []Warning, error) {
	if len(data) > maxFile {
		return nil, nil, configError([]Problem{{File: name, What: tooLarge, Code: string(code.FileTooLarge)}})
	}
	if opts.Env == nil {
		opts.Env = os.LookupEnv
	}
	if opts.ReadFile == nil {
		opts.ReadFile = os.ReadFile
	}
	config := DefaultConfig()
	config.File, config.skipped = name, opts.Skip
	decoded := language.Decode(data, &config, yamlfile.Options{
		Catalog: catalog{r}, Expander: expand.Expander{Env: opts.Env, ReadFile: opts.ReadFile}, Skip: opts.Skip,
	})
	warnings := tidy(problemsIn(name, decoded.Warnings))
	if err := configError(problemsIn(name, decoded.Problems)); err != nil {
		return nil, warnings, err
	}
	config.places = decoded.Places
	if err := configError(config.check()); err != nil {
		return nil, warnings, err
	}
	return &config, tidy(append(warnings, config.warnings()...)), nil
}

// problemsIn makes problems of a file of what the decoder found.
func problemsIn(file string, found []yamlfile.Problem) []Problem {
	problems := make([]Problem, len(found))
	for i, p := range found {
		problems[i] = Problem{
			File: file, Line: p.Line, Column: p.Column, Path: p.Path, What: p.What, Code: string(p.Code), Hint: p.Hint, Variable: p.Variable,
		}
	}
	return problems
}

// check asks the components that have rules about the rest of the pipeline.
func (c *Config) check() []Problem {
	var all []Problem
	c.Walk(func(_ Role, _ Kind, component *Component) {
		if checker, ok := component.Config.(Checker); ok {
			all = append(all, c.problemsOf(code.OwnRule, component, checker.Check(c))...)
		}
	})
	return all
}

// warnings asks the components that may have some.
func (c *Config) warnings() []Warning {
	var all []Warning
	c.Walk(func(_ Role, _ Kind, component *Component) {
		if warner, ok := component.Config.(Warner); ok {
			all = append(all, c.problemsOf(code.OwnWarning, component, warner.Warnings(c)...)...)
		}
	})
	return all
}

func (c *Config) problemsOf(own code.Code, component *Component, errs ...error) []Problem {
	var all []Problem
	for _, rule := range language.Rules(errors.Join(errs...), component.Path) {
		all = append(all, c.problem(cmp.Or(rule.Code, own), rule.Path, rule.What))
	}
	return all
}
