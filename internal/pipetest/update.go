package pipetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
)

// Update writes the outputs that were seen into the file of the suite, and returns the results as they are then. Only
// the lines of outputs that differ change; comments in them stay. A test that expects no outputs and no outcome gets
// its outputs. A test whose messages have another outcome than it expects is left as it is.
func (l *Loader) Update(ctx context.Context, s Suite, results []Result) ([]Result, error) {
	var changed []int // results
	for i, r := range results {
		test := s.Tests[s.index(r)]
		if r.unexpected {
			continue
		}
		if r.outputs != nil && test.Output == nil && test.Outcome == "" ||
			slices.ContainsFunc(r.changes, func(c change) bool { return !c.same }) {
			changed = append(changed, i)
		}
	}
	if len(changed) == 0 {
		return results, nil
	}
	if s.inMemory {
		return nil, errors.New("--update: a ready pipeline is not a file: copy it and its tests first")
	}
	data := s.data
	for _, i := range slices.Backward(changed) { // from the end of the file, so that places in front of it stay right
		var err error
		if data, err = s.updateTest(data, s.index(results[i]), results[i]); err != nil {
			return nil, fmt.Errorf("--update: %s:%d: test %q: %w", s.File, results[i].Line, results[i].Name, err)
		}
	}
	tests, place, err := inside.LoadTests(s.File, data, s.File != s.Pipeline)
	if err != nil {
		return nil, fmt.Errorf("--update: %s would not be right any more: %w", s.File, err)
	}
	if err := replaceFile(s.File, data); err != nil {
		return nil, fmt.Errorf("--update: %w", err)
	}
	updated := s
	updated.Tests, updated.place, updated.data = tests.(pipeline.TestCases), place, data
	if s.File == s.Pipeline {
		updated.pipeline = data
	}
	for i, r := range results {
		results[i] = l.Run(ctx, updated, s.index(r))
		results[i].Updated = slices.Contains(changed, i)
	}
	return results, nil
}

// index is the place of a result's test in its suite: names are unique.
func (s Suite) index(r Result) int {
	return slices.IndexFunc(s.Tests, func(t pipeline.TestCase) bool { return t.Name == r.Name })
}

// replaceFile writes beside the file first: an interrupted update leaves the old one.
func replaceFile(name string, data []byte) error {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(info.Mode().Perm()), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}

var (
	errNoLines = errors.New("its outputs can't be replaced, because they don't stand on lines of their own: write the test without { } and aliases around output")
	dashes     = regexp.MustCompile(`^ *(- +)*$`)
)

// updateTest replaces the lines of one test's outputs, or adds them.
func (s Suite) updateTest(data []byte, i int, r Result) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, err
	}
	test := at(at(document.Content[0], "tests"), i)
	if test == nil || test.Kind != yaml.MappingNode || test.Style&yaml.FlowStyle != 0 {
		return nil, errNoLines
	}
	lines := yamlLines(string(data))
	newline := "\n"
	if strings.HasSuffix(lines[0], "\r\n") {
		newline = "\r\n"
	}
	key, value := entry(test, "output")
	indent := strings.Repeat(" ", test.Column-1)
	if key == nil {
		last := test.Content[len(test.Content)-2]
		end := lastLine(&document, lines, last)
		if end > 0 && !strings.HasSuffix(lines[end-1], "\n") {
			lines[end-1] += newline
		}
		outputs, err := s.block(nil, i, r)
		if err != nil {
			return nil, err
		}
		return []byte(strings.Join(slices.Insert(lines, end, indentLines(outputs, indent, indent, newline)), "")), nil
	}
	before := string([]rune(lines[key.Line-1])[:key.Column-1])
	if value.Kind == yaml.AliasNode || value.Anchor != "" || !dashes.MatchString(before) {
		return nil, errNoLines
	}
	end := lastLine(&document, lines, key)
	old := strings.Join(lines[key.Line-1:end], "")[len(before):]
	outputs, err := s.block([]byte(dedent(strings.ReplaceAll(old, "\r\n", "\n"), key.Column-1)), i, r)
	if err != nil {
		return nil, err
	}
	if end == len(lines) && !strings.HasSuffix(old, "\n") {
		outputs = strings.TrimSuffix(outputs, "\n")
	}
	return []byte(strings.Join(slices.Replace(lines, key.Line-1, end, indentLines(outputs, before, indent, newline)), "")), nil
}

// yamlBreaks are what ends a line in YAML 1.1, by which the parser counts: a text may hold the rarer ones.
var yamlBreaks = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

// yamlLines takes text apart into the lines that the parser counts, each with its end; the last one may be empty.
func yamlLines(text string) []string {
	var lines []string
	from := 0
	for _, at := range yamlBreaks.FindAllStringIndex(text, -1) {
		lines = append(lines, text[from:at[1]])
		from = at[1]
	}
	return append(lines, text[from:])
}

