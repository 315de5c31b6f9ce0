package recording

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func settings(dir string) WriterSettings {
	return WriterSettings{Dir: dir, Name: "p", MaxBytes: 1 << 30, MaxAge: time.Hour}
}

// lines returns the lines of all files of a directory, in the order of the files' names.
func lines(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		l, err := OpenLines(f, 0)
		if err != nil {
			t.Fatal(err)
		}
		for {
			line, err := l.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", f, err)
				}
				break
			}
			all = append(all, string(line))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestWriter_filesReadBack(t *testing.T) {
	for _, c := range []Compression{"", None, Gzip, Zstd} {
		for _, policy := range []SyncPolicy{"", SyncRotate, SyncEvery} {
			t.Run(string(c+"/")+string(policy), func(t *testing.T) {
				s := settings(filepath.Join(t.TempDir(), "made", "for it"))
				s.Compression, s.Sync = c, policy
				w := NewWriter(s)
				if err := w.Check(); err != nil {
					t.Fatal(err)
				}
				var want []string
				for i := range 5 {
					line := strings.Repeat("x", i+1)
					want = append(want, line, line)
					if err := w.Write([]byte(line + "\n" + line + "\n")); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if got := lines(t, s.Dir); strings.Join(got, ",") != strings.Join(want, ",") {
					t.Errorf("got %v", got)
				}
				files, _ := os.ReadDir(s.Dir)
				if len(files) != 1 {
					t.Fatalf("got %d files, want 1", len(files))
				}
				if info, _ := files[0].Info(); info.Mode() != 0o600 {
					t.Errorf("mode is %v", info.Mode())
				}
				if err := w.Close(); err != nil {
					t.Errorf("second close: %v", err)
				}
				if err := w.Write([]byte("x\n")); !errors.Is(err, os.ErrClosed) {
					t.Errorf("write after close: %v", err)
				}
			})
		}
	}
}

// What a Write returned nil for is in the file even if the process is killed then: nothing is flushed or closed here.
func TestWriter_killCostsNothingThatWasWritten(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		t.Run(string(c), func(t *testing.T) {
			s := settings(t.TempDir())
			s.Compression = c
			w := NewWriter(s)
			for range 3 {
				if err := w.Write([]byte("one\ntwo\n")); err != nil {
					t.Fatal(err)
				}
			}
			files, _ := filepath.Glob(filepath.Join(s.Dir, "*"))
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			l, err := NewLines(bytes.NewReader(data), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for i := range 6 {
				if line, err := l.Next(); err != nil {
					t.Fatalf("line %d: %q, %v", i+1, line, err)
				}
			}
			wantEnd := io.EOF
			if c != None {
				wantEnd = io.ErrUnexpectedEOF
			}
			if _, err := l.Next(); err != wantEnd {
				t.Errorf("at the end: %v, want %v", err, wantEnd)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWriter_beginsANewFileWhenOneIsFull(t *testing.T) {
	s := settings(t.TempDir())
	s.MaxBytes = 10
	w := NewWriter(s)
	for _, line := range []string{"12345", "1234", "123", "a line that is larger than a file may be", "x"} {
		if err := w.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(s.Dir); len(files) != 4 { // 12345 | 1234 123 | large | x
		t.Errorf("got %d files, want 4", len(files))
	}
	if got := strings.Join(lines(t, s.Dir), ","); got != "12345,1234,123,a line that is larger than a file may be,x" {
		t.Errorf("names don't sort by time, or lines are lost: %s", got)
	}
}

func TestWriter_finishesAnIdleFileAtItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings(t.TempDir())
		s.Compression = Gzip
		w := NewWriter(s)
		write := func(line string) {
			if err := w.Write([]byte(line + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		write("a")
		time.Sleep(30 * time.Minute)
		write("b")
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		// lines fails on a file without an end.
		if got := strings.Join(lines(t, s.Dir), ","); got != "a,b" {
			t.Errorf("got %s", got)
		}
		write("c")
		if files, _ := os.ReadDir(s.Dir); len(files) != 2 {
			t.Errorf("got %d files, want 2", len(files))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWriter_manyWritersShareADirectory(t *testing.T) {
	s := settings(t.TempDir())
	s.MaxBytes = 100
	var wg sync.WaitGroup
	for range 8 {
		w := NewWriter(s)
		wg.Go(func() {
			for range 50 {
				if err := w.Write([]byte("0123456789\n")); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := lines(t, s.Dir)
	if len(got) != 400 {
		t.Errorf("got %d lines, want 400", len(got))
	}
	for _, line := range got {
		if line != "0123456789" {
			t.Fatalf("torn: %q", line)
		}
	}
}

// /dev/full takes no bytes, as a full disk does.
func TestWriter_goesOnInAnotherFileAfterAFailedWrite(t *testing.T) {
	for _, c := range []Compression{None, Gzip} {
		t.Run(string(c), func(t *testing.T) {
			s := settings(t.TempDir())
			s.Compression = c
			w := NewWriter(s)
			if err := w.Write([]byte("one\n")); err != nil {
				t.Fatal(err)
			}
			// Half of a line reaches the file, then the disk is full.
			real := w.file
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil && runtime.GOOS != "linux" {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := real.WriteString("tw"); err != nil {
				t.Fatal(err)
			}
			w.file = full
			if err := w.Write([]byte("two\n")); err == nil {
				t.Fatal("no error from a full disk")
			}
			if err := real.Close(); err != nil {
				t.Fatal(err)
			}
			if w.file != nil {
				t.Fatal("goes on with a file that is in an unknown state")
			}
			if err := w.Write([]byte("two\n")); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if files, _ := os.ReadDir(s.Dir); len(files) != 2 {
				t.Errorf("got %d files, want 2", len(files))
			}
		})
	}
}

func TestWriter_fullDiskPilesUpNoEmptyFiles(t *testing.T) {
	s := settings(t.TempDir())
	w := NewWriter(s)
	for range 3 {
		if err := w.begin(); err != nil {
			t.Fatal(err)
		}
		name := w.file.Name()
		w.abandon()
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.begin(); err != nil {
		t.Fatal(err)
	}
	if err := w.append([]byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.file.WriteString("tw"); err != nil {
		t.Fatal(err)
	}
	w.abandon()
	if got := strings.Join(lines(t, s.Dir), ","); got != "one" {
		t.Errorf("got %s", got)
	}
}

func TestWriter_checkSaysThatADirectoryCantBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewWriter(settings(file)).Check(); err == nil {
		t.Error("a file passes for a directory")
	}
	dir := t.TempDir()
	if err := NewWriter(settings(dir)).Check(); err != nil {
		t.Error(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

func TestClaims_refuseToReadWhatTheProcessWrites(t *testing.T) {
	dir := t.TempDir()
	writes := filepath.Join(dir, "writes")
	link := filepath.Join(dir, "link")
	other := filepath.Join(dir, "other")
	for _, d := range []string{writes, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(writes, "x.ndjson")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(writes, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, filepath.Join(other, "x.ndjson")); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"the file":         file,
		"by a linked dir":  filepath.Join(link, "x.ndjson"),
		"by a linked file": filepath.Join(other, "x.ndjson"),
		"by a detour":      filepath.Join(other, "..", "writes", "x.ndjson"),
	}
	for name, path := range cases {
		t.Run(name, func(t *testing.T) {
			var claimed *ClaimError
			release, err := ClaimWrite(writes, "sink")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ClaimRead([]string{path}, "source"); !errors.As(err, &claimed) || claimed.Reader != "source" || claimed.Writer != "sink" {
				t.Errorf("writer first: %v", err)
			}
			release()
			release, err = ClaimRead([]string{path}, "source")
			if err != nil {
				t.Fatalf("after the writer's release: %v", err)
			}
			if _, err := ClaimWrite(writes, "sink"); !errors.As(err, &claimed) {
				t.Errorf("reader first: %v", err)
			}
			release()
			if release, err = ClaimWrite(writes, "sink"); err != nil {
				t.Fatalf("after the reader's release: %v", err)
			}
			release()
		})
	}
	t.Run("neighbours are no conflict", func(t *testing.T) {
		release, err := ClaimWrite(other, "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		again, err := ClaimWrite(other, "another sink")
		if err != nil {
			t.Fatal(err)
		}
		defer again()
		read, err := ClaimRead([]string{file}, "source")
		if err != nil {
			t.Fatal(err)
		}
		read()
	})
}

func TestWriter_removesTheOldestFilesAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		retention Retention
		age       time.Duration // of the first three files
		left      int
	}{
		"too much":         {Retention{MaxBytes: 2500}, 0, 3},
		"too old":          {Retention{Keep: time.Hour}, 2 * time.Hour, 3},
		"not too old":      {Retention{Keep: time.Hour}, time.Minute, 6},
		"not too much":     {Retention{MaxBytes: 1 << 20}, 0, 6},
		"the last one too": {Retention{MaxBytes: 1}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			others := []string{"notes.txt", "test-notes.ndjson", "test2-20260101T000000.000000000Z-h-1-a-000001.ndjson"}
			for _, other := range others {
				if err := os.WriteFile(filepath.Join(dir, other), make([]byte, 5000), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var told int
			var bytes int64
			c.retention.Removed = func(files int, n int64, err error) {
				if told, bytes = told+files, bytes+n; err != nil {
					t.Error(err)
				}
			}
			line := append(make([]byte, 1000), '\n')
			write := func(n int) {
				s := settings(dir)
				s.Name, s.MaxBytes, s.Retention = "test", 1024, &c.retention
				w := NewWriter(s)
				for range n {
					if err := w.Write(line); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			own := func() []string {
				all, err := filepath.Glob(filepath.Join(dir, "test-2*"))
				if err != nil {
					t.Fatal(err)
				}
				return all
			}
			write(3)
			for _, f := range own() {
				if err := os.Chtimes(f, time.Now(), time.Now().Add(-c.age)); err != nil {
					t.Fatal(err)
				}
			}
			before := own()
			write(3)
			after := own()
			if len(after) != c.left || told != 6-c.left || bytes != int64(told)*1001 {
				t.Errorf("%d files are left, %d files of %d bytes told; want %d left", len(after), told, bytes, c.left)
			}
			if c.left < 6 && slices.Contains(after, before[0]) {
				t.Errorf("the oldest file is still there")
			}
			for _, other := range others {
				if _, err := os.Stat(filepath.Join(dir, other)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
