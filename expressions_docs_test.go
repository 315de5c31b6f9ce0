package penstock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// expressionBlocks are the blocks of docs/expressions.md of a language.
func expressionBlocks(t *testing.T, language string) []string {
	t.Helper()
	var texts []string
	for _, b := range blocks(t) {
		if b.file == "docs/expressions.md" && b.language == language {
			texts = append(texts, b.text)
		}
	}
	if len(texts) == 0 {
		t.Fatalf("the page has no block of %q", language)
	}
	return texts
}

func TestDocs_everyPipelineOfExpressionsPassesItsTests(t *testing.T) {
	pipelines, session := expressionBlocks(t, "yaml"), expressionBlocks(t, "")
	t.Chdir(t.TempDir())
	for i, text := range pipelines {
		file := fmt.Sprintf("%d.yaml", i)
		writeTestFile(t, file, text)
		if code, stdout, stderr := runWithoutVariables("test", file); code != 0 {
			t.Errorf("pipeline %d: exit %d\n%s%s", i, code, stdout, stderr)
		}
	}
	writeTestFile(t, "typo.yaml", "name: typo\nsource: {generate: {}}\ntransforms:\n  - filter: {if: '.total >='}\nsink: {drop: {}}\n")
	_, want, _ := strings.Cut(session[0], "\n")
	if code, _, stderr := runWithoutVariables("validate", "typo.yaml"); code != 2 || !strings.HasPrefix(stderr, strings.TrimSuffix(want, "\n")) {
		t.Errorf("exit %d\n%s\nthe page shows\n%s", code, stderr, want)
	}
}

// Orders by YAML alone: whatever the order of the lines, and however often they come, the newest is in Redis.
func TestDocs_ordersByExpressionsAreTheNewest(t *testing.T) {
	text := expressionBlocks(t, "yaml")[0]
	host, port, err := net.SplitHostPort(testserver.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	var lines []string
	begin := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for order := range 50 {
		for update := range 40 {
			line := fmt.Sprintf(`{"id":"o%d","total":%d,"updated":%q}`, order, order+update%7-3, begin.Add(time.Duration(update)*time.Second).Format(time.RFC3339))
			lines = append(lines, line, line)
		}
	}
	rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	writeTestFile(t, "orders.ndjson", strings.Join(lines, "\n"))
	if err := run(t, text, map[string]string{"REDIS_HOST": host, "REDIS_PORT": port}); err != nil {
		t.Fatal(err)
	}

	client := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(host, port)})
	defer func() { _ = client.Close() }()
	for order := range 50 {
		want := ""
		for update := range 40 {
			if total := order + update%7 - 3; total >= 3 {
				want = fmt.Sprintf(`{"id":"o%d","total":%d,"updated":%q}`, order, total, begin.Add(time.Duration(update)*time.Second).Format(time.RFC3339))
			}
		}
		key := fmt.Sprintf("shop:order:o%d", order)
		if got := client.Get(t.Context(), key).Val(); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
		if ttl := client.TTL(t.Context(), key).Val(); want != "" && (ttl <= 0 || ttl > 24*time.Hour) {
			t.Errorf("%s lives for %s", key, ttl)
		}
	}
	if entries, _ := os.ReadDir("poison"); len(entries) > 0 {
		t.Errorf("poisoned: %v", entries)
	}
}

// run runs the pipeline of a page to its end.
func run(t *testing.T, text string, env map[string]string) error {
	t.Helper()
	config, _, err := pipeline.LoadBytes(penstock.Builtins(), "page.yaml", []byte(text), pipeline.LoadOptions{
		Env: func(name string) (string, bool) {
			value, ok := env[name]
			return value, ok
		},
	})
	if err != nil {
		return err
	}
	built, err := config.Build(pipeline.Settings{})
	if err != nil {
		return err
	}
	engine, err := pipeline.New(pipeline.Settings{}, built)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return engine.Run(ctx)
}
