package sources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// fileSourceOf makes and starts a file source; it is closed at the end of the test.
func fileSourceOf(t *testing.T, c FileConfig) pipeline.Source {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSource(pipeline.Env{Pipeline: "p", Path: "source.file"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Subscriber.(pipeline.Starter).Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Subscriber.Close() })
	return s
}

func subscribe(t *testing.T, s pipeline.Source) <-chan *message.Message {
	t.Helper()
	out, err := s.Subscriber.Subscribe(context.Background(), s.Topic)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// recorded returns a recording of bodies, one second apart from the given time on.
func recorded(from time.Time, bodies ...string) string {
	var text []byte
	for i, body := range bodies {
		text = recording.Append(text, &recording.Entry{ID: fmt.Sprint(i + 1), Time: from.Add(time.Duration(i) * time.Second), Metadata: map[string]string{"k": body}, Payload: []byte(body)})
	}
	return string(text)
}

var recordedFrom = time.Date(2026, 11, 22, 10, 15, 30, 250e6, time.UTC)

func payloads(out <-chan *message.Message) []string {
	var got []string
	for msg := range out {
		got = append(got, string(msg.Payload))
		msg.Ack()
	}
	return got
}

func TestFile_readsRecordingsWithTheirMetadata(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ndjson"), recorded(recordedFrom, `{"a":1}`, "\xff\x00"))
	s := fileSourceOf(t, FileConfig{Paths: []string{dir}})
	var got []*message.Message
	for msg := range subscribe(t, s) {
		got = append(got, msg)
		msg.Ack()
	}
	if len(got) != 2 {
		t.Fatalf("got %d messages, want 2", len(got))
	}
	for i, want := range []struct {
		id, payload string
		metadata    map[string]string
	}{
		{"1", `{"a":1}`, map[string]string{"k": `{"a":1}`, "recorded_at": "2026-11-22T10:15:30.250000000Z"}},
		{"2", "\xff\x00", map[string]string{"k": "\xff\x00", "recorded_at": "2026-11-22T10:15:31.250000000Z"}},
	} {
		if got[i].UUID != want.id || string(got[i].Payload) != want.payload || !maps.Equal(got[i].Metadata, want.metadata) {
			t.Errorf("message %d: %s %v %q", i, got[i].UUID, got[i].Metadata, got[i].Payload)
		}
	}
}

func TestFile_readsWhatThePathsName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.ndjson", "a.ndjson", "sub/deep/c.ndjson", "sub/.hidden", ".hidden/d.ndjson", "brackets[1].ndjson", "notes.txt"} {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), name+"\n")
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "sub"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		paths []string
		want  string
	}{
		"a file":               {[]string{"b.ndjson"}, "b.ndjson"},
		"in the list's order":  {[]string{"b.ndjson", "a.ndjson"}, "b.ndjson a.ndjson"},
		"a directory":          {[]string{"sub"}, "sub/deep/c.ndjson"},
		"a link to one":        {[]string{"link"}, "sub/deep/c.ndjson"},
		"a glob, by name":      {[]string{"*.ndjson"}, "a.ndjson b.ndjson brackets[1].ndjson"},
		"in all directories":   {[]string{"sub/**/*.ndjson"}, "sub/deep/c.ndjson"},
		"alternatives":         {[]string{"{b,a}.ndjson"}, "a.ndjson b.ndjson"},
		"a name like a glob":   {[]string{"brackets[1].ndjson"}, "brackets[1].ndjson"},
		"none twice":           {[]string{"b.ndjson", "*.ndjson", "b.ndjson", "link", "sub"}, "b.ndjson a.ndjson brackets[1].ndjson sub/deep/c.ndjson"},
		"all but hidden files": {[]string{"."}, "a.ndjson b.ndjson brackets[1].ndjson notes.txt sub/deep/c.ndjson"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var paths []string
			for _, p := range c.paths {
				paths = append(paths, filepath.Join(dir, filepath.FromSlash(p)))
			}
			s := fileSourceOf(t, FileConfig{Paths: paths, Format: "lines"})
			if got := strings.Join(payloads(subscribe(t, s)), " "); got != c.want {
				t.Errorf("read %s, want %s", got, c.want)
			}
		})
	}
}

