// Package poison reads the poison queues that pipelines write to files.
package poison

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/recording"
)

// Entry is a message in a poison queue, and where it stands.
type Entry struct {
	recording.Entry
	// File and Line are where the entry is; the first line is 1.
	File string
	Line int64
}

// At is when the message was given up, as far as the entry says; else the zero time.
func (e *Entry) At() time.Time {
	at, _ := time.Parse(time.RFC3339Nano, e.Poison.At)
	return at
}

// ErrStop ends Read without an error.
var ErrStop = errors.New("stop")

// Read hands on the entries of the files in dir, one after another by the names of the files, which sort by time. The
// entry is valid until each returns; its Poison is never nil. It changes nothing. Damaged places go to damaged as
// file:line with what is wrong, and reading goes on behind them, or in the next file. The error is that of the
// directory, of ctx, or of each.
func Read(ctx context.Context, dir string, each func(*Entry) error, damaged func(error)) error {
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range found {
		if !f.Type().IsRegular() || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		if err := readFile(ctx, filepath.Join(dir, f.Name()), each, damaged); err != nil {
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
	}
	return nil
}

func readFile(ctx context.Context, name string, each func(*Entry) error, damaged func(error)) error {
	lines, err := recording.OpenLines(name, 0)
	if err != nil {
		damaged(fmt.Errorf("%s: %w", name, err))
		return nil
	}
	defer func() { _ = lines.Close() }()
	reader := recording.NewReader(lines, name)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &Entry{File: name}
		err := reader.Next(&e.Entry)
		e.Line = lines.Line()
		line, torn := errors.AsType[*recording.LineError](err)
		switch {
		case torn:
			damaged(line)
			continue
		case errors.Is(err, recording.ErrLineTooLong):
			damaged(fmt.Errorf("%s:%d: %w", name, e.Line, err))
			continue
		case err == io.EOF: //nolint:errorlint // io.ErrUnexpectedEOF and wrapped ends are damage
			return nil
		case err != nil:
			damaged(fmt.Errorf("%s:%d: the rest of the file can't be read: %w", name, e.Line+1, err))
			return nil
		}
		if e.Poison == nil {
			e.Poison = &recording.Poison{}
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
