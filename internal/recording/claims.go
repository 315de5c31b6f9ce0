package recording

import (
	"fmt"
	"path/filepath"
	"sync"
)

// claims are the directories that parts of this process write recordings to, and those that they read from. A process
// that read what it writes would never end, so this is the one thing that is the process's and not an engine's.
var claims = struct {
	sync.Mutex
	writing, reading map[string][]*claim
}{writing: map[string][]*claim{}, reading: map[string][]*claim{}}

type claim struct{ who string }

// ClaimError says that one process would read what it writes.
type ClaimError struct {
	Dir            string
	Reader, Writer string
}

func (e *ClaimError) Error() string {
	return fmt.Sprintf("%s reads from %s, where %s writes in the same process: move the files to another directory, or let one of them use another",
		e.Reader, e.Dir, e.Writer)
}

// ClaimWrite says that who (such as "pipeline p: sink.file") writes files to dir from now until release is called. It
// fails with a [*ClaimError] when somebody reads from there.
func ClaimWrite(dir, who string) (release func(), err error) {
	key, err := realDir(dir)
	if err != nil {
		return nil, err
	}
	claims.Lock()
	defer claims.Unlock()
	if readers := claims.reading[key]; len(readers) > 0 {
		return nil, &ClaimError{Dir: dir, Reader: readers[0].who, Writer: who}
	}
	c := &claim{who}
	claims.writing[key] = append(claims.writing[key], c)
	return func() { drop(claims.writing, key, c) }, nil
}

// ClaimRead says that who reads the files from now until release is called. It fails with a [*ClaimError] when somebody
// writes to the directory of one of them.
func ClaimRead(files []string, who string) (release func(), err error) {
	dirs := make(map[string]string) // by where they really are
	for _, f := range files {
		// Of the file, not of its directory: a link to a file leads elsewhere.
		real, err := filepath.EvalSymlinks(f)
		if err != nil {
			return nil, err
		}
		if real, err = filepath.Abs(real); err != nil {
			return nil, err
		}
		dirs[filepath.Dir(real)] = filepath.Dir(f)
	}
	claims.Lock()
	defer claims.Unlock()
	for key, dir := range dirs {
		if writers := claims.writing[key]; len(writers) > 0 {
			return nil, &ClaimError{Dir: dir, Reader: who, Writer: writers[0].who}
		}
	}
	c := &claim{who}
	for key := range dirs {
		claims.reading[key] = append(claims.reading[key], c)
	}
	return func() {
		for key := range dirs {
			drop(claims.reading, key, c)
		}
	}, nil
}

func drop(m map[string][]*claim, key string, c *claim) {
	claims.Lock()
	defer claims.Unlock()
	for i, have := range m[key] {
		if have == c {
			m[key] = append(m[key][:i:i], m[key][i+1:]...)
			break
		}
	}
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

func realDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}
