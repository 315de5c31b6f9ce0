package recording

import (
	"errors"
	"os"
)

// Locking is how a file is locked.
type Locking int

// The ways: alone, together with others that only read, and alone or not at all.
const (
	Exclusive Locking = iota
	Shared
	TryExclusive
)

// ErrLocked says that somebody else has the lock.
var ErrLocked = errors.New("locked by another process")

// Lock locks an open file against other processes and other openers in this one (flock). It waits for the lock, but
// for TryExclusive. The lock ends with [Unlock], when the file is closed, and when the process ends, however it does.
// A file system without locks gives an error that is not [ErrLocked].
func Lock(f *os.File, how Locking) error { return lock(f, how) }

// Unlock ends a lock.
func Unlock(f *os.File) error { return unlock(f) }
