package pipetest

import "strings"

// around is how many lines that are the same are shown on each side of a difference.
const around = 3

// edit is a line of a difference: ' ' in both, '-' in the first, '+' in the second.
type edit struct {
	sign byte
	line string
}

// edits returns the shortest way from the lines of a to those of b.
func edits(a, b string) []edit {
	from, to := splitLines(a), splitLines(b)
	begin := 0
	for begin < len(from) && begin < len(to) && from[begin] == to[begin] {
		begin++
	}
	end := 0
	for end < len(from)-begin && end < len(to)-begin && from[len(from)-1-end] == to[len(to)-1-end] {
		end++
	}
	var all []edit
	for _, line := range from[:begin] {
		all = append(all, edit{' ', line})
	}
	all = append(all, between(from[begin:len(from)-end], to[begin:len(to)-end])...)
	for _, line := range from[len(from)-end:] {
		all = append(all, edit{' ', line})
	}
	return all
}

// between is edits of what neither begins nor ends alike.
func between(from, to []string) []edit {
	var all []edit
	const affordable = 4_000_000 // cells of the table
	if len(from)*len(to) > affordable {
		for _, line := range from {
			all = append(all, edit{'-', line})
		}
		for _, line := range to {
			all = append(all, edit{'+', line})
		}
		return all
	}
	width := len(to) + 1
	length := make([]int32, (len(from)+1)*width)
	for i := len(from) - 1; i >= 0; i-- {
		for j := len(to) - 1; j >= 0; j-- {
			if from[i] == to[j] {
				length[i*width+j] = length[(i+1)*width+j+1] + 1
			} else {
				length[i*width+j] = max(length[(i+1)*width+j], length[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(from) || j < len(to) {
		switch {
		case i < len(from) && j < len(to) && from[i] == to[j]:
			all = append(all, edit{' ', from[i]})
			i, j = i+1, j+1
		case j == len(to) || i < len(from) && length[(i+1)*width+j] >= length[i*width+j+1]:
			all = append(all, edit{'-', from[i]})
			i++
		default:
			all = append(all, edit{'+', to[j]})
			j++
		}
	}
	return all
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// changedLines counts the lines in which two texts differ.
func changedLines(a, b string) int {
	n := 0
	for _, e := range edits(a, b) {
		if e.sign != ' ' {
			n++
		}
	}
	return n
}

// unified shows the difference of two texts, with some of what is the same around it.
func unified(a, b string) string {
	all := edits(a, b)
	show := make([]bool, len(all))
	for i, e := range all {
		if e.sign == ' ' {
			continue
		}
		for k := max(0, i-around); k < min(len(all), i+around+1); k++ {
			show[k] = true
		}
	}
	var out strings.Builder
	for i, e := range all {
		switch {
		case show[i]:
			out.WriteString(string(e.sign) + " " + e.line + "\n")
		case i == 0 || show[i-1]:
			out.WriteString("  …\n")
		}
	}
	return out.String()
}

func prefixed(sign, text string) string {
	var out strings.Builder
	for _, line := range splitLines(text) {
		out.WriteString(sign + " " + line + "\n")
	}
	return out.String()
}
