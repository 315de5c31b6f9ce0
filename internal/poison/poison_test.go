package poison

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is an entry as the file sink writes it.
func line(id, payload string) string {
	msg := message.NewMessage(id, []byte(payload))
	msg.Metadata["source"] = "unit"
	msg.Metadata[pipeline.MetadataPoisonReason] = "because of " + id
	msg.Metadata[pipeline.MetadataPoisonAttempts] = "2"
	msg.Metadata[pipeline.MetadataPoisonReceivedAt] = "2026-11-22T10:15:30.25Z"
	e := Entry(msg, time.Time{})
	return string(recording.Append(nil, &e))
}

func write(t *testing.T, dir, file, text string) string {
	t.Helper()
	name := filepath.Join(dir, file)
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func open(t *testing.T, dir string, change bool) *Dir {
	t.Helper()
	d, err := Open(dir, change)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// entries returns what a queue holds, and what it says of damaged places.
func entries(t *testing.T, d *Dir) (all []*pipeline.PoisonEntry, damage []string) {
	t.Helper()
	err := d.Entries(t.Context(), func(e *pipeline.PoisonEntry) error {
		all = append(all, e)
		return nil
	}, func(err error) { damage = append(damage, err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	return all, damage
}

func ids(all []*pipeline.PoisonEntry) string {
	var names []string
	for _, e := range all {
		names = append(names, e.Message.UUID)
	}
	return strings.Join(names, " ")
}

// remove removes entries by id, and closes the queue if that is asked for.
func remove(t *testing.T, d *Dir, names ...string) {
	t.Helper()
	all, _ := entries(t, d)
	all = slices.DeleteFunc(all, func(e *pipeline.PoisonEntry) bool { return !slices.Contains(names, e.Message.UUID) })
	if len(all) != len(names) {
		t.Fatalf("found %s of %v", ids(all), names)
	}
	if err := d.Remove(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// die ends a queue as the death of its process does: nothing is rewritten.
func die(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.journal.close(); err != nil {
		t.Fatal(err)
	}
}

func TestDir_handsOnTheMessageThatTheSinkWasGiven(t *testing.T) {
	dir := t.TempDir()
	name := write(t, dir, "p-1.ndjson", line("a", "{}")+`{"payload":"no id"}`+"\n")
	all, damage := entries(t, open(t, dir, false))
	if ids(all) != "a "+name+":2" || damage != nil {
		t.Fatalf("got %q, damage %q", ids(all), damage)
	}
	want := message.Metadata{
		"source": "unit", pipeline.MetadataPoisonReason: "because of a", pipeline.MetadataPoisonAttempts: "2",
		pipeline.MetadataPoisonReceivedAt: "2026-11-22T10:15:30.25Z", "recorded_at": "2026-11-22T10:15:30.250000000Z",
	}
	if got := all[0].Message.Metadata; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("metadata\n%v, want\n%v", got, want)
	}
	if file, number := Place(all[0]); file != name || number != 1 {
		t.Errorf("place %s %d", file, number)
	}
	if again := line("a", "{}"); func() string { e := Entry(all[0].Message, time.Now()); return string(recording.Append(nil, &e)) }() != again {
		t.Error("what was read and is written again is not the same")
	}
}

func TestDir_namesDamageAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	name := write(t, dir, "p-1.ndjson", line("a", "1")+`{"id":"torn","payl`+"\n\n"+line("b", "2")+"\xff\xfe\n"+
		`{"payload":"`+strings.Repeat("x", recording.DefaultMaxLine)+`"}`+"\n"+line("c", "3")+`{"id":"last","pay`)
	broken := write(t, dir, "p-2.ndjson.gz", "\x1f\x8b\x08\x00"+strings.Repeat("\xff", 60))
	write(t, dir, ".hidden", line("hidden", "4"))
	if err := os.Mkdir(filepath.Join(dir, "p-3.ndjson"), 0o700); err != nil {
		t.Fatal(err)
	}
	all, damage := entries(t, open(t, dir, false))
	if ids(all) != "a b c" {
		t.Errorf("entries %s", ids(all))
	}
	want := []string{name + ":2: torn", name + ":5: torn", name + ":6: line is too long", name + ":8: torn", broken}
	if len(damage) != len(want) {
		t.Fatalf("damage %q", damage)
	}
	for i, w := range want {
		if !strings.HasPrefix(damage[i], w) {
			t.Errorf("damage %d is %q, want %q…", i, damage[i], w)
		}
	}
}

func TestDir_stopsWhenEachOrTheContextSaysSo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p-1.ndjson", line("a", "1")+line("b", "2"))
	enough := errors.New("enough")
	d := open(t, dir, false)
	if err := d.Entries(t.Context(), func(*pipeline.PoisonEntry) error { return enough }, nil); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Entries(ctx, func(*pipeline.PoisonEntry) error { cancel(); return nil }, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := d.Remove(t.Context(), nil); err == nil {
		t.Error("removes though it was opened for reading")
	}
}

func TestDir_takesOutWhatIsRemovedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	torn := `{"id":"torn","payl` + "\n\n"
	name := write(t, dir, "p-1.ndjson", line("a", "1")+torn+line("b", "2")+line("c", "3")+`{"half`)
	empty := write(t, dir, "p-2.ndjson", line("d", "4"))
	d := open(t, dir, true)
	remove(t, d, "b", "d")
	if all, _ := entries(t, d); ids(all) != "a c" {
		t.Errorf("before the rewrite: %s", ids(all))
	}
	closed(t, d)
	if got, want := read(t, name), line("a", "1")+torn+line("c", "3")+`{"half`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := os.Stat(empty); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of which nothing is left: %v", err)
	}
	if info, _ := os.Stat(name); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if left := read(t, filepath.Join(dir, journalName)); left != "" {
		t.Errorf("left in the journal: %s", left)
	}
}

func TestDir_compressedFilesStayCompressed(t *testing.T) {
	for compression, suffix := range map[recording.Compression]string{recording.Gzip: ".gz", recording.Zstd: ".zst"} {
		t.Run(string(compression), func(t *testing.T) {
			dir := t.TempDir()
			w := recording.NewWriter(recording.WriterSettings{Dir: dir, Name: "p", Compression: compression, MaxBytes: 1 << 20, MaxAge: time.Hour, Locked: true})
			store := func(id string) {
				if err := w.Write([]byte(line(id, "{}"))); err != nil {
					t.Fatal(err)
				}
			}
			store("a")
			store("b")
			d := open(t, dir, true) // the file is still being written to
			remove(t, d, "a")
			closed(t, d)
			store("c")
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			all, damage := entries(t, open(t, dir, false))
			if ids(all) != "b c" || damage != nil {
				t.Errorf("left %s, damage %q", ids(all), damage)
			}
			for _, e := range all {
				file, _ := Place(e)
				if text := read(t, file); !strings.HasSuffix(file, suffix) || strings.Contains(text, "payload") {
					t.Errorf("%s is not compressed", file)
				}
			}
		})
	}
}

// What the death of a remover leaves behind must never take an entry away that was not removed.
func TestDir_whatADeadRemoverLeavesBehind(t *testing.T) {
	const all = "a b c"
	for name, c := range map[string]struct {
		leave func(t *testing.T, dir, file string)
		want  string
	}{
		"removed, not rewritten": {func(t *testing.T, dir, _ string) {
			d := open(t, dir, true)
			remove(t, d, "a")
			die(t, d)
		}, "b c"},
		"a torn line in the journal": {func(t *testing.T, dir, _ string) {
			d := open(t, dir, true)
			remove(t, d, "a", "b")
			die(t, d)
			journal := read(t, filepath.Join(dir, journalName))
			write(t, dir, journalName, journal[:len(journal)-20])
		}, "b c"},
		"rewritten, and the journal is not empty": {func(t *testing.T, dir, _ string) {
			d := open(t, dir, true)
			remove(t, d, "a")
			journal := read(t, filepath.Join(dir, journalName))
			closed(t, d)
			write(t, dir, journalName, journal)
		}, "b c"},
		"half a rewrite": {func(t *testing.T, dir, _ string) { write(t, dir, rewriteName+"123", line("a", "1")) }, all},
		"an edited file": {func(t *testing.T, dir, file string) {
			d := open(t, dir, true)
			remove(t, d, "a")
			die(t, d)
			write(t, dir, filepath.Base(file), line("a", "edited")+line("b", "2")+line("c", "3"))
		}, all},
		"rubbish in the journal": {func(t *testing.T, dir, _ string) { write(t, dir, journalName, "rubbish\n{\"file\":\"p-1.ndjson\"}\n") }, all},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := write(t, dir, "p-1.ndjson", line("a", "1")+line("b", "2")+line("c", "3"))
			c.leave(t, dir, file)
			if got, _ := entries(t, open(t, dir, false)); ids(got) != c.want {
				t.Errorf("then there is %s, want %s", ids(got), c.want)
			}
			next := open(t, dir, true)
			if got, _ := entries(t, next); ids(got) != c.want {
				t.Errorf("the next remover sees %s, want %s", ids(got), c.want)
			}
			remove(t, next, "c")
			closed(t, next)
			want := strings.TrimSuffix(c.want, " c")
			if got, _ := entries(t, open(t, dir, false)); ids(got) != want {
				t.Errorf("after the next removal: %s, want %s", ids(got), want)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, rewriteName+"*")); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestDir_oneRemoverAtATime(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p-1.ndjson", line("a", "1"))
	first := open(t, dir, true)
	if _, err := Open(dir, true); err == nil || !strings.Contains(err.Error(), "another redrive or drop works on it") {
		t.Errorf("a second remover: %v", err)
	}
	if all, _ := entries(t, open(t, dir, false)); ids(all) != "a" {
		t.Errorf("a reader sees %s", ids(all))
	}
	closed(t, first)
	closed(t, open(t, dir, true))
}

func TestDir_aFileThatCanNotBeReadToItsEndStays(t *testing.T) {
	dir := t.TempDir()
	long := `{"payload":"` + strings.Repeat("x", recording.DefaultMaxLine) + `"}` + "\n"
	name := write(t, dir, "p-1.ndjson", line("a", "1")+long+line("b", "2"))
	before := read(t, name)
	d := open(t, dir, true)
	remove(t, d, "a")
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), name+" still holds what was removed") {
		t.Errorf("got %v", err)
	}
	if read(t, name) != before {
		t.Error("the file was changed")
	}
	if all, _ := entries(t, open(t, dir, false)); ids(all) != "b" {
		t.Errorf("left %s", ids(all))
	}
}

// Writers go on while entries are taken out: in the end each one is either removed or there, and there once.
func TestDir_removesBesideWriters(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 3, 400
	var writing sync.WaitGroup
	for n := range writers {
		w := recording.NewWriter(recording.WriterSettings{Dir: dir, Name: "p", MaxBytes: 8 << 10, MaxAge: time.Hour, Locked: true})
		writing.Go(func() {
			for i := range each {
				if err := w.Write([]byte(line(fmt.Sprintf("%d-%d", n, i), "{}"))); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	finished := make(chan struct{})
	go func() { writing.Wait(); close(finished) }()
	removed, rounds := map[string]bool{}, 0
	round := func() {
		rounds++
		d := open(t, dir, true)
		all, damage := entries(t, d)
		if damage != nil {
			t.Errorf("damage %q", damage)
		}
		taken := all[:len(all)/2]
		for _, e := range taken {
			if removed[e.Message.UUID] {
				t.Errorf("%s is there again", e.Message.UUID)
			}
			removed[e.Message.UUID] = true
		}
		if err := d.Remove(t.Context(), taken); err != nil {
			t.Error(err)
		}
		closed(t, d)
	}
	for done := false; !done; {
		select {
		case <-finished:
			done = true
		default:
		}
		round()
	}
	left, _ := entries(t, open(t, dir, false))
	seen := map[string]bool{}
	for _, e := range left {
		if seen[e.Message.UUID] || removed[e.Message.UUID] {
			t.Errorf("%s is there twice, or was removed", e.Message.UUID)
		}
		seen[e.Message.UUID] = true
	}
	if len(left)+len(removed) != writers*each || len(removed) == 0 {
		t.Errorf("%d left and %d removed in %d rounds, want %d together", len(left), len(removed), rounds, writers*each)
	}
}

// FuzzJournal: no line of a journal takes more away than the entry that it names.
func FuzzJournal(f *testing.F) {
	text := line("a", "1") + line("b", "2")
	sum := checksum(bytes.TrimSuffix([]byte(line("b", "2")), []byte("\n")))
	f.Add([]byte(`{"file":"p-1.ndjson","line":2,"sum":"` + sum + `"}` + "\n"))
	f.Add([]byte(`{"file":"p-1.ndjson","line":1,"sum":"` + sum + `"}` + "\n{\"fil"))
	f.Add([]byte("rubbish\n\n{}\n"))
	f.Fuzz(func(t *testing.T, journal []byte) {
		dir := t.TempDir()
		name := write(t, dir, "p-1.ndjson", text)
		write(t, dir, journalName, string(journal))
		named := bytes.Contains(journal, []byte(sum))
		all, _ := entries(t, open(t, dir, false))
		if got := ids(all); got != "a b" && (got != "a" || !named) {
			t.Fatalf("left %q", got)
		}
		d := open(t, dir, true)
		closed(t, d)
		if after, _ := entries(t, open(t, dir, false)); ids(after) != ids(all) {
			t.Fatalf("a rewrite makes %q of %q in %s", ids(after), ids(all), name)
		}
	})
}

// FuzzEntries: whatever stands in a file, no entry is handed on twice, taking out the first leaves the others as they
// are, and nothing panics.
func FuzzEntries(f *testing.F) {
	f.Add([]byte(line("a", "1")+line("b", "2")), false)
	f.Add([]byte(line("a", "\x00\xff")+"{\"torn\n"+line("b", "2")+"{"), true)
	f.Add([]byte("\xef\xbb\xbf"+line("a", "1")+line("a", "1")), false)
	f.Add([]byte("\x1f\x8b\x08\x00"), true)
	f.Add([]byte("\x28\xb5\x2f\xfd"), false)
	f.Fuzz(func(t *testing.T, text []byte, carriageReturns bool) {
		if carriageReturns {
			text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
		}
		dir := t.TempDir()
		write(t, dir, "p-1.ndjson", string(text))
		d := open(t, dir, true)
		before, _ := entries(t, d)
		if len(before) > 0 {
			if err := d.Remove(t.Context(), before[:1]); err != nil {
				t.Fatal(err)
			}
		}
		_ = d.Close() // a file that can't be read to its end stays
		after, _ := entries(t, open(t, dir, false))
		if len(before) == 0 {
			if len(after) != 0 {
				t.Fatal("entries came from nowhere")
			}
			return
		}
		if len(after) != len(before)-1 {
			t.Fatalf("%d entries, and %d after one was removed", len(before), len(after))
		}
		for i, e := range after {
			if want := before[i+1].Message; !e.Message.Equals(want) && !strings.HasPrefix(want.UUID, dir) {
				t.Fatalf("entry %d is %v, was %v", i, e.Message, want)
			}
		}
	})
}
