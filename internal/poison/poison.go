// Package poison reads the poison queues that pipelines write to files, and takes entries out of them while the
// pipelines go on writing.
//
// The files belong to the writers of package recording: each has its own, appends to it, and never touches another.
// Three things make it possible to take entries out beside them.
//
//   - One remover at a time. Whoever removes holds an exclusive lock (flock) on .penstock-poison.lock in the directory.
//     A second one is told so. The lock ends with the process, however that ends.
//   - A journal of what is removed, .penstock-poison.removed: one JSON object a line, with the entry's file, its line
//     and a checksum of that line. An entry is removed when its line in the journal is with the operating system; from
//     then on Entries passes over it. A line of the journal that was torn by the death of its writer does not count:
//     the entry is still there. A line that doesn't fit its file, because somebody has edited that, takes nothing
//     away.
//   - Rewriting at Close. Each file that the journal names is locked, read, and replaced by one without the removed
//     lines: written under a hidden name, synced, renamed over the old one; a file of which nothing is left is
//     removed. Whatever else is in a file stays byte for byte, damaged lines too. Writers lock their file for every
//     write and look then whether it still is the file of that name; if not, they begin another. So no write goes into
//     a file that has been read and is about to be replaced. Then the journal is emptied.
//
// The process may die at any of these moments. Before the journal has the entry, the entry is in the queue. After that
// it is not, whether the file has been rewritten or not. A journal that is left behind by a rewrite has checksums at
// lines that are others now, and takes nothing away. The next remover rewrites what the last one has left.
//
// A file stays as it is, with its lines in the journal, when it can't be rewritten: it can't be read to its end, the
// file system has no locks or no space. Locks have to hold between the hosts that share a directory, as they do on
// NFSv4.
package poison

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

const recordedAt = "recorded_at"

// Dir is a directory with the files of a poison queue.
type Dir struct {
	name    string
	journal *journal // nil: entries can't be removed
}

var _ pipeline.PoisonQueue = (*Dir)(nil)

// handle is where an entry stands. It is comparable, and its text is a line of the journal.
type handle struct {
	File string `json:"file"` // without its directory
	Line int64  `json:"line"` // the first is 1
	Sum  string `json:"sum"`  // of the line
}

// Place returns file and line of an entry that a Dir handed on; "" and 0 for others.
func Place(e *pipeline.PoisonEntry) (file string, line int64) {
	if h, ok := e.Handle.(handle); ok {
		return strings.TrimSuffix(e.Place, ":"+strconv.FormatInt(h.Line, 10)), h.Line
	}
	return "", 0
}

// checksum is that of a line without its newline.
func checksum(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:16])
}

// Open opens the queue for reading, with change for removing too.
func Open(name string, change bool) (*Dir, error) {
	d := &Dir{name: name}
	if _, err := os.ReadDir(name); err != nil {
		return nil, err
	}
	if !change {
		return d, nil
	}
	var err error
	d.journal, err = openJournal(name)
	return d, err
}

// Entries implements [pipeline.PoisonQueue], file by file in the order of their names, which sort by time.
func (d *Dir) Entries(ctx context.Context, each func(*pipeline.PoisonEntry) error, damaged func(error)) error {
	// The journal comes first: a file that is rewritten later has the entries that the journal forgets no more.
	removed, err := readJournal(d.name, damaged)
	if err != nil {
		return err
	}
	files, err := queueFiles(d.name)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := d.read(ctx, file, removed, each, damaged); err != nil {
			return err
		}
	}
	return nil
}

// queueFiles returns the names of the files in dir.
func queueFiles(dir string) ([]string, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range found {
		if f.Type().IsRegular() && !strings.HasPrefix(f.Name(), ".") {
			names = append(names, f.Name())
		}
	}
	return names, nil
}

func (d *Dir) read(ctx context.Context, file string, removed map[handle]bool, each func(*pipeline.PoisonEntry) error, damaged func(error)) error {
	name := filepath.Join(d.name, file)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // all of it has been removed meanwhile
	}
	if err != nil {
		damaged(err)
		return nil
	}
	defer func() { _ = f.Close() }()
	lines, err := recording.NewLines(io.LimitReader(f, whole(f)), 0)
	if err != nil {
		damaged(fmt.Errorf("%s: %w", name, err))
		return nil
	}
	defer func() { _ = lines.Close() }()
	var parser recording.Parser
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := lines.Next()
		switch {
		case errors.Is(err, recording.ErrLineTooLong):
			damaged(fmt.Errorf("%s:%d: %w", name, lines.Line(), err))
			continue
		case err == io.EOF: //nolint:errorlint // io.ErrUnexpectedEOF and wrapped ends are damage
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil // a compressed file that is still being written to ends so; a torn line before it has been told
		case err != nil:
			damaged(fmt.Errorf("%s:%d: the rest of the file can't be read: %w", name, lines.Line()+1, err))
			return nil
		case len(bytes.TrimSpace(line)) == 0:
			continue
		}
		h := handle{File: file, Line: lines.Line(), Sum: checksum(line)}
		if removed[h] {
			continue
		}
		var e recording.Entry
		if err := parser.Parse(line, &e); err != nil {
			damaged(&recording.LineError{Name: name, Line: h.Line, Err: err})
			continue
		}
		if err := each(&pipeline.PoisonEntry{Message: toMessage(&e, name, h.Line), Place: fmt.Sprintf("%s:%d", name, h.Line), Handle: h}); err != nil {
			return err
		}
	}
}

