package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/pipetest"
	"github.com/penstock-dev/penstock/pipeline"
)

// loader loads the pipelines of one command and gathers everything that is wrong with any of them.
type loader struct {
	*Program
	// skip names the top-level keys that the command has no use for: what they need is not asked for.
	skip []string

	configs         []*pipeline.Config
	refs            []string // what the person called each of them
	warned          []pipeline.Warning
	warnings, notes []string // not about a place in a file
	problems        []pipeline.Problem
	service         []error
	// variables is what is wrong with variables that libraries read by themselves.
	variables error
}

func (p *Program) newLoader(skip ...string) *loader { return &loader{Program: p, skip: skip} }

// newRunLoader makes a loader for a command that runs pipelines or connects to their backends: libraries then read
// variables by themselves.
func (p *Program) newRunLoader(skip ...string) *loader {
	return &loader{Program: p, skip: skip, notes: slices.Clone(p.VariableNotes), variables: p.VariableError}
}

// load loads a pipeline file, or the ready pipeline of that name when there is no such file.
func (l *loader) load(ref string) {
	defer func(n int) {
		if len(l.configs) > n {
			l.refs = append(l.refs, ref)
		}
	}(len(l.configs))
	data, err := l.ReadFile(ref)
	if err == nil && pipetest.IsTests(ref) {
		l.problem(code.TestsFile, ref, fmt.Sprintf("these are the tests of %s: run them with %s test %s", pipetest.Of(ref), l.Invocation, ref))
		return
	}
	if err == nil {
		l.loadBytes(ref, data, l.LookupEnv)
		return
	}
	name := strings.TrimSuffix(ref, ".yaml")
	ready, ok := configs.Read(name)
	switch {
	case !errors.Is(err, os.ErrNotExist):
		l.problem(code.FileUnreadable, ref, describeReadError(err))
	case !ok && !strings.ContainsAny(ref, "./\\"):
		l.problem(code.NoSuchPipeline, ref, fmt.Sprintf("neither a file nor a ready pipeline%s; ready are %s", didYouMean(ref, configs.Names()), strings.Join(configs.Names(), ", ")))
	case !ok:
		l.problem(code.FileUnreadable, ref, describeReadError(err))
	case name == configs.PersistentCache:
		l.loadDropIn(ready)
	default:
		l.loadBytes("(ready pipeline) "+name+".yaml", ready, l.LookupEnv)
	}
}

// loadDropIn loads the built-in cache service with the environment variables of the existing one.
func (l *loader) loadDropIn(data []byte) {
	uses := func(key string) bool { return !slices.Contains(l.skip, key) }
	d, err := newDropIn(l.LookupEnv, l.ReadFile, dropInNeeds{queue: uses("source"), redis: uses("sink")})
	if err != nil {
		l.service = append(l.service, err)
		return
	}
	l.warnings = append(l.warnings, d.warnings...)
	l.notes = append(l.notes, d.notes...)
	data = append(slices.Clone(data), poisonSections[d.poison]...)
	l.loadBytes("(ready pipeline) "+configs.PersistentCache+".yaml", data, d.Lookup(l.LookupEnv))
}

func (l *loader) loadBytes(name string, data []byte, env func(string) (string, bool)) {
	l.keep(name, data)
	cfg, warnings, err := pipeline.LoadBytes(l.Registry, name, data, pipeline.LoadOptions{Env: env, ReadFile: l.ReadFile, Skip: l.skip})
	l.warned = append(l.warned, warnings...)
	if err != nil {
		if problems, ok := errors.AsType[*pipeline.ConfigError](err); ok {
			l.problems = append(l.problems, problems.Problems...)
		} else {
			l.problem("", name, err.Error())
		}
		return
	}
	l.configs = append(l.configs, cfg)
}

// keep keeps a file, so that lines of it can be shown.
func (l *loader) keep(name string, data []byte) {
	if l.sources == nil {
		l.sources = map[string][]byte{}
	}
	l.sources[name] = data
}

func (l *loader) problem(c code.Code, file, what string) {
	l.problems = append(l.problems, pipeline.Problem{File: file, What: what, Code: string(c)})
}

// told is every warning, as a line.
func (l *loader) told() []string {
	var lines []string
	for _, w := range l.warned {
		lines = append(lines, w.String())
	}
	return append(lines, l.warnings...)
}

// done returns everything that is wrong, as one error.
func (l *loader) done() error {
	var errs []error
	if len(l.problems) > 0 {
		errs = append(errs, &pipeline.ConfigError{Problems: l.problems})
	}
	if err := errors.Join(l.service...); err != nil {
		errs = append(errs, &variablesError{err: err, invocation: l.Invocation})
	}
	if l.variables != nil && len(l.service) == 0 { // the built-in service has told it with the rest of its variables
		errs = append(errs, &usageError{fmt.Errorf("environment variables: %w [%s]", l.variables, code.ProcessVariable)})
	}
	return errors.Join(errs...)
}

// variablesError is everything that is wrong with the environment variables of the built-in cache service.
type variablesError struct {
	err        error
	invocation string
}

func (e *variablesError) Error() string {
	return "penstock: the environment variables don't configure the cache service [" + string(code.CacheService) + "]:\n  " + strings.ReplaceAll(e.err.Error(), "\n", "\n  ") +
		"\nto see it at work without a queue and a Redis: " + e.invocation + " run quickstart"
}

func describeReadError(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// didYouMean returns " (did you mean x?)", or "" when nothing is near.
func didYouMean(word string, names []string) string {
	if near := nearest(word, names); near != "" {
		return " (did you mean " + near + "?)"
	}
	return ""
}
