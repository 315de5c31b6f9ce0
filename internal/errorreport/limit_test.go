package errorreport

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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

// logged finds the messages that our code logs at warn and above, as far as they stand there.
var logged = regexp.MustCompile(`(?i)(?:\blog|logger)\.(?:Warn|Error)\("((?:[^"\\]|\\.)*)"( *\+)?|complaints\.warn\("((?:[^"\\]|\\.)*)"`)

func TestTitles_areWhatOurCodeLogs(t *testing.T) {
	var found []string
	for _, folder := range []string{"pipeline", "sources", "sinks", "transforms", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") ||
				strings.Contains(filepath.ToSlash(file), "/internal/cli/") || strings.Contains(filepath.ToSlash(file), "/pipelinetest/") {
				return err
			}
			text, err := os.ReadFile(file)
			for _, m := range logged.FindAllStringSubmatch(string(text), -1) {
				quoted := `"` + m[1] + m[3] + `"`
				literal, uerr := strconv.Unquote(quoted)
				if uerr != nil {
					t.Errorf("%s: %s", file, quoted)
				}
				if literal == "the " { // and a role
					found = append(found, "the poison_queue is away", "the record is away")
					continue
				}
				found = append(found, literal)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, message := range found {
		if title(message) == "" {
			t.Errorf("%q is logged, but reports would not tell it: add it to titles", message)
		}
	}
	for _, title := range titles {
		if !slices.Contains(found, title) {
			t.Errorf("title %q is not in the code", title)
		}
	}
}
