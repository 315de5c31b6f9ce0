package cli

import (
	"io"
	"strings"

	"github.com/rivo/uniseg"
)

const (
	// widest is how long lines of text get on a wide terminal, and where there is none.
	widest = 100
	// narrow is where two columns of text don't fit beside each other.
	narrow = 60
)

// stdoutTerminal tells that a person sees Stdout.
func (p *Program) stdoutTerminal() bool { return p.StdoutWidth != nil && p.StdoutWidth() > 0 }

// textWidth is how many columns text on Stdout may have.
func (p *Program) textWidth() int {
	if p.stdoutTerminal() {
		return min(p.StdoutWidth(), widest)
	}
	return widest
}

// text is Stdout for text that people read: on a terminal its lines are broken at blanks, and not by the terminal in
// the middle of a word. What is copied or read by programs, such as JSON, goes to Stdout itself.
func (p *Program) text() io.Writer {
	if !p.stdoutTerminal() {
		return p.Stdout
	}
	return &folding{w: p.Stdout, width: p.StdoutWidth}
}

// folded is text as [Program.text] writes it.
func (p *Program) folded(text string) string {
	if !p.stdoutTerminal() {
		return text
	}
	return (&folding{}).fold(text, p.StdoutWidth())
}

// commandWidth is how many columns commands on Stdout may have; 0 for any number.
func (p *Program) commandWidth() int {
	if !p.stdoutTerminal() {
		return 0
	}
	return p.StdoutWidth()
}

// folding breaks lines that are longer than a terminal is wide, at blanks. What continues a line is indented as the
// line's last column of text, or a little. A word that is longer than the terminal is wide stays whole. It is not safe
// for concurrent use.
type folding struct {
	w     io.Writer
	width func() int // columns; 0 leaves everything as it is

	column int  // where the next character stands
	hang   int  // where lines begin that continue this one
	begun  bool // this line has something but blanks
}

// Write implements [io.Writer].
func (f *folding) Write(text []byte) (int, error) {
	width := f.width()
	if width <= 0 {
		return f.w.Write(text)
	}
	if _, err := io.WriteString(f.w, f.fold(string(text), width)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// fold returns text as it continues what came before.
func (f *folding) fold(text string, width int) string {
	var b strings.Builder
	for text != "" {
		if text[0] == '\n' {
			b.WriteByte('\n')
			f.column, f.hang, f.begun = 0, 0, false
			text = text[1:]
			continue
		}
		blanks := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		text = text[len(blanks):]
		word := text
		if i := strings.IndexAny(text, " \t\n"); i >= 0 {
			word = text[:i]
		}
		text = text[len(word):]
		start := f.column
		for _, blank := range blanks {
			if start++; blank == '\t' {
				start = (start + 7) / 8 * 8
			}
		}
		cells := cellsOf(word)
		switch {
		case word == "":
		case !f.begun:
			f.begun, f.hang = true, start+2
		case blanks != "" && start+cells > width:
			if f.hang+cells > width {
				f.hang = min(f.hang, 2)
			}
			b.WriteString("\n" + strings.Repeat(" ", f.hang))
			blanks, start = "", f.hang
		case start-f.column > 1 && start <= width/2:
			f.hang = start
		}
		if f.hang > width/2 {
			f.hang = 2
		}
		b.WriteString(blanks + word)
		f.column = start + cells
	}
	return b.String()
}

// cellsOf is how many columns text takes on a terminal, without what only steers it.
func cellsOf(text string) int {
	for {
		from := strings.Index(text, "\x1b[")
		if from < 0 {
			return uniseg.StringWidth(text)
		}
		end := strings.IndexFunc(text[from+2:], func(r rune) bool { return r >= '@' && r <= '~' })
		if end < 0 {
			return uniseg.StringWidth(text[:from])
		}
		text = text[:from] + text[from+2+end+1:]
	}
}

// clipped is text that takes at most width columns: what is left out is marked.
func clipped(text string, width int) string {
	if cellsOf(text) <= width {
		return text
	}
	var b strings.Builder
	room := width - 1
	for clusters := uniseg.NewGraphemes(text); clusters.Next(); {
		if room -= clusters.Width(); room < 0 {
			break
		}
		b.WriteString(clusters.Str())
	}
	return b.String() + "…"
}

// foldedCommand breaks a line of a shell so that it can be copied as it stands: at blanks outside of quotes, with a
// backslash. prefix stands before it, and as many blanks before what continues it.
func foldedCommand(prefix, command string, width int) string {
	command, comment, commented := strings.Cut(command, " # ")
	command = strings.TrimRight(command, " ")
	indent := strings.Repeat(" ", cellsOf(prefix))
	if width <= 0 || cellsOf(prefix+command) <= width {
		if commented && (width <= 0 || cellsOf(prefix+command)+cellsOf(comment)+5 <= width) {
			command += "   # " + strings.TrimLeft(comment, " ")
		}
		return prefix + command + "\n"
	}
	var b strings.Builder
	b.WriteString(prefix)
	column := cellsOf(prefix)
	for i, word := range shellWords(command) {
		cells := cellsOf(word)
		if i > 0 && column+1+cells+2 > width {
			b.WriteString(" \\\n" + indent + "  ")
			column = len(indent) + 2
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += cells
	}
	return b.String() + "\n"
}

// shellWords divides a command at blanks outside of quotes.
func shellWords(command string) []string {
	var quote rune
	return strings.FieldsFunc(command, func(r rune) bool {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		}
		return quote == 0 && r == ' '
	})
}
