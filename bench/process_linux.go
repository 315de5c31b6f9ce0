package main

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// endWithParent has the kernel end the process when this one dies, however it dies.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// peakRSS returns the most memory that a running process has had resident, in bytes; 0 when it is not known.
//
// It is not the maxrss of wait4: a process starts on its parent's memory, and Linux counts that.
func peakRSS(pid int) int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(status, []byte("VmHWM:"))
	if !ok {
		return 0
	}
	kb, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}