// lastLine is the last line of the entry with that key: comments and empty lines that follow belong to what is next.
func lastLine(document *yaml.Node, lines []string, key *yaml.Node) int {
	end := len(lines)
	if lines[end-1] == "" {
		end--
	}
	// The next node that begins at the key's column or in front of it is the first that is not the entry's.
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind != yaml.DocumentNode && n.Line > key.Line && n.Column <= key.Column && n.Kind != yaml.SequenceNode {
			end = min(end, n.Line-1)
		}
		for _, inner := range n.Content {
			walk(inner)
		}
	}
	walk(document)
	for end > key.Line {
		line := strings.TrimRight(lines[end-1], "\r\n")
		text := strings.TrimLeft(line, " ")
		if text != "" && !(strings.HasPrefix(text, "#") && len(line)-len(text) < key.Column) && text != "---" && text != "..." {
			break
		}
		end--
	}
	return end
}

// block is the new text of "output:" and its value, from the old one and what was seen.
func (s Suite) block(old []byte, i int, r Result) (string, error) {
	test := s.Tests[i]
	list := &yaml.Node{Kind: yaml.SequenceNode}
	root := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("output"), list}}
	if old != nil {
		var document yaml.Node
		if err := yaml.Unmarshal(old, &document); err != nil || len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode || len(document.Content[0].Content) != 2 {
			return "", errNoLines
		}
		root = &document
		if value := document.Content[0].Content[1]; value.Kind == yaml.SequenceNode {
			list = value
		}
	}
	changes := r.changes
	if test.Output == nil {
		for k := range r.outputs {
			changes = append(changes, change{want: -1, got: k})
		}
	}
	var items []*yaml.Node
	for _, c := range changes {
		switch {
		case c.same:
			items = append(items, list.Content[c.want])
		case c.got < 0: // it does not come any more
		case c.want < 0:
			payload := payloadNode(r.outputs[c.got].payload, nil, nil, false)
			items = append(items, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("payload"), payload}})
		default:
			item := list.Content[c.want]
			if item.Kind != yaml.MappingNode {
				return "", errNoLines
			}
			updateItem(item, test.Output[c.want], r.outputs[c.got], test.Partial)
			items = append(items, item)
		}
	}
	list.Content = items
	list.Style &^= yaml.FlowStyle
	if len(items) == 0 {
		list.Style |= yaml.FlowStyle
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(root), e.Close()); err != nil {
		return "", err
	}
	return b.String(), nil
}

// updateItem writes what was seen into one output.
func updateItem(item *yaml.Node, want pipeline.TestOutput, got output, partial bool) {
	partial = partial || want.Partial
	if !samePayload(want.Payload, got.payload, partial) {
		for i := 0; i+1 < len(item.Content); i += 2 {
			if item.Content[i].Value == "payload" {
				item.Content[i+1] = payloadNode(got.payload, item.Content[i+1], want.Payload, partial)
			}
		}
	}
	if _, metadata := entry(item, "metadata"); metadata != nil && metadata.Kind == yaml.MappingNode {
		var kept []*yaml.Node
		for i := 0; i+1 < len(metadata.Content); i += 2 {
			key, value := metadata.Content[i], metadata.Content[i+1]
			is, ok := got.metadata[key.Value]
			if !ok {
				continue
			}
			if value.Value != is {
				value.Value, value.Tag, value.Style = is, "!!str", 0
			}
			kept = append(kept, key, value)
		}
		metadata.Content = kept
	}
}

// payloadNode is YAML for a payload: JSON that YAML says as well, or text. old is what stood there, of which comments
// and the order of members stay.
func payloadNode(payload []byte, old *yaml.Node, want any, partial bool) *yaml.Node {
	_, wasText := want.(string)
	v, isJSON := parseJSON(payload)
	_, object := v.(map[string]any)
	_, array := v.([]any)
	if isJSON && (object || array) && !wasText {
		node, err := jsonNode(payload)
		if err == nil && saysTheSame(node, payload) {
			if partial {
				dropMembers(node, want)
			}
			if old != nil {
				return merged(old, node)
			}
			return node
		}
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(payload), Style: yaml.SingleQuotedStyle}
	if strings.ContainsFunc(node.Value, func(r rune) bool { return r < ' ' || r == utf8.RuneError || r == 0x7f }) {
		node.Style = yaml.DoubleQuotedStyle
	}
	if old != nil {
		node.HeadComment, node.LineComment, node.FootComment = old.HeadComment, old.LineComment, old.FootComment
	}
	return node
}

