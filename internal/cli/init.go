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

// template is a starter: a ready pipeline with its tests, or a folder of templateFiles.
type template struct {
	name, summary string
	ready         string // the ready pipeline that it is, or ""
	head          string // what stands above the ready pipeline in place of its own first comment, or ""
	tail          string // what stands below it
	input         string // the variable that names events.ndjson, where the pipeline isn't run beside it
	next          string // the second of the next commands
	program       bool   // it is a Go module, which makes its schema itself
}

const (
	pipelineFile = "pipeline.yaml"
	testsFile    = "pipeline_test.yaml"
	schemaFile   = "pipeline.schema.json"
)

var templates = []template{
	{
		name: "cache-service", summary: "entitlement events from SQS into a Redis", ready: configs.PersistentCache,
		head: "# The cache service: entitlement events from SQS into a Redis that the provider's SDKs read.\n",
		tail: "\npoison_queue:                                        # what can never be processed, whole, with the reason\n  file: {dir: \"${POISON_DIR:-poison}\"}\n",
		next: "QUEUE_URL=… REDIS_HOST=… %s run %s",
	},
	{name: "queue-to-file", summary: "an SQS queue into recordings", ready: "sqs-to-file", next: "QUEUE_URL=… %s run %s"},
	{name: "replay", summary: "recordings into a Redis", ready: "replay", next: "RECORDINGS='recordings/*' REDIS_HOST=… %s run %s"},
	{name: "own-json", summary: "JSON of your own into a Redis", input: "EVENTS", next: "REDIS_HOST=… %s run %s"},
	{name: "custom-program", summary: "a Go module: penstock with a sink of your own, its test, a Makefile", program: true},
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
	var checkout string
	c := &cobra.Command{
		Use:   "init [TEMPLATE] [DIR]",
		Short: "writes a commented pipeline to begin with",
		Long: `Writes pipeline.yaml, its tests and its JSON Schema for editors into DIR (this directory without one), and never over
a file that is there. The templates are:

` + list.String() + `
Without TEMPLATE it is cache-service. The go.mod of custom-program requires the version of this penstock. One that was
built in a checkout has no version that Go could download: go.mod then takes penstock from the checkout.`,
		Example: p.examples(`
			penstock init
			penstock init own-json my-pipeline
			penstock init custom-program my-program`),
		Args: atMost("TEMPLATE", "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			name, dir := templates[0].name, "."
			if len(args) > 0 {
				name = args[0]
			}
			if len(args) > 1 {
				dir = args[1]
			}
			for _, t := range templates {
				switch {
				case t.name != name:
				case checkout != "" && !t.program:
					return usagef("--checkout is for %s: a pipeline file needs no Go module", "custom-program")
				default:
					return p.writeTemplate(t, dir, checkout)
				}
			}
			return usagef("no template is called %q%s; there are %s", name, didYouMean(name, templateNames()), strings.Join(templateNames(), ", "))
		},
	}
	c.Flags().StringVar(&checkout, "checkout", "", "custom-program: take penstock from this checkout, whatever the version")
	return c
}

// starterFile is a file of a template.
type starterFile struct {
	name string
	text []byte
}

func (p *Program) writeTemplate(t template, dir, checkout string) error {
	files, err := p.filesOf(t, dir, checkout)
	if err != nil {
		return err
	}
	// Nothing is written where one of them is there already.
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			return usagef("%s is there already: nothing is written over", filepath.Join(dir, f.name))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := writeNew(filepath.Join(dir, f.name), f.text); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(p.Stderr, "wrote", filepath.Join(dir, f.name))
	}
	first, second := p.nextCommands(t, dir)
	_, err = fmt.Fprintf(p.Stdout, "next:\n  %s\n  %s\n", first, second)
	return err
}

// filesOf makes the files of a template.
func (p *Program) filesOf(t template, dir, checkout string) ([]starterFile, error) {
	var files []starterFile
	switch {
	case t.program:
		return programFiles(t.name, dir, checkout)
	case t.ready != "":
		text, tests, ok := configs.ReadWithTests(t.ready)
		if !ok {
			return nil, fmt.Errorf("the ready pipeline %s is missing", t.ready)
		}
		files = []starterFile{
			{pipelineFile, []byte(t.around(string(text)))},
			{testsFile, bytes.ReplaceAll(tests, []byte("penstock test "+t.ready), []byte("penstock test "+pipelineFile))},
		}
	default:
		entries, err := templateFiles.ReadDir("templates/" + t.name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			text, err := templateFiles.ReadFile("templates/" + t.name + "/" + e.Name())
			if err != nil {
				return nil, err
			}
			files = append(files, starterFile{e.Name(), text})
		}
	}
	var schema bytes.Buffer
	if err := reference.WriteSchema(&schema, p.Registry); err != nil {
		return nil, err
	}
	return append(files, starterFile{schemaFile, schema.Bytes()}), nil
}

// around puts the head of the template into the place of the comment below the first line, and the tail at the end.
func (t template) around(text string) string {
	if t.head != "" {
		first, rest, _ := strings.Cut(text, "\n")
		_, body, _ := strings.Cut(rest, "\nname:")
		text = first + "\n" + t.head + "name:" + body
	}
	return text + t.tail
}

// nextCommands are two commands to go on with. They are run from where they are printed.
func (p *Program) nextCommands(t template, dir string) (first, second string) {
	here := filepath.Clean(dir) == "."
	if t.program {
		in := ""
		if !here {
			in = " -C " + quoted(dir)
		}
		return "make" + in + " test", "make" + in + " run"
	}
	file := quoted(filepath.Join(dir, pipelineFile))
	second = fmt.Sprintf(t.next, p.Invocation, file)
	if t.input != "" && !here {
		second = t.input + "=" + quoted(filepath.Join(dir, "events.ndjson")) + " " + second
	}
	return p.Invocation + " test " + file, second
}

// quoted is a word for a shell.
func quoted(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@%,:=") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
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
