package sinks

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
)

// nobody is a user without rights.
const nobody = 65534

func TestFile_doctorFindsADirectoryWithoutRights(t *testing.T) {
	dir, err := os.MkdirTemp("", "penstock-doctor-") // not t.TempDir, which nobody may look into
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	done := make(chan []string)
	go func() {
		defer close(done)
		if os.Getuid() == 0 {
			runtime.LockOSThread() // for good: the thread ends with the goroutine, and its user with it
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				t.Error(errno)
				return
			}
		}
		done <- diagnoseFile(t, &FileConfig{Dir: filepath.Join(dir, "recordings")}, pipeline.RoleRecord)
	}()
	wantFindings(t, <-done, "PS311 broken files can't be made in "+dir+": access "+dir+": permission denied")
}