// saysTheSame reports whether the payload that a test would have with this node is the one that was seen.
func saysTheSame(node *yaml.Node, payload []byte) bool {
	payloadOnly := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("payload"), node}}
	test := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		scalar("name"), scalar("x"), scalar("input"), {Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("payload"), scalar("x")}},
		scalar("output"), {Kind: yaml.SequenceNode, Content: []*yaml.Node{payloadOnly}},
	}}
	text, err := yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		scalar("tests"), {Kind: yaml.SequenceNode, Content: []*yaml.Node{test}},
	}})
	if err != nil {
		return false
	}
	tests, _, err := inside.LoadTests("", text, true)
	return err == nil && samePayload(tests.(pipeline.TestCases)[0].Output[0].Payload, payload, false)
}

// oneLine is up to which length JSON stands on one line.
const oneLine = 90

// jsonNode makes YAML of JSON, members in their order.
func jsonNode(text []byte) (*yaml.Node, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return nextNode(d)
}

func nextNode(d *json.Decoder) (*yaml.Node, error) {
	from := d.InputOffset()
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for d.More() {
			inner, err := nextNode(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, inner)
		}
		_, err := d.Token()
		if d.InputOffset()-from <= oneLine {
			n.Style = yaml.FlowStyle
		}
		return n, err
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(t.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: t.String()}, nil
	case string:
		return scalar(t), nil
	}
	text, err := json.Marshal(token)
	tag := "!!bool"
	if token == nil {
		tag = "!!null"
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: string(text)}, err
}

func scalar(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if strings.ContainsAny(text, "\n\r\t") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// dropMembers leaves out of a node the members that a partial payload doesn't name.
func dropMembers(n *yaml.Node, want any) {
	switch w := want.(type) {
	case map[string]any:
		if n.Kind != yaml.MappingNode {
			return
		}
		var kept []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if named, ok := w[n.Content[i].Value]; ok {
				dropMembers(n.Content[i+1], named)
				kept = append(kept, n.Content[i], n.Content[i+1])
			}
		}
		n.Content = kept
	case []any:
		for i := 0; i < len(n.Content) && i < len(w) && n.Kind == yaml.SequenceNode; i++ {
			dropMembers(n.Content[i], w[i])
		}
	}
}

// merged is the new node with the comments, the style and the order of members of the old one.
func merged(old, fresh *yaml.Node) *yaml.Node {
	if old.Kind != fresh.Kind {
		fresh.HeadComment, fresh.LineComment, fresh.FootComment = old.HeadComment, old.LineComment, old.FootComment
		return fresh
	}
	switch old.Kind {
	case yaml.ScalarNode:
		if old.Value != fresh.Value || old.ShortTag() != fresh.ShortTag() {
			old.Value, old.Tag, old.Style = fresh.Value, fresh.Tag, fresh.Style
		}
	case yaml.SequenceNode:
		for i, inner := range fresh.Content {
			if i < len(old.Content) {
				fresh.Content[i] = merged(old.Content[i], inner)
			}
		}
		old.Content = fresh.Content
	case yaml.MappingNode:
		var all []*yaml.Node
		for i := 0; i+1 < len(old.Content); i += 2 {
			if _, value := entry(fresh, old.Content[i].Value); value != nil {
				all = append(all, old.Content[i], merged(old.Content[i+1], value))
			}
		}
		for i := 0; i+1 < len(fresh.Content); i += 2 {
			if key, _ := entry(old, fresh.Content[i].Value); key == nil {
				all = append(all, fresh.Content[i], fresh.Content[i+1])
			}
		}
		old.Content = all
	}
	return old
}

// entry returns the key and the value of a mapping's member; nil when there is none.
func entry(n *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// at returns a member of a mapping by its name, or an element of a list by its index; nil when there is none.
func at(n *yaml.Node, place any) *yaml.Node {
	switch p := place.(type) {
	case string:
		_, value := entry(n, p)
		return value
	case int:
		if n != nil && n.Kind == yaml.SequenceNode && p < len(n.Content) {
			return n.Content[p]
		}
	}
	return nil
}

// dedent takes n blanks off every line but the first.
func dedent(text string, n int) string {
	var b strings.Builder
	first := true
	for line := range strings.Lines(text) {
		if !first {
			blanks := len(line) - len(strings.TrimLeft(line, " "))
			line = line[min(blanks, n):]
		}
		first = false
		b.WriteString(line)
	}
	return b.String()
}

// indentLines puts first before the first line and rest before all others.
func indentLines(text, first, rest, newline string) string {
	var b strings.Builder
	prefix := first
	for line := range strings.Lines(text) {
		body, end := strings.CutSuffix(line, "\n")
		if strings.TrimSpace(body) != "" {
			b.WriteString(prefix)
		}
		b.WriteString(body)
		if end {
			b.WriteString(newline)
		}
		prefix = rest
	}
	return b.String()
}
