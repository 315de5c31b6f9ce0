package complaint_test

import (
	"errors"

	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
)

// watched returns a logger whose log is kept, and what is told of it.
func watched() (*zap.Logger, *observer.ObservedLogs, *[]complaint.Incident) {
	core, logs := observer.New(zapcore.DebugLevel)
	var told []complaint.Incident
	return complaint.Watch(zap.New(core), "orders", func(i complaint.Incident) { told = append(told, i) }), logs, &told
}

func TestWatch_tellsWarningsAndErrorsAlone(t *testing.T) {
	log, logs, told := watched()
	log.Debug("a detail")
	log.Info("a step")
	log.Warn("words from anywhere")
	log.Error("more of them")
	if n := logs.Len(); n != 4 {
		t.Errorf("%d lines in the log, want 4: who watches takes nothing away", n)
	}
	if len(*told) != 2 || (*told)[0].Severe || !(*told)[1].Severe {
		t.Fatalf("told %+v, want a warning and an error", *told)
	}
	for _, i := range *told {
		if i.Title.String() != "" {
			t.Errorf("%q became a title: it may hold what a message said", i.Title)
		}
		if i.Pipeline != "orders" || i.Component != "" {
			t.Errorf("told of pipeline %q, component %q", i.Pipeline, i.Component)
		}
	}
}

func TestWatch_tellsWhatTheLogDoesNotShow(t *testing.T) {
	core, logs := observer.New(zapcore.FatalLevel)
	told := 0
	complaint.Warn(complaint.Watch(zap.New(core), "orders", func(complaint.Incident) { told++ }), "a cause")
	if logs.Len() != 0 || told != 1 {
		t.Errorf("%d lines in the log, told %d times; want 0 and 1", logs.Len(), told)
	}
}

func TestIncident_carriesItsTitleErrorAndStack(t *testing.T) {
	log, logs, told := watched()
	cause, other := errors.New("no route"), errors.New("not the cause")
	complaint.Error(log.Named("redis").With(zap.String("queue", "q")), "the store is away", zap.Error(cause), zap.ByteString("stack", []byte("goroutine 1")),
		zap.Any("detail", map[string]error{"x": other}), zap.ByteString("body", []byte("of a message")))
	if len(*told) != 1 {
		t.Fatalf("told %d times", len(*told))
	}
	i := (*told)[0]
	if i.Title.String() != "the store is away" || i.Component != "redis" || !i.Severe || !errors.Is(i.Err, cause) || string(i.Stack) != "goroutine 1" {
		t.Errorf("got %+v", i)
	}
	entry := logs.All()[0]
	if entry.Message != "the store is away" || entry.Level != zapcore.ErrorLevel {
		t.Errorf("logged %s %q", entry.Level, entry.Message)
	}
	if fields := entry.ContextMap(); fields["queue"] != "q" || fields["error"] != "no route" || fields[""] != nil {
		t.Errorf("logged with %v", fields)
	}
}

// Every incident that has a code carries it, so that penstock explain explains the line of the log.
func TestCode_isThatOfTheTitle(t *testing.T) {
	found := 0
	for _, e := range code.All() {
		if e.Kind != code.Incident {
			continue
		}
		found++
		if f := complaint.Code(e.Title); f.Key != "code" || f.String != string(e.Code) {
			t.Errorf("%q: field %q %q, want code %q", e.Title, f.Key, f.String, e.Code)
		}
	}
	if found < 20 {
		t.Errorf("looked at %d incidents", found)
	}
	if f := complaint.Code("words from anywhere"); f.Type != zapcore.SkipType {
		t.Errorf("got %+v, want a field that skips itself", f)
	}
}
