package transforms

import (
	"errors"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// MapConfig makes a new payload, or new metadata, of a message by jq expressions.
//
// They see the payload as ".", the metadata as $metadata and the time as $now, in seconds; all of them see the message
// as it came in. A payload that is no JSON is a text. Whole numbers keep their digits, other numbers are doubles: 7.50
// becomes 7.5. Members are written in the order of their names.
type MapConfig struct {
	// A jq expression that makes the new payload, such as '{id, total: (.price * .count)}'; without it the payload stays
	// as it is. A message for which it makes nothing (empty) is filtered; more than one value is an error: split makes
	// several messages of one.
	To string `yaml:"to" text:"free" example:".data"`
	// Writes a text without its quotes: for a payload that is no JSON. Values of other kinds are written as JSON all the
	// same.
	Raw bool `yaml:"raw" default:"false"`
	// Metadata to set: by name a jq expression that makes a text, a number or a boolean, or null to take the metadata
	// away. Lists and objects are written as JSON.
	Metadata      map[string]string `yaml:"metadata" text:"free" example:"{type: .type}"`
	OnErrorConfig `yaml:",inline"`
}

// Validate reports all broken rules at once.
func (c *MapConfig) Validate() error {
	errs := []error{checkExpression("to", c.To)}
	if c.To == "" && len(c.Metadata) == 0 {
		errs = append(errs, code.Mark(code.Required, pipeline.Invalid("", "has nothing to do: set to, or metadata")))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Metadata)) {
		if c.Metadata[name] == "" {
			errs = append(errs, code.Mark(code.Required, pipeline.Invalid("metadata."+name, `want a jq expression; null takes the metadata away`)))
		}
		errs = append(errs, checkExpression("metadata."+name, c.Metadata[name]))
	}
	return errors.Join(errs...)
}

type mapping struct {
	to       *expr
	raw      bool
	names    []string
	metadata []*expr
	failures *expressionErrors
}

// NewTransform makes the transform. It is safe for concurrent use.
func (c *MapConfig) NewTransform(env pipeline.Env) (pipeline.Transform, error) {
	to, err := compileExpr("to", c.To)
	if err != nil {
		return nil, err
	}
	m := &mapping{to: to, raw: c.Raw, failures: c.errors(env)}
	for _, name := range slices.Sorted(maps.Keys(c.Metadata)) {
		x, err := compileExpr("metadata."+name, c.Metadata[name])
		if err != nil {
			return nil, err
		}
		m.names, m.metadata = append(m.names, name), append(m.metadata, x)
	}
	return m.transform, nil
}

func (m *mapping) transform(msg *message.Message) ([]*message.Message, error) {
	e, input := evaluate(msg)
	texts := make([]*string, len(m.names)) // nil: taken away
	for i, x := range m.metadata {
		v, made, err := e.one(x, input)
		if err != nil {
			return m.failures.settle(msg, err)
		}
		if !made || v == nil {
			continue
		}
		text, err := textOf(v)
		if err != nil {
			return m.failures.settle(msg, err)
		}
		texts[i] = &text
	}
	if m.to != nil {
		v, made, err := e.one(m.to, input)
		if err != nil {
			return m.failures.settle(msg, err)
		}
		if !made {
			return nil, nil
		}
		payload, err := m.payload(v)
		if err != nil {
			return m.failures.settle(msg, err)
		}
		msg.Payload = payload
	}
	for i, name := range m.names {
		if texts[i] == nil {
			delete(msg.Metadata, name)
		} else {
			msg.Metadata.Set(name, *texts[i])
		}
	}
	return []*message.Message{msg}, nil
}

func (m *mapping) payload(v any) ([]byte, error) {
	if text, ok := v.(string); ok && m.raw {
		return []byte(text), nil
	}
	return encoded(v)
}

// textOf is a value as metadata: a text as it is, everything else as JSON.
func textOf(v any) (string, error) {
	if text, ok := v.(string); ok {
		return text, nil
	}
	data, err := encoded(v)
	return string(data), err
}

// maxResult is how large what an expression makes may be.
const maxResult = 16 << 20

func encoded(v any) ([]byte, error) {
	data, err := expression.Encode(v)
	if err != nil {
		return nil, reason.Errorf("the value that the expression makes is no JSON: %v", err)
	}
	if len(data) > maxResult {
		return nil, reason.Errorf("the expression makes %d bytes, more than 16 MiB", len(data))
	}
	return data, nil
}
