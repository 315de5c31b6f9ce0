package sources

import "embed"

// Source is this package's source code: the doc comments of its config types are the reference documentation.
//
//go:embed *.go sqs/config.go
var Source embed.FS
