// Package entitlement is the domain: it turns an entitlement provider's events into cache writes ([Decoder]), in the
// key layouts that the provider's SDKs read ([Layout]), and reads a cache the way those SDKs do ([Inspect]).
//
// docs/events.md describes the events, docs/cache-layout.md the keys and values.
package entitlement

import (
	"fmt"
	"strconv"
)

// Error says why an event doesn't decode, and where. It is about the event: trying again gives the same error.
type Error struct {
	// Path is the place in the event, such as "entitlements[2].feature.refId"; "" is the event as a whole.
	Path string
	// What is wrong, such as "want a string, got a number".
	What string
	// Byte is the place in the text, from 1; 0 when the fault has no place, such as a missing member.
	Byte int
}

func (e *Error) Error() string {
	s := e.What
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Byte > 0 {
		s += " (byte " + strconv.Itoa(e.Byte) + ")"
	}
	return s
}

func errorAt(path, format string, args ...any) *Error {
	return &Error{Path: path, What: fmt.Sprintf(format, args...)}
}

// Layout is a set of keys and values that a generation of SDKs reads.
type Layout string

// The layouts.
const (
	// LayoutDual is read by SDKs 3.x and 4.x: the layout of 3.x, complete, with what 4.x needs beside it.
	LayoutDual Layout = "dual"
	// LayoutV3 is what the 3.x SDK itself writes.
	LayoutV3 Layout = "v3"
	// LayoutV4 is the layout of SDK 4.12 and later, credits included, as far as it is known.
	LayoutV4 Layout = "v4"
)
