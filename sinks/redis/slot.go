package redis

import "strings"

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// slotOf returns the hash slot of a key: CRC-16/XMODEM of its hash tag, or of all of it, modulo the number of slots
// (Redis Cluster specification, "Hash tags").
func slotOf(key string) int {
	key = hashed(key)
	var crc uint16
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return int(crc % slots)
}

// hashed returns what of a key decides about its slot: what stands between the first { and the first } after it, unless
// that is nothing.
func hashed(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			return tag
		}
	}
	return key
}

// hasTag reports whether text, at the begin of keys, has them all in one slot.
func hasTag(text string) bool { return hashed(text) != text }

var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			high := crc&0x8000 != 0
			crc <<= 1
			if high {
				crc ^= 0x1021
			}
		}
		table[i] = crc
	}
	return table
}()
