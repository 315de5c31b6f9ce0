package sinks

import "embed"

// Source is the source text of the sinks: their doc comments are the reference documentation.
//
//go:embed *.go memory/memory.go redis/config.go redis/plain.go
var Source embed.FS
