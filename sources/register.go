// Package sources holds the shipped sources, one file each.
package sources

import "github.com/penstock-dev/penstock/pipeline"

// Register adds the shipped sources to r and returns it.
func Register(r *pipeline.Registry) *pipeline.Registry {
	pipeline.AddSource[FileConfig](r, "file")
	pipeline.AddSource[GenerateConfig](r, "generate")
	pipeline.AddSource[SQSConfig](r, "sqs")
	return r.Document(Source)
}
