package sources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// numberedEvents is a recording of n messages, {"n":0} to {"n":n-1}, one second apart.
func numberedEvents(n int) string {
	var bodies []string
	for i := range n {
		bodies = append(bodies, fmt.Sprintf(`{"n":%d}`, i))
	}
	return recorded(recordedFrom, bodies...)
}

func store(context.Context, *message.Message) error { return nil }

func TestFilter_choosesAndCountsWhatItLeavesOut(t *testing.T) {
	const big = "12345678901234567890123"
	text := recorded(recordedFrom, `{"n":1,"big":`+big+`}`, `{"n":2,"big":12345678901234567890124}`, `{"n":3}`, `no JSON`)
	file := write(t, filepath.Join(t.TempDir(), "r.ndjson"), text+"torn\n")
	for name, c := range map[string]struct {
		choice           Selection
		want             string
		byTime, byFilter int64
	}{
		"a number":               {Selection{Filter: `.payload.n? == 2`}, "[2 torn]", 0, 3},
		"a big number":           {Selection{Filter: `.payload.big? == ` + big}, "[1 torn]", 0, 3},
		"text that is no JSON":   {Selection{Filter: `.payload == "no JSON"`}, "[4 torn]", 0, 3},
		"metadata":               {Selection{Filter: `.metadata.k | contains("\"n\":3")`}, "[3 torn]", 0, 3},
		"when it was recorded":   {Selection{Filter: `.metadata.recorded_at > "2026-11-22T10:15:32"`}, "[3 4 torn]", 0, 2},
		"an id":                  {Selection{Filter: `.id == "1" or .id == "3"`}, "[1 3 torn]", 0, 2},
		"with from and to":       {Selection{Filter: `.payload.n? != 2`, From: recordedFrom.Add(time.Second), To: recordedFrom.Add(3 * time.Second)}, "[3 torn]", 2, 1},
		"the limit counts after": {Selection{Filter: `.payload.n? != 1`, Limit: 2}, "[2 3]", 0, 1},
		"nothing is true":        {Selection{Filter: `empty`}, "[torn]", 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "recording", Selection: c.choice})
			var got []string
			for m := range subscribe(t, s) {
				if string(m.Payload) == "torn" {
					m.UUID = "torn"
				}
				got = append(got, m.UUID)
				m.Ack()
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("handed on %v, want %s", got, c.want)
			}
			if byTime, byFilter := s.Subscriber.(*fileSource).PassedOver(); byTime != c.byTime || byFilter != c.byFilter {
				t.Errorf("passed over %d by time and %d by the filter, want %d and %d", byTime, byFilter, c.byTime, c.byFilter)
			}
		})
	}
}

func TestFilter_plainLines(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "lines"), "{\"n\":1}\n{\"n\":2}\n")
	s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "lines", Selection: Selection{Filter: ".payload.n == 2"}})
	if got := payloads(subscribe(t, s)); fmt.Sprint(got) != `[{"n":2}]` {
		t.Errorf("%v", got)
	}
}

func TestFilter_aMessageOnWhichItFailsIsUnresolvedAndNamed(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "r.ndjson"), recorded(recordedFrom, `{"n":1}`, `text`, `{"n":3}`))
	at := filepath.Join(t.TempDir(), "at")
	c := FileConfig{Paths: []string{file}, Format: "recording", Checkpoint: at, Selection: Selection{Filter: ".payload.n > 0"}}
	for run, written := range []int64{2, 1} { // the second run begins at the message on which it failed
		l, err := runIn(t.Context(), t, fileSourceOf(t, c), store)
		if err != nil || l.Written != written || l.Unresolved != 1 || !slices.Equal(l.UnresolvedAt, []string{file + ":2"}) {
			t.Errorf("run %d: %+v, %v; want %d written and %s:2 unresolved", run+1, l, err, written, file)
		}
	}
}

// checkpointLine is how many lines of its first file a checkpoint counts as done.
func checkpointLine(t *testing.T, at string) int64 {
	t.Helper()
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	var text checkpointText
	if err := json.Unmarshal(data, &text); err != nil {
		t.Fatal(err)
	}
	return text.Files[0].Line
}

// The message that is held is line 11: what was passed over before it is done, and what was passed over behind is not.
func TestFilter_theCheckpointGoesOverWhatIsPassedOverAndStopsBeforeWhatIsInFlight(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "r.ndjson"), numberedEvents(100))
	for name, choice := range map[string]Selection{
		"filter": {Filter: ".payload.n == 10"},
		"times":  {From: recordedFrom.Add(10 * time.Second), To: recordedFrom.Add(11 * time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(t.TempDir(), "at")
			s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "recording", Checkpoint: at, Selection: choice})
			m := <-subscribe(t, s)
			for deadline := time.Now().Add(20 * time.Second); checkpointLine(t, at) != 10; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the checkpoint stands at line %d, want 10", checkpointLine(t, at))
				}
			}
			m.Ack()
			if err := s.Subscriber.Close(); err != nil {
				t.Fatal(err)
			}
			if line := checkpointLine(t, at); line < 11 {
				t.Errorf("behind the end the checkpoint stands at line %d, want 11 or more", line)
			}
		})
	}
}

func TestFilter_aReplayThatIsStoppedGoesOnWithoutLoss(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "r.ndjson"), numberedEvents(1200))
	c := FileConfig{
		Paths: []string{file}, Format: "recording", Checkpoint: filepath.Join(t.TempDir(), "at"),
		Selection: Selection{Filter: ".payload.n % 3 == 1"},
	}
	done := map[string]int{}
	var mu sync.Mutex
	for range 200 {
		ctx, stop := context.WithCancel(t.Context())
		after := 1 + rand.IntN(100)
		_, err := runIn(ctx, t, fileSourceOf(t, c), func(_ context.Context, m *message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			if after--; after < 0 {
				stop()
				return errors.New("too late")
			}
			done[m.UUID]++
			return nil
		})
		stop()
		if err != nil {
			t.Fatal(err)
		}
		if len(done) == 400 {
			break
		}
	}
	if len(done) != 400 {
		t.Fatalf("%d of the 400 messages were processed", len(done))
	}
	if _, err := runIn(t.Context(), t, fileSourceOf(t, c), store); err != nil {
		t.Fatal(err)
	}
	if l, err := runIn(t.Context(), t, fileSourceOf(t, c), store); err != nil || l.Received != 0 {
		t.Errorf("behind a whole run: received %d, %v; want 0", l.Received, err)
	}
	c.Selection.Filter = "true"
	s, err := c.NewSource(pipeline.Env{Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Subscriber.(pipeline.Starter).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "of another choice of messages") {
		t.Errorf("another filter with the same checkpoint: %v", err)
	}
}

// What a stop interrupts is not counted as given up.
func TestFilter_aStopIsNoFailureOfTheExpression(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "r.ndjson"), numberedEvents(1000))
	s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "recording", Selection: Selection{Filter: "last(range(1e12)) < 0"}})
	out := subscribe(t, s)
	if err := s.Subscriber.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-out; ok {
		t.Error("a message was handed on")
	}
	if n, _ := s.Subscriber.(*fileSource).Unresolved(); n > 2 {
		t.Errorf("%d messages were given up, want the stop to end it", n)
	}
}

func TestFilter_mistakesAreTold(t *testing.T) {
	c := FileConfig{Paths: []string{"a"}, Selection: Selection{Filter: ".payload["}}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "filter: line 1, column ") {
		t.Errorf("%v", err)
	}
}
