package transforms

import (
	"fmt"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// SplitConfig makes a message of every element of a list. They are settled together: the message they come from is
// acked when all of them are stored.
//
// Each has the id of the message it comes from, with "/" and its place in the list behind it, from 0: the same at every
// delivery. All have the metadata of that message. An empty list is filtered.
type SplitConfig struct {
	// A jq expression that makes a list, such as '.items', or '. as $o | [.items[] + {order: $o.id}]' for elements that
	// keep something of the whole. It sees the payload as ".", its metadata as $metadata and the time as $now, in seconds.
	// Anything but one list is an error.
	At            string `yaml:"at" required:"true" text:"free" example:".items"`
	OnErrorConfig `yaml:",inline"`
}

// Validate reports an expression that doesn't compile.
func (c *SplitConfig) Validate() error { return checkExpression("at", c.At) }

// NewTransform makes the transform. It is safe for concurrent use.
func (c *SplitConfig) NewTransform(env pipeline.Env) (pipeline.Transform, error) {
	at, err := compileExpr("at", c.At)
	if err != nil {
		return nil, err
	}
	failures := c.errors(env)
	return func(msg *message.Message) ([]*message.Message, error) {
		parts, err := split(msg, at)
		if err != nil {
			return failures.settle(msg, err)
		}
		return parts, nil
	}, nil
}

func split(msg *message.Message, at *expr) ([]*message.Message, error) {
	e, payload := evaluate(msg)
	v, _, err := e.one(at, payload)
	if err != nil {
		return nil, err
	}
	elements, ok := v.([]any)
	if !ok {
		return nil, reason.Errorf("at: want a list, got %s", kindOf(v))
	}
	parts := make([]*message.Message, len(elements))
	for i, element := range elements {
		data, err := encoded(element)
		if err != nil {
			return nil, reason.Errorf("at: element %d: %w", i, err)
		}
		part := message.NewMessage(fmt.Sprintf("%s/%d", msg.UUID, i), data)
		part.Metadata = maps.Clone(msg.Metadata)
		part.SetContext(msg.Context())
		parts[i] = part
	}
	return parts, nil
}

// kindOf says what a value is, in the words of JSON.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a text"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}
