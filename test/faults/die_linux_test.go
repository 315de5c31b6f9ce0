package faults

import "syscall"

// dieWithParent has the kernel kill a program when the test binary dies without its cleanups.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
