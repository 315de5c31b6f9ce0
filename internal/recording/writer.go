package recording

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a writer's files are compressed.
type Compression string

// The compressions.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// SyncPolicy is when a writer waits until the disk has what was written.
type SyncPolicy string

// The policies: when a file is finished, or before each Write returns.
const (
	SyncRotate SyncPolicy = "rotate"
	SyncEvery  SyncPolicy = "every"
)

// WriterSettings are what a [Writer] needs to know.
type WriterSettings struct {
	// Dir is where the files go. Check makes it when it isn't there.
	Dir string
	// Name begins the names of the files: the pipeline's.
	Name string
	// Compression of the files; "" means None.
	Compression Compression
	// MaxBytes and MaxAge finish a file: the next write begins another. They must be above 0. MaxBytes is of the file
	// as it lies there; one write is never split over two files.
	MaxBytes int64
	MaxAge   time.Duration
	// Sync is when to fsync; "" means SyncRotate.
	Sync SyncPolicy
	// Retention, when set, is enforced whenever a file begins.
	Retention *Retention
	// Locked writes each time under an exclusive lock of the file, so that another process may take lines out of it: it
	// locks the file and puts another in its place. See package poison.
	Locked bool
}

// Writer appends lines to files in a directory, under names that no other writer shares, in this process or another:
//
//	<name>-<time in UTC>-<host>-<process id>-<random>-<number>.ndjson[.gz|.zst]
//
// It never overwrites a file and never appends to one that it did not make. A file begins with the first line written
// to it; its mode is 0600. Names sort by time. A Writer is safe for concurrent use.
type Writer struct {
	settings WriterSettings
	suffix   string // host, pid, random

	mu       sync.Mutex
	closed   bool
	number   int
	file     *os.File
	size     int64 // bytes of file that hold whole writes
	deadline *time.Timer
	packed   bytes.Buffer // what the encoder put out and the file does not have yet
	encoder  encoder      // nil when not compressed
	late     error        // of a file that was finished because of its age, and not told yet
}

type encoder interface {
	io.Writer
	Flush() error
	Close() error
}

// NewWriter returns a writer. It touches no file before Check or Write.
func NewWriter(s WriterSettings) *Writer {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	return &Writer{settings: s, suffix: fmt.Sprintf("%s-%d-%s", hostname(), os.Getpid(), hex.EncodeToString(id[:]))}
}

// hostname returns the part of the host's name that is good in a file name.
func hostname() string {
	host, _ := os.Hostname()
	host, _, _ = strings.Cut(host, ".")
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, host)
	if host == "" {
		return "host"
	}
	return host[:min(len(host), 40)]
}

