package penstock_test

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// The orders of docs/plain-data.md, through its pipeline, are in a real Redis as the page says.
func TestDocs_plainDataDoesWhatItsPageShows(t *testing.T) {
	page := slices.DeleteFunc(blocks(t), func(b block) bool { return b.file != "docs/plain-data.md" })
	first := func(language string) string {
		i := slices.IndexFunc(page, func(b block) bool { return b.language == language })
		if i < 0 {
			t.Fatalf("the page has no block of %q", language)
		}
		return page[i].text
	}
	host, port, err := net.SplitHostPort(testserver.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("orders.ndjson", []byte(first("json")), 0o600); err != nil {
		t.Fatal(err)
	}
	config, _, err := pipeline.LoadBytes(penstock.Builtins(), "orders.yaml", []byte(first("yaml")), pipeline.LoadOptions{
		Env: func(name string) (string, bool) {
			value, ok := map[string]string{"REDIS_HOST": host, "REDIS_PORT": port}[name]
			return value, ok
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	built, err := config.Build(pipeline.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pipeline.New(pipeline.Settings{}, built)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := engine.Run(ctx); err != nil {
		t.Fatal(err)
	}

	client := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(host, port)})
	defer func() { _ = client.Close() }()
	lines := strings.Split(first(""), "\n")
	shown := 0
	for i, line := range lines {
		key, ok := strings.CutPrefix(line, "$ redis-cli get ")
		if !ok {
			continue
		}
		shown++
		if got := client.Get(ctx, key).Val(); got != lines[i+1] {
			t.Errorf("%s is %q, and the page says %q", key, got, lines[i+1])
		}
	}
	if shown != 2 {
		t.Errorf("the page shows %d entries: the search misses them", shown)
	}
}
