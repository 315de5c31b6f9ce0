// Package penstock is the whole program as a library: a registry with all shipped components, and the command line.
//
// A program of your own with one more sink is a full penstock:
//
//	func main() {
//		penstock.Main(pipeline.AddSink[WebhookConfig](penstock.Builtins(), "webhook"))
//	}
package penstock

import (
	"os"

	"github.com/penstock-dev/penstock/internal/cli"
	"github.com/penstock-dev/penstock/internal/heap"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

// Builtins returns a new registry with all components that penstock ships. Registries share nothing: what is added to
// one is not in the next.
func Builtins() *pipeline.Registry {
	r := pipeline.NewRegistry()
	sources.Register(r)
	transforms.Register(r)
	sinks.Register(r)
	return r
}

// Main runs the command line with the components of registry and ends the process with its exit code: 0 done, 1 a
// pipeline failed, 2 usage or configuration, 128+n stopped at once by signal n. It does not return.
func Main(registry *pipeline.Registry) {
	heap.Tune(os.Getenv, os.DirFS("/"))
	os.Exit(cli.Main(registry))
}