func TestFile_startSaysWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"missing.ndjson": `paths: no file matches "DIR/missing.ndjson" (relative paths start at the working directory)`,
		"*.gz":           `paths: no file matches "DIR/*.gz" (relative paths start at the working directory)`,
		"empty":          `paths: there is no file in directory "DIR/empty"`,
	} {
		c := FileConfig{Paths: []string{filepath.Join(dir, path)}}
		s, err := c.NewSource(pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Subscriber.(pipeline.Starter).Start(context.Background())
		if want = strings.ReplaceAll(want, "DIR", dir); err == nil || err.Error() != want || !pipeline.IsFatal(err) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func compressed(t *testing.T, kind, text string) string {
	t.Helper()
	var b bytes.Buffer
	switch kind {
	case "gzip":
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	case "zstd":
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	default:
		return text
	}
	return b.String()
}

func TestFile_readsLinesHoweverTheyAreCompressed(t *testing.T) {
	for _, kind := range []string{"none", "gzip", "zstd"} {
		for name, end := range map[string]string{"with a last newline": "\n", "without one": ""} {
			t.Run(kind+" "+name, func(t *testing.T) {
				file := write(t, filepath.Join(t.TempDir(), "whatever"), compressed(t, kind, "\none\r\n\n two \nthree"+end))
				s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "lines"})
				out := subscribe(t, s)
				msg := <-out
				if msg.UUID != file+":2" || len(msg.Metadata) != 0 {
					t.Errorf("got %s %v", msg.UUID, msg.Metadata)
				}
				msg.Ack()
				if got := fmt.Sprintf("%q", payloads(out)); string(msg.Payload) != "one" || got != `[" two " "three"]` {
					t.Errorf("read %q and %s", msg.Payload, got)
				}
			})
		}
	}
}

// ledger runs a pipeline with this source in an engine.
func run(t *testing.T, s pipeline.Source, poison *pipeline.Sink, f func(context.Context, *message.Message) error) (pipeline.Ledger, error) {
	t.Helper()
	p := &pipeline.Pipeline{Name: "p", Source: s, Sink: pipeline.SinkFunc(f), PoisonQueue: poison,
		Retry: pipeline.RetryConfig{InitialInterval: time.Millisecond, MaxInterval: time.Millisecond, Multiplier: 1, MaxAttempts: 2, MaxElapsedTime: time.Minute, OnExhausted: "release"}}
	engine, err := pipeline.New(pipeline.Settings{}, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = engine.Run(ctx)
	return engine.Ledgers()[0], err
}

func TestFile_tornLinesGoToThePoisonQueueAsTheyStand(t *testing.T) {
	torn := `{"id":"3","payload":"{\"customer`
	file := write(t, filepath.Join(t.TempDir(), "events.ndjson"), recorded(recordedFrom, "one", "two")+"not JSON\n"+torn)
	var mu sync.Mutex
	var poisoned []string
	poison := pipeline.SinkFunc(func(_ context.Context, msg *message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		poisoned = append(poisoned, fmt.Sprintf("%s %s: %s", msg.Metadata["poison_stage"], msg.Metadata["poison_reason"], msg.Payload))
		return nil
	})
	ledger, err := run(t, fileSourceOf(t, FileConfig{Paths: []string{file}}), &poison, func(context.Context, *message.Message) error { return nil })
	if err != nil || ledger.Written != 2 || ledger.Poisoned != 2 || ledger.Unresolved != 0 {
		t.Errorf("ended with %v, %+v", err, ledger)
	}
	slices.Sort(poisoned)
	want := []string{
		"source source: " + file + ":3: torn or malformed entry: invalid character 'o' in literal null (expecting 'u'): not JSON",
		"source source: " + file + ":4: torn or malformed entry: line ends in the middle of an entry: " + torn,
	}
	if !slices.Equal(poisoned, want) {
		t.Errorf("poisoned\n%s", strings.Join(poisoned, "\n"))
	}
}

func TestFile_namesWhatItCouldNotResolve(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "a.ndjson"), recorded(recordedFrom, "one", "two", "three"))
	long := write(t, filepath.Join(dir, "b.ndjson"), strings.Repeat("x", 2000)+"\n"+recorded(recordedFrom, "four"))
	gz := compressed(t, "gzip", recorded(recordedFrom, "five", strings.Repeat("six", 100)))
	broken := write(t, filepath.Join(dir, "c.ndjson.gz"), gz[:len(gz)-6])
	attempts := make(chan string, 100)
	s := fileSourceOf(t, FileConfig{Paths: []string{dir}, MaxLine: 1500, Redeliveries: 2})
	ledger, err := run(t, s, nil, func(_ context.Context, msg *message.Message) error {
		if string(msg.Payload) == "two" {
			attempts <- msg.UUID
			return errors.New("won't take it")
		}
		return nil
	})
	if err != nil {
		t.Error(err) // the exit code is made from the ledger
	}
	if len(attempts) != 6 {
		t.Errorf("tried %d times, want 3 deliveries of 2 attempts", len(attempts))
	}
	n, first := s.Subscriber.(pipeline.Finite).Unresolved()
	slices.Sort(first)
	if want := []string{file + ":2", long + ":1", broken + ":3"}; n != 3 || !slices.Equal(first, want) {
		t.Errorf("unresolved: %d %v, want %v", n, first, want)
	}
	if ledger.Written != 5 || ledger.Released != 3 || ledger.Unresolved != 3 {
		t.Errorf("%+v", ledger)
	}
}

