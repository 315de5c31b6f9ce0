package poison

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-dev/penstock/internal/recording"
)

// rewrite takes the removed lines out of the files, as far as that can be done.
func (d *Dir) rewrite() error {
	files := d.journal.byFile()
	if len(files) == 0 {
		return nil
	}
	done := map[string]bool{}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if err := d.rewriteFile(filepath.Join(d.name, file), files[file]); err != nil {
			errs = append(errs, fmt.Errorf("%s still holds what was removed, which %s in that directory says; the next redrive or drop rewrites it: %w",
				filepath.Join(d.name, file), journalName, err))
			continue
		}
		done[file] = true
	}
	return errors.Join(append(errs, d.journal.forget(done))...)
}

// rewriteFile replaces a file by one without the removed lines.
func (d *Dir) rewriteFile(name string, removed map[handle]bool) error {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := recording.Lock(f, recording.Exclusive); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	to, err := os.CreateTemp(d.name, rewriteName+"*")
	if err != nil {
		return err
	}
	if info, serr := f.Stat(); serr == nil {
		give(to, info)
		_ = to.Chmod(info.Mode().Perm())
	}
	kept, err := copyKept(to, f, filepath.Base(name), removed)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err == nil {
		if kept {
			err = os.Rename(to.Name(), name)
		} else {
			err = os.Remove(name)
		}
	}
	if err != nil || !kept {
		err = errors.Join(err, os.Remove(to.Name()))
	}
	return errors.Join(err, syncDir(d.name))
}

// copyKept copies the lines that are not removed, compressed as the file's name says, and tells whether there are any.
func copyKept(to io.Writer, from *os.File, file string, removed map[handle]bool) (kept bool, err error) {
	lines, err := recording.NewLines(from, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = lines.Close() }()
	var packed io.WriteCloser
	switch {
	case strings.HasSuffix(file, ".gz"):
		packed = gzip.NewWriter(to)
	case strings.HasSuffix(file, ".zst"):
		if packed, err = zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)); err != nil {
			return false, err
		}
	default:
		packed = plainFile{to}
	}
	w := bufio.NewWriterSize(packed, 256<<10)
	for {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return kept, errors.Join(w.Flush(), packed.Close())
		}
		if err != nil {
			return false, errors.Join(fmt.Errorf("line %d: %w", lines.Line()+1, err), packed.Close())
		}
		if removed[handle{File: file, Line: lines.Line(), Sum: checksum(line)}] {
			continue
		}
		kept = true
		_, _ = w.Write(line) // Flush has the error
		if !lines.Unterminated() {
			_ = w.WriteByte('\n')
		}
	}
}

type plainFile struct{ io.Writer }

func (plainFile) Close() error { return nil }

// syncDir makes a directory's names durable. Some file systems refuse; they keep names by themselves.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}
