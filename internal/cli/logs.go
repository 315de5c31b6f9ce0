package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logLevel reads LOG_LEVEL. The words of other loggers that mean nearly the same are understood, so that
// variables made for another service don't keep this one from starting.
func logLevel(get func(string) string) (zapcore.Level, error) {
	switch value := get("LOG_LEVEL"); strings.ToLower(value) {
	case "", "info":
		return zap.InfoLevel, nil
	case "debug", "trace", "verbose":
		return zap.DebugLevel, nil
	case "warn", "warning":
		return zap.WarnLevel, nil
	case "error", "fatal":
		return zap.ErrorLevel, nil
	default:
		return 0, fmt.Errorf("LOG_LEVEL: want debug, info, warn or error, got %q", value)
	}
}

// newLogger logs for people when w is a terminal, as JSON, one object a line, otherwise.
func newLogger(w io.Writer, terminal bool, level zapcore.Level) *zap.Logger {
	if terminal {
		c := zap.NewDevelopmentEncoderConfig()
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		c.StacktraceKey = zapcore.OmitKey
		return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.Lock(zapcore.AddSync(w)), level))
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "time"
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(c), zapcore.Lock(zapcore.AddSync(w)), level))
}

// screen is a terminal with one live line at its end: what is written scrolls by above it.
type screen struct {
	mu    sync.Mutex
	w     io.Writer
	width func() int // columns, or 0 when unknown
	live  string
}

// newScreen makes the screen of what Stderr is.
func newScreen(w io.Writer, width func() int) *screen {
	if f, ok := w.(*folding); ok { // the screen folds by itself, below which the live line must not be
		w = f.w
	}
	if width == nil {
		width = func() int { return 0 }
	}
	return &screen{w: w, width: width}
}

const (
	toLineStart = "\r"
	clearToEnd  = "\x1b[K"
)

// Write writes whole lines above the live line, broken at blanks where they are longer than the terminal is wide.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(p)
	if width := s.width(); width > 0 {
		text = (&folding{}).fold(text, width)
	}
	if s.live != "" {
		text = toLineStart + clearToEnd + text + s.live
	}
	if _, err := io.WriteString(s.w, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// room is how many columns a live line may have; 0 when that is not known. A line that wraps could not be cleared
// again; two columns are for the ^C that the terminal prints.
func (s *screen) room() int {
	if width := s.width(); width > 0 {
		return max(1, width-3)
	}
	return 0
}

// Live replaces the live line.
func (s *screen) Live(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line = strings.NewReplacer("\n", " ", "\t", " ").Replace(visible(line))
	if room := s.room(); room > 0 {
		line = clipped(line, room)
	}
	s.live = line
	_, _ = io.WriteString(s.w, toLineStart+line+clearToEnd)
}

// EndLive leaves the live line where it is: what follows stands below it.
func (s *screen) EndLive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != "" {
		s.live = ""
		_, _ = io.WriteString(s.w, "\n")
	}
}

// part is a piece of a live line; where not all fit, those with the greatest weight stay.
type part struct {
	text   string
	weight int
}

// fitted joins parts in their order, as many as room columns hold; 0 holds all.
func fitted(parts []part, room int) string {
	parts = slices.DeleteFunc(parts, func(p part) bool { return p.text == "" })
	kept := make([]bool, len(parts))
	order := make([]int, len(parts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return parts[b].weight - parts[a].weight })
	const gap = 2
	used := -gap
	for n, i := range order {
		if cells := gap + cellsOf(parts[i].text); room <= 0 || n == 0 || used+cells <= room {
			kept[i] = true
			used += cells
		}
	}
	var texts []string
	for i, p := range parts {
		if kept[i] {
			texts = append(texts, p.text)
		}
	}
	return strings.Join(texts, strings.Repeat(" ", gap))
}
