// Package sources holds the shipped sources, one file each.
package sources

import (
	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources/sqs"
)

// SQSConfig declares the sqs source; see [sqs.Config].
type SQSConfig = sqs.Config

// Register adds the shipped sources to r and returns it.
func Register(r *pipeline.Registry) *pipeline.Registry {
	pipeline.AddSource[FileConfig](r, "file")
	pipeline.AddSource[GenerateConfig](r, "generate")
	pipeline.AddSource[SQSConfig](r, "sqs")
	return r.Document(Source).Document(awsclient.ConfigSource)
}
