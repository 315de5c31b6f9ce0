package transforms

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/ownwrite"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// CacheWriteConfig makes a cache write of any JSON message, by jq expressions: users' own data gets the same order as
// entitlements have, in every store that takes cache writes. The greatest version wins, whatever the order of arrival,
// however often a message comes.
//
// The expressions see the payload as ".", its metadata as $metadata and the time as $now, in seconds. A constant is an
// expression, too: '"settings"', 1, true.
type CacheWriteConfig struct {
	// A jq expression that makes the entry's key, without the store's prefix: a text that is not empty, or a whole
	// number. Such as .id, or '"order:\(.id // error("no id"))"': in a text, jq writes what is absent as null.
	Key string `yaml:"key" required:"true" text:"free" example:".id"`
	// A jq expression that makes the value: any JSON. "." stores the message as it is, without the blanks between its
	// parts; everything else is written anew: whole numbers keep their digits, other numbers are doubles, and members
	// stand in the order of their names.
	Value string `yaml:"value" default:"." text:"free"`
	// A jq expression that makes the version: a whole number from 1 to 2^63-1, or a time such as 2026-11-27T10:00:00Z
	// (RFC 3339), which counts as its milliseconds since 1970; what is finer is cut off. A time before March 1973 or more
	// than 24 hours ahead of the clock is an error. Without this setting, or where it makes null, the last write to
	// arrive wins.
	Version string `yaml:"version" text:"free" example:".version"`
	// A jq expression that makes the time when the fact was true, in the form of a version, where that is not the version
	// itself: it is compared before the version. Needs version.
	AsOf string `yaml:"as_of" text:"free" example:".updated_at"`
	// How long the entry lives instead of the store's ttl: a duration such as 24h, or a jq expression that makes seconds
	// or a text such as "90s"; negative is for ever, null is the store's ttl.
	TTL string `yaml:"ttl" text:"free" example:".ttl"`
	// A jq expression that says whether the entry is deleted: true or false. null is false. A delete has a version as a
	// value has.
	Delete string `yaml:"delete" text:"free" example:".deleted == true"`
	// Jq expressions that make keys, texts or lists of texts: the write is carried out only when one of these has a
	// version in the store. Without this setting it always is.
	IfAnyExists   []string `yaml:"if_any_exists" text:"free" example:"[.id]"`
	OnErrorConfig `yaml:",inline"`
}

// constantTTL reads a TTL that is a duration and no expression.
func (c *CacheWriteConfig) constantTTL() (time.Duration, bool) {
	ttl, err := time.ParseDuration(c.TTL)
	return ttl, err == nil
}

// Validate reports all broken rules at once.
func (c *CacheWriteConfig) Validate() error {
	errs := []error{
		checkExpression("key", c.Key), checkExpression("value", c.Value), checkExpression("version", c.Version),
		checkExpression("as_of", c.AsOf), checkExpression("delete", c.Delete),
	}
	if ttl, ok := c.constantTTL(); !ok {
		errs = append(errs, checkExpression("ttl", c.TTL))
	} else if ttl < time.Millisecond && ttl >= 0 || ttl > ownwrite.MaxTTL {
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("ttl", "want 1ms to %s, or negative for ever, got %s", ownwrite.MaxTTL, ttl)))
	}
	for i, x := range c.IfAnyExists {
		errs = append(errs, checkExpression(fmt.Sprintf("if_any_exists[%d]", i), x))
	}
	if c.AsOf != "" && c.Version == "" {
		errs = append(errs, code.Mark(code.Contradiction, pipeline.Invalid("as_of", "needs version")))
	}
	return errors.Join(errs...)
}

type cacheWriter struct {
	key, value, version, asOf, ttl, delete *expr
	whole                                  bool // the value is the message as it is
	ifAnyExists                            []*expr
	constantTTL                            time.Duration
	failures                               *expressionErrors
}

// NewTransform makes the transform. It is safe for concurrent use.
func (c *CacheWriteConfig) NewTransform(env pipeline.Env) (pipeline.Transform, error) {
	w := &cacheWriter{whole: c.Value == ".", failures: c.errors(env)}
	ttl := c.TTL
	if d, ok := c.constantTTL(); ok {
		w.constantTTL, ttl = d, ""
	}
	for _, f := range []struct {
		into          **expr
		field, source string
	}{
		{&w.key, "key", c.Key}, {&w.value, "value", c.Value}, {&w.version, "version", c.Version},
		{&w.asOf, "as_of", c.AsOf}, {&w.ttl, "ttl", ttl}, {&w.delete, "delete", c.Delete},
	} {
		x, err := compileExpr(f.field, f.source)
		if err != nil {
			return nil, err
		}
		*f.into = x
	}
	for i, source := range c.IfAnyExists {
		x, err := compileExpr(fmt.Sprintf("if_any_exists[%d]", i), source)
		if err != nil {
			return nil, err
		}
		w.ifAnyExists = append(w.ifAnyExists, x)
	}
	return w.transform, nil
}

