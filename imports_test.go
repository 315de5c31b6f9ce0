package penstock_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/penstock-dev/penstock"

// leaves are internal packages with a line of their own in layers, so that they stay leaves; "internal/*" includes
// them.
var leaves = []string{
	"internal/code", "internal/complaint", "internal/expression", "internal/jsonscan", "internal/outage", "internal/plaintext", "internal/reason", "internal/rfc3339",
}

// layers says which of our packages the packages of a folder may import. A folder covers what lies below it, unless
// that has a line of its own; "internal/*" stands for the internal packages without a line: cli and admin sit on top
// of all.
var layers = map[string][]string{
	"pipeline": {
		"internal/inside", "internal/complaint", "internal/outage", "internal/reason", "internal/code", "internal/plaintext",
		"pipeline/internal/docs", "pipeline/internal/expand", "pipeline/internal/gate", "pipeline/internal/suggest", "pipeline/internal/yamlfile",
	},
	"pipeline/internal":          {}, // a room that has no line yet
	"pipeline/internal/docs":     {},
	"pipeline/internal/expand":   {"internal/code"},
	"pipeline/internal/gate":     {},
	"pipeline/internal/suggest":  {},
	"pipeline/internal/yamlfile": {"pipeline/internal/expand", "pipeline/internal/suggest", "internal/plaintext", "internal/code"},
	"internal/plaintext":         {}, // leaves, which pipeline uses and components may use
	"internal/inside":            {"internal/complaint"},
	"internal/complaint":         {"internal/code"},
	"internal/outage":            {},
	"internal/reason":            {},
	"internal/code":              {},
	"internal/rfc3339":           {},
	"internal/expression":        {},
	"internal/jsonscan":          {"internal/reason"},
	"internal/ownwrite":          {"internal/reason", "internal/rfc3339"},
	"pipeline/pipelinetest":      {"pipeline"},
	"cache":                      {"internal/jsonscan", "internal/reason"},
	"entitlement":                {"cache", "internal/jsonscan", "internal/reason", "internal/rfc3339"},
	"internal/edgeapi":           {"cache", "entitlement", "internal/plaintext", "internal/reason"},
	"sources":                    {"pipeline", "internal/*"},
	"transforms":                 {"pipeline", "cache", "entitlement", "internal/*", "internal/inside", "internal/ownwrite", "internal/edgeapi"},
	"sinks":                      {"pipeline", "cache", "internal/*", "internal/inside", "internal/ownwrite"},
	"configs":                    {},
	"internal":                   {"pipeline", "cache", "internal/*", "internal/inside"},
	"internal/admin":             {"pipeline", "internal/*"},
	"internal/cli":               {"pipeline", "cache", "entitlement", "sources", "transforms", "sinks", "configs", "internal/*", "internal/admin", "internal/edgeapi", "internal/inside"},
	"cmd/penstock":               {"."},
	".":                          {"pipeline", "sources", "transforms", "sinks", "internal/*", "internal/cli"},
}

func TestImports_followTheTableOfTheDesign(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() && file != "." && isModule(file):
			return filepath.SkipDir // a module of its own sees public packages only: the compiler checks that
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := path.Dir(filepath.ToSlash(file))
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if complaint := judge(folder, imported); complaint != "" {
				t.Errorf("%s: %s", file, complaint)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("looked at %d files: the walk misses the code", files)
	}
}

func isModule(folder string) bool {
	matches, _ := filepath.Glob(filepath.Join(folder, "go.mod"))
	return len(matches) > 0
}

// judge says what is wrong with an import of a file in folder, or "".
func judge(folder, imported string) string {
	if imported != module && !strings.HasPrefix(imported, module+"/") {
		return ""
	}
	target := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
	if target == "" {
		target = "."
	}
	layer := layerOf(folder)
	if layer == "" {
		return "no layer for folder " + folder + ": add it to the table, and to the design"
	}
	targetLayer := layerOf(target)
	if layer == targetLayer && (layer == "internal" || target == folder || strings.HasPrefix(target, folder+"/") || strings.HasPrefix(folder, target+"/")) {
		return "" // a component that grew into a package of its own, and the folder that registers it
	}
	for _, allowed := range layers[layer] {
		if allowed == targetLayer || allowed == "internal/*" && (targetLayer == "internal" || slices.Contains(leaves, targetLayer)) {
			return ""
		}
	}
	return layer + " may not import " + target
}

// layerOf returns the line of the table that a folder falls under: the longest one.
func layerOf(folder string) string {
	best := ""
	for layer := range layers {
		if (folder == layer || layer != "." && strings.HasPrefix(folder, layer+"/")) && len(layer) > len(best) {
			best = layer
		}
	}
	return best
}

func TestImports_theRuleCatchesWhatItShould(t *testing.T) {
	for name, c := range map[string]struct {
		folder, imported string
		broken           bool
	}{
		"engine imports a component":       {"pipeline", "sinks", true},
		"engine imports an internal":       {"pipeline", "internal/recording", true},
		"engine uses its gate":             {"pipeline", "pipeline/internal/gate", false},
		"decoder expands variables":        {"pipeline/internal/yamlfile", "pipeline/internal/expand", false},
		"decoder knows pipelines":          {"pipeline/internal/yamlfile", "pipeline", true},
		"gate knows the decoder":           {"pipeline/internal/gate", "pipeline/internal/yamlfile", true},
		"room without a line":              {"pipeline/internal/new", "pipeline", true},
		"source imports sink":              {"sources", "sinks", true},
		"sink imports sink package":        {"sinks", "sinks/redis", false},
		"sink package imports a sibling":   {"sinks/redis", "sinks/file", true},
		"sink knows entitlements":          {"sinks", "entitlement", true},
		"sink package knows entitlements":  {"sinks/redis", "entitlement", true},
		"sink knows cache":                 {"sinks", "cache", false},
		"cache imports ours":               {"cache", "pipeline", true},
		"cache scans JSON":                 {"cache", "internal/jsonscan", false},
		"the scanner knows writes":         {"internal/jsonscan", "cache", true},
		"transform knows entitlements":     {"transforms", "entitlement", false},
		"source takes from internal":       {"sources/sqs", "internal/recording", false},
		"source takes from the top":        {"sources", "internal/admin", true},
		"internal imports internal":        {"internal/recording", "internal/feed", false},
		"internal imports the top":         {"internal/recording", "internal/cli", true},
		"main goes around the front door":  {"cmd/penstock", "internal/cli", true},
		"main uses the front door":         {"cmd/penstock", ".", false},
		"a folder that nobody thought of":  {"stuff", "pipeline", true},
		"others are no business of ours":   {"cache", "github.com/redis/go-redis/v9", false},
		"entitlement imports the pipeline": {"entitlement", "pipeline", true},
		"a leaf imports the engine":        {"internal/reason", "pipeline", true},
		"source takes a leaf":              {"sources", "internal/reason", false},
		"source looks inside the engine":   {"sources", "internal/inside", true},
		"sink asks the Edge API":           {"sinks", "internal/edgeapi", true},
	} {
		t.Run(name, func(t *testing.T) {
			imported := c.imported
			switch {
			case imported == ".":
				imported = module
			case !strings.Contains(imported, "github.com"):
				imported = module + "/" + imported
			}
			if got := judge(c.folder, imported); (got != "") != c.broken {
				t.Errorf("judge = %q, want broken = %t", got, c.broken)
			}
		})
	}
}
