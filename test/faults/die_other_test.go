//go:build !linux

package faults

import "syscall"

// dieWithParent needs Linux.
func dieWithParent() *syscall.SysProcAttr { return nil }
