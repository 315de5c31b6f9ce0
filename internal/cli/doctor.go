package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/pipeline"
)

// doctorTimeout bounds the look at one component.
const doctorTimeout = 30 * time.Second

func (p *Program) doctorCommand() *cobra.Command {
	var how doctorFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor [FILE...]",
		Short: "connects, and says what is wrong with queue, store, rights, disks and settings",
		Long: `Connects to what pipelines use and says what is wrong with it, or will be: each finding with its code (they are in
docs/operations.md), how bad it is, and what to do. It looks at queues, stores and rights, at what waits in the poison
queue, at directories and their disks, and at the clocks. It changes nothing and may be run beside a running pipeline.

With --fix-hints it also prints what can be pasted to mend it: the IAM policy, the Redis ACL, commands that set the
attributes of queues. Read it first: a policy or an attribute may be there for a reason.

Without FILE it looks at the built-in cache service, configured by its environment. FILE may also be the name of a ready
pipeline.`,
		Example: p.examples(`
			QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/events REDIS_HOST=redis penstock doctor
			penstock doctor my-pipeline.yaml
			penstock doctor --fix-hints my-pipeline.yaml
			penstock doctor --peek my-pipeline.yaml   # receives a message and gives it back, to see more`),
		RunE: func(c *cobra.Command, files []string) error {
			if asJSON {
				how.format = "lines"
			} else if how.format != "text" && how.format != "json" {
				return usagef("--format wants text or json, got %q%s", how.format, didYouMean(how.format, []string{"text", "json"}))
			}
			if len(files) == 0 {
				files = []string{configs.PersistentCache}
			}
			l := p.newRunLoader()
			for _, file := range files {
				l.load(file)
			}
			for _, w := range append(l.told(), l.notes...) {
				_, _ = fmt.Fprintln(p.Stderr, w)
			}
			if err := l.done(); err != nil {
				return err
			}
			return p.doctor(c.Context(), l.configs, how)
		},
	}
	c.Flags().BoolVar(&how.fixes, "fix-hints", false, "also print what can be pasted to mend it: policies, ACLs, commands")
	c.Flags().StringVar(&how.format, "format", "text", "how to print: text or json")
	c.Flags().BoolVar(&how.peek, "peek", false, "also receive a message of each queue and give it back at once: it costs that message one receive")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one finding a line; --format json prints an array")
	return c
}

type doctorFlags struct {
	peek, fixes bool
	format      string // text, json, or lines
}

// finding is a finding and where it was found.
type finding struct {
	Pipeline string            `json:"pipeline"`
	Path     string            `json:"path"`
	Code     string            `json:"code"`
	Severity pipeline.Severity `json:"severity"`
	What     string            `json:"what"`
	Remedy   string            `json:"remedy,omitempty"`
	Fix      string            `json:"fix,omitempty"`
}

func (p *Program) doctor(ctx context.Context, pipelines []*pipeline.Config, how doctorFlags) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-p.Signals:
			stop()
		case <-ctx.Done():
		}
	}()
	text := how.format == "text"
	counts := map[pipeline.Severity]int{}
	all, looked := []finding{}, 0
	for i, cfg := range pipelines {
		if text {
			if i > 0 {
				_, _ = fmt.Fprintln(p.Stdout)
			}
			_, _ = fmt.Fprintf(p.text(), "%s: %s\n", cfg.Name, flow(cfg))
		}
		cfg.Walk(func(role pipeline.Role, _ pipeline.Kind, component *pipeline.Component) {
			doctor, ok := component.Config.(pipeline.Doctor)
			if !ok || ctx.Err() != nil {
				return
			}
			looked++
			ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
			defer cancel()
			found := doctor.Diagnose(ctx, pipeline.DoctorEnv{Pipeline: cfg, Role: role, Path: component.Path, Peek: how.peek})
			for _, f := range found {
				counts[f.Severity]++
				one := finding{cfg.Name, component.Path, f.Code, f.Severity, f.What, f.Remedy, ""}
				if how.fixes {
					one.Fix = f.Fix
				}
				all = append(all, one)
			}
			if text {
				out := p.text()
				if how.fixes { // what is pasted stays whole
					out = p.Stdout
				}
				writeFindings(out, *component, found, how.fixes)
			}
		})
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if text {
		_, _ = fmt.Fprintf(p.Stdout, "\n%s\n", diagnosis(looked, counts))
	} else if err := writeFindingsJSON(p.Stdout, all, how.format); err != nil {
		return err
	}
	if counts[pipeline.SeverityBroken] > 0 {
		return exitError(exitFailed)
	}
	return nil
}

// writeFindingsJSON writes an array, or one finding a line.
func writeFindingsJSON(w io.Writer, all []finding, format string) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if format == "json" {
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	for _, f := range all {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// diagnosis is the last line.
func diagnosis(looked int, counts map[pipeline.Severity]int) string {
	switch {
	case looked == 0:
		return "no component here has anything to look at"
	case counts[pipeline.SeverityBroken]+counts[pipeline.SeverityWarning]+counts[pipeline.SeverityNote] == 0:
		return "nothing is wrong"
	}
	var parts []string
	for _, n := range []struct {
		severity  pipeline.Severity
		one, many string
	}{{pipeline.SeverityBroken, "broken", "broken"}, {pipeline.SeverityWarning, "warning", "warnings"}, {pipeline.SeverityNote, "note", "notes"}} {
		switch count := counts[n.severity]; count {
		case 0:
		case 1:
			parts = append(parts, "1 "+n.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", count, n.many))
		}
	}
	return strings.Join(parts, ", ")
}

func writeFindings(w io.Writer, component pipeline.Component, found []pipeline.Finding, fixes bool) {
	_, _ = fmt.Fprintf(w, "\n%s  %s\n", component.Path, summary(component))
	if len(found) == 0 {
		_, _ = fmt.Fprintln(w, "  ok")
	}
	for _, f := range found {
		_, _ = fmt.Fprintf(w, "  %s %-7s  %s\n", f.Code, f.Severity, f.What)
		if f.Remedy != "" {
			_, _ = fmt.Fprintf(w, "  %s remedy   %s\n", strings.Repeat(" ", len(f.Code)), f.Remedy)
		}
	}
	if !fixes {
		return
	}
	var told []string
	for _, f := range found {
		if f.Fix == "" || slices.Contains(told, f.Fix) {
			continue
		}
		told = append(told, f.Fix)
		var codes []string // of all that it mends
		for _, other := range found {
			if other.Fix == f.Fix && !slices.Contains(codes, other.Code) {
				codes = append(codes, other.Code)
			}
		}
		_, _ = fmt.Fprintf(w, "\n  to mend %s:\n\n", strings.Join(codes, ", "))
		for line := range strings.Lines(f.Fix) {
			_, _ = fmt.Fprintf(w, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}
