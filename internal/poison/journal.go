package poison

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/penstock-dev/penstock/internal/recording"
)

const (
	lockName    = ".penstock-poison.lock"
	journalName = ".penstock-poison.removed"
	rewriteName = ".penstock-poison.rewrite-"
)

// journal says what is removed and may still be in a file. It is open for the one that removes.
type journal struct {
	dir  string
	lock *os.File

	mu      sync.Mutex
	file    *os.File
	size    int64 // bytes of file that hold whole writes
	removed map[handle]bool
}

func openJournal(dir string) (*journal, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{dir: dir, lock: lock}
	j.give(lock)
	switch err := recording.Lock(lock, recording.TryExclusive); {
	case errors.Is(err, recording.ErrLocked):
		_ = lock.Close()
		return nil, fmt.Errorf("%s: another redrive or drop works on it: wait for its end", dir)
	case err != nil:
		_ = lock.Close()
		return nil, fmt.Errorf("%s can't be locked, so that two could remove from it at a time: move it to another file system: %w", lock.Name(), err)
	}
	if err := j.open(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return j, nil
}

// open reads what the last remover left, and takes away what it had begun.
func (j *journal) open() error {
	torn, err := filepath.Glob(filepath.Join(j.dir, rewriteName+"*"))
	if err != nil {
		return err
	}
	for _, name := range torn {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if j.removed, err = readJournal(j.dir, func(error) {}); err != nil {
		return err
	}
	if j.file, err = os.OpenFile(filepath.Join(j.dir, journalName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	j.give(j.file)
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	j.size = info.Size()
	if j.size > 0 {
		last := make([]byte, 1)
		if _, err := j.file.ReadAt(last, j.size-1); err != nil {
			return err
		}
		if last[0] != '\n' { // the last remover died here
			return j.write([]byte("\n"))
		}
	}
	return nil
}

// give makes a file belong to whom the directory belongs to.
func (j *journal) give(f *os.File) {
	if info, err := os.Stat(j.dir); err == nil {
		give(f, info)
	}
}

// write appends lines, or none of them.
func (j *journal) write(lines []byte) error {
	n, err := j.file.Write(lines)
	if err != nil {
		if terr := j.file.Truncate(j.size); terr != nil {
			return errors.Join(err, terr)
		}
		return err
	}
	j.size += int64(n)
	return nil
}

func (j *journal) add(handles []handle) error {
	var lines []byte
	for _, h := range handles {
		line, err := json.Marshal(h)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(lines); err != nil {
		return err
	}
	for _, h := range handles {
		j.removed[h] = true
	}
	return nil
}

// byFile returns what is removed and not yet rewritten.
func (j *journal) byFile() map[string]map[handle]bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	files := map[string]map[handle]bool{}
	for h := range j.removed {
		if files[h.File] == nil {
			files[h.File] = map[handle]bool{}
		}
		files[h.File][h] = true
	}
	return files
}

// forget takes the lines of files out of the journal: nothing of them is removed any more.
func (j *journal) forget(files map[string]bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for h := range j.removed {
		if files[h.File] {
			delete(j.removed, h)
		}
	}
	if len(j.removed) > 0 {
		return nil // the lines of the others do no harm, and it must never be without those that count
	}
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	j.size = 0
	return nil
}

func (j *journal) close() error {
	return errors.Join(j.file.Close(), j.lock.Close())
}

// readJournal reads the journal of a directory. A torn last line is an entry that is still there; what else can't be
// read is told.
func readJournal(dir string, damaged func(error)) (map[handle]bool, error) {
	name := filepath.Join(dir, journalName)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return map[handle]bool{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	removed := map[handle]bool{}
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		h, ok := parseRemoved(lines.Bytes())
		switch {
		case ok:
			removed[h] = true
		case len(bytes.TrimSpace(lines.Bytes())) == 0:
		case lines.Bytes()[0] != '{':
			damaged(fmt.Errorf("%s:%d: not a line of this file: nothing is taken for removed by it", name, number))
		}
	}
	if err := lines.Err(); err != nil {
		damaged(fmt.Errorf("%s: the rest can't be read: nothing is taken for removed by it: %w", name, err))
	}
	return removed, nil
}

// parseRemoved reads one line of a journal.
func parseRemoved(line []byte) (h handle, ok bool) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if d.Decode(&h) != nil || d.More() {
		return handle{}, false
	}
	return h, h.File != "" && h.File == filepath.Base(h.File) && h.Line > 0 && len(h.Sum) == 32
}