// Check makes the directory, mode 0700, when it isn't there, and tries whether files can be made in it.
func (w *Writer) Check() error {
	if err := os.MkdirAll(w.settings.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(w.settings.Dir, ".penstock-check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Write appends lines, each of which ends with a newline. It returns nil when the operating system has them all, or
// with SyncEvery when the disk has; then a crash of the process costs none of them. After an error none of them is in
// the files whole as far as that can be undone; write them again.
func (w *Writer) Write(lines []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	if err := w.late; err != nil {
		w.late = nil
		return err
	}
	if w.file != nil && w.size+int64(len(lines)) > w.settings.MaxBytes && w.encoder == nil || w.size > w.settings.MaxBytes {
		if err := w.finish(); err != nil {
			return err
		}
	}
	release, err := w.hold()
	if err != nil {
		return err
	}
	defer release()
	data := lines
	if w.encoder != nil {
		if err := w.pack(lines); err != nil {
			return err
		}
		data = w.packed.Bytes()
	}
	if err := w.append(data); err != nil {
		w.abandon()
		return err
	}
	return nil
}

// hold makes sure that there is a file under its name, and with Locked that nobody changes that until it is released.
func (w *Writer) hold() (release func(), err error) {
	for {
		if w.file == nil {
			if err := w.begin(); err != nil {
				return nil, err
			}
		}
		f := w.file
		release = func() {}
		// Where a file can't be locked, nobody else can lock it either, and leaves it alone.
		if w.settings.Locked && Lock(f, Exclusive) == nil {
			release = func() { _ = Unlock(f) } // a file that was closed meanwhile has no lock any more
		}
		if !w.gone() {
			return release, nil
		}
		// Whoever moved it gets it whole; of a removed one there is nothing to be told.
		release()
		_ = w.finish()
	}
}

// gone reports whether somebody has removed or renamed the file: what is written to it then may be for nobody.
func (w *Writer) gone() bool {
	named, err := os.Stat(w.file.Name())
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	open, err := w.file.Stat()
	return err == nil && !os.SameFile(named, open)
}

// pack compresses lines to the end of a block, so that what the file holds can be read as far as it goes.
func (w *Writer) pack(lines []byte) error {
	if _, err := w.encoder.Write(lines); err != nil {
		return err
	}
	return w.encoder.Flush()
}

func (w *Writer) append(data []byte) error {
	n, err := w.file.Write(data)
	if err == nil && w.settings.Sync == SyncEvery {
		err = w.file.Sync()
	}
	if err != nil {
		return err
	}
	w.size += int64(n)
	w.packed.Reset()
	return nil
}

func (w *Writer) begin() error {
	if err := os.MkdirAll(w.settings.Dir, 0o700); err != nil {
		return err
	}
	extension := map[Compression]string{Gzip: ".gz", Zstd: ".zst"}[w.settings.Compression]
	w.number++
	name := fmt.Sprintf("%s-%s-%s-%06d.ndjson%s", w.settings.Name, time.Now().UTC().Format("20060102T150405.000000000Z"), w.suffix, w.number, extension)
	f, err := os.OpenFile(filepath.Join(w.settings.Dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w.packed.Reset()
	switch w.settings.Compression {
	case Gzip:
		w.encoder = gzip.NewWriter(&w.packed)
	case Zstd:
		// One at a time needs no goroutines of its own.
		if w.encoder, err = zstd.NewWriter(&w.packed, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)); err != nil {
			return errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}
	w.file, w.size = f, 0
	if w.settings.Retention != nil {
		w.settings.Retention.enforce(w.settings.Dir, w.settings.Name, name)
	}
	if w.settings.Sync == SyncEvery {
		if err := w.syncDir(); err != nil {
			w.abandon()
			return err
		}
	}
	w.deadline = time.AfterFunc(w.settings.MaxAge, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.file == f {
			w.late = w.finish()
		}
	})
	return nil
}

// finish ends the file: what is in it is on the disk when it returns nil.
func (w *Writer) finish() error {
	if w.encoder != nil {
		err := w.encoder.Close()
		if err == nil {
			err = w.append(w.packed.Bytes())
		}
		if err != nil {
			w.abandon()
			return err
		}
	}
	f := w.file
	w.forget()
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return w.syncDir()
}

// abandon gives up the file after an error, without what the failed write may have left in it: a torn line in the
// middle of a file would be two lost ones.
func (w *Writer) abandon() {
	f, size := w.file, w.size
	w.forget()
	_ = f.Truncate(size)
	_ = f.Close()
	if size == 0 {
		// A full disk takes names where it takes no bytes: don't pile up empty files.
		_ = os.Remove(f.Name())
	}
}

func (w *Writer) forget() {
	w.deadline.Stop()
	w.file, w.encoder, w.size, w.deadline = nil, nil, 0, nil
	w.packed.Reset()
}

// syncDir makes the file's name as durable as its content.
func (w *Writer) syncDir() error {
	d, err := os.Open(w.settings.Dir)
	if err != nil {
		return err
	}
	// Some file systems refuse to sync a directory; they keep names by themselves.
	_ = d.Sync()
	return d.Close()
}

// Close finishes the file: flushed, synced, closed. It may be called twice.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	err := w.late
	w.late = nil
	if w.file != nil {
		err = errors.Join(err, w.finish())
	}
	return err
}
