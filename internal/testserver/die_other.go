//go:build !linux

package testserver

import "os/exec"

// dieWithParent needs Linux: elsewhere a test binary that dies without its cleanups leaves its servers behind.
func dieWithParent(*exec.Cmd) {}
