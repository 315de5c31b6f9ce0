package transforms

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// OnErrorConfig is what happens to a message on which an expression fails, or makes what nothing can be done with.
type OnErrorConfig struct {
	// What happens to a message on which an expression fails: it goes to the poison queue ("poison"), is dropped
	// ("filter"), or is given back to the source ("release"). All three are counted by
	// penstock_expression_errors_total.
	OnError string `yaml:"on_error" default:"poison" enum:"poison,filter,release"`
}

// The variables of an expression, beside its input, the payload.
var expressionVariables = []string{"$metadata", "$now"}

// checkExpression reports what is wrong with the expression of a field; "" is none.
func checkExpression(field, source string) error {
	if source == "" {
		return nil
	}
	if _, err := expression.Compile(source, expressionVariables...); err != nil {
		return code.Mark(code.BadExpression, pipeline.Invalid(field, "the jq expression does not compile: %w", err))
	}
	return nil
}

// expr is an expression of a transform.
type expr struct {
	*expression.Expression
	field    string
	metadata bool // whether it looks at $metadata
}

// compileExpr compiles the expression of a field; nil when source is empty.
func compileExpr(field, source string) (*expr, error) {
	if source == "" {
		return nil, nil
	}
	x, err := expression.Compile(source, expressionVariables...)
	if err != nil {
		return nil, err
	}
	return &expr{Expression: x, field: field, metadata: strings.Contains(source, "$metadata")}, nil
}

// evaluation is the work of expressions on one message.
type evaluation struct {
	ctx       context.Context
	msg       *message.Message
	variables [2]any
	isJSON    bool // the payload; or else it is taken for a text
}

// evaluate begins the work on a message; the input of its expressions is the payload.
func evaluate(msg *message.Message) (e *evaluation, input any) {
	ctx := msg.Context()
	now := float64(pipeline.Now(ctx).UnixMicro()) / float64(time.Second/time.Microsecond)
	e = &evaluation{ctx: ctx, msg: msg, variables: [2]any{nil, now}}
	input, e.isJSON = expression.Payload(msg.Payload)
	return e, input
}

func (e *evaluation) bind(x *expr) []any {
	if x.metadata && e.variables[0] == nil {
		e.variables[0] = expression.Metadata(e.msg.Metadata)
	}
	return e.variables[:]
}

// matches reports whether x makes something of input that is neither false nor null.
func (e *evaluation) matches(x *expr, input any) (bool, error) {
	matches, err := x.Matches(e.ctx, input, e.bind(x)...)
	if err != nil {
		return false, x.failed(err)
	}
	return matches, nil
}

// one returns the only value that x makes of input; ok is false when it makes none. A number that JSON can't say is an
// error.
func (e *evaluation) one(x *expr, input any) (v any, ok bool, err error) {
	values, err := x.Values(e.ctx, input, e.bind(x)...)
	switch {
	case err != nil:
		return nil, false, x.failed(err)
	case len(values) == 0:
		return nil, false, nil
	case len(values) > 1:
		return nil, false, reason.Errorf("%s: the expression makes %d values, want one", x.field, len(values))
	case !finite(values[0]):
		return nil, false, reason.Errorf("%s: a number is beyond a double, or no number: readers would take it for something else", x.field)
	}
	return values[0], true, nil
}

// failed keeps apart what the expression says, which may hold anything of the message.
func (x *expr) failed(err error) error {
	return reason.Errorf("%s: the expression fails: %v", x.field, err)
}

// finite reports whether all numbers in v are ones that JSON can say.
func finite(v any) bool {
	switch v := v.(type) {
	case float64:
		return !math.IsInf(v, 0) && !math.IsNaN(v)
	case []any:
		for _, e := range v {
			if !finite(e) {
				return false
			}
		}
	case map[string]any:
		for _, e := range v {
			if !finite(e) {
				return false
			}
		}
	}
	return true
}

// expressionErrors settles messages on which expressions fail.
type expressionErrors struct {
	onError string
	count   prometheus.Counter
}

func (c OnErrorConfig) errors(env pipeline.Env) *expressionErrors {
	count := pipeline.RegisterMetric(env.Metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "penstock_expression_errors_total",
		Help: "Messages on which an expression of a transform failed, by the transform's place in the pipeline and by what happened to them (on_error).",
	}, []string{"stage", "on_error"}))
	return &expressionErrors{onError: c.OnError, count: count.WithLabelValues(env.Path, c.OnError)}
}

// settle does with msg what on_error says, unless it is the attempt that has ended.
func (e *expressionErrors) settle(msg *message.Message, err error) ([]*message.Message, error) {
	if ended := msg.Context().Err(); ended != nil {
		return nil, ended
	}
	e.count.Inc()
	switch e.onError {
	case "filter":
		return nil, nil
	case "release":
		return nil, inside.Release(err)
	}
	return nil, pipeline.Permanent(err)
}