// whole returns how much of a file was there between two writes, so that half a line is one that nobody finishes.
func whole(f *os.File) int64 {
	if recording.Lock(f, recording.Shared) == nil {
		defer func() { _ = recording.Unlock(f) }()
	}
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// Remove implements [pipeline.PoisonQueue].
func (d *Dir) Remove(_ context.Context, entries []*pipeline.PoisonEntry) error {
	if d.journal == nil {
		return errors.New("the poison queue was opened for reading")
	}
	handles := make([]handle, 0, len(entries))
	for _, e := range entries {
		h, ok := e.Handle.(handle)
		if !ok {
			return fmt.Errorf("not an entry of %s", d.name)
		}
		handles = append(handles, h)
	}
	return d.journal.add(handles)
}

// Close implements [pipeline.PoisonQueue]: it rewrites the files, if anything was removed.
func (d *Dir) Close() error {
	if d.journal == nil {
		return nil
	}
	err := d.rewrite()
	return errors.Join(err, d.journal.close())
}

// toMessage makes the message that the file sink was given. One without an id is called after its place, as the file
// source does.
func toMessage(e *recording.Entry, name string, line int64) *message.Message {
	if e.ID == "" {
		e.ID = fmt.Sprintf("%s:%d", name, line)
	}
	msg := message.NewMessage(e.ID, e.Payload)
	for k, v := range e.Metadata {
		msg.Metadata[k] = v
	}
	if !e.Time.IsZero() {
		msg.Metadata[recordedAt] = e.TimeText
	}
	if p := e.Poison; p != nil {
		for key, value := range map[string]string{
			pipeline.MetadataPoisonReason: p.Reason, pipeline.MetadataPoisonStage: p.Stage, pipeline.MetadataPoisonAt: p.At,
			pipeline.MetadataPoisonReceivedAt: p.ReceivedAt, pipeline.MetadataPoisonPipeline: p.Pipeline, pipeline.MetadataPoisonStack: p.Stack,
		} {
			if value != "" {
				msg.Metadata[key] = value
			}
		}
		if p.Attempts != 0 {
			msg.Metadata[pipeline.MetadataPoisonAttempts] = strconv.Itoa(p.Attempts)
		}
	}
	return msg
}

// Keys are the metadata that a poison queue adds to a message.
var Keys = []string{
	pipeline.MetadataPoisonReason, pipeline.MetadataPoisonStage, pipeline.MetadataPoisonAttempts, pipeline.MetadataPoisonReceivedAt,
	pipeline.MetadataPoisonAt, pipeline.MetadataPoisonPipeline, pipeline.MetadataPoisonStack,
}

// Take takes out of metadata what a poison queue adds to it.
func Take(metadata map[string]string) *recording.Poison {
	p := &recording.Poison{
		Reason: metadata[pipeline.MetadataPoisonReason], Stage: metadata[pipeline.MetadataPoisonStage],
		ReceivedAt: metadata[pipeline.MetadataPoisonReceivedAt], At: metadata[pipeline.MetadataPoisonAt],
		Pipeline: metadata[pipeline.MetadataPoisonPipeline], Stack: metadata[pipeline.MetadataPoisonStack],
	}
	p.Attempts, _ = strconv.Atoi(metadata[pipeline.MetadataPoisonAttempts])
	for _, key := range Keys {
		delete(metadata, key)
	}
	return p
}

// Entry makes the line of a poison queue's file that a message is, with the time now where the message has none of its
// own. It shares the message's payload.
func Entry(msg *message.Message, now time.Time) recording.Entry {
	e := recording.Entry{ID: msg.UUID, Time: now, Metadata: make(map[string]string, len(msg.Metadata)), Payload: msg.Payload}
	for k, v := range msg.Metadata {
		e.Metadata[k] = v
	}
	e.Poison = Take(e.Metadata)
	if t, err := time.Parse(time.RFC3339Nano, e.Poison.ReceivedAt); err == nil {
		e.Time = t
	}
	if t, err := time.Parse(time.RFC3339Nano, e.Metadata[recordedAt]); err == nil {
		// The entry's time says it, and reading the entry puts it back.
		e.Time = t
		delete(e.Metadata, recordedAt)
	}
	return e
}
