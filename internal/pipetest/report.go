package pipetest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteText tells the results for people: one line a file, and what is wrong below it.
func WriteText(w io.Writer, results []Result) error {
	var b strings.Builder
	passed := 0
	for from := 0; from < len(results); {
		to, ok := from, true
		var took time.Duration
		for ; to < len(results) && results[to].File == results[from].File; to++ {
			ok = ok && results[to].Passed()
			took += results[to].Took
		}
		word := "ok  "
		if !ok {
			word = "FAIL"
		}
		fmt.Fprintf(&b, "%s  %s  %s in %s\n", word, results[from].File, count(to-from, "test"), took.Round(time.Millisecond))
		for ; from < to; from++ {
			r := results[from]
			if r.Passed() {
				passed++
			}
			if r.Updated {
				fmt.Fprintf(&b, "      updated: %s\n", r.Name)
			}
			if !r.Passed() {
				fmt.Fprintf(&b, "  FAIL  %s\n", r.Name)
			}
			for _, f := range r.Failures {
				fmt.Fprintf(&b, "    %s:%d:%d: %s\n", r.File, f.Line, f.Column, f.What)
				for _, line := range splitLines(f.Diff) {
					fmt.Fprintf(&b, "        %s\n", line)
				}
			}
		}
	}
	fmt.Fprintf(&b, "%s: %d passed, %d failed\n", count(len(results), "test"), passed, len(results)-passed)
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// WriteJSON tells the results as one array.
func WriteJSON(w io.Writer, results []Result) error {
	type failure struct {
		Line   int    `json:"line"`
		Column int    `json:"column"`
		What   string `json:"what"`
		Diff   string `json:"diff,omitempty"`
	}
	type result struct {
		File     string    `json:"file"`
		Line     int       `json:"line"`
		Name     string    `json:"name"`
		Passed   bool      `json:"passed"`
		Updated  bool      `json:"updated,omitempty"`
		Seconds  float64   `json:"seconds"`
		Failures []failure `json:"failures"`
	}
	all := make([]result, len(results))
	for i, r := range results {
		all[i] = result{r.File, r.Line, r.Name, r.Passed(), r.Updated, r.Took.Seconds(), make([]failure, len(r.Failures))}
		for k, f := range r.Failures {
			all[i].Failures[k] = failure(f)
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(all)
}

// WriteJUnit tells the results in the XML that CI systems read: one testsuite a file.
func WriteJUnit(w io.Writer, results []Result) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name     string    `xml:"name,attr"`
		Class    string    `xml:"classname,attr"`
		File     string    `xml:"file,attr"`
		Line     int       `xml:"line,attr"`
		Time     string    `xml:"time,attr"`
		Failures []failure `xml:"failure"`
	}
	type testsuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
		took     time.Duration
	}
	var all struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testsuite `xml:"testsuite"`
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
	for _, r := range results {
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != r.File {
			all.Suites = append(all.Suites, testsuite{Name: r.File})
		}
		s := &all.Suites[len(all.Suites)-1]
		c := testcase{Name: r.Name, Class: r.File, File: r.File, Line: r.Line, Time: seconds(r.Took)}
		if !r.Passed() {
			// One failure a test is what every reader of the format understands.
			var text strings.Builder
			for _, f := range r.Failures {
				fmt.Fprintf(&text, "%s:%d:%d: %s\n%s", r.File, f.Line, f.Column, f.What, f.Diff)
			}
			c.Failures = []failure{{Message: r.Failures[0].What, Text: text.String()}}
			s.Failures++
		}
		s.Tests++
		s.took += r.Took
		s.Time = seconds(s.took)
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
