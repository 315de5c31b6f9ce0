package awsclient

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Attributes by which the sqs sink carries what SQS can't, and which the sqs source resolves.
const (
	// AttributeEncoding says how the body stands for the payload: "base64", for one that is not text, or "empty".
	AttributeEncoding = "penstock_encoding"
	// AttributeMetadata holds the metadata that is beyond SQS's limits of attributes, see [PackMetadata].
	AttributeMetadata = "penstock_metadata"
)

// PackMetadata puts metadata into one text of characters that SQS takes: a JSON object of strings; what isn't UTF-8 is
// base64 in a list of one.
func PackMetadata(metadata map[string]string) string {
	object := make(map[string]any, len(metadata))
	for k, v := range metadata {
		if utf8.ValidString(v) {
			object[k] = v
		} else {
			object[k] = [][]byte{[]byte(v)} // JSON has base64 for bytes
		}
	}
	b, _ := json.Marshal(object) // strings and bytes always can be
	return beyondXML.Replace(string(b))
}

// beyondXML escapes the characters that JSON leaves as they are and XML doesn't have.
var beyondXML = strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`)

// UnpackMetadata is the inverse of [PackMetadata]. It reports false when the text is something else.
func UnpackMetadata(text string) (map[string]string, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil {
		return nil, false
	}
	metadata := make(map[string]string, len(object))
	for k, raw := range object {
		var s string
		var list [][]byte
		switch {
		case json.Unmarshal(raw, &s) == nil:
			metadata[k] = s
		case json.Unmarshal(raw, &list) == nil && len(list) == 1:
			metadata[k] = string(list[0])
		default:
			return nil, false
		}
	}
	return metadata, true
}
