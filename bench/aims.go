package main

import (
	"fmt"
	"slices"
	"strings"
)

// aim is what a figure should be, and what it is.
type aim struct {
	what, want, got string
	verdict         verdict
}

type verdict string

const (
	met       verdict = "met"
	missed    verdict = "**missed**"
	undecided verdict = "within the noise of this run"
)

// atLeast is an aim from below. Where the same was measured more than once, all figures must reach it.
func atLeast(what string, want float64, decimals int, got ...float64) aim {
	return judge(what, "≥ ", want, decimals, got, func(v float64) bool { return v >= want })
}

// atMost is an aim from above.
func atMost(what string, want float64, decimals int, got ...float64) aim {
	return judge(what, "≤ ", want, decimals, got, func(v float64) bool { return v <= want })
}

func judge(what, sign string, want float64, decimals int, got []float64, reached func(float64) bool) aim {
	a := aim{what: what, want: sign + number(want, decimals), verdict: undecided}
	var texts []string
	reachedBy := 0
	for _, v := range slices.Sorted(slices.Values(got)) {
		texts = append(texts, number(v, decimals))
		if reached(v) {
			reachedBy++
		}
	}
	switch reachedBy {
	case len(got):
		a.verdict = met
	case 0:
		a.verdict = missed
	}
	a.got = strings.Join(texts, " and ")
	return a
}

// aims lists aims below the figures that they are about. One of which nothing was measured is left out.
func aims(all ...aim) string {
	t := table{header: []string{"aim", "want", "measured", ""}}
	n := 0
	for _, a := range all {
		if a.got != "" && !strings.Contains(a.got, "NaN") && !strings.Contains(a.got, "Inf") {
			t.add(a.what, a.want, a.got, string(a.verdict))
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("Aims, by the medians above:\n\n%s", t.String())
}

// ratios divides medians; a figure that was not taken makes no ratio.
func ratios(of []sample, by sample) []float64 {
	var all []float64
	for _, s := range of {
		if len(s) > 0 && len(by) > 0 {
			all = append(all, s.median()/by.median())
		}
	}
	return all
}
