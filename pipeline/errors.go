package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// A component reports what should happen to a message by the error that it returns. A plain error is retryable;
// the wrappers below say otherwise. They survive fmt.Errorf("…: %w", err) and errors.Join.
type outcomeError struct {
	kind  errorKind
	delay time.Duration
	err   error
}

type errorKind uint8

const (
	kindRetryable errorKind = iota
	kindUnavailable
	kindPermanent
	kindFatal
)

func (e *outcomeError) Error() string { return e.err.Error() }
func (e *outcomeError) Unwrap() error { return e.err }

func wrap(kind errorKind, err error) error {
	if err == nil {
		return nil
	}
	return &outcomeError{kind: kind, err: err}
}

// Unavailable says that the component's backend is away, whatever the message. The engine counts no attempt: it
// closes the pipeline's gate, holds what it has, lets one message probe, and reopens gradually. A transform's gate is
// one of its own, which holds only the messages that have found the backend away. It returns nil when err is nil.
func Unavailable(err error) error { return wrap(kindUnavailable, err) }

// Permanent says that this input will fail however often it is tried. The engine stores the original in the poison
// queue and acks it; without a poison queue the message is released and counted. It returns nil when err is nil.
func Permanent(err error) error { return wrap(kindPermanent, err) }

// Fatal says that configuration or credentials are broken: the pipeline stops, and the process exits with 1.
// It returns nil when err is nil.
func Fatal(err error) error { return wrap(kindFatal, err) }

// RetryAfter says that the backend asked for patience: the next attempt comes no sooner than after d.
// It returns nil when err is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &outcomeError{kind: kindRetryable, delay: d, err: err}
}

// IsUnavailable reports whether err, or an error it wraps, was made by [Unavailable].
func IsUnavailable(err error) bool { return kindOf(err) == kindUnavailable }

// IsPermanent reports whether err, or an error it wraps, was made by [Permanent].
func IsPermanent(err error) bool { return kindOf(err) == kindPermanent }

// IsFatal reports whether err, or an error it wraps, was made by [Fatal].
func IsFatal(err error) bool { return kindOf(err) == kindFatal }

// RetryDelay returns the delay that [RetryAfter] put on err, or 0.
func RetryDelay(err error) time.Duration {
	if e, ok := errors.AsType[*outcomeError](err); ok {
		return e.delay
	}
	return 0
}

func kindOf(err error) errorKind {
	if e, ok := errors.AsType[*outcomeError](err); ok {
		return e.kind
	}
	return kindRetryable
}

// Worst joins the errors of several parts of one delivery (nil ones are left out) into one that has the outcome of
// the part that decides: what is fatal, then what says that a backend is away, then what can be retried, with the
// longest delay asked for; permanent only when all of them are. Errors of the same text are listed once: a thousand
// writes that failed for one reason have one. It returns nil when all are nil.
func Worst(errs ...error) error {
	rank := [...]int{kindPermanent: 0, kindRetryable: 1, kindUnavailable: 2, kindFatal: 3}
	w := outcomeError{kind: kindPermanent}
	var all []error // each reading once, that with the worst outcome
	var at map[string]int
	for _, err := range errs {
		if err == nil {
			continue
		}
		text := err.Error()
		if at == nil {
			at = map[string]int{}
		}
		if i, told := at[text]; !told {
			at[text] = len(all)
			all = append(all, err)
		} else if rank[kindOf(err)] > rank[kindOf(all[i])] {
			all[i] = err
		}
		w.delay = max(w.delay, RetryDelay(err))
		if kind := kindOf(err); rank[kind] > rank[w.kind] {
			w.kind = kind
		}
	}
	if len(all) == 0 {
		return nil
	}
	if w.err = all[0]; len(all) > 1 {
		w.err = errors.Join(all...)
	} else if RetryDelay(w.err) == w.delay {
		return w.err
	}
	return &w
}

// FieldError is a broken rule of one field, for a config's Validate. Field is the YAML path inside the component,
// such as "ttl" or "tls.ca_file"; an empty Field means the component as a whole.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

func (e *FieldError) Unwrap() error { return e.Err }

// Invalid makes a [FieldError]. Validate joins several with errors.Join, so that all are reported at once.
func Invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// CheckTags reports what breaks the rules that the tags of a config declare (range, pattern, needs, excludes, either),
// those of the structs in it included, each problem made by [Invalid]; config is a struct with the tags that
// [SourceConfig] describes, or a pointer to one. [Load] checks them by itself: this is for configs that are made in Go.
func CheckTags(config any) error { return checkTags(config) }

func checkTags(config any, skip ...string) error {
	var errs []error
	for _, r := range language.Broken(reflect.ValueOf(config), skip...) {
		errs = append(errs, code.Mark(r.Code, Invalid(r.Path, "%w", yamlfile.TagError(r.What))))
	}
	return errors.Join(errs...)
}
