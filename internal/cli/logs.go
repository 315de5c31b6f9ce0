package cli

import (
	"fmt"
	"io"
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

const (
	toLineStart = "\r"
	clearToEnd  = "\x1b[K"
)

// Write writes whole lines above the live line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == "" {
		return s.w.Write(p)
	}
	b := append([]byte(toLineStart+clearToEnd), p...)
	if _, err := s.w.Write(append(b, s.live...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Live replaces the live line.
func (s *screen) Live(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A line that wraps could not be cleared again; two columns are for the ^C that the terminal prints.
	if runes := []rune(line); s.width() > 0 && len(runes) > s.width()-3 {
		line = string(runes[:max(0, s.width()-4)]) + "…"
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
