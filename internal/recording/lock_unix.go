//go:build linux || darwin

package recording

import (
	"errors"
	"os"
	"syscall"
)

func lock(f *os.File, how Locking) error {
	flags := map[Locking]int{Exclusive: syscall.LOCK_EX, Shared: syscall.LOCK_SH, TryExclusive: syscall.LOCK_EX | syscall.LOCK_NB}[how]
	for {
		err := syscall.Flock(int(f.Fd()), flags)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}

func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
