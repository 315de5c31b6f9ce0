package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, c pipeline.SinkConfig, role pipeline.Role) pipeline.Sink {
	t.Helper()
	s, err := c.NewSink(pipeline.Env{Pipeline: "cache", Role: role, Path: string(role) + ".file"})
	if err != nil {
		t.Fatal(err)
	}
	if starter, ok := s.Publisher.(pipeline.Starter); ok {
		if err := starter.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = s.Publisher.Close() })
	return s
}

// entries returns what the files of a directory hold.
func entries(t *testing.T, dir string) []recording.Entry {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []recording.Entry
	for _, f := range files {
		lines, err := recording.OpenLines(f, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := recording.NewReader(lines, f)
		for {
			var e recording.Entry
			err := r.Next(&e)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		_ = r.Close()
	}
	return all
}

func TestFile_storesWhatItAcknowledges(t *testing.T) {
	for _, compression := range []string{"", "none", "gzip", "zstd"} {
		for _, role := range []pipeline.Role{pipeline.RoleSink, pipeline.RoleRecord, pipeline.RolePoisonQueue} {
			t.Run(compression+" "+string(role), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "made")
				s := start(t, &FileConfig{Dir: dir, Compression: compression, Rotation: FileRotation{Size: 1 << 10}}, role)
				var wg sync.WaitGroup
				for i := range 200 {
					wg.Go(func() {
						msg := message.NewMessage(fmt.Sprint(i), []byte(strings.Repeat("x", i)+"\xff"))
						msg.Metadata["n"] = fmt.Sprint(i)
						if err := s.Publisher.Publish("", msg); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if err := s.Publisher.Close(); err != nil {
					t.Fatal(err)
				}
				seen := make(map[string]bool)
				for _, e := range entries(t, dir) {
					if i := len(e.Payload) - 1; e.ID != fmt.Sprint(i) || e.Metadata["n"] != e.ID || len(e.Metadata) != 1 || time.Since(e.Time) > time.Minute {
						t.Errorf("entry %+v", e)
					}
					seen[e.ID] = true
				}
				if len(seen) != 200 {
					t.Errorf("%d of 200 messages are there", len(seen))
				}
			})
		}
	}
}

func TestFile_poisonEntriesTellWhyAndKeepTheOriginal(t *testing.T) {
	dir := t.TempDir()
	s := start(t, &FileConfig{Dir: dir}, pipeline.RolePoisonQueue)
	msg := message.NewMessage("id", []byte("{torn"))
	msg.Metadata = message.Metadata{
		"sqs_queue": "events", "poison_reason": "no customer id", "poison_stage": "transforms[1].decode_entitlements", "poison_attempts": "3",
		"poison_received_at": "2026-11-22T10:15:30.5Z", "poison_at": "2026-11-22T10:15:31.5Z", "poison_pipeline": "cache", "poison_stack": "goroutine 1",
	}
	before := maps.Clone(msg.Metadata)
	if err := s.Publisher.Publish("", msg); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(msg.Metadata, before) {
		t.Error("the message was changed")
	}
	got := entries(t, dir) // before Close: a poison entry is on the disk when it is acknowledged
	if len(got) != 1 {
		t.Fatalf("%d entries", len(got))
	}
	e := got[0]
	want := recording.Poison{Reason: "no customer id", Stage: "transforms[1].decode_entitlements", Attempts: 3,
		ReceivedAt: "2026-11-22T10:15:30.5Z", At: "2026-11-22T10:15:31.5Z", Pipeline: "cache", Stack: "goroutine 1"}
	if e.Poison == nil || *e.Poison != want {
		t.Errorf("poison %+v", e.Poison)
	}
	if e.ID != "id" || string(e.Payload) != "{torn" || !maps.Equal(e.Metadata, map[string]string{"sqs_queue": "events"}) {
		t.Errorf("entry %+v", e)
	}
	if e.TimeText != "2026-11-22T10:15:30.500000000Z" {
		t.Errorf("time %s is not when the message was received", e.TimeText)
	}
}

func TestFile_keepsTheTimeOfAReplayedMessage(t *testing.T) {
	for _, role := range []pipeline.Role{pipeline.RoleRecord, pipeline.RolePoisonQueue} {
		dir := t.TempDir()
		s := start(t, &FileConfig{Dir: dir}, role)
		msg := message.NewMessage("id", []byte("x"))
		msg.Metadata = message.Metadata{"recorded_at": "2025-11-22T10:15:30Z", "poison_received_at": "2026-11-22T10:15:30Z"}
		odd := message.NewMessage("odd", []byte("x"))
		odd.Metadata["recorded_at"] = "yesterday"
		if err := s.Publisher.Publish("", msg, odd); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries(t, dir) {
			_, kept := e.Metadata["recorded_at"]
			if e.ID == "id" && (kept || e.TimeText != "2025-11-22T10:15:30.000000000Z") || e.ID == "odd" && !kept {
				t.Errorf("%s: entry %+v", role, e)
			}
		}
	}
}

func TestFile_saysWhatToDoWhenTheDirectoryIsNoGood(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := FileConfig{Dir: filepath.Join(file, "sub")}
	s, err := c.NewSink(pipeline.Env{Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Publisher.Close()
	err = s.Publisher.(pipeline.Starter).Start(context.Background())
	if want := fmt.Sprintf("write to directory %q: mkdir %s: not a directory (there is a file in the way: set dir to another directory)", c.Dir, file); err == nil || err.Error() != want || !pipeline.IsFatal(err) {
		t.Errorf("got %v", err)
	}
}

func TestFile_tellsAnOutageFromABrokenConfiguration(t *testing.T) {
	cases := map[syscall.Errno]struct {
		fatal bool
		hint  string
	}{
		syscall.ENOSPC: {false, "no space is left"}, syscall.EDQUOT: {false, "no space is left"}, syscall.EIO: {false, "does not take it"},
		syscall.EMFILE: {false, "ulimit"}, syscall.EACCES: {true, "let this user write"}, syscall.EROFS: {true, "read-only"}, syscall.ENOTDIR: {true, "another directory"},
	}
	for errno, want := range cases {
		err := (&fileSink{dir: "d"}).explain(&os.PathError{Op: "write", Path: "d/x", Err: errno})
		if pipeline.IsFatal(err) != want.fatal || pipeline.IsUnavailable(err) == want.fatal || !strings.Contains(err.Error(), want.hint) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// The file goes away under the sink, as when somebody cleans up: what comes next goes to a new one.
func TestFile_outlivesTheRemovalOfItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	s := start(t, &FileConfig{Dir: dir}, pipeline.RoleSink)
	if err := s.Publisher.Publish("", message.NewMessage("1", nil)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Publisher.Publish("", message.NewMessage("2", nil)); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, dir); len(got) != 1 || got[0].ID != "2" {
		t.Errorf("got %d entries", len(got))
	}
}

func TestFile_syncsAPoisonQueueAlways(t *testing.T) {
	for name, c := range map[string]struct {
		fsync string
		role  pipeline.Role
		want  recording.SyncPolicy
	}{
		"poison queue":                {"auto", pipeline.RolePoisonQueue, recording.SyncEvery},
		"poison queue, no tag":        {"", pipeline.RolePoisonQueue, recording.SyncEvery},
		"poison queue, as configured": {"rotate", pipeline.RolePoisonQueue, recording.SyncRotate},
		"record":                      {"auto", pipeline.RoleRecord, recording.SyncRotate},
		"sink":                        {"", pipeline.RoleSink, recording.SyncRotate},
		"sink, as configured":         {"every", pipeline.RoleSink, recording.SyncEvery},
	} {
		if got := syncPolicy(c.fsync, c.role); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestFile_claimsItsDirectoryUntilItIsClosed(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "x.ndjson")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	release, err := recording.ClaimRead([]string{other}, "reader")
	if err != nil {
		t.Fatal(err)
	}
	c := FileConfig{Dir: dir}
	s, err := c.NewSink(pipeline.Env{Pipeline: "p", Path: "sink.file"})
	if err != nil {
		t.Fatal(err)
	}
	starter := s.Publisher.(pipeline.Starter)
	var claimed *recording.ClaimError
	if err := starter.Start(context.Background()); !errors.As(err, &claimed) || !pipeline.IsFatal(err) {
		t.Errorf("writes where somebody reads: %v", err)
	}
	release()
	if err := starter.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := recording.ClaimRead([]string{other}, "reader"); !errors.As(err, &claimed) {
		t.Errorf("somebody reads where it writes: %v", err)
	}
	if err := s.Publisher.Close(); err != nil {
		t.Fatal(err)
	}
	if release, err = recording.ClaimRead([]string{other}, "reader"); err != nil {
		t.Fatal(err)
	}
	release()
}

func TestFileConfig_namesAllBrokenRules(t *testing.T) {
	c := FileConfig{Rotation: FileRotation{Size: 1, Age: 1}}
	want := "rotation.size: must be at least 1KiB, got 1\nrotation.age: must be at least 1s, got 1ns\ndir: must name a directory"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// safeBuffer is a buffer that two goroutines may use.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestStdout_printsALineForEachMessage(t *testing.T) {
	for format, want := range map[string][]string{
		"payload":   {"one", "two"},
		"":          {"one", "two"},
		"recording": {`{"id":"1","time":"2026-11-22T10:15:30.000000000Z","metadata":{"k":"v"},"payload":"one"}`, `{"id":"2","time":"2026-11-22T10:15:30.000000000Z","metadata":{"k":"v"},"payload":"two"}`},
	} {
		t.Run(format, func(t *testing.T) {
			var out safeBuffer
			s := (&StdoutConfig{Format: format}).to(&out, pipeline.Env{})
			var wg sync.WaitGroup
			for i, payload := range []string{"one", "two"} {
				wg.Go(func() {
					msg := message.NewMessage(fmt.Sprint(i+1), []byte(payload))
					msg.Metadata = message.Metadata{"k": "v", "recorded_at": "2026-11-22T10:15:30Z"}
					if err := s.Publisher.Publish("", msg); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if err := s.Publisher.Close(); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestStdout_stopsWhenNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	defer r.Close()
	s := (&StdoutConfig{}).to(w, pipeline.Env{})
	defer s.Publisher.Close()
	if err := s.Publisher.Publish("", message.NewMessage("1", []byte("x"))); !pipeline.IsFatal(err) {
		t.Errorf("got %v", err)
	}
}

func TestDrop_takesEverything(t *testing.T) {
	s := start(t, &DropConfig{}, pipeline.RoleSink)
	if err := s.Publisher.Publish("", message.NewMessage("1", nil), message.NewMessage("2", nil)); err != nil {
		t.Error(err)
	}
}
