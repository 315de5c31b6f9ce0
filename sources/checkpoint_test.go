package sources

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// numbered is a file's text: n lines that count on from first.
func numbered(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %05d\n", first+i)
	}
	return b.String()
}

func TestCheckpoint_goesOnBehindWhatIsResolvedAndLosesNothing(t *testing.T) {
	for kind, name := range map[string]string{"plain": "", "gzip": "gzip", "zstd": "zstd"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			var paths []string
			for i := range 3 {
				text := numbered(i*400, 400)
				path := write(t, filepath.Join(dir, fmt.Sprintf("%d.txt", i)), compressed(t, name, text))
				paths = append(paths, path)
			}
			c := FileConfig{Paths: paths, Format: "lines", Checkpoint: filepath.Join(t.TempDir(), "at")}
			done := map[string]int{}
			var mu sync.Mutex
			for range 200 {
				ctx, stop := context.WithCancel(t.Context())
				after := 1 + rand.IntN(300)
				_, err := runIn(ctx, t, fileSourceOf(t, c), func(_ context.Context, m *message.Message) error {
					mu.Lock()
					defer mu.Unlock()
					if after--; after < 0 {
						stop()
						return errors.New("too late")
					}
					done[string(m.Payload)]++
					return nil
				})
				stop()
				if err != nil {
					t.Fatal(err)
				}
				if len(done) == 1200 {
					break
				}
			}
			if len(done) != 1200 {
				t.Fatalf("%d of 1200 lines were processed", len(done))
			}
			all := func(context.Context, *message.Message) error { return nil }
			ledger, err := runIn(t.Context(), t, fileSourceOf(t, c), all)
			if err != nil {
				t.Fatal(err)
			}
			if ledger.Received > 1100 {
				t.Errorf("a run behind the end received %d messages: the checkpoint stands still", ledger.Received)
			}
			if ledger, err = runIn(t.Context(), t, fileSourceOf(t, c), all); err != nil || ledger.Received != 0 {
				t.Errorf("behind a whole run: received %d, %v; want 0", ledger.Received, err)
			}
		})
	}
}

// runIn runs a pipeline from s until it ends or ctx does.
func runIn(ctx context.Context, t *testing.T, s pipeline.Source, f func(context.Context, *message.Message) error) (pipeline.Ledger, error) {
	t.Helper()
	e, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "p", Source: s, Sink: pipeline.SinkFunc(f), MaxInFlight: 64, Retry: pipeline.RetryConfig{MaxAttempts: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run(ctx)
	return e.Ledgers()[0], err
}

func TestCheckpoint_neverPassesAnUnresolvedMessage(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "a.txt"), numbered(0, 100))
	c := FileConfig{Paths: []string{file}, Format: "lines", Checkpoint: filepath.Join(t.TempDir(), "at")}
	refuse := func(_ context.Context, m *message.Message) error {
		if string(m.Payload) == "line 00040" {
			return errors.New("not today")
		}
		return nil
	}
	ledger, err := runIn(t.Context(), t, fileSourceOf(t, c), refuse)
	if err != nil || ledger.Unresolved != 1 {
		t.Fatalf("%+v, %v", ledger, err)
	}
	var mu sync.Mutex
	var first string
	_, err = runIn(t.Context(), t, fileSourceOf(t, c), func(_ context.Context, m *message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if first == "" || string(m.Payload) < first {
			first = string(m.Payload)
		}
		return nil
	})
	if err != nil || first != "line 00040" {
		t.Errorf("went on at %q, %v; want the message that was given up", first, err)
	}
}

func TestCheckpoint_staysBehindALineThatCantBeHandedOn(t *testing.T) {
	long := strings.Repeat("x", 2<<10)
	file := write(t, filepath.Join(t.TempDir(), "a.txt"), numbered(0, 5)+long+"\n"+numbered(5, 5))
	c := FileConfig{Paths: []string{file}, Format: "lines", Checkpoint: filepath.Join(t.TempDir(), "at"), MaxLine: 1 << 10}
	all := func(context.Context, *message.Message) error { return nil }
	if _, err := runIn(t.Context(), t, fileSourceOf(t, c), all); err != nil {
		t.Fatal(err)
	}
	c.MaxLine = 1 << 20
	ledger, err := runIn(t.Context(), t, fileSourceOf(t, c), all)
	if err != nil || ledger.Written != 6 {
		t.Errorf("%+v, %v; want the long line and the five behind it", ledger, err)
	}
}

