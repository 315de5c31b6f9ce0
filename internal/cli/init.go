package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/reference"
)

//go:embed templates
var templateFiles embed.FS

// template is a starter: a ready pipeline, or one of its own with its files.
type template struct {
	name, summary string
	ready         string   // the ready pipeline that it is, or ""
	files         []string // what else it brings along
	input         string   // the variable that names the first of files, where the pipeline doesn't stand beside it
	next          string   // the second of the next commands
}

var templates = []template{
	{name: "cache-service", summary: "entitlement events from SQS into a Redis", ready: configs.PersistentCache, next: "QUEUE_URL=… REDIS_HOST=… %s run %s"},
	{name: "queue-to-file", summary: "an SQS queue into recordings", ready: "sqs-to-file", next: "QUEUE_URL=… %s run %s"},
	{name: "replay", summary: "recordings into a Redis", ready: "replay", next: "RECORDINGS='recordings/*' %s run %s"},
	{name: "own-json", summary: "JSON of your own into a Redis", files: []string{"events.ndjson"}, input: "EVENTS", next: "REDIS_HOST=localhost %s run %s"},
}

func templateNames() []string {
	var names []string
	for _, t := range templates {
		names = append(names, t.name)
	}
	return names
}

func (p *Program) initCommand() *cobra.Command {
	var list strings.Builder
	for _, t := range templates {
		fmt.Fprintf(&list, "  %-14s %s\n", t.name, t.summary)
	}
	return &cobra.Command{
		Use:   "init [TEMPLATE] [DIR]",
		Short: "writes a commented pipeline to begin with",
		Long: `Writes pipeline.yaml and its JSON Schema for editors into DIR (this directory without one), and never over a file that
is there. The templates are:

` + list.String() + `
Without TEMPLATE it is cache-service.`,
		Example: p.examples(`
			penstock init
			penstock init own-json my-pipeline`),
		Args:      atMost("TEMPLATE", "DIR"),
		ValidArgs: templateNames(),
		RunE: func(_ *cobra.Command, args []string) error {
			name, dir := templates[0].name, "."
			if len(args) > 0 {
				name = args[0]
			}
			if len(args) > 1 {
				dir = args[1]
			}
			for _, t := range templates {
				if t.name == name {
					return p.writeTemplate(t, dir)
				}
			}
			return usagef("no template is called %q%s; there are %s", name, didYouMean(name, templateNames()), strings.Join(templateNames(), ", "))
		},
	}
}

func (p *Program) writeTemplate(t template, dir string) error {
	files := map[string][]byte{}
	order := append([]string{"pipeline.yaml", "pipeline.schema.json"}, t.files...)
	if t.ready != "" {
		files["pipeline.yaml"], _ = configs.Read(t.ready)
	} else {
		text, err := templateFiles.ReadFile("templates/" + t.name + ".yaml")
		if err != nil {
			return err
		}
		files["pipeline.yaml"] = text
	}
	var schema bytes.Buffer
	if err := reference.WriteSchema(&schema, p.Registry); err != nil {
		return err
	}
	files["pipeline.schema.json"] = schema.Bytes()
	for _, name := range t.files {
		text, err := templateFiles.ReadFile("templates/" + name)
		if err != nil {
			return err
		}
		files[name] = text
	}
	// Nothing is written where one of them is there already.
	for _, name := range order {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return usagef("%s is there already: nothing is written over", filepath.Join(dir, name))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range order {
		if err := writeNew(filepath.Join(dir, name), files[name]); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(p.Stderr, "wrote", filepath.Join(dir, name))
	}
	file := filepath.Join(dir, "pipeline.yaml")
	next := fmt.Sprintf(t.next, p.Invocation, file)
	if t.input != "" && filepath.Clean(dir) != "." {
		next = t.input + "=" + filepath.Join(dir, t.files[0]) + " " + next // the commands are run from here
	}
	_, err := fmt.Fprintf(p.Stdout, "next:\n  %s validate %s\n  %s\n", p.Invocation, file, next)
	return err
}

// writeNew writes a file that isn't there.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
