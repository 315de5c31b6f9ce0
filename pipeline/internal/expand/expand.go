// Package expand resolves the ${…} in texts, as a shell and Docker Compose do.
package expand

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
)

// Expander resolves the ${…} of one text. Its zero lookups find nothing.
//
//	${NAME}            the variable; an error when it is unset
//	${NAME:-word}      word when NAME is unset or empty;    ${NAME-word}  when it is unset
//	${NAME:?message}   an error when NAME is unset or empty; ${NAME?message} when it is unset
//	${NAME:+word}      word when NAME is set and not empty;  ${NAME+word}  when it is set
//	${file:path}       the content of a file, without the line ends at its end
//	$${                a literal ${
//
// Words may hold expansions of their own and balanced braces, and are resolved only when they are used. What comes
// out of a variable or a file is never looked at again.
type Expander struct {
	// Env looks up a variable, ReadFile reads the file of ${file:path}; nil finds nothing.
	Env      func(name string) (value string, set bool)
	ReadFile func(path string) ([]byte, error)
}

// Result is what became of a text.
type Result struct {
	Text string
	// Count is how many expansions stood in the text itself (not in their words), Whole whether it was nothing but one.
	Count int
	Whole bool
	// FromFile tells that Text may hold what a file held: it must not be shown.
	FromFile bool
	// Trimmed names the variables and files whose values ended with line ends that nobody means, which are left out:
	// every line end of a variable, and those of a file beyond the one that ends its last line.
	Trimmed  []string
	Problems []Problem
}

// Problem is one expansion that could not be resolved.
type Problem struct {
	// Code is what package code calls it; "" is a mistake in the syntax.
	Code code.Code
	// Variable is the variable that is missing, if that is the problem.
	Variable string
	What     string
}

// Expand resolves the expansions of s.
func (x Expander) Expand(s string) Result {
	if !strings.Contains(s, "${") {
		return Result{Text: s}
	}
	p := parser{Expander: x, s: s}
	text, err := p.word(false, true)
	if err != nil {
		p.out.Problems = append(p.out.Problems, Problem{What: err.Error()})
	}
	p.out.Text = text
	p.out.Whole = p.out.Whole && p.out.Count == 1
	return p.out
}

type parser struct {
	Expander
	s     string
	i     int
	depth int // of nested expansions
	out   Result
}

// maxDepth is far beyond what a person writes, and keeps a hostile file from exhausting the stack.
const maxDepth = 100

// word reads text up to the end, or, when it is nested, up to the brace that closes it (which it leaves unread). With
// use false it only checks the syntax.
func (p *parser) word(nested, use bool) (string, error) {
	var b strings.Builder
	braces := 0
	for p.i < len(p.s) {
		rest := p.s[p.i:]
		switch {
		case strings.HasPrefix(rest, "$${"):
			b.WriteString("${")
			p.i += 3
			if nested {
				braces++
			}
			continue
		case strings.HasPrefix(rest, "${"):
			start := p.i
			text, err := p.expansion(use)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
			if !nested {
				p.out.Count++
				p.out.Whole = start == 0 && p.i == len(p.s)
			}
			continue
		case nested && rest[0] == '{':
			braces++
		case nested && rest[0] == '}':
			if braces == 0 {
				return b.String(), nil
			}
			braces--
		}
		b.WriteByte(rest[0])
		p.i++
	}
	if nested {
		return "", errors.New(`"${" without its "}" (write $${ for a literal ${)`)
	}
	return b.String(), nil
}