func TestCheckpoint_knowsItsFiles(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, c *FileConfig, file string)
		want   string // part of the error, or ""
		n      int64  // messages of the second run
	}{
		"the same": {func(*testing.T, *FileConfig, string) {}, "", 0},
		"grown": {func(t *testing.T, _ *FileConfig, file string) {
			write(t, file, numbered(0, 13))
		}, "", 3},
		"another file joined": {func(t *testing.T, c *FileConfig, _ string) {
			c.Paths = append([]string{write(t, filepath.Join(t.TempDir(), "new.txt"), numbered(50, 7))}, c.Paths...)
		}, "", 7},
		"shorter": {func(t *testing.T, _ *FileConfig, file string) {
			write(t, file, numbered(0, 9))
		}, "it had 110 bytes and has 99", 0},
		"another content": {func(t *testing.T, _ *FileConfig, file string) {
			write(t, file, numbered(1, 10))
		}, "it begins differently", 0},
		"another format": {func(_ *testing.T, c *FileConfig, _ string) { c.Format = "recording" }, "another choice of messages (lines) than this one (recording)", 0},
		"no checkpoint": {func(t *testing.T, c *FileConfig, _ string) {
			c.Checkpoint = write(t, filepath.Join(t.TempDir(), "x"), "{}")
		}, "is no checkpoint", 0},
		"among the files": {func(_ *testing.T, c *FileConfig, _ string) {
			c.Paths = append(c.Paths, filepath.Dir(c.Checkpoint))
		}, "lies among the files", 0},
		"a file is missing that was not done": {func(t *testing.T, c *FileConfig, file string) {
			text, err := os.ReadFile(c.Checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			write(t, c.Checkpoint, strings.Replace(string(text), `"done": true`, `"done": false`, 1))
			c.Paths = []string{write(t, filepath.Join(t.TempDir(), "new.txt"), numbered(0, 1))}
		}, "is not among the files any more", 0},
		"no directory": {func(t *testing.T, c *FileConfig, _ string) {
			c.Checkpoint = filepath.Join(t.TempDir(), "none", "at")
		}, "no such file or directory", 0},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "a.txt"), numbered(0, 10))
			config := FileConfig{Paths: []string{file}, Format: "lines", Checkpoint: filepath.Join(t.TempDir(), "at")}
			all := func(context.Context, *message.Message) error { return nil }
			if _, err := runIn(t.Context(), t, fileSourceOf(t, config), all); err != nil {
				t.Fatal(err)
			}
			c.change(t, &config, file)
			source, err := config.NewSource(pipeline.Env{Pipeline: "p", Path: "source.file"})
			if err != nil {
				t.Fatal(err)
			}
			ledger, err := runIn(t.Context(), t, source, all)
			switch {
			case c.want == "" && (err != nil || ledger.Written != c.n):
				t.Errorf("written %d, %v; want %d", ledger.Written, err, c.n)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

func TestFile_handsOnWhatIsSelected(t *testing.T) {
	from := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	text := recorded(from, "a", "b", "c", "d") + `{"payload":"no time"}` + "\n"
	file := write(t, filepath.Join(t.TempDir(), "a.ndjson"), text)
	all := payloads(subscribe(t, fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "recording"})))
	var at []time.Time
	for msg := range subscribe(t, fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "recording"})) {
		if t, err := time.Parse(time.RFC3339Nano, msg.Metadata["recorded_at"]); err == nil {
			at = append(at, t)
		}
		msg.Ack()
	}
	if len(all) != 5 || len(at) != 4 {
		t.Fatalf("%q, %v", all, at)
	}
	for name, c := range map[string]struct {
		Selection
		want string
	}{
		"from":         {Selection{From: at[2]}, "[c d]"},
		"to":           {Selection{To: at[2]}, "[a b]"},
		"from and to":  {Selection{From: at[1], To: at[3]}, "[b c]"},
		"limit":        {Selection{Limit: 2}, "[a b]"},
		"from, limit":  {Selection{From: at[1], Limit: 1}, "[b]"},
		"nothing":      {Selection{From: at[3].Add(time.Hour)}, "[]"},
		"no selection": {Selection{}, "[a b c d no time]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "recording", Selection: c.Selection})
			if got := fmt.Sprint(payloads(subscribe(t, s))); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
