package sinks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/poison"
	"github.com/penstock-dev/penstock/pipeline"
)

// Codes of what the file sink's doctor finds.
const (
	codeDirUnusable = "PS311"
	codeDiskFull    = "PS312"
	codeKeepsAll    = "PS313"
	codeSizeUnfit   = "PS314"
)

// leastFree is the part of a disk that should be free.
const leastFree = 0.05

// Diagnose looks at the directory, at its disk and, of a poison queue, at what waits in it. It writes nothing.
func (c *FileConfig) Diagnose(ctx context.Context, env pipeline.DoctorEnv) []pipeline.Finding {
	d := &fileDoctor{config: c, env: env}
	there, ok := d.directory()
	if !ok {
		return d.found
	}
	files := ownFiles(c.Dir, env.Pipeline.Name)
	if space, err := spaceOf(there); err == nil { // a system that doesn't tell is no finding
		d.disk(space, files)
	}
	switch {
	case env.Role == pipeline.RolePoisonQueue:
		d.poisoned(ctx)
	case c.Keep == 0 && c.MaxSize == 0:
		d.add(codeKeepsAll, pipeline.SeverityNote, "set keep, such as 168h, or max_size, such as 10GiB: the oldest files go then",
			"files stay in %s for ever%s", c.Dir, files.pace())
		d.found[len(d.found)-1].Fix = "keep: 168h\nmax_size: 10GiB"
	}
	return d.found
}

type fileDoctor struct {
	config *FileConfig
	env    pipeline.DoctorEnv
	found  []pipeline.Finding
}

func (d *fileDoctor) add(code string, severity pipeline.Severity, remedy, format string, args ...any) {
	d.found = append(d.found, pipeline.Finding{Code: code, Severity: severity, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// directory looks at the directory, or at the one that it will be made in, and returns that.
func (d *fileDoctor) directory() (there string, ok bool) {
	broken := func(remedy, format string, args ...any) (string, bool) {
		d.add(codeDirUnusable, pipeline.SeverityBroken, remedy, format, args...)
		return "", false
	}
	there, err := filepath.Abs(d.config.Dir)
	if err != nil {
		return broken("name a directory", "%v", err)
	}
	for {
		info, err := os.Stat(there)
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.Dir(there) != there:
			there = filepath.Dir(there) // in which it will be made
			continue
		case err != nil:
			return broken("name a directory that this user can reach", "%v", err)
		case !info.IsDir():
			return broken("name a directory", "%s is a file", there)
		}
		break
	}
	if err := mayWrite(there); err != nil {
		return broken("give the user of the process the right to write there, or name another directory", "files can't be made in %s: %v", there, err)
	}
	return there, true
}

// space is what a disk has room for.
type space struct {
	free, total uint64 // bytes; free is what this user may take
	full        bool   // it has room for no more files, whatever their size
}

// disk judges the disk that the directory is on.
func (d *fileDoctor) disk(s space, files fileSet) {
	consequence := "messages are held when it is full"
	switch d.env.Role {
	case pipeline.RolePoisonQueue:
		consequence = "what is to be poisoned is held when it is full"
	case pipeline.RoleRecord:
		if r := d.env.Pipeline.Record; r == nil || r.OnError != "block" {
			consequence = "deliveries are not recorded when it is full"
		}
	}
	free, total := about(s.free), about(s.total)
	remedy := "free some of it, or name a directory on another one"
	switch {
	case s.full || s.free == 0:
		d.add(codeDiskFull, pipeline.SeverityBroken, remedy, "the disk of %s is full (%s of %s are free): %s", d.config.Dir, free, total, consequence)
	case float64(s.free) < leastFree*float64(s.total):
		d.add(codeDiskFull, pipeline.SeverityWarning, remedy, "the disk of %s is nearly full (%s of %s are free): %s", d.config.Dir, free, total, consequence)
	}
	if limit := uint64(max(d.config.MaxSize, 0)); limit > files.bytes && limit-files.bytes > s.free {
		d.add(codeSizeUnfit, pipeline.SeverityWarning, "set max_size to less, or give it a larger disk",
			"max_size is %s, and the disk of %s has room for %s (%s are free): it is full before the oldest files go", d.config.MaxSize, d.config.Dir, about(s.free+files.bytes), free)
	}
}

// fileSet is what the files of a pipeline in a directory come to.
type fileSet struct {
	count        int
	bytes        uint64
	oldest, last time.Time // of their last writes
}

// ownFiles looks at the files of that name. What can't be looked at is left out.
func ownFiles(dir, name string) fileSet {
	var set fileSet
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(e.Name(), name+"-") {
			continue
		}
		set.count++
		set.bytes += uint64(max(info.Size(), 0))
		if at := info.ModTime(); set.oldest.IsZero() || at.Before(set.oldest) {
			set.oldest = at
		}
		if at := info.ModTime(); at.After(set.last) {
			set.last = at
		}
	}
	return set
}

// pace says how much there is, and how much comes in a day, when the files tell.
func (s fileSet) pace() string {
	span := s.last.Sub(s.oldest)
	switch {
	case s.count == 0:
		return ""
	case span < time.Hour:
		return fmt.Sprintf(": %s in %d files", about(s.bytes), s.count)
	}
	daily := uint64(float64(s.bytes) * float64(24*time.Hour) / float64(span))
	return fmt.Sprintf(": %s in %d files, about %s a day", about(s.bytes), s.count, about(daily))
}

// poisonLook bounds the look at a poison queue, in messages.
const poisonLook = 10_000

// poisoned says what waits in a poison queue.
func (d *fileDoctor) poisoned(ctx context.Context) {
	count, damaged := 0, 0
	var oldest time.Time
	var reason string
	stop := errors.New("enough")
	queue, err := poison.Open(d.config.Dir, false)
	if err == nil {
		err = queue.Entries(ctx, func(e *pipeline.PoisonEntry) error {
			count++
			at, err := time.Parse(time.RFC3339Nano, e.Message.Metadata[pipeline.MetadataPoisonAt])
			if err == nil && (oldest.IsZero() || at.Before(oldest)) {
				oldest, reason = at, e.Message.Metadata[pipeline.MetadataPoisonReason]
			}
			if count == poisonLook {
				return stop
			}
			return nil
		}, func(error) { damaged++ })
		_ = queue.Close() // it was opened for reading
	}
	if err != nil && !errors.Is(err, stop) && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		d.add(codeDirUnusable, pipeline.SeverityWarning, "allow the user to read it", "what waits in the poison queue can't be read: %v", err)
	}
	if count == 0 && damaged == 0 {
		return
	}
	number := fmt.Sprint(count)
	if count == poisonLook {
		number = "more than " + fmt.Sprint(count-1)
	}
	what := fmt.Sprintf("messages in the poison queue %s: %s", d.config.Dir, number)
	if !oldest.IsZero() {
		what += fmt.Sprintf("; the oldest since %s: %s", oldest.UTC().Format("2006-01-02 15:04:05 MST"), reason)
	}
	if damaged > 0 {
		what += fmt.Sprintf("; places that are damaged: %d", damaged)
	}
	d.add(codePoisonWaits, pipeline.SeverityWarning, poisonWaitsRemedy, "%s", what)
}

// about is a number of bytes as people say it.
func about(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if size >= 10 || size == math.Trunc(size) {
		return fmt.Sprintf("%.0f %s", size, units[unit])
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}
