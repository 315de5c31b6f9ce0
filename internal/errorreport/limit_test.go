package errorreport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
)

func TestLimiter_tellsACauseOnceAnHourWithTheCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter{causes: map[string]*seen{}}
		admit := func(key string, wantSend bool, wantBefore int) {
			t.Helper()
			if send, before, others := l.admit(key); send != wantSend || before != wantBefore || others {
				t.Errorf("admit = %t, %d, %t, want %t, %d", send, before, others, wantSend, wantBefore)
			}
		}
		admit("a", true, 0)
		admit("a", false, 0)
		admit("b", true, 0)
		time.Sleep(interval - time.Nanosecond)
		admit("a", false, 0)
		time.Sleep(time.Nanosecond)
		admit("a", true, 2)
		admit("a", false, 0)
		time.Sleep(interval)
		admit("a", true, 1)
	})
}

func TestLimiter_holdsABoundedNumberOfCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter{causes: map[string]*seen{}}
		var sent, others int
		for i := range 10 * maxCauses {
			send, _, other := l.admit(fmt.Sprint(i))
			if send {
				sent++
			}
			if send && other {
				others++
			}
		}
		if sent != maxCauses+1 || others != 1 || len(l.causes) != maxCauses+1 {
			t.Errorf("%d sent, %d of them for the rest, %d held", sent, others, len(l.causes))
		}
		time.Sleep(interval)
		if send, _, other := l.admit("new"); !send || other {
			t.Errorf("an hour later there is no room: %t, %t", send, other)
		}
	})
}

// untitled finds what is logged at warn and above without a title: reports tell it as "a component complains".
var untitled = regexp.MustCompile(`(?i)(?:\blog|logger)\.(?:Warn|Error)\(`)

func TestTitles_whatOurComponentsLogHasOne(t *testing.T) {
	files := 0
	for _, folder := range []string{"pipeline", "sources", "sinks", "transforms", "internal/tracing", "internal/awsclient", "internal/redisclient", "internal/feed"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") ||
				filepath.Base(file) == "complaints.go" || strings.Contains(filepath.ToSlash(file), "/pipelinetest/") {
				return err
			}
			files++
			text, err := os.ReadFile(file)
			for _, call := range untitled.FindAllString(string(text), -1) {
				if strings.Contains(string(text), call+"title") { // the engine's own
					continue
				}
				t.Errorf("%s: %s…: log it with complaint.Warn or complaint.Error", file, call)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 50 {
		t.Errorf("looked at %d files: the walk misses the code", files)
	}
}

// A report never has more of an incident than its title, the names and the cause.
func TestObserve_takesNoWordsOfAnIncidentsError(t *testing.T) {
	log := complaint.Watch(zap.NewNop(), "p", func(i complaint.Incident) {
		if i.Pipeline != "p" || i.Component != "redis" || i.Err == nil {
			t.Errorf("incident %+v", i)
		}
		if title := i.Title.String(); title != "" && title != "deleting fails: trying on" {
			t.Errorf("title %q", title)
		}
	}).Named("redis")
	log.Warn("customer CANARY is gone", zap.Error(errors.New("CANARY")))
	complaint.Warn(log, "deleting fails: trying on", zap.Error(errors.New("CANARY")), zap.String("queue", "CANARY"))
}
