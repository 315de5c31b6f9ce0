package penstock_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goImports are the packages that Go examples name without importing them.
var goImports = map[string]string{
	"bytes": "bytes", "context": "context", "embed": "embed", "fmt": "fmt", "http": "net/http", "time": "time", "url": "net/url",
	"zap": "go.uber.org/zap", "watermill": "github.com/ThreeDotsLabs/watermill",
	"message":  "github.com/ThreeDotsLabs/watermill/message",
	"memory":   "github.com/penstock-dev/penstock/sinks/memory",
	"penstock": "github.com/penstock-dev/penstock", "pipeline": "github.com/penstock-dev/penstock/pipeline",
}

// goAround is what an example leaves to its reader, by a word that only that example has.
var goAround = map[string]string{
	"return post(": "func post(context.Context, string, []byte) error { return nil }",
	"*TableConfig": `type TableConfig struct{ Batch pipeline.Batch }
func (c *TableConfig) insert(context.Context, []*message.Message) []error { return nil }`,
	"*TopicConfig": `type TopicConfig struct{ Topic string }
func (c *TopicConfig) settings() any { return nil }
var kafka kafkaPackage
type kafkaPackage struct{}
func (kafkaPackage) NewSubscriber(any, watermill.LoggerAdapter) (message.Subscriber, error) { return nil, nil }`,
}

// A statement by itself gets a function around it that has what it uses.
const goStatements = `func run(ctx context.Context, logger *zap.Logger, subscriber message.Subscriber, store func(context.Context, *message.Message) error) error {
%s}
`

var goDeclaration = regexp.MustCompile(`(?m)\A(//|func |type |var |package )`)

// Every Go example in the documents compiles: those of a document together, as they build on one another.
func TestDocs_everyGoExampleCompiles(t *testing.T) {
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	perFile := map[string]string{}
	examples := 0
	for _, b := range blocks(t) {
		if b.language != "go" {
			continue
		}
		examples++
		text := strings.ReplaceAll(b.text, "//go:embed ", "// go:embed ") // the example itself has the file
		if !goDeclaration.MatchString(text) {
			text = fmt.Sprintf(goStatements, text)
		}
		for word, around := range goAround {
			if strings.Contains(text, word) {
				text += around + "\n"
			}
		}
		perFile[b.file] += fmt.Sprintf("//line %s:%d\n%s\n", filepath.Join(root, b.file), b.line, text)
	}
	if examples < 8 {
		t.Fatalf("found %d examples: does this test still find them all?", examples)
	}

	// The files exist in the build only: nothing is written into the module.
	overlay, packages, dir := map[string]string{}, []string{"build", "-overlay"}, t.TempDir()
	packages = append(packages, filepath.Join(dir, "overlay.json"), "-o", os.DevNull)
	for file, text := range perFile {
		name := "example_" + strings.NewReplacer("/", "_", ".", "_", "-", "_").Replace(file)
		var imports []string
		for word, path := range goImports {
			if regexp.MustCompile(`\b` + word + `\.[A-Z]`).MatchString(text) {
				imports = append(imports, fmt.Sprintf("import %s %q\n", word, path))
			}
		}
		slices.Sort(imports)
		kind := "examples"
		if strings.Contains(text, "func main()") {
			kind = "main"
		}
		on := filepath.Join(dir, name+".go")
		if err := os.WriteFile(on, []byte("package "+kind+"\n"+strings.Join(imports, "")+text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(root, name, name+".go")] = on
		packages = append(packages, "./"+name)
	}
	replace, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), replace, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", packages...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath") // compiled already, as it is released
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
