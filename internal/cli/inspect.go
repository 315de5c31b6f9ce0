package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
)

// readable is implemented by configs of sinks whose entries can be read back.
type readable interface {
	NewReader(ctx context.Context) (cache.Reader, error)
}

// notForReading are the keys of a pipeline that reading its store has no use for. The transforms tell how its keys
// are made.
var notForReading = []string{"source", "retry", "poison_queue", "record", "service"}

// inspectTimeout bounds connecting and reading: a person waits.
const inspectTimeout = 10 * time.Second

func (p *Program) inspectCommand() *cobra.Command {
	var file, resource string
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect CUSTOMER",
		Short: "shows what a reader would see for a customer",
		Long: `Shows what the provider's SDK would see for a customer in the Redis that a pipeline fills: access, usage, limit, when
usage resets, when the entry was updated and how long it will stay, and whether SDK 3.x and 4.x would hit, and why not.

--json is stable: times are RFC 3339, TTLs seconds (-1: no expiry).

It reads only. Of the pipeline file it needs the transforms and the sink; without -f it is the built-in cache service, whose Redis
environment variables name (REDIS_HOST is required).`,
		Example: p.examples(`
			penstock inspect customer-3 -f quickstart
			penstock inspect customer-3 --resource site-7 -f my-pipeline.yaml
			REDIS_HOST=redis penstock inspect customer-3 --json`),
		Args: exactly("CUSTOMER"),
		RunE: func(c *cobra.Command, args []string) error {
			l := p.newLoader(notForReading...)
			l.load(file)
			if err := l.done(); err != nil {
				return err
			}
			return p.inspect(c.Context(), l.configs[0], args[0], resource, asJSON)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", configs.PersistentCache, "pipeline file, or name of a ready pipeline")
	c.Flags().StringVar(&resource, "resource", "", "id of one of the customer's resources")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each store")
	return c
}

func (p *Program) inspect(ctx context.Context, cfg *pipeline.Config, customer, resource string, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	subject := entitlement.Subject{Customer: customer, Resource: resource, HashTags: hashTagged(cfg)}
	found, cached := 0, 0
	for _, leaf := range leaves(cfg.Sink) {
		config, ok := leaf.Config.(readable)
		if !ok {
			continue
		}
		found++
		reader, err := config.NewReader(ctx)
		if err != nil {
			if where := embeddedAt(leaf); where != "" {
				return fmt.Errorf("%w\nthe built-in Redis on %s lives in the process that runs the pipeline: is it running?", err, where)
			}
			return err
		}
		report, err := entitlement.Inspect(ctx, reader, subject, time.Now())
		_ = reader.Close()
		if err != nil {
			return err
		}
		if report.Cached() {
			cached++
		}
		if asJSON {
			e := json.NewEncoder(p.Stdout)
			e.SetIndent("", "  ")
			if err := e.Encode(report); err != nil {
				return err
			}
			continue
		}
		if found > 1 {
			_, _ = fmt.Fprintln(p.Stdout)
		}
		writeReport(p.text(), p.textWidth(), summary(leaf.Component), report)
		if !report.Cached() {
			_, _ = fmt.Fprintln(p.text(), "  not cached: an SDK asks the provider's API, and takes its fallback values when that is away")
		}
	}
	if found == 0 {
		return usagef("%s: sink: %s keeps nothing that can be read back: inspect needs a redis", cfg.File, cfg.Sink.Name)
	}
	if cached == 0 {
		return exitError(exitFailed)
	}
	return nil
}

// hashTagged reports whether the pipeline's keys have hash tags.
func hashTagged(cfg *pipeline.Config) bool {
	for _, t := range cfg.Transforms {
		if c, ok := t.Config.(configfacts.HashTagger); ok && c.HashTagged() {
			return true
		}
	}
	return false
}

func writeReport(w io.Writer, columns int, store string, r entitlement.Report) {
	_, _ = fmt.Fprintf(w, "%s", r.Customer)
	if r.Resource != "" {
		_, _ = fmt.Fprintf(w, ", resource %s", r.Resource)
	}
	_, _ = fmt.Fprintf(w, "  in %s, key %s\n", store, r.Key)
	if !r.Updated.IsZero() {
		_, _ = fmt.Fprintf(w, "  updated  %s (%s)\n", ago(r.At, r.Updated), stamp(r.Updated))
	}
	if r.TTL != 0 {
		_, _ = fmt.Fprintf(w, "  TTL      %s\n", ttl(r.TTL))
	}
	if r.AccessDeniedReason != "" {
		_, _ = fmt.Fprintf(w, "  denied   %s\n", r.AccessDeniedReason)
	}
	_, _ = fmt.Fprintf(w, "  SDK 3.x  %s\n  SDK 4.x  %s\n", r.V3, r.V4)
	if len(r.Rows) == 0 {
		return
	}
	_, _ = fmt.Fprintln(w)
	table := [][]string{{"FEATURE", "ACCESS", "USAGE", "LIMIT", "RESETS", "UPDATED", "TTL", "SDK 3.x", "SDK 4.x"}}
	var notes []string
	for _, row := range r.Rows {
		access := "yes"
		if !row.Access {
			access = "no: " + row.Denied
		}
		limit := row.Limit
		if len(row.Values) > 0 {
			limit = strings.Join(row.Values, ", ")
		}
		if row.Soft && limit != "" {
			limit += " (soft)"
		}
		resets := ""
		if !row.Resets.IsZero() {
			resets = stamp(row.Resets)
		}
		if !row.ValidUntil.IsZero() {
			notes = append(notes, fmt.Sprintf("%s is valid until %s", row.ID, stamp(row.ValidUntil)))
		}
		for _, sdk := range []struct {
			name string
			v    entitlement.Verdict
		}{{"3.x", row.V3}, {"4.x", row.V4}} {
			// What the lines above the table say needs no repeating.
			if sdk.v.Why != "" && sdk.v.Why != r.V3.Why && sdk.v.Why != r.V4.Why {
				notes = append(notes, fmt.Sprintf("%s, SDK %s: %s", row.ID, sdk.name, sdk.v.Why))
			}
		}
		table = append(table, []string{
			row.ID, access, dash(row.Usage), dash(limit), dash(resets), ago(r.At, row.Updated), ttl(row.TTL), word(row.V3), word(row.V4),
		})
	}
	writeTable(w, columns, table)
	for _, note := range notes {
		_, _ = fmt.Fprintln(w, note)
	}
}

// writeTable writes rows of cells below their titles, or, where the lines would be longer than the columns of a
// terminal, each row as a list.
func writeTable(w io.Writer, columns int, table [][]string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range table {
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
	fits := true
	for line := range strings.Lines(b.String()) {
		fits = fits && cellsOf(strings.TrimRight(line, " \n")) <= columns
	}
	if _, ok := w.(*folding); fits || !ok {
		_, _ = io.WriteString(w, b.String())
		return
	}
	titles := table[0]
	for _, row := range table[1:] {
		_, _ = fmt.Fprintln(w, row[0])
		for i, cell := range row[1:] {
			_, _ = fmt.Fprintf(w, "  %-8s %s\n", titles[i+1], cell)
		}
	}
}

func word(v entitlement.Verdict) string {
	switch {
	case v.Refetch:
		return "HIT, refetched"
	case v.Hit:
		return "HIT"
	}
	return "MISS"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// ago is how long before now something was.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "-"
	case d < -time.Second:
		return "in " + rough(-d)
	default:
		return rough(d) + " ago"
	}
}

func ttl(d time.Duration) string {
	switch {
	case d < 0:
		return "none"
	case d == 0:
		return "-"
	}
	return rough(d)
}

// rough prints a duration in its two largest units: "6d 23h", "12m 5s", "3s".
func rough(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		n := d / u.size
		if n == 0 && i < len(units)-1 {
			continue
		}
		text := fmt.Sprintf("%d%s", n, u.name)
		if i+1 < len(units) {
			if next := d % u.size / units[i+1].size; next > 0 {
				text += fmt.Sprintf(" %d%s", next, units[i+1].name)
			}
		}
		return text
	}
	return ""
}
