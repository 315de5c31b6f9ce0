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
	return writeSchema(w, r, inside.Schema)
}

// WriteTestsSchema writes the JSON Schema of files of tests beside a pipeline. See [WriteSchema].
func WriteTestsSchema(w io.Writer, r *pipeline.Registry) error {
	return writeSchema(w, r, inside.TestsSchema)
}

func writeSchema(w io.Writer, r *pipeline.Registry, of func(any) (map[string]any, error)) error {
	schema, err := of(r)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(schema)
}
