package cli

import (
	"math"
	"slices"
	"time"
)

// quantile reads the q-quantile of a histogram of seconds: bounds are the buckets' upper bounds, in any order, and
// cumulative tells how many observations are at or below one. It is exact to the bucket and, inside it, assumes an even
// spread, as Prometheus does; above the last finite bound it is that bound. It returns -1 when there are none.
func quantile(q float64, bounds []float64, cumulative func(bound float64) uint64) time.Duration {
	slices.Sort(bounds)
	if len(bounds) == 0 {
		return -1
	}
	total := cumulative(bounds[len(bounds)-1])
	if total == 0 {
		return -1
	}
	rank := q * float64(total)
	lower, below := 0.0, 0.0
	for _, bound := range bounds {
		n := float64(cumulative(bound))
		if n >= rank {
			if math.IsInf(bound, 1) {
				break
			}
			if n > below {
				lower += (bound - lower) * (rank - below) / (n - below)
			}
			break
		}
		lower, below = bound, n
	}
	return time.Duration(lower * float64(time.Second))
}
