//go:build unix

package poison

import (
	"io/fs"
	"os"
	"syscall"
)

// give makes a file belong to whom another belongs to, as far as this process may: who runs the pipeline must be able
// to read what an administrator has rewritten.
func give(f *os.File, like fs.FileInfo) {
	if s, ok := like.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(s.Uid), int(s.Gid))
	}
}
