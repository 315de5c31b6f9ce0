package helm_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const (
	tableBegins = "<!-- values: made of values.yaml by go test -update -->\n"
	tableEnds   = "<!-- /values -->\n"
)

// TestReadme_tableIsThatOfTheValues also holds that every value has a comment, and that the schema knows every value
// and no other.
func TestReadme_tableIsThatOfTheValues(t *testing.T) {
	text, err := os.ReadFile("penstock/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	schemaText, err := os.ReadFile("penstock/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	schema := parse(t, string(schemaText))
	delete(schema["properties"].(values), "global") // Helm's own

	var table strings.Builder
	table.WriteString("| value | default | |\n|---|---|---|\n")
	rows := 0
	var walk func(path string, mapping *yaml.Node, schema any)
	walk = func(path string, mapping *yaml.Node, schema any) {
		known, _ := dig(schema, "properties").(values)
		for i := 0; i < len(mapping.Content); i += 2 {
			key, value := mapping.Content[i], mapping.Content[i+1]
			at := path + key.Value
			own := known[key.Value]
			if own == nil {
				t.Errorf("values.schema.json has no %s", at)
			}
			delete(known, key.Value)
			comment := key.HeadComment
			if at := strings.LastIndex(comment, "\n\n"); at >= 0 {
				comment = comment[at+2:] // what stands above an empty line is about the file
			}
			comment = strings.ReplaceAll(strings.TrimPrefix(comment, "# "), "\n# ", " ")
			// A section has values of its own. Else it is one value, however much is in it.
			if _, section := dig(own, "properties").(values); section && value.Style&yaml.FlowStyle == 0 {
				if comment != "" {
					fmt.Fprintf(&table, "| **`%s`** | | %s |\n", at, comment)
				}
				walk(at+".", value, own)
				continue
			}
			if comment == "" && at != "strategy.type" && at != "strategy.rollingUpdate" { // strategy has one for both
				t.Errorf("values.yaml:%d: %s has no comment", key.Line, at)
			}
			if strings.Contains(comment, "|") {
				t.Errorf("values.yaml:%d: a | ends a cell of the table", key.Line)
			}
			rows++
			fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", at, inline(t, value), comment)
		}
		for name := range known {
			if path+name != "directories" && !strings.HasPrefix(path, "directories") {
				t.Errorf("values.yaml has no %s%s", path, name)
			}
		}
	}
	walk("", document.Content[0], schema)
	if rows < 80 {
		t.Errorf("only %d values: does this test still find them all?", rows)
	}

	readme, err := os.ReadFile("penstock/README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(readme), tableBegins)
	old, tail, closed := strings.Cut(rest, tableEnds)
	if !ok || !closed {
		t.Fatalf("penstock/README.md has no %s … %s", tableBegins, tableEnds)
	}
	if old == table.String() {
		return
	}
	if !*update {
		t.Fatal("the table in penstock/README.md is stale: go test -update")
	}
	if err := os.WriteFile("penstock/README.md", []byte(head+tableBegins+table.String()+tableEnds+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inline is a value in one line.
func inline(t *testing.T, value *yaml.Node) string {
	t.Helper()
	clone := *value
	clone.Style |= yaml.FlowStyle
	clone.HeadComment, clone.LineComment, clone.FootComment = "", "", ""
	if value.Kind == yaml.ScalarNode {
		clone.Style = value.Style
	}
	text, err := yaml.Marshal(&clone)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}
