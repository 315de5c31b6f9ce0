package pipetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-dev/penstock/pipeline"
)

// change is one step between the outputs that a test expects and those that were seen: by their indexes; want -1 is an
// output that nobody expects, got -1 one that did not come.
type change struct {
	want, got int
	same      bool
}

// compare pairs outputs: those that are as expected, as many as possible in order, and what is between them one by
// one.
func compare(test pipeline.TestCase, seen []output) []change {
	n, m := len(test.Output), len(seen)
	match := func(i, j int) bool { return matches(test.Output[i], test.Partial, seen[j]) }
	var changes []change
	gap := func(i, toI, j, toJ int) {
		if test.Partial {
			// Others may stand between: only what is missing is told, beside the output that is nearest to it.
			for ; i < toI; i++ {
				changes = append(changes, change{want: i, got: nearest(test.Output[i], seen[j:toJ], j)})
			}
			return
		}
		for ; i < toI || j < toJ; i, j = i+1, j+1 {
			c := change{want: -1, got: -1}
			if i < toI {
				c.want = i
			}
			if j < toJ {
				c.got = j
			}
			changes = append(changes, c)
		}
	}
	begin := 0
	for begin < n && begin < m && match(begin, begin) {
		changes = append(changes, change{begin, begin, true})
		begin++
	}
	end := 0
	for end < n-begin && end < m-begin && match(n-1-end, m-1-end) {
		end++
	}
	fromI, fromJ := begin, begin
	for _, pair := range common(begin, n-end, begin, m-end, match) {
		gap(fromI, pair[0], fromJ, pair[1])
		changes = append(changes, change{pair[0], pair[1], true})
		fromI, fromJ = pair[0]+1, pair[1]+1
	}
	gap(fromI, n-end, fromJ, m-end)
	for ; end > 0; end-- {
		changes = append(changes, change{n - end, m - end, true})
	}
	return changes
}

// common returns the pairs of a longest common subsequence; none where finding it costs too much.
func common(i, toI, j, toJ int, match func(i, j int) bool) (pairs [][2]int) {
	const affordable = 1_000_000 // pairs to look at
	n, m := toI-i, toJ-j
	if n <= 0 || m <= 0 || n*m > affordable {
		return nil
	}
	// length[a][b] is that of what follows a and b.
	length := make([][]int, n+1)
	for a := range length {
		length[a] = make([]int, m+1)
	}
	equal := make([]bool, n*m)
	for a := n - 1; a >= 0; a-- {
		for b := m - 1; b >= 0; b-- {
			if equal[a*m+b] = match(i+a, j+b); equal[a*m+b] {
				length[a][b] = length[a+1][b+1] + 1
			} else {
				length[a][b] = max(length[a+1][b], length[a][b+1])
			}
		}
	}
	for a, b := 0, 0; a < n && b < m; {
		switch {
		case equal[a*m+b]:
			pairs = append(pairs, [2]int{i + a, j + b})
			a, b = a+1, b+1
		case length[a+1][b] >= length[a][b+1]:
			a++
		default:
			b++
		}
	}
	return pairs
}

// nearest returns the index of the output that differs least from what is expected, or -1 when there is none. first
// is the index of the first one.
func nearest(want pipeline.TestOutput, seen []output, first int) int {
	best, least := -1, 0
	for j, o := range seen {
		a, b := readable(want.Payload, o.payload, true)
		if d := changedLines(a, b); best < 0 || d < least {
			best, least = first+j, d
		}
	}
	return best
}

// tell describes a change and shows the difference; "" when there is none.
func (c change) tell(test pipeline.TestCase, seen []output) (what, diff string) {
	switch {
	case c.same:
		return "", ""
	case c.got < 0:
		text, _ := readable(test.Output[c.want].Payload, nil, false)
		return "did not reach the sink", prefixed("-", text)
	case c.want < 0:
		_, text := readable(nil, seen[c.got].payload, false)
		return fmt.Sprintf("output %d of %d that reached the sink is not expected", c.got+1, len(seen)), prefixed("+", text)
	}
	want, got := test.Output[c.want], seen[c.got]
	partial := want.Partial || test.Partial
	var parts []string
	if a, b := readable(want.Payload, got.payload, partial); !samePayload(want.Payload, got.payload, partial) {
		parts = append(parts, unified(a, b))
	}
	var a, b strings.Builder
	for _, k := range sortedKeys(want.Metadata) {
		fmt.Fprintf(&a, "metadata %s: %s\n", k, want.Metadata[k])
		if v, ok := got.metadata[k]; ok {
			fmt.Fprintf(&b, "metadata %s: %s\n", k, v)
		}
	}
	if a.String() != b.String() {
		parts = append(parts, unified(a.String(), b.String()))
	}
	return fmt.Sprintf("differs from output %d of %d that reached the sink", c.got+1, len(seen)), strings.Join(parts, "")
}

