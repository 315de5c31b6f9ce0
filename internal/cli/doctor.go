package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/pipeline"
)

// doctorTimeout bounds the look at one component.
const doctorTimeout = 30 * time.Second

func (p *Program) doctorCommand() *cobra.Command {
	var peek, asJSON bool
	c := &cobra.Command{
		Use:   "doctor [FILE...]",
		Short: "connects, and says what is wrong with queue, store, rights and settings",
		Long: `Connects to what pipelines use and says what is wrong with it, or will be: each finding with its code (they are in
docs/operations.md), how bad it is, and what to do. It changes nothing and may be run beside a running pipeline.

Without FILE it looks at the built-in cache service, configured by its environment. FILE may also be the name of a ready
pipeline. The exit code is 0 when nothing is worse than a warning, 1 when something is broken, 2 for a wrong pipeline file.`,
		Example: p.examples(`
			QUEUE_URL=… REDIS_HOST=… penstock doctor
			penstock doctor my-pipeline.yaml
			penstock doctor --peek my-pipeline.yaml   # receives a message and gives it back, to see more`),
		RunE: func(c *cobra.Command, files []string) error {
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
			return p.doctor(c.Context(), l.configs, peek, asJSON)
		},
	}
	c.Flags().BoolVar(&peek, "peek", false, "also receive a message of each queue and give it back at once: it costs that message one receive")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one finding a line")
	return c
}

// finding is a finding and where it was found.
type finding struct {
	Pipeline string            `json:"pipeline"`
	Path     string            `json:"path"`
	Code     string            `json:"code"`
	Severity pipeline.Severity `json:"severity"`
	What     string            `json:"what"`
	Remedy   string            `json:"remedy,omitempty"`
}

func (p *Program) doctor(ctx context.Context, pipelines []*pipeline.Config, peek, asJSON bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-p.Signals:
			stop()
		case <-ctx.Done():
		}
	}()
	encoder := json.NewEncoder(p.Stdout)
	encoder.SetEscapeHTML(false)
	counts := map[pipeline.Severity]int{}
	looked := 0
	for i, cfg := range pipelines {
		if !asJSON {
			if i > 0 {
				_, _ = fmt.Fprintln(p.Stdout)
			}
			_, _ = fmt.Fprintf(p.Stdout, "%s: %s\n", cfg.Name, flow(cfg))
		}
		cfg.Walk(func(role pipeline.Role, _ pipeline.Kind, component *pipeline.Component) {
			doctor, ok := component.Config.(pipeline.Doctor)
			if !ok || ctx.Err() != nil {
				return
			}
			looked++
			ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
			defer cancel()
			found := doctor.Diagnose(ctx, pipeline.DoctorEnv{Pipeline: cfg, Role: role, Path: component.Path, Peek: peek})
			for _, f := range found {
				counts[f.Severity]++
				if asJSON {
					_ = encoder.Encode(finding{cfg.Name, component.Path, f.Code, f.Severity, f.What, f.Remedy})
				}
			}
			if !asJSON {
				writeFindings(p.Stdout, *component, found)
			}
		})
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if !asJSON {
		_, _ = fmt.Fprintf(p.Stdout, "\n%s\n", diagnosis(looked, counts))
	}
	if counts[pipeline.SeverityBroken] > 0 {
		return exitError(exitFailed)
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

func writeFindings(w io.Writer, component pipeline.Component, found []pipeline.Finding) {
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
}
