package reason_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/penstock-dev/penstock/internal/reason"
)

func TestErrorf_saysAllInItsTextAndNothingFromOutsideInItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		err          error
		text, reason string
	}{
		"a constant":        {reason.New("100 % broken"), "100 % broken", "100 % broken"},
		"values":            {reason.Errorf("queue %s has %5.1f %% of %q", "CANARY", 7.0, "CANARY"), `queue CANARY has   7.0 % of "CANARY"`, "queue … has … % of …"},
		"an error behind":   {reason.Errorf("no answer: %w", errors.New("CANARY")), "no answer: CANARY", "no answer"},
		"an error in front": {reason.Errorf("%w after %d attempts: %w", reason.New("retry budget spent"), 5, io.EOF), "retry budget spent after 5 attempts: EOF", "… after … attempts"},
		"constants among the values": {
			reason.Errorf("%s: want %s, got %q (%d %%) at %s: %w", "CANARY", reason.Const("100 % of it"), "CANARY", 7, reason.Const("its end"), io.EOF),
			`CANARY: want 100 % of it, got "CANARY" (7 %) at its end: EOF`, "…: want 100 % of it, got … (… %) at its end",
		},
		"wrapped":         {fmt.Errorf("CANARY: %w", reason.New("no room")), "CANARY: no room", "no room"},
		"another's error": {errors.New("CANARY"), "CANARY", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.err.Error() != c.text {
				t.Errorf("text %q, want %q", c.err, c.text)
			}
			if got := reason.Of(c.err); got != c.reason {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
		})
	}
	budget := reason.New("retry budget spent")
	if err := reason.Errorf("%w after %d attempts: %w", budget, 5, io.EOF); !errors.Is(err, io.EOF) || !errors.Is(err, budget) || errors.Is(err, reason.New("retry budget spent")) {
		t.Error("errors.Is doesn't see through it")
	}
}
