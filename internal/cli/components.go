package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reference"
	"github.com/penstock-dev/penstock/pipeline"
)

var kinds = []pipeline.Kind{pipeline.KindSource, pipeline.KindTransform, pipeline.KindSink}

func (p *Program) componentsCommand() *cobra.Command {
	var markdown bool
	var format string
	c := &cobra.Command{
		Use:   "components [NAME]",
		Short: "lists the components, or shows one with its fields",
		Long: `Lists the sources, transforms and sinks that this program knows, or shows one with all its fields.

With --format markdown it prints the reference of all of them and of the pipeline's own keys.`,
		Example: p.examples(`
			penstock components
			penstock components redis
			penstock components --format json redis
			penstock components --format markdown > reference.md`),
		Args: atMost("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			markdown = markdown || format == "markdown"
			switch {
			case format != "text" && format != "json" && format != "markdown":
				return usagef("--format wants text, json or markdown, got %q%s", format, didYouMean(format, []string{"text", "json", "markdown"}))
			case markdown && len(args) > 0:
				return usagef("markdown prints the reference of all components: leave %s out", args[0])
			case markdown:
				return reference.Write(p.Stdout, p.Registry)
			}
			var found []inside.Description
			var names []string
			for _, kind := range kinds {
				for _, reg := range p.Registry.Components(kind) {
					names = append(names, reg.Name)
					if len(args) == 1 && args[0] != reg.Name {
						continue
					}
					d, err := inside.Describe(p.Registry, string(kind), reg.Name)
					if err != nil {
						return err
					}
					found = append(found, d)
				}
			}
			if len(found) == 0 && len(args) == 1 {
				return usagef("no component is called %q%s", args[0], didYouMean(args[0], names))
			}
			var b bytes.Buffer
			switch {
			case format == "json":
				return writeComponentsJSON(p.Stdout, found)
			case len(args) == 0:
				writeList(&b, p.textWidth(), found)
			default:
				for i, d := range found {
					if i > 0 {
						b.WriteString("\n")
					}
					writeComponent(&b, p.textWidth(), d)
				}
			}
			_, err := p.text().Write(b.Bytes())
			return err
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "the same as --format markdown")
	c.Flags().StringVar(&format, "format", "text", "how to print: text, json, or markdown (the reference of everything)")
	return c
}

func writeList(w io.Writer, columns int, all []inside.Description) {
	width := 0
	for _, d := range all {
		width = max(width, len(d.Name))
	}
	indent := strings.Repeat(" ", 2+width+2)
	var kind string
	for _, d := range all {
		if d.Kind != kind {
			if kind != "" {
				_, _ = fmt.Fprintln(w)
			}
			kind = d.Kind
			_, _ = fmt.Fprintf(w, "%ss\n", kind)
		}
		var b strings.Builder
		writeWrapped(&b, columns, indent, d.Summary)
		_, _ = fmt.Fprintf(w, "  %-*s  %s\n", width, d.Name, strings.TrimSpace(b.String()))
	}
}

func writeComponent(w io.Writer, columns int, d inside.Description) {
	_, _ = fmt.Fprintf(w, "%s %s", d.Kind, d.Name)
	if d.Type != "settings" {
		_, _ = fmt.Fprintf(w, ": a %s", d.Type)
	}
	_, _ = fmt.Fprintln(w)
	writeWrapped(w, columns, "  ", d.Doc)
	for _, f := range flat(d.Fields) {
		_, _ = fmt.Fprintf(w, "\n  %s  (%s)\n", f.Path, facts(f))
		writeWrapped(w, columns, "      ", f.Doc)
	}
}

// facts are a field's type, whether it must be there, what it may be and what it is when absent.
func facts(f inside.Field) string {
	parts := []string{f.Type}
	if len(f.Enum) > 0 {
		parts = append(parts, "one of "+strings.Join(f.Enum, ", "))
	}
	if f.Range != "" {
		parts = append(parts, f.Range)
	}
	if f.Required {
		parts = append(parts, "required")
	}
	if f.Default != "" {
		parts = append(parts, "default "+f.Default)
	}
	return strings.Join(parts, ", ")
}

// flat lists fields with what is in them right after them.
func flat(fields []inside.Field) []inside.Field {
	var all []inside.Field
	for _, f := range fields {
		all = append(all, f)
		all = append(all, flat(f.Fields)...)
	}
	return all
}

// writeWrapped breaks paragraphs at spaces; lines that are indented (code) stay as they are.
func writeWrapped(w io.Writer, columns int, indent, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == ' ' || line[0] == '\t' {
			_, _ = fmt.Fprintln(w, strings.TrimRight(indent+line, " "))
			continue
		}
		column := 0
		for word := range strings.FieldsSeq(line) {
			switch n := utf8.RuneCountInString(word); {
			case column == 0:
				_, _ = io.WriteString(w, indent+word)
				column = len(indent) + n
			case column+1+n > columns:
				_, _ = io.WriteString(w, "\n"+indent+word)
				column = len(indent) + n
			default:
				_, _ = io.WriteString(w, " "+word)
				column += 1 + n
			}
		}
		_, _ = fmt.Fprintln(w)
	}
}
