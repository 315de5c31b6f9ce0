package sources

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/feed"
)

// checkpoint remembers in a file how far a file source is, so that another process can go on from there.
type checkpoint struct {
	path     string
	pipeline string
	what     string // what of the files is handed on: another choice has other positions
	feed     *feed.Feed
	log      *zap.Logger

	files []checkpointFile // as found at the start

	mu    sync.Mutex
	ends  []feed.Position // of files that were read to their end; Line is -1 for others
	ended bool            // there is no file any more

	stored []byte // what the file holds; belongs to run, then to close
	told   bool
	stop   chan struct{}
	wait   sync.WaitGroup
}

// checkpointFile is a file and how far it is done.
type checkpointFile struct {
	Name string `json:"name"` // absolute
	Size int64  `json:"size"`
	// SHA256 is of the first Head bytes.
	SHA256 string `json:"sha256"`
	Head   int64  `json:"head"`
	// Offset is where the first line begins that is not done; in a compressed file Line alone counts.
	Offset int64 `json:"offset"`
	// Line counts the lines that are done.
	Line int64 `json:"line"`
	// Done tells that nothing is left of the file, as large as it was.
	Done bool `json:"done"`
}

type checkpointText struct {
	Version  int              `json:"penstock_checkpoint"`
	Pipeline string           `json:"pipeline"`
	What     string           `json:"what"`
	Files    []checkpointFile `json:"files"`
}

const (
	// checkpointHead is how much of a file's beginning tells it from others.
	checkpointHead   = 64 << 10
	checkpointPeriod = 250 * time.Millisecond
	maxCheckpoint    = 64 << 20
)

// open reads the checkpoint, if there is one, holds it against files, and writes it anew.
func (c *checkpoint) open(files []string) error {
	before, err := c.load()
	if err != nil {
		return err
	}
	self, err := filepath.Abs(c.path)
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := identify(name, checkpointHead)
		if err != nil {
			return err
		}
		if f.Name == self {
			return fmt.Errorf("checkpoint %q lies among the files that are read: put it elsewhere", c.path)
		}
		if old, ok := before[f.Name]; ok {
			if err := c.goOn(&f, old); err != nil {
				return err
			}
			delete(before, f.Name)
		}
		c.files = append(c.files, f)
	}
	for name, old := range before {
		if !old.Done {
			return fmt.Errorf("checkpoint %q stands at line %d of %s, which is not among the files any more: name it, "+
				"or remove the checkpoint to begin again", c.path, old.Line, name)
		}
	}
	c.ends = make([]feed.Position, len(c.files))
	for i := range c.ends {
		c.ends[i].Line = -1
	}
	return c.store()
}

// goOn takes over how far a file was done, when it is the file that it was.
func (c *checkpoint) goOn(f *checkpointFile, old checkpointFile) error {
	changed := func(how string) error {
		return fmt.Errorf("%s is not the file that checkpoint %q knows (%s): put that one back, or remove the checkpoint to begin again", f.Name, c.path, how)
	}
	if f.Size < old.Size {
		return changed(fmt.Sprintf("it had %d bytes and has %d", old.Size, f.Size))
	}
	head, err := identify(f.Name, old.Head)
	if err != nil {
		return err
	}
	if head.SHA256 != old.SHA256 {
		return changed("it begins differently")
	}
	f.Offset, f.Line = old.Offset, old.Line
	f.Done = old.Done && f.Size == old.Size
	return nil
}

// load returns the files that the checkpoint knows, by name; none when there is no checkpoint.
func (c *checkpoint) load() (map[string]checkpointFile, error) {
	in, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	defer func() { _ = in.Close() }()
	data, err := io.ReadAll(io.LimitReader(in, maxCheckpoint))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	var t checkpointText
	if err := json.Unmarshal(data, &t); err != nil || t.Version != 1 {
		return nil, fmt.Errorf("%q is no checkpoint of this version: name another file, or remove it to begin again", c.path)
	}
	if t.Pipeline != c.pipeline {
		return nil, fmt.Errorf("checkpoint %q is of pipeline %s, this is %s: name another file", c.path, t.Pipeline, c.pipeline)
	}
	if t.What != c.what {
		return nil, fmt.Errorf("checkpoint %q is of another choice of messages (%s) than this one (%s): choose the same, or name another file", c.path, t.What, c.what)
	}
	files := make(map[string]checkpointFile, len(t.Files))
	for _, f := range t.Files {
		files[f.Name] = f
	}
	return files, nil
}

// identify tells what a file is: by name, size, and the hash of its first bytes.
func identify(name string, head int64) (checkpointFile, error) {
	in, err := os.Open(name)
	if err != nil {
		return checkpointFile{}, err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return checkpointFile{}, err
	}
	if !info.Mode().IsRegular() {
		return checkpointFile{}, fmt.Errorf("%s is no regular file: a checkpoint needs files that can be read again", name)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(in, head))
	if err != nil {
		return checkpointFile{}, err
	}
	if name, err = filepath.Abs(name); err != nil {
		return checkpointFile{}, err
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	return checkpointFile{Name: name, Size: info.Size(), SHA256: hex.EncodeToString(hash.Sum(nil)), Head: n}, nil
}

// endOfFile notes that file i was read to its end.
func (c *checkpoint) endOfFile(i int, offset, line int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[i] = feed.Position{File: i, Offset: offset, Line: line}
}

// end notes that there is no file any more.
func (c *checkpoint) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// now returns the files as far as they are done.
func (c *checkpoint) now() []checkpointFile {
	files := slices.Clone(c.files)
	c.mu.Lock()
	defer c.mu.Unlock()
	at, all := c.feed.Resolved()
	if c.ended && all {
		at = feed.Position{File: len(files)}
	}
	for i := range files {
		f, to := &files[i], at
		if i > at.File {
			break
		}
		if i < at.File {
			to = c.ends[i]
		}
		if to.Line > f.Line {
			f.Offset, f.Line = to.Offset, to.Line
		}
		f.Done = f.Done || i < at.File
	}
	return files
}

// store writes the checkpoint beside the old one, syncs it, and puts it in its place, so that a crash at any moment
// leaves the one or the other.
func (c *checkpoint) store() error {
	data, err := json.MarshalIndent(checkpointText{Version: 1, Pipeline: c.pipeline, What: c.what, Files: c.now()}, "", "  ")
	if err != nil || bytes.Equal(data, c.stored) {
		return err
	}
	beside := filepath.Join(filepath.Dir(c.path), "."+filepath.Base(c.path)+".new")
	out, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	_, err = out.Write(append(data, '\n'))
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = os.Rename(beside, c.path)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	c.stored = data
	if d, err := os.Open(filepath.Dir(c.path)); err == nil {
		_ = d.Sync() // some file systems refuse; they keep names by themselves
		_ = d.Close()
	}
	return nil
}

// begin stores the checkpoint every now and then until close.
func (c *checkpoint) begin() {
	c.stop = make(chan struct{})
	c.wait.Go(func() {
		ticker := time.NewTicker(checkpointPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-c.stop:
				return
			}
			err := c.store()
			if err != nil && !c.told {
				complaint.Warn(c.log, "the checkpoint can't be written: a run that goes on from it repeats more than it has to", zap.Error(err))
			}
			c.told = err != nil
		}
	})
}

// close stores where the source ended; the feed must be closed.
func (c *checkpoint) close() error {
	if c.stop == nil {
		return nil
	}
	close(c.stop)
	c.wait.Wait()
	c.stop = nil
	return c.store()
}
