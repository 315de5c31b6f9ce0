// Command custom-sink is penstock with one more sink: webhook.
package main

import (
	"embed"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/pipeline"
)

// The comments in webhook.go are the help of "components webhook".
//
//go:embed webhook.go
var source embed.FS

func main() {
	registry := pipeline.AddSink[WebhookConfig](penstock.Builtins(), "webhook")
	penstock.Main(registry.Document(source))
}
