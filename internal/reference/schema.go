package reference

import (
	"encoding/json"
	"io"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
)

// WriteSchema writes the JSON Schema of pipeline files with all components in r. The same registry gives the same
// bytes. The error is w's, or that of documentation that can't be read.
func WriteSchema(w io.Writer, r *pipeline.Registry) error {
	schema, err := inside.Schema(r)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(schema)
}
