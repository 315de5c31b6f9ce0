package faults

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// brokenVariable chooses what is broken in a program that is built from all breakages.
const brokenVariable = "PENSTOCK_BROKEN"

// breakage is a mistake that someone might make, and the row that must catch it.
type breakage struct {
	file     string
	old, new string // IF stands for "is this breakage chosen"
	row      string
	rounds   int
}

var breakages = map[string]breakage{
	"acks before the write": {
		file: "pipeline/handler.go", row: "kill -9", rounds: 15,
		old: "\t\tstored, err := next(msg)\n\t\tresult := outcomeReleased\n",
		new: "\t\tif IF {\n\t\t\tmsg.Ack()\n\t\t}\n\t\tstored, err := next(msg)\n\t\tresult := outcomeReleased\n",
	},
	"drops a nack": {
		file: "pipeline/handler.go", row: "malformed bodies without a poison queue",
		old: "\t\t\tmsg.Nack()\n",
		new: "\t\t\tif !IF {\n\t\t\t\tmsg.Nack()\n\t\t\t}\n",
	},
	"poisons before the retry budget is used": {
		file: "pipeline/handler.go", row: "Redis killed",
		old: "\t\t\tcase IsUnavailable(err):\n",
		new: "\t\t\tcase IF:\n\t\t\t\tturn.leave()\n\t\t\t\treturn nil, reason.Errorf(\"%w: %w\", errExhausted, err)\n\t\t\tcase IsUnavailable(err):\n",
	},
	"never opens the gate": {
		file: "pipeline/internal/gate/gate.go", row: "Redis killed",
		old: "\tif !g.shut.Load() || g.limit > 0 || g.idle {\n\t\treturn\n\t}\n\tg.limit = 1\n",
		new: "\tif !g.shut.Load() || g.limit > 0 || g.idle || IF {\n\t\treturn\n\t}\n\tg.limit = 1\n",
	},
	"leaves a torn line": {
		file: "internal/recording/writer.go", row: "the disk of the recordings is full",
		old: "\t_ = f.Truncate(size)\n",
		new: "\tif !IF {\n\t\t_ = f.Truncate(size)\n\t}\n",
	},
}

// breakAll builds a program with all breakages, of which none is chosen.
func breakAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sources := map[string]string{}
	for name, b := range breakages {
		if sources[b.file] == "" {
			text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(b.file)))
			if err != nil {
				t.Fatal(err)
			}
			sources[b.file] = string(text)
		}
		if strings.Count(sources[b.file], b.old) != 1 {
			t.Fatalf("%s has changed: the breakage %q doesn't fit any more", b.file, name)
		}
		chosen := `(os.Getenv("` + brokenVariable + `") == "` + name + `")`
		sources[b.file] = strings.Replace(sources[b.file], b.old, strings.ReplaceAll(b.new, "IF", chosen), 1)
	}
	overlay := map[string]string{}
	for file, text := range sources {
		if !strings.Contains(text, "\t\"os\"\n") {
			text = strings.Replace(text, "import (\n", "import (\n\t\"os\"\n", 1)
		}
		path, err := filepath.Abs(filepath.Join("..", "..", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		overlay[path] = filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(overlay[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "penstock")
	if err := build(binary, "-overlay", file); err != nil {
		t.Fatal(err)
	}
	return binary
}

// The suite is worth what it catches: each of these programs loses messages, or holds or poisons them for no reason.
func TestBrokenBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	t.Parallel()
	server, binary := startSQS(t), breakAll(t)
	for name, b := range breakages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := row(t, b.row)
			f.rounds = forms(max(1, b.rounds), max(1, b.rounds))
			f.lasts = forms(f.lasts[0], f.lasts[0])
			f.broken = name
			r := play(t, f, binary, server)
			if len(r.problems) == 0 {
				t.Errorf("a program that %s passes %q: %+v", name, b.row, *r)
				return
			}
			t.Logf("caught by %q: %s", b.row, strings.Join(r.problems, "\n")[:min(400, len(strings.Join(r.problems, "\n")))])
		})
	}
}
