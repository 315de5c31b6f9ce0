package testserver

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the server when the test binary dies without its cleanups, by a panic or a timeout.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
