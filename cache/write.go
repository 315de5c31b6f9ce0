// Package cache defines cache writes: the form in which decoders tell stores what a cache should hold.
package cache

import "time"

// Write is one versioned write of one key. Decoders make writes, stores carry them out.
//
// Writes to one key have one total order, (AsOf, Version, a delete before a value, bytes of the value), and the
// greatest wins, whatever the order of arrival. A store decides that in one atomic step per key.
//
// Keys, IfAnyExists and Lock are without the store's prefix.
type Write struct {
	// Key of the entry: any bytes, not empty.
	Key string
	// Value is the entry's new value: one JSON text without line breaks. Nil with Delete.
	Value []byte
	// Version is what readers and foreign writers compare: epoch milliseconds in practice, 1 to 2^63-1. 0 means that the
	// write has no version: the last arrival wins.
	Version int64
	// AsOf is when the fact was true: epoch milliseconds, 1 to 2^63-1. 0 means that Version is both clocks; such
	// a key is never the object of a Delete, and the store keeps no clocks beside the version.
	AsOf int64
	// Delete removes the entry, its version included, so that readers see a clean miss.
	Delete bool
	// IfAnyExists, when not empty, makes the write conditional: it is carried out only when one of these keys has a
	// stored version.
	IfAnyExists []string
	// TTL is how long the entry shall live from the write on, in whole milliseconds: 0 means as long as the store is set
	// to let entries live, negative for ever. It has no part in the order: the write that wins brings its own.
	TTL time.Duration
	// Lock is a key that a foreign writer of this entry may hold, or "".
	Lock string
}
