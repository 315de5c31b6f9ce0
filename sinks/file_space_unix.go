//go:build linux || darwin

package sinks

import (
	"os"
	"syscall"
)

// mayWrite returns why this user may not make files in the directory, or nil.
func mayWrite(dir string) error {
	const write, search = 2, 1
	if err := syscall.Access(dir, write|search); err != nil {
		return &os.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

// spaceOf returns what the disk of the directory has room for.
func spaceOf(dir string) (space, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return space{}, err
	}
	block := uint64(s.Bsize)
	return space{free: s.Bavail * block, total: s.Blocks * block, full: s.Files > 0 && s.Ffree == 0}, nil
}