func (w *cacheWriter) transform(msg *message.Message) ([]*message.Message, error) {
	write, err := w.write(msg)
	if err != nil {
		return w.failures.settle(msg, err)
	}
	msg.Payload = cache.Append(nil, write)
	return []*message.Message{msg}, nil
}

func (w *cacheWriter) write(msg *message.Message) (write cache.Write, err error) {
	e, input := evaluate(msg)
	if write.Key, err = e.key(w.key, input); err != nil {
		return write, err
	}
	if write.Version, err = e.version(w.version, input); err != nil {
		return write, err
	}
	if write.AsOf, err = e.version(w.asOf, input); err != nil {
		return write, err
	}
	switch {
	case write.AsOf == 0:
		write.AsOf = write.Version // so that it is remembered when the entry has expired
	case write.Version == 0:
		return write, reason.New("as_of: there is a time, and no version")
	}
	if write.Delete, err = e.boolean(w.delete, input); err != nil {
		return write, err
	}
	if !write.Delete {
		if write.Value, err = w.newValue(e, input); err != nil {
			return write, err
		}
		if write.TTL, err = e.ttl(w.ttl, input, w.constantTTL); err != nil {
			return write, err
		}
	}
	write.IfAnyExists, err = e.keys(w.ifAnyExists, input)
	return write, err
}

func (w *cacheWriter) newValue(e *evaluation, input any) ([]byte, error) {
	var value []byte
	if w.whole && e.isJSON {
		value = jsonscan.AppendCompact(nil, e.msg.Payload[jsonscan.Space(e.msg.Payload, 0):])
	} else {
		v, made, err := e.one(w.value, input)
		switch {
		case err != nil:
			return nil, err
		case !made:
			return nil, reason.New("value: the expression makes no value")
		}
		if value, err = encoded(v); err != nil {
			return nil, reason.Errorf("value: %w", err)
		}
	}
	if err := ownwrite.Unfit(value); err != nil {
		return nil, reason.Errorf("value: %w", err)
	}
	return value, nil
}

// key is a key that x makes.
func (e *evaluation) key(x *expr, input any) (string, error) {
	v, _, err := e.one(x, input)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		if v != "" {
			return v, nil
		}
	case int:
		return strconv.Itoa(v), nil
	case *big.Int:
		return v.String(), nil
	}
	return "", reason.Errorf("%s: want a key: a text that is not empty, or a whole number, got %.100s", x.field, shown(v))
}

// keys are the keys that expressions make: texts, or lists of texts.
func (e *evaluation) keys(xs []*expr, input any) ([]string, error) {
	var all []string
	for _, x := range xs {
		v, _, err := e.one(x, input)
		if err != nil {
			return nil, err
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, element := range list {
			key, ok := element.(string)
			if !ok || key == "" {
				return nil, reason.Errorf("%s: want texts that are not empty, got %.100s", x.field, shown(element))
			}
			all = append(all, key)
		}
	}
	if len(xs) > 0 && len(all) == 0 {
		return nil, reason.New("if_any_exists: the expressions make no key")
	}
	return all, nil
}

func (e *evaluation) boolean(x *expr, input any) (bool, error) {
	if x == nil {
		return false, nil
	}
	v, _, err := e.one(x, input)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok && v != nil {
		return false, reason.Errorf("%s: want true or false, got %.100s", x.field, shown(v))
	}
	return b, nil
}

// version is a version that x makes; 0 is none.
func (e *evaluation) version(x *expr, input any) (int64, error) {
	if x == nil {
		return 0, nil
	}
	v, made, err := e.one(x, input)
	if err != nil || !made || v == nil {
		return 0, err
	}
	n, wrong := ownwrite.Version(shown(v), pipeline.Now(e.ctx))
	if wrong != "" {
		return 0, reason.Errorf("%s: want %s, got %.100s", x.field, wrong, shown(v))
	}
	return n, nil
}

// ttl is how long the entry lives; 0 is as long as the store says.
func (e *evaluation) ttl(x *expr, input any, constant time.Duration) (time.Duration, error) {
	if x == nil {
		return constant, nil
	}
	v, made, err := e.one(x, input)
	if err != nil || !made || v == nil {
		return 0, err
	}
	ttl, ok := ownwrite.TTL(shown(v))
	if !ok {
		return 0, reason.Errorf(`%s: want a TTL: seconds, or text such as "90s", of 1ms to %s, or negative, got %.100s`, x.field, ownwrite.MaxTTL, shown(v))
	}
	return ttl, nil
}

// shown is a value as JSON.
func shown(v any) json.RawMessage {
	data, err := expression.Encode(v)
	if err != nil {
		return nil
	}
	return data
}
