// Package complaint tells somebody besides the log what goes wrong: the engine, and components by their loggers, make
// incidents, and who watches them gets every one, whether the log shows it or not. The title of an incident is a
// constant of the source: nothing of a message can get into it.
package complaint

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/penstock-dev/penstock/internal/code"
)

// constant is a type that other packages can't name: what they pass for it are constants.
type constant string

// Title says what went wrong, in words of the source.
type Title struct{ text constant }

// NewTitle makes a title.
func NewTitle(text constant) Title { return Title{text} }

// String returns the words; "" when there are none.
func (t Title) String() string { return string(t.text) }

// Incident is one thing that went wrong.
type Incident struct {
	// Title says what; it is empty for what a component logs in words of its own.
	Title Title
	// Pipeline is the name of the pipeline, Component that of the component which says it; "" is the engine itself.
	Pipeline, Component string
	// Severe tells an error from a warning.
	Severe bool
	// Err is why; nil when that is not known. Its text may hold anything.
	Err error
	// Stack is where a component panicked, as runtime/debug prints it; nil when none did.
	Stack []byte
}

// Warn logs a warning that may be told with its title. fields are for the log; of them only an error goes along.
func Warn(log *zap.Logger, title constant, fields ...zap.Field) {
	log.Warn(string(title), append(fields, field(title), Code(string(title)))...)
}

// Error is Warn for an error.
func Error(log *zap.Logger, title constant, fields ...zap.Field) {
	log.Error(string(title), append(fields, field(title), Code(string(title)))...)
}

// Code is the field with the code of an incident, which penstock explain explains; it skips itself when there is none.
func Code(title string) zap.Field {
	if c := code.OfTitle(title); c != "" {
		return zap.String("code", string(c))
	}
	return zap.Skip()
}

// field carries a title in a log entry: encoders skip it, Watch finds it.
func field(title constant) zap.Field {
	return zap.Field{Type: zapcore.SkipType, Interface: Title{title}}
}

// Watch returns a logger that writes what log does, and tells observe of every warning and error. What Warn and Error
// log has a title; what is logged in other ways has none, because its words may come from anywhere.
func Watch(log *zap.Logger, pipeline string, observe func(Incident)) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewTee(core, watcher{pipeline: pipeline, observe: observe})
	}))
}

type watcher struct {
	pipeline string
	observe  func(Incident)
}

func (w watcher) Enabled(level zapcore.Level) bool  { return level >= zapcore.WarnLevel }
func (w watcher) With([]zapcore.Field) zapcore.Core { return w }
func (w watcher) Sync() error                       { return nil }
func (w watcher) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if w.Enabled(entry.Level) {
		return checked.AddCore(entry, w)
	}
	return checked
}

func (w watcher) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	i := Incident{Pipeline: w.pipeline, Component: entry.LoggerName, Severe: entry.Level >= zapcore.ErrorLevel}
	for _, f := range fields {
		switch v := f.Interface.(type) {
		case Title:
			i.Title = v
		case error:
			if f.Type == zapcore.ErrorType {
				i.Err = v
			}
		case []byte:
			if f.Key == "stack" && f.Type == zapcore.ByteStringType {
				i.Stack = v
			}
		}
	}
	w.observe(i)
	return nil
}
