package pipeline_test

import (
	"errors"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/pipeline"
)

func TestWorst_hasTheOutcomeOfThePartThatDecides(t *testing.T) {
	plain := func(text string) error { return errors.New(text) }
	for name, c := range map[string]struct {
		errs    []error
		text    string
		outcome func(error) bool
		delay   time.Duration
	}{
		"one of two":            {errs: []error{nil, pipeline.Permanent(plain("a"))}, text: "a", outcome: pipeline.IsPermanent},
		"away before retryable": {errs: []error{plain("a"), pipeline.Unavailable(plain("b"))}, text: "a\nb", outcome: pipeline.IsUnavailable},
		"fatal before away":     {errs: []error{pipeline.Fatal(plain("a")), pipeline.Unavailable(plain("b"))}, text: "a\nb", outcome: pipeline.IsFatal},
		"all permanent":         {errs: []error{pipeline.Permanent(plain("a")), pipeline.Permanent(plain("b"))}, text: "a\nb", outcome: pipeline.IsPermanent},
		"one reading is told once": {errs: []error{plain("a"), plain("a"), plain("b"), plain("a")}, text: "a\nb",
			outcome: func(err error) bool { return !pipeline.IsPermanent(err) && !pipeline.IsUnavailable(err) }},
		"one reading, several outcomes": {errs: []error{pipeline.Permanent(plain("a")), pipeline.Unavailable(plain("a"))}, text: "a", outcome: pipeline.IsUnavailable},
		"the longest delay": {errs: []error{pipeline.RetryAfter(plain("a"), time.Second), pipeline.RetryAfter(plain("a"), time.Minute)}, text: "a",
			outcome: func(err error) bool { return !pipeline.IsPermanent(err) }, delay: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			err := pipeline.Worst(c.errs...)
			if err == nil || err.Error() != c.text {
				t.Fatalf("got %v, want %q", err, c.text)
			}
			if !c.outcome(err) {
				t.Errorf("the outcome of %v is another one", err)
			}
			if got := pipeline.RetryDelay(err); got != c.delay {
				t.Errorf("delay %s, want %s", got, c.delay)
			}
		})
	}
	if err := pipeline.Worst(nil, nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}
