package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// bar is one bar of a chart.
type bar struct {
	label string
	value sample
}

// chart draws horizontal bars as an SVG: medians, with a whisker from the least to the greatest.
func chart(title string, bars []bar) string {
	const width, left, right, line = 760, 170, 110, 34
	most := 0.0
	for _, b := range bars {
		most = max(most, slices.Max(b.value))
	}
	height := 48 + line*len(bars)
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(&s, `<text x="12" y="26" font-size="15" font-weight="600" fill="#1f2933">%s</text>`+"\n", html.EscapeString(title))
	scale := float64(width-left-right) / most
	for i, b := range bars {
		y := 42 + i*line
		fill := "#9fb3c8"
		if strings.HasPrefix(b.label, "penstock") {
			fill = "#0b7285"
		}
		middle := float64(y) + 11
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end" fill="#1f2933">%s</text>`+"\n", left-10, y+16, html.EscapeString(b.label))
		fmt.Fprintf(&s, `<rect x="%d" y="%d" width="%.1f" height="22" fill="%s"/>`+"\n", left, y, b.value.median()*scale, fill)
		fmt.Fprintf(&s, `<path d="M%.1f %.1fH%.1f" stroke="#1f2933" stroke-width="1.5"/>`+"\n",
			left+slices.Min(b.value)*scale, middle, left+slices.Max(b.value)*scale)
		fmt.Fprintf(&s, `<text x="%.1f" y="%d" fill="#1f2933">%s</text>`+"\n", left+slices.Max(b.value)*scale+8, y+16, thousands(b.value.median()))
	}
	s.WriteString("</svg>\n")
	return s.String()
}
