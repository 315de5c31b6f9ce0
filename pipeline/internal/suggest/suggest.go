// Package suggest finds what was most likely meant by a word with a typing mistake.
package suggest

import "strings"

// Nearest returns the candidate that was most likely meant by word, or "" when none is near. Spellings that differ
// only in case and separators (initialInterval, initial-interval) are as near as can be.
func Nearest(word string, candidates []string) string {
	limit := max(1, len(word)/3)
	if len(word) < 3 {
		limit = 0 // v5 is as near to v3 as to anything
	}
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		if c == word {
			continue
		}
		d := 0
		if bare(c) != bare(word) {
			d = editDistance(strings.ToLower(word), c)
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

func bare(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// DidYouMean returns " (did you mean x?)", or what there is to choose from when nothing is near.
func DidYouMean(word string, candidates []string) string {
	if n := Nearest(word, candidates); n != "" {
		return " (did you mean " + n + "?)"
	}
	switch {
	case len(candidates) == 0:
		return ""
	case len(candidates) > 30:
		return " (known: " + strings.Join(candidates[:30], ", ") + ", …)"
	}
	return " (known: " + strings.Join(candidates, ", ") + ")"
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b.
func editDistance(a, b string) int {
	before := make([]int, len(b)+1)
	previous := make([]int, len(b)+1)
	current := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