func TestFile_keepsRecordedDistances(t *testing.T) {
	for speed, want := range map[Speed]time.Duration{1: 10 * time.Second, 10: time.Second, 0.5: 20 * time.Second, 0: 0} {
		t.Run(speed.String(), func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "x"), recorded(recordedFrom, strings.Fields("a b c d e f g h i j k")...))
			synctest.Test(t, func(t *testing.T) {
				s := fileSourceOf(t, FileConfig{Paths: []string{file}, Speed: speed})
				start := time.Now()
				if n := len(payloads(subscribe(t, s))); n != 11 {
					t.Errorf("read %d", n)
				}
				if took := time.Since(start); took != want {
					t.Errorf("took %s, want %s", took, want)
				}
				_ = s.Subscriber.Close()
			})
		})
	}
}

func TestFile_keepsItsRate(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "x"), strings.Repeat("x\n", 61))
	synctest.Test(t, func(t *testing.T) {
		s := fileSourceOf(t, FileConfig{Paths: []string{file}, Format: "lines", Rate: 0.5})
		start := time.Now()
		payloads(subscribe(t, s))
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("took %s", took)
		}
		_ = s.Subscriber.Close()
	})
}

func TestFile_loopsWithTimesThatGrow(t *testing.T) {
	// As many digits as the milliseconds of the bubble's clock have, which starts in the year 2000.
	from := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	body := fmt.Sprintf(`{"usageUpdatedAt":"2001-02-03T04:05:04.000Z","usagePeriodEnd":%d}`, from.Add(48*time.Hour).UnixMilli())
	file := write(t, filepath.Join(t.TempDir(), "x"), recorded(from, body, body))
	synctest.Test(t, func(t *testing.T) {
		s := fileSourceOf(t, FileConfig{Paths: []string{file}, Loop: true, Restamp: true, Rate: 1})
		out := subscribe(t, s)
		start := time.Now()
		for i := range 5 {
			msg := <-out
			now := start.Add(time.Duration(i) * time.Second).UTC()
			if got := msg.Metadata["recorded_at"]; got != now.Format(recording.TimeFormat) {
				t.Errorf("message %d was recorded at %s, now is %s", i, got, now)
			}
			lag := 2 * time.Second // how late the first was recorded; the second a second later
			if i%2 == 1 {
				lag = 3 * time.Second
			}
			want := fmt.Sprintf(`{"usageUpdatedAt":"%s","usagePeriodEnd":%d}`, now.Add(-lag).Format("2006-01-02T15:04:05.000Z"), now.Add(48*time.Hour+2*time.Second-lag).UnixMilli())
			if string(msg.Payload) != want {
				t.Errorf("message %d: got  %s\nwant %s", i, msg.Payload, want)
			}
			msg.Ack()
		}
		_ = s.Subscriber.Close()
	})
}

