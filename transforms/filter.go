package transforms

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/pipeline"
)

// FilterConfig lets messages pass for which a jq expression is true, and drops the others: they count as filtered.
//
// The expression sees the payload as ".", its metadata as $metadata and the time as $now, in seconds. A payload that is
// no JSON is a text.
type FilterConfig struct {
	// A jq expression, such as '.total >= 3 and $metadata.source == "shop"'. The message passes when some value that it
	// makes is neither false nor null.
	If            string `yaml:"if" required:"true" text:"free" example:".amount > 0"`
	OnErrorConfig `yaml:",inline"`
}

var _ configfacts.PassThrough = (*FilterConfig)(nil)

// PassesThrough says that messages stay what they are.
func (c *FilterConfig) PassesThrough() {}

// Validate reports an expression that doesn't compile.
func (c *FilterConfig) Validate() error { return checkExpression("if", c.If) }

// NewTransform makes the transform. It is safe for concurrent use.
func (c *FilterConfig) NewTransform(env pipeline.Env) (pipeline.Transform, error) {
	condition, err := compileExpr("if", c.If)
	if err != nil {
		return nil, err
	}
	failures := c.errors(env)
	return func(msg *message.Message) ([]*message.Message, error) {
		e, payload := evaluate(msg)
		passes, err := e.matches(condition, payload)
		switch {
		case err != nil:
			return failures.settle(msg, err)
		case !passes:
			return nil, nil
		}
		return []*message.Message{msg}, nil
	}, nil
}
