package entitlement

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/cache"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocs_listTheEventTypes: docs/events.md names exactly the types that are handled and ignored, each where it
// belongs.
func TestDocs_listTheEventTypes(t *testing.T) {
	types := strings.Split(page(t, "events.md"), "## Types")[1]
	types = strings.Split(types, "\n## ")[0]
	table, list, ok := strings.Cut(types, "These are filtered by rule")
	if !ok {
		t.Fatal("the page has changed its form")
	}
	names := func(text string) map[string]bool {
		found := map[string]bool{}
		for _, name := range regexp.MustCompile("`([A-Z0-9]+(?:_[A-Z0-9]+)+)`").FindAllStringSubmatch(text, -1) {
			found[name[1]] = true
		}
		return found
	}
	inTable, inList := names(table), names(list)
	for name := range handled {
		if !inTable[name] {
			t.Errorf("handled, but not in the table: %s", name)
		}
		delete(inTable, name)
	}
	for _, name := range ignored {
		if !inList[name] {
			t.Errorf("ignored, but not in the list: %s", name)
		}
		delete(inList, name)
	}
	for _, rest := range []map[string]bool{inTable, inList} {
		for name := range rest {
			t.Errorf("not in the code: %s", name)
		}
	}
}

// TestDocs_showRealValues: the JSON of docs/cache-layout.md is what the samples become, and its wire lines parse.
func TestDocs_showRealValues(t *testing.T) {
	ours, _, _ := strings.Cut(page(t, "cache-layout.md"), "\n## Messages of your own")
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(ours, -1)
	if len(blocks) != 4 {
		t.Fatalf("%d blocks", len(blocks))
	}
	writes, _, err := decoder(t, Options{}).Decode(Input{Body: samples(t)["03-entitlements-metered-incremental-monthly"], Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range []int{0, 2, 1} { // value, metadata, usage
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(blocks[block][1])); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(compact.String()); got != string(writes[i].Value) {
			t.Errorf("the page says\n%s\nbut it is\n%s", got, writes[i].Value)
		}
	}
	if wire, err := cache.Parse(nil, []byte(blocks[3][1])); err != nil || len(wire) != 2 {
		t.Errorf("%d writes, %v", len(wire), err)
	}
}