func TestMoveTimes_movesTimesAndNothingElse(t *testing.T) {
	const day = 24 * time.Hour
	cases := map[string]struct{ in, want string }{
		"milliseconds":       {`{"timestamp":"2026-11-20T10:15:30.250Z"}`, `{"timestamp":"2026-11-21T10:15:30.250Z"}`},
		"whole seconds":      {`{"time" : "2026-12-31T10:15:30Z"}`, `{"time" : "2027-01-01T10:15:30Z"}`},
		"nanoseconds":        {`{"Timestamp":"2026-11-20T10:15:30.123456789Z"}`, `{"Timestamp":"2026-11-21T10:15:30.123456789Z"}`},
		"an offset":          {`{"timestamp":"2026-11-20T10:15:30.2+01:00"}`, `{"timestamp":"2026-11-21T10:15:30.2+01:00"}`},
		"epoch milliseconds": {`{"validUntil":1794700800000,"nextResetDate": 1794700800000.0}`, `{"validUntil":1794787200000,"nextResetDate": 1794787200000.0}`},
		"within a string":    {`{"Message":"{\"usageUpdatedAt\":\"2026-11-20T10:15:30Z\",\"m\":\"{\\\"time\\\":\\\"2026-11-20T10:15:30Z\\\",\\\"validUntil\\\":1794700800000}\"}"}`, `{"Message":"{\"usageUpdatedAt\":\"2026-11-21T10:15:30Z\",\"m\":\"{\\\"time\\\":\\\"2026-11-21T10:15:30Z\\\",\\\"validUntil\\\":1794787200000}\"}"}`},
		"other members":      {`{"createdAt":"2026-11-20T10:15:30Z","xtime":"2026-11-20T10:15:30Z","time2":"2026-11-20T10:15:30Z","n":1794700800000}`, ""},
		"a value":            {`{"a":"time","b":["time","2026-11-20T10:15:30Z"],"c":1794700800000}`, ""},
		"no times":           {`{"time":"noon","timestamp":null,"validUntil":1794700,"nextResetDate":17947008000000,"usagePeriodEnd":1794700800000e1,"usagePeriodStart":{"time":""}}`, ""},
		"torn":               {`{"time":"2026-11-20T10:1`, ""},
		"torn early":         {`{"time`, ""},
		"torn in between":    {`{"time":`, ""},
		"torn number":        {`{"validUntil":17947`, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.want == "" {
				c.want = c.in
			}
			msg := message.NewMessage("", []byte(c.in))
			msg.Metadata = message.Metadata{"sqs_sent_at": "1794700800000", "other": "1794700800000"}
			moveTimes(msg, day)
			if string(msg.Payload) != c.want {
				t.Errorf("got  %s\nwant %s", msg.Payload, c.want)
			}
			if msg.Metadata["sqs_sent_at"] != "1794787200000" || msg.Metadata["other"] != "1794700800000" {
				t.Errorf("metadata %v", msg.Metadata)
			}
		})
	}
}

