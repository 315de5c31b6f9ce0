package yamlfile

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
)

// parse returns the one document of a file.
func parse(data []byte) (*yaml.Node, *Problem) {
	data, problem := asUTF8(data)
	if problem != nil {
		return nil, problem
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root *yaml.Node
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		switch {
		case errors.Is(err, io.EOF) && root == nil:
			return nil, &Problem{Place: Place{1, 1}, Code: code.FileEmpty, What: "the file is empty: want a pipeline"}
		case errors.Is(err, io.EOF):
			return root, nil
		case err != nil:
			return nil, syntaxProblem(data, err)
		}
		content := document.Content[0]
		switch {
		case root == nil || root.ShortTag() == "!!null":
			root = content
		case content.ShortTag() != "!!null":
			return nil, &Problem{
				Place: placeOf(content), Code: code.SecondDocument,
				What: "a second document: a file holds one pipeline, put the other one into a file of its own",
			}
		}
	}
}

var (
	yamlErrorLine     = regexp.MustCompile(`^line (\d+): `)
	yamlUnknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxProblem gives an error of the YAML parser a place and, for the usual slips, a hint.
func syntaxProblem(data []byte, err error) *Problem {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	lines := strings.Split(string(data), "\n")
	if m := yamlUnknownAnchor.FindStringSubmatch(what); m != nil {
		// The name is left out: it may be a password.
		p := &Problem{Place: Place{1, 1}, Code: code.UnknownAnchor, What: "no anchor (&name) for this alias (*name): a value that begins with * needs quotes"}
		for i, line := range lines {
			if at := strings.Index(line, "*"+m[1]); at >= 0 && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				p.Line, p.Column = i+1, len([]rune(line[:at]))+1
				break
			}
		}
		return p
	}
	what = yamlErrorLine.ReplaceAllString(what, "")
	number := brokenLine(lines, err)
	line := strings.TrimSuffix(lines[number-1], "\r")
	indent := len(line) - len(strings.TrimLeft(line, " \t"))
	c, hint := code.NotYAML, ""
	switch before, _, expansion := strings.Cut(line, "${"); {
	case strings.HasPrefix(line, "%YAML"):
		what = "this line is not understood: leave it and the --- below it out"
		return &Problem{Place: Place{number, 1}, Code: code.Directive, What: what}
	case invisibleNear(lines, number) != "":
		c, hint = code.Invisible, invisibleNear(lines, number)
	case strings.Contains(line[:indent], "\t"):
		c, hint = code.Tab, "YAML wants spaces, not tabs, before a key"
	case expansion && strings.ContainsAny(before, "{["):
		c, hint = code.BareExpansion, "inside { } and [ ] an expansion needs quotes, and stays text; on a line of its own it needs none"
	case expansion:
		c, hint = code.BareExpansion, `an expansion with ": " or " #" in it needs quotes`
	}
	if hint != "" {
		what += " (" + hint + ")"
	}
	return &Problem{Place: Place{number, indent + 1}, What: "not YAML: " + what, Code: c, Hint: hint}
}

// invisibleNear describes a character that can't be seen in a line or in the one above it, where the cause of a mistake
// often is.
func invisibleNear(lines []string, number int) string {
	for n := number; n > 0 && n > number-2; n-- {
		if found := plaintext.FindInvisible(lines[n-1]); found != "" {
			return "line " + strconv.Itoa(n) + " has a " + found
		}
	}
	return ""
}

// brokenLine returns the first line after the longest part of the file that is YAML. The parser's own line is often
// that of the mapping or list around the mistake.
func brokenLine(lines []string, err error) int {
	const affordable = 2000 // lines: every part is parsed anew
	if len(lines) > affordable {
		if m := yamlErrorLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: ")); m != nil {
			n, _ := strconv.Atoi(m[1])
			return min(max(n, 1), len(lines))
		}
		return 1
	}
	n := len(lines) - 1
	for ; n > 0; n-- {
		var any yaml.Node
		if yaml.Unmarshal([]byte(strings.Join(lines[:n], "\n")), &any) == nil {
			break
		}
	}
	return n + 1
}
