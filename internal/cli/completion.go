package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/inside"
)

// completer offers what may stand at a place of the command line; args are the arguments before it.
type completer func(args []string, begun string) ([]string, cobra.ShellCompDirective)

// nothing is offered where anything may stand: not even files.
func nothing([]string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// choices are the values of flags that take one of a few, by command and flag, or by flag alone.
var choices = map[string][]string{
	"color":             {"auto", "always", "never"},
	"by":                {"reason", "stage", "pipeline"},
	"format":            {"text", "json"},
	"components format": {"text", "json", "markdown"},
	"test format":       {"text", "json", "junit"},
	"validate format":   {"text", "json", "github"},
	"replay format":     {"recording", "lines"},
}

// addCompletions says for every command and flag what the shell may offer.
func (p *Program) addCompletions(c *cobra.Command) {
	arguments := map[string]completer{
		"run": p.completePipelines, "validate": p.completePipelines, "test": p.completePipelines, "doctor": p.completePipelines,
		"replay": p.completeReplay, "init": completeInit, "explain": p.completeExplain, "components": p.completeComponents,
	}
	complete, ok := arguments[c.Name()]
	if !ok {
		complete = nothing
	}
	if !c.HasSubCommands() {
		c.ValidArgsFunction = func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			return complete(args, begun)
		}
	}
	flags := func(f *pflag.Flag) {
		complete := nothing
		values, ok := choices[c.Name()+" "+f.Name]
		if !ok {
			values = choices[f.Name]
		}
		switch {
		case values != nil:
			complete = func([]string, string) ([]string, cobra.ShellCompDirective) {
				return values, cobra.ShellCompDirectiveNoFileComp
			}
		case f.Name == "file":
			complete = p.completePipelines
		case f.Name == "checkpoint" || f.Name == "to-file":
			return // any file: the shell knows them
		case f.Name == "checkout":
			complete = func([]string, string) ([]string, cobra.ShellCompDirective) {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
		}
		_ = c.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			return complete(args, begun)
		}) // fails only where there is one already
	}
	c.LocalFlags().VisitAll(flags)
	for _, sub := range c.Commands() {
		p.addCompletions(sub)
	}
}

// completePipelines offers the ready pipelines, YAML files and directories.
func (p *Program) completePipelines(_ []string, begun string) ([]string, cobra.ShellCompDirective) {
	if strings.HasPrefix(begun, "~") || strings.Contains(begun, "$") { // the shell's own business
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	found, directive := files(begun, ".yaml", ".yml")
	for _, name := range configs.Names() {
		if strings.HasPrefix(name, begun) {
			found, directive = append(found, name+"\tready pipeline"), cobra.ShellCompDirectiveNoFileComp
		}
	}
	return found, directive
}

// completeReplay offers a pipeline first, and then recordings.
func (p *Program) completeReplay(args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.completePipelines(args, begun)
	}
	return files(begun, ".ndjson", ".gz", ".zst")
}

// files offers the directories and the files with one of the endings that begin so.
func files(begun string, endings ...string) ([]string, cobra.ShellCompDirective) {
	dir, _ := filepath.Split(begun)
	entries, err := os.ReadDir(filepath.Join(".", dir))
	if filepath.IsAbs(dir) {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	directive := cobra.ShellCompDirectiveNoFileComp
	for _, e := range entries {
		name := dir + e.Name()
		info, err := os.Stat(filepath.Join(".", dir, e.Name()))
		if filepath.IsAbs(dir) {
			info, err = os.Stat(name)
		}
		switch {
		case err != nil || !strings.HasPrefix(name, begun) || strings.HasPrefix(e.Name(), ".") && begun == dir:
		case info.IsDir():
			found, directive = append(found, name+string(filepath.Separator)), directive|cobra.ShellCompDirectiveNoSpace
		case slices.Contains(endings, filepath.Ext(name)):
			found = append(found, name)
		}
	}
	return found, directive
}

// completeInit offers the templates first, and then directories.
func completeInit(args []string, begun string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		var found []string
		for _, t := range templates {
			if strings.HasPrefix(t.name, begun) {
				found = append(found, t.name+"\t"+t.summary)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	case 1:
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return nothing(args, begun)
}

// completeComponents offers the names of components.
func (p *Program) completeComponents(args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nothing(args, begun)
	}
	var found []string
	for _, kind := range kinds {
		for _, reg := range p.Registry.Components(kind) {
			if name := reg.Name + "\t" + string(kind); strings.HasPrefix(name, begun) {
				found = append(found, name)
			}
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeExplain offers codes and settings: of a component once it is named, before that the components.
func (p *Program) completeExplain(args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nothing(args, begun)
	}
	var found []string
	offer := func(name, what string) {
		if what, _, _ = strings.Cut(what, "\n"); strings.HasPrefix(name, begun) {
			found = append(found, name+"\t"+what)
		}
	}
	settings := func(prefix string, d inside.Description) {
		for _, f := range flat(d.Fields) {
			offer(prefix+strings.NewReplacer("[]", "", ".*", "").Replace(f.Path), f.Doc)
		}
	}
	for _, e := range code.All() {
		offer(string(e.Code), e.Title)
	}
	more := cobra.ShellCompDirectiveNoFileComp
	for _, kind := range kinds {
		folder := string(kind) + "s."
		if !strings.HasPrefix(begun, folder) {
			if strings.HasPrefix(folder, begun) {
				more |= cobra.ShellCompDirectiveNoSpace
			}
			offer(folder, "the "+string(kind)+"s")
			continue
		}
		for _, reg := range p.Registry.Components(kind) {
			d, err := inside.Describe(p.Registry, string(kind), reg.Name)
			if err != nil {
				continue
			}
			if name := folder + reg.Name; strings.HasPrefix(begun, name+".") {
				settings(name+".", d)
			} else {
				more |= cobra.ShellCompDirectiveNoSpace // its settings may follow
				offer(name, d.Summary)
			}
		}
	}
	if d, err := inside.DescribePipeline(p.Registry); err == nil {
		settings("", d)
	}
	return found, more
}