func TestFile_refusesToReadWhatItsProcessWrites(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.ndjson"), "")
	release, err := recording.ClaimWrite(dir, "p poison_queue.file")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	c := FileConfig{Paths: []string{filepath.Join(dir, "*")}}
	s, err := c.NewSource(pipeline.Env{Pipeline: "p", Path: "source.file"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Subscriber.(pipeline.Starter).Start(context.Background())
	want := "p source.file reads from " + dir + ", where p poison_queue.file writes in the same process: move the files to another directory, or let one of them use another"
	if err == nil || err.Error() != want || !pipeline.IsFatal(err) {
		t.Errorf("got %v", err)
	}
	if err := s.Subscriber.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestFile_tellsItsProgress(t *testing.T) {
	dir := t.TempDir()
	text := recorded(recordedFrom, "one", "two")
	write(t, filepath.Join(dir, "a"), text)
	packed := compressed(t, "zstd", text)
	write(t, filepath.Join(dir, "b"), packed)
	s := fileSourceOf(t, FileConfig{Paths: []string{dir}})
	progress := s.Subscriber.(Progress)
	size := int64(len(text) + len(packed))
	if read, total, messages := progress.Progress(); read != 0 || total != size || messages != 0 {
		t.Errorf("before: %d of %d, %d messages", read, total, messages)
	}
	payloads(subscribe(t, s))
	if read, total, messages := progress.Progress(); read != size || total != size || messages != 4 {
		t.Errorf("after: %d of %d, %d messages", read, total, messages)
	}
}

func TestFileConfig_namesAllBrokenRules(t *testing.T) {
	c := FileConfig{Paths: []string{"", "a[b"}, Format: "lines", Rate: -1, Speed: 1, Restamp: true, Redeliveries: -1, MaxLine: 1}
	want := []string{
		`paths[1]: want a file, a directory, or a glob whose brackets are closed, got "a[b"`, "redeliveries: must not be negative, got -1", "max_line: must be 1KiB to 1GiB, got 1",
		"format: lines can't be combined with speed or restamp; plain lines have no recorded times",
		"paths[0]: must not be empty", "rate: must not be negative",
	}
	if err := c.Validate(); err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v", err)
	}
	if err := (&FileConfig{}).Validate(); err == nil {
		t.Error("accepts no paths")
	}
}

func TestRateAndSpeed_areReadAndWritten(t *testing.T) {
	for in, want := range map[string]string{"500/s": "500/s", "30/m": "30/m", "1.5/s": "1.5/s", "1/h": "1/h", "max": "max", "0": "max", "120/m": "2/s", "50": "50/s", " 5 / s ": "5/s"} {
		var r Rate
		if err := r.UnmarshalText([]byte(in)); err != nil || r.String() != want {
			t.Errorf("rate %s: %s, %v", in, r, err)
		}
	}
	for in, want := range map[string]string{"1x": "1x", "10x": "10x", "0.5x": "0.5x", "max": "max"} {
		var s Speed
		if err := s.UnmarshalText([]byte(in)); err != nil || s.String() != want {
			t.Errorf("speed %s: %s, %v", in, s, err)
		}
	}
	for _, in := range []string{"", "-5", "5/", "-1/s", "0/s", "x/s", "1/d", "NaN/s", "Inf/s", "010/s", "0x10/s", "0x1p4", "1_000/s", "+5/s", ".5/s"} {
		if err := new(Rate).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("accepts the rate %q", in)
		}
	}
	for _, in := range []string{"", "10", "0x", "-1x", "x", "NaNx", "010x", "+2x", "1_0x", "0x1p2x"} {
		if err := new(Speed).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("accepts the speed %q", in)
		}
	}
}

// Whatever the body: it keeps its length, stays JSON if it was, and nothing but digits changes.
func FuzzMoveTimes_changesNothingButDigits(f *testing.F) {
	f.Add([]byte(`{"timestamp":"2026-11-20T10:15:30.250Z","validUntil":1794700800000,"m":"{\"time\":\"2026-11-20T10:15:30+01:00\"}"}`), int64(86_400_000))
	f.Add([]byte(`{"time":"2026-11-20T10:1`), int64(-1))
	f.Fuzz(func(t *testing.T, body []byte, ms int64) {
		msg := message.NewMessage("", bytes.Clone(body))
		moveTimes(msg, time.Duration(ms%(1<<40))*time.Millisecond)
		if len(msg.Payload) != len(body) || json.Valid(body) != json.Valid(msg.Payload) {
			t.Fatalf("%q became %q", body, msg.Payload)
		}
		digit := func(c byte) bool { return c >= '0' && c <= '9' }
		for i, c := range msg.Payload {
			if c != body[i] && !(digit(c) && digit(body[i])) {
				t.Fatalf("%q became %q", body, msg.Payload)
			}
		}
	})
}

func BenchmarkFile(b *testing.B) {
	name := filepath.Join(b.TempDir(), "x.ndjson")
	file, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	g := newGenerator(&GenerateConfig{Customers: 40, Seed: 1, Start: generatedFrom})
	var text []byte
	for range b.N {
		item, _ := g.next()
		text = recording.Append(text, &recording.Entry{ID: item.Message.UUID, Time: generatedFrom, Payload: item.Message.Payload})
	}
	if _, err := file.Write(text); err != nil {
		b.Fatal(err)
	}
	s, err := (&FileConfig{Paths: []string{name}}).NewSource(pipeline.Env{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text) / b.N))
	b.ReportAllocs()
	b.ResetTimer()
	out, err := s.Subscriber.Subscribe(context.Background(), "")
	if err != nil {
		b.Fatal(err)
	}
	for msg := range out {
		msg.Ack()
	}
	b.StopTimer()
	_ = s.Subscriber.Close()
}
