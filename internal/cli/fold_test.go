package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestFolding_breaksLinesAtBlanks(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		width      int
	}{
		"short":                         {"one two\n", "one two\n", 10},
		"as long as it may be":          {"one two 45\n", "one two 45\n", 10},
		"long":                          {"one two three four five\n", "one two\n  three\n  four\n  five\n", 10},
		"indented":                      {"  one two three\n", "  one two\n    three\n", 10},
		"below its text":                {"  bounds   1,024 messages and 64MiB\n", "  bounds   1,024\n           messages\n           and 64MiB\n", 22},
		"a word that is longer":         {"see https://example.com/long now\n", "see\n  https://example.com/long\n  now\n", 10},
		"a word that fits farther left": {"a    b 123456789 c\n", "a    b\n  123456789\n  c\n", 12},
		"several lines":                 {"one two three\nfour\n\nfive six seven\n", "one two\n  three\nfour\n\nfive six\n  seven\n", 10},
		"wide characters":               {"日本 日本 日本\n", "日本 日本\n  日本\n", 10},
		"what steers is no text":        {"\x1b[1mone\x1b[0m \x1b[31mtwo\x1b[0m 89A\n", "\x1b[1mone\x1b[0m \x1b[31mtwo\x1b[0m\n  89A\n", 10},
		"tabs":                          {"a\tb\tc\n", "a\tb\n        c\n", 16},
		"no terminal":                   {"one two three four five\n", "one two three four five\n", 0},
		"blanks at the end":             {"one two   \n", "one two   \n", 8},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			_, _ = fmt.Fprint(&folding{w: &b, width: func() int { return c.width }}, c.text)
			if b.String() != c.want {
				t.Errorf("got\n%swant\n%s", b.String(), c.want)
			}
			var pieces bytes.Buffer // a question without a line end has to be seen, too
			f := &folding{w: &pieces, width: func() int { return c.width }}
			for piece := range strings.SplitAfterSeq(c.text, " ") {
				_, _ = fmt.Fprint(f, piece)
			}
			if got, want := strings.Join(strings.Fields(pieces.String()), " "), strings.Join(strings.Fields(c.want), " "); got != want {
				t.Errorf("in pieces %q, want %q", got, want)
			}
		})
	}
}

func TestHelp_fitsTheTerminal(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		for _, args := range [][]string{{"--help"}, {"replay", "--help"}, {"run", "--help"}, {"poison", "list", "--help"}, {"inspect", "--help"}} {
			var out bytes.Buffer
			p := &Program{Args: args, Invocation: "penstock", Stdout: &out, Stderr: &out, StdoutWidth: func() int { return width }}
			if code := p.Run(t.Context()); code != 0 {
				t.Fatalf("exit %d", code)
			}
			for line := range strings.Lines(out.String()) {
				if line = strings.TrimRight(line, "\n"); cellsOf(line) > width && len(shellWords(strings.TrimSuffix(line, ` \`))) > 1 {
					t.Errorf("%v: %d columns of %d: %q", args, cellsOf(line), width, line)
				}
			}
		}
	}
}

func TestFoldedCommand_canBeCopied(t *testing.T) {
	for name, c := range map[string]struct {
		command, want string
		width         int
	}{
		"short":          {"penstock run", "  penstock run\n", 40},
		"no terminal":    {"penstock replay my-pipeline.yaml recordings/ --rate 500/s", "  penstock replay my-pipeline.yaml recordings/ --rate 500/s\n", 0},
		"long":           {"penstock replay my-pipeline.yaml recordings/ --rate 500/s", "  penstock replay my-pipeline.yaml \\\n    recordings/ --rate 500/s\n", 40},
		"quotes stay":    {"penstock replay p.yaml r --filter '.payload.n == 1'", "  penstock replay p.yaml r \\\n    --filter \\\n    '.payload.n == 1'\n", 30},
		"a comment":      {"penstock run quickstart    # needs nothing", "  penstock run quickstart   # needs nothing\n", 60},
		"no room for it": {"penstock run quickstart    # needs nothing", "  penstock run quickstart\n", 40},
	} {
		t.Run(name, func(t *testing.T) {
			if got := foldedCommand("  ", c.command, c.width); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}