// expansion reads one ${…}, at whose start the parser stands.
func (p *parser) expansion(use bool) (string, error) {
	if p.depth++; p.depth > maxDepth {
		return "", fmt.Errorf("more than %d expansions inside each other", maxDepth)
	}
	defer func() { p.depth-- }()
	p.i += len("${")
	start := p.i
	for p.i < len(p.s) && isNameByte(p.s[p.i], p.i > start) {
		p.i++
	}
	name := p.s[start:p.i]
	rest := p.s[p.i:]
	switch {
	case rest == "":
		return "", errors.New(`"${" without its "}" (write $${ for a literal ${)`)
	case name == "":
		return "", errors.New(`"${" wants the name of a variable: letters, digits and _ (write $${ for a literal ${)`)
	case rest[0] == '}':
		p.i++
		return p.variable(name, "", "", use), nil
	}
	operator := rest[:1]
	if operator == ":" && len(rest) > 1 && strings.IndexByte("-?+", rest[1]) >= 0 {
		operator = rest[:2]
	}
	switch operator {
	case ":-", "-", ":?", "?", ":+", "+":
		p.i += len(operator)
		return p.variableWithWord(name, operator, use)
	case ":":
		p.i++
		if name == "file" {
			return p.file(use)
		}
		return "", fmt.Errorf("${%s:…}: want :- (default), :? (required) or :+ after the name", name)
	}
	return "", fmt.Errorf("${%s…}: %q can't be in the name of a variable", name, []rune(rest)[0])
}

func isNameByte(c byte, digits bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || digits && c >= '0' && c <= '9'
}

func (p *parser) variableWithWord(name, operator string, use bool) (string, error) {
	value, set := p.lookup(name)
	if operator[0] == ':' {
		set = set && value != ""
	}
	start := p.i
	action := operator[len(operator)-1]
	wanted := use && (action == '-' && !set || action == '+' && set)
	word, err := p.word(true, wanted)
	if err != nil {
		return "", err
	}
	raw := p.s[start:p.i]
	p.i++ // the closing brace
	switch {
	case action == '?':
		return p.variable(name, operator, raw, use), nil
	case wanted:
		return word, nil
	case action == '+':
		return "", nil
	}
	return value, nil
}

// variable returns the value of a variable that must be there. The message is not expanded: what it would show may be
// a secret.
func (p *parser) variable(name, operator, message string, use bool) string {
	value, set := p.lookup(name)
	c, what := code.VariableNotSet, "environment variable "+name+" is not set"
	if set && value == "" && operator == ":?" {
		c, set, what = code.VariableEmpty, false, "environment variable "+name+" is empty"
	}
	if !set && use {
		if message != "" {
			what += ": " + message
		}
		p.out.Problems = append(p.out.Problems, Problem{Code: c, Variable: name, What: what})
	}
	return value
}

func (p *parser) lookup(name string) (string, bool) {
	if p.Env == nil {
		return "", false
	}
	value, set := p.Env(name)
	if trimmed := strings.TrimRight(value, "\r\n"); trimmed != value {
		p.trimmed(name)
		value = trimmed
	}
	return value, set
}

func (p *parser) trimmed(name string) {
	if !slices.Contains(p.out.Trimmed, name) {
		p.out.Trimmed = append(p.out.Trimmed, name)
	}
}

func (p *parser) file(use bool) (string, error) {
	before := len(p.out.Problems)
	path, err := p.word(true, use)
	if err != nil {
		return "", err
	}
	p.i++ // the closing brace
	if !use || len(p.out.Problems) > before {
		return "", nil
	}
	if path == "" {
		p.out.Problems = append(p.out.Problems, Problem{What: "${file:…}: want the path of a file"})
		return "", nil
	}
	if p.ReadFile == nil {
		p.out.Problems = append(p.out.Problems, Problem{Code: code.ExpandedFile, What: "${file:" + path + "}: files can't be read here"})
		return "", nil
	}
	content, err := p.ReadFile(path)
	if err != nil {
		p.out.Problems = append(p.out.Problems, Problem{Code: code.ExpandedFile, What: "${file:…}: " + err.Error()})
		return "", nil
	}
	p.out.FromFile = true
	text := strings.TrimSuffix(string(content), "\n")
	text = strings.TrimSuffix(text, "\r")
	if trimmed := strings.TrimRight(text, "\r\n"); trimmed != text {
		p.trimmed("the file " + path)
		text = trimmed
	}
	return text, nil
}
