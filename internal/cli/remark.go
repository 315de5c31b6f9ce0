package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/pipeline"
)

// remark is one thing that a command says about a file or about environment variables.
type remark struct {
	Code     string `json:"code"` // "" for notes
	Severity string `json:"severity"`
	File     string `json:"file"` // "" for environment variables
	Line     int    `json:"line"` // 0: none
	Column   int    `json:"column"`
	Path     string `json:"path"`
	Message  string `json:"message"`
	Hint     string `json:"hint"` // "" for none
}

const (
	severityError   = "error"
	severityWarning = "warning"
	severityNote    = "note"
)

// remarkOn makes a remark of a problem: its message is without the hint.
func remarkOn(severity string, p pipeline.Problem) remark {
	d := remark{
		Code: p.Code, Severity: severity, File: p.File, Line: p.Line, Column: p.Column, Path: p.Path, Message: p.What, Hint: p.Hint,
	}
	if p.Hint != "" {
		d.Message = strings.TrimSuffix(strings.TrimSuffix(p.What, " ("+p.Hint+")"), ": "+p.Hint)
	}
	return d
}

// remarks is everything that loading has found.
func (l *loader) remarks() []remark {
	all := []remark{}
	for _, p := range l.problems {
		all = append(all, remarkOn(severityError, p))
	}
	for _, err := range l.service {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			all = append(all, remark{Code: string(code.CacheService), Severity: severityError, Message: line})
		}
	}
	if l.variables != nil && len(l.service) == 0 {
		all = append(all, remark{Code: string(code.ProcessVariable), Severity: severityError, Message: l.variables.Error()})
	}
	for _, p := range l.warned {
		all = append(all, remarkOn(severityWarning, p))
	}
	for _, text := range l.warnings {
		all = append(all, remark{Severity: severityWarning, Message: text})
	}
	for _, text := range l.notes {
		all = append(all, remark{Severity: severityNote, Message: text})
	}
	return all
}

// writeJSON writes an array, [] when there is nothing to say.
func writeJSON(w io.Writer, all []remark) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(all)
}

