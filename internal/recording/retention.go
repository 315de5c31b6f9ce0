package recording

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Retention bounds the files of a writer's name in its directory, those of other processes included: the oldest go.
type Retention struct {
	// Keep is how long a file stays after the last write to it; 0 is for ever.
	Keep time.Duration
	// MaxBytes is how much all files may hold together, as they lie there; 0 is no bound.
	MaxBytes int64
	// Removed is told of files that have gone, and of the error that ended it, if there was one.
	Removed func(files int, bytes int64, err error)
}

// ours matches what follows the writer's name in the name of a file.
var ours = regexp.MustCompile(`^-\d{8}T\d{6}\.\d{9}Z-.*-\d{6}\.ndjson(\.gz|\.zst)?$`)

// enforce removes what is too old or too much, but never the file called current. A replica on the same volume may do
// the same at the same time.
func (r *Retention) enforce(dir, name, current string) {
	if r.Keep <= 0 && r.MaxBytes <= 0 {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.Removed(0, 0, err)
		return
	}
	type file struct {
		name    string
		size    int64
		written time.Time
	}
	var files []file
	var total int64
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), name)
		if !ok || !ours.MatchString(rest) {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone meanwhile, or none that a writer made
		}
		files = append(files, file{e.Name(), info.Size(), info.ModTime()})
		total += info.Size()
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) }) // by the time in the name
	removed, bytes, now := 0, int64(0), time.Now()
	var failed error
	for _, f := range files {
		tooOld := r.Keep > 0 && now.Sub(f.written) > r.Keep
		if f.name == current || !tooOld && (r.MaxBytes <= 0 || total <= r.MaxBytes) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.name)); err != nil && !os.IsNotExist(err) {
			failed = cmp.Or(failed, err)
			continue
		} else if err == nil {
			removed++
			bytes += f.size
		}
		total -= f.size
	}
	if removed > 0 || failed != nil {
		r.Removed(removed, bytes, failed)
	}
}
