package pipeline

import (
	"errors"
	"sync"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/reason"
)

// Validate reports a limit that could never be reached, or none.
func (c *PoisonLimitConfig) Validate() error {
	errs := []error{CheckTags(c)}
	if c.OfLast <= c.MoreThan {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("of_last", "must be more than more_than (%d), got %d", c.MoreThan, c.OfLast)))
	}
	return errors.Join(errs...)
}

// poisonWindow counts the poisoned among the last messages. A nil window has no limit.
type poisonWindow struct {
	limit PoisonLimitConfig

	mu       sync.Mutex
	poisoned []bool // of the messages before the one that is looked at, a ring
	at       int
	count    int // of true in poisoned
	storing  int // allowed, and not settled yet
}

func newPoisonWindow(c *PoisonLimitConfig) *poisonWindow {
	if c == nil {
		return nil
	}
	return &poisonWindow{limit: *c, poisoned: make([]bool, c.OfLast-1)}
}

var errPoisonLimit = reason.New("too many messages are poisoned (poison_limit)")

// allow says whether one more message may be poisoned. Who was allowed calls settled or cancelled.
func (w *poisonWindow) allow(cause error) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count+w.storing >= w.limit.MoreThan {
		return Fatal(code.Mark(code.PoisonLimit, reason.Errorf("%w: more than %d of the last %d messages. Did the events change, or this pipeline? "+
			"Nothing more is received, and what is here goes back to the source. The newest reason: %w",
			errPoisonLimit, w.limit.MoreThan, w.limit.OfLast, cause)))
	}
	w.storing++
	return nil
}

// cancelled takes back an allowance: the message could not be stored.
func (w *poisonWindow) cancelled() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.storing--
}

// settled counts a message that was written, filtered or poisoned.
func (w *poisonWindow) settled(result outcome) {
	if w == nil || result == outcomeReleased {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poisoned[w.at] {
		w.count--
	}
	w.poisoned[w.at] = result == outcomePoisoned
	if result == outcomePoisoned {
		w.count++
		w.storing--
	}
	w.at = (w.at + 1) % len(w.poisoned)
}
