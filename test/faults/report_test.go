package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// result is what a row has found.
type result struct {
	name           string
	known          string
	problems       []string
	tried, counted int // faults; those at whose moment something was in flight
	sent, found    int // events
	peak           int // RSS, KiB
	down, up       []time.Duration
	stops          []time.Duration // each one
	changes        int             // of /readyz
	notes          []string
}

// report gathers the results of all rows.
type report struct {
	mu   sync.Mutex
	rows []*result
}

func (r *report) add(row *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, row)
}

func (r *report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.rows, func(a, b *result) int { return strings.Compare(a.name, b.name) })
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "fault\tkept\tfaults tried\twith messages in flight\tevents sent\tfound\tpeak RSS\tto DOWN\tto UP\tstops, longest")
	for _, row := range r.rows {
		kept := "yes"
		switch {
		case len(row.problems) > 0 && row.known != "":
			kept = "no (known)"
		case len(row.problems) > 0:
			kept = "NO"
		case row.known != "":
			kept = "yes (was known)"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d MiB\t%s\t%s\t%s\n", row.name, kept, row.tried, row.counted, row.sent, row.found, row.peak>>10,
			longest(row.down), longest(row.up), longest(row.stops))
	}
	_ = w.Flush()
	for _, row := range r.rows {
		for _, note := range row.notes {
			_, _ = fmt.Fprintf(&out, "%s: %s\n", row.name, note)
		}
	}
	return out.String()
}

// longest is the longest of some times.
func longest(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	return slices.Max(all).Round(10 * time.Millisecond).String()
}