func matches(want pipeline.TestOutput, partial bool, got output) bool {
	for k, v := range want.Metadata {
		if is, ok := got.metadata[k]; !ok || is != v {
			return false
		}
	}
	return samePayload(want.Payload, got.payload, partial || want.Partial)
}

func samePayload(want any, got []byte, partial bool) bool {
	wanted, seen, ok := asJSON(want, got)
	if !ok {
		text, isText := want.(string)
		return isText && text == string(got)
	}
	return same(wanted, seen, partial)
}

// asJSON returns both as JSON values, when both are: what is expected may be text that is JSON.
func asJSON(want any, got []byte) (wanted, seen any, ok bool) {
	if seen, ok = parseJSON(got); !ok {
		return nil, nil, false
	}
	if text, isText := want.(string); isText {
		wanted, ok = parseJSON([]byte(text))
		return wanted, seen, ok
	}
	return want, seen, true
}

func parseJSON(text []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// same compares JSON values. Numbers of the test come from YAML or, where its payload is text, from JSON.
func same(want, got any, partial bool) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || !partial && len(w) != len(g) {
			return false
		}
		for k, v := range w {
			if is, ok := g[k]; !ok || !same(v, is, partial) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		return ok && len(w) == len(g) && !slices.ContainsFunc(indexes(w), func(i int) bool { return !same(w[i], g[i], partial) })
	case string, bool, nil:
		return w == got
	}
	number, ok := got.(json.Number)
	return ok && sameNumber(want, number)
}

func indexes(list []any) []int {
	all := make([]int, len(list))
	for i := range all {
		all[i] = i
	}
	return all
}

func sameNumber(want any, got json.Number) bool {
	if f, ok := want.(float64); ok { // YAML has rounded it
		g, err := strconv.ParseFloat(got.String(), 64)
		return err == nil && f == g
	}
	text := fmt.Sprint(want)
	if text == got.String() {
		return true
	}
	const affordable = 400 // digits and exponents beyond are compared as text
	a, okA := exact(text, affordable)
	b, okB := exact(got.String(), affordable)
	return okA && okB && a.Cmp(b) == 0
}

func exact(text string, affordable int) (*big.Rat, bool) {
	if _, exponent, ok := strings.Cut(strings.ToLower(text), "e"); ok {
		if n, err := strconv.Atoi(exponent); err != nil || n > affordable || n < -affordable {
			return nil, false
		}
	}
	if len(text) > affordable {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// readable lays both payloads out for a reader, so that lines that mean the same are the same; where partial, without
// the members that the expected one doesn't name.
func readable(want any, got []byte, partial bool) (a, b string) {
	wanted, seen, ok := asJSON(want, got)
	if ok {
		if partial {
			seen = prune(wanted, seen)
		}
		return indented(align(wanted, seen)), indented(seen)
	}
	if text, isText := want.(string); isText {
		a = lines(text)
		if v, ok := parseJSON([]byte(text)); ok {
			a = indented(v)
		}
	} else if want != nil {
		a = indented(want)
	}
	b = lines(string(got))
	if v, ok := parseJSON(got); ok {
		b = indented(v)
	}
	return a, b
}

// align replaces the parts of want that are the same as in got by those of got: 1.0 and 1 would look like a
// difference.
func align(want, got any) any {
	if same(want, got, false) {
		return got
	}
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		m := make(map[string]any, len(w))
		for k, v := range w {
			m[k] = v
			if is, ok := g[k]; ok {
				m[k] = align(v, is)
			}
		}
		return m
	case []any:
		g, _ := got.([]any)
		list := make([]any, len(w))
		for i, v := range w {
			list[i] = v
			if i < len(g) {
				list[i] = align(v, g[i])
			}
		}
		return list
	}
	return want
}

// prune leaves out the members of got that want doesn't name.
func prune(want, got any) any {
	switch g := got.(type) {
	case map[string]any:
		w, ok := want.(map[string]any)
		if !ok {
			return got
		}
		m := map[string]any{}
		for k, v := range g {
			if named, ok := w[k]; ok {
				m[k] = prune(named, v)
			}
		}
		return m
	case []any:
		w, ok := want.([]any)
		if !ok {
			return got
		}
		list := make([]any, len(g))
		for i, v := range g {
			list[i] = v
			if i < len(w) {
				list[i] = prune(w[i], v)
			}
		}
		return list
	}
	return got
}

func indented(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Sprintln(v)
	}
	return b.String()
}

// lines makes text printable: what can't be seen is written as Go does.
func lines(text string) string {
	if text == "" {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		body, end := strings.CutSuffix(line, "\n")
		quoted := strconv.Quote(body)
		b.WriteString(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`))
		if !end {
			b.WriteString(" (no line end)")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
