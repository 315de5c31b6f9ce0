package main

import (
	"fmt"
	"slices"
	"strings"
)

// sample is what was measured in each round.
type sample []float64

func (s *sample) add(v float64) { *s = append(*s, v) }

func (s sample) last() float64 { return s[len(s)-1] }

func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// spread is the median, and what lies around it, with that many decimals.
func (s sample) spread(decimals int) string {
	if len(s) == 0 {
		return "–"
	}
	if len(s) == 1 {
		return number(s[0], decimals)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median(), decimals), number(slices.Min(s), decimals), number(slices.Max(s), decimals))
}

// spreadOr is spread, or other when nothing was measured.
func (s sample) spreadOr(other string, decimals int) string {
	if len(s) == 0 || slices.Max(s) == 0 {
		return other
	}
	return s.spread(decimals)
}

func number(v float64, decimals int) string {
	if decimals == 0 {
		return thousands(v)
	}
	return fmt.Sprintf("%.*f", decimals, v)
}

// thousands is a whole number with its thousands set apart.
func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// table is a Markdown table; all columns but the first are numbers.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.header)
	b.WriteString("|---|" + strings.Repeat("---:|", len(t.header)-1) + "\n")
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}