var (
	githubData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	githubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// writeGitHub writes workflow commands, which GitHub shows at the line of a change.
func writeGitHub(w io.Writer, all []remark) error {
	var b strings.Builder
	for _, d := range all {
		level := map[string]string{severityNote: "notice"}[d.Severity]
		b.WriteString("::" + cmp.Or(level, d.Severity) + " ")
		var properties []string
		property := func(name, value string) {
			properties = append(properties, name+"="+githubProperty.Replace(value))
		}
		if d.File != "" {
			property("file", d.File)
		}
		if d.Line > 0 {
			property("line", strconv.Itoa(d.Line))
			property("col", strconv.Itoa(d.Column))
		}
		property("title", strings.TrimSpace("penstock "+d.Code))
		message := d.Message
		if d.Path != "" {
			message = d.Path + ": " + message
		}
		if d.Hint != "" {
			message += " (" + d.Hint + ")"
		}
		b.WriteString(strings.Join(properties, ",") + "::" + githubData.Replace(message) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// colors says whether what goes to the terminal is colored: --color, then NO_COLOR (no-color.org), then the terminal.
func (p *Program) colors() bool {
	switch p.color {
	case "always":
		return true
	case "never":
		return false
	}
	none := ""
	if p.LookupEnv != nil {
		none, _ = p.LookupEnv("NO_COLOR")
	}
	return p.Terminal && none == ""
}

// checkColor reports a --color that means nothing.
func (p *Program) checkColor() error {
	switch p.color {
	case "auto", "always", "never":
		return nil
	}
	return usagef("--color: want auto, always or never, got %q", p.color)
}

const (
	styleBold   = "\x1b[1m"
	styleRed    = "\x1b[31m"
	styleYellow = "\x1b[33m"
	styleFaint  = "\x1b[2m"
	styleReset  = "\x1b[0m"
)

// problemText is a problem for people: one line that editors understand and, on a terminal, the line that it is about.
func (p *Program) problemText(problem pipeline.Problem, severity string) string {
	color := styleRed
	if severity != severityError {
		color = styleYellow
	}
	paint := func(style, text string) string {
		if !p.colors() || text == "" {
			return text
		}
		return style + text + styleReset
	}
	line := problem.String()
	if p.colors() {
		place := problem.File
		if problem.Line > 0 {
			place += fmt.Sprintf(":%d:%d", problem.Line, problem.Column)
		}
		mark := ""
		if problem.Code != "" {
			mark = " [" + problem.Code + "]"
		}
		rest := strings.TrimSuffix(strings.TrimPrefix(line, place), mark)
		line = paint(styleBold, place) + rest + paint(color, mark)
	}
	before, marked, ok := p.excerpt(problem)
	if !p.Terminal || !ok {
		return line + "\n"
	}
	number := strconv.Itoa(problem.Line)
	return line + "\n" + paint(styleFaint, " "+number+" | ") + before + "\n" +
		paint(styleFaint, " "+strings.Repeat(" ", len(number))+" | ") + strings.Repeat(" ", marked.from) + paint(color, strings.Repeat("^", marked.length)) + "\n"
}

// span is a part of a line, in columns from 0.
type span struct{ from, length int }

// confidential finds the keys whose values are not shown.
var confidential = regexp.MustCompile(`(?i)\b\w*(password|secret|token|api_?key|access_key|credential|dsn|url)\w*["']?\s*:\s*`)

// endOfWord finds where the thing ends that a problem is about.
var endOfWord = regexp.MustCompile(`[\s:,\[\]{}]`)

// excerpt returns the line that a problem is about, as far as it fits, and what to mark in it. What may be a secret is
// left out: a terminal is recorded and shown around.
func (p *Program) excerpt(problem pipeline.Problem) (text string, marked span, ok bool) {
	switch code.Code(problem.Code) {
	case code.UnknownAnchor, code.AnchorOnly, code.Tag: // a value that begins with a sign is a password more often than not
		return "", span{}, false
	}
	data, known := p.sources[problem.File]
	lines := strings.Split(string(data), "\n")
	if !known || problem.Line < 1 || problem.Line > len(lines) {
		return "", span{}, false
	}
	line := strings.TrimRight(lines[problem.Line-1], "\r")
	if at := confidential.FindStringIndex(line); at != nil && at[1] < len(line) {
		line = line[:at[1]] + "…"
	}
	// What is escaped is longer than it was, so that the mark is where its part begins now.
	column := min(max(problem.Column-1, 0), max(len([]rune(line))-1, 0))
	visible := func(r []rune) []rune { return []rune(code.Visible(strings.ReplaceAll(string(r), "\t", " "))) }
	before := visible([]rune(line)[:column])
	runes, from := append(before, visible([]rune(line)[column:])...), len(before)
	length := len(runes) - from
	if at := endOfWord.FindStringIndex(string(runes[from:])); at != nil {
		length = len([]rune(string(runes[from:])[:at[0]]))
	}
	length = max(length, 1)
	rest, shown := runes[from:], string(runes)
	const margin = 12 // for the number of the line
	if width := p.width() - margin; width > 0 && cellsOf(shown) > width {
		if cells := cellsOf(string(before)); cells > width/2 {
			for ; cells > width/2; cells = cellsOf(string(before)) {
				before = before[1:]
			}
			before = append([]rune("…"), before...)
		}
		shown = clipped(string(before)+string(rest), width)
	}
	at := cellsOf(string(before))
	return shown, span{at, max(1, min(cellsOf(string(rest[:min(length, len(rest))])), cellsOf(shown)-at))}, len(runes) > 0
}

func (p *Program) width() int {
	if p.Width == nil {
		return 0
	}
	return p.Width()
}

// printConfigErrors writes what is wrong with files and environment variables, as people read it.
func (p *Program) printConfigErrors(err error) {
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	first := ""
	for _, part := range parts {
		config, ok := part.(*pipeline.ConfigError) //nolint:errorlint // one that is wrapped has more to say
		if !ok {
			_, _ = fmt.Fprintln(p.Stderr, part)
			continue
		}
		for _, problem := range config.Problems {
			_, _ = io.WriteString(p.Stderr, p.problemText(problem, severityError))
			first = cmp.Or(first, problem.Code)
		}
	}
	if e, ok := errors.AsType[*variablesError](err); ok && first == "" && e != nil {
		first = string(code.CacheService)
	}
	if p.Terminal && first != "" {
		_, _ = fmt.Fprintf(p.Stderr, "more: %s explain %s\n", p.Invocation, first)
	}
}
