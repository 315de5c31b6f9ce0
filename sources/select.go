package sources

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/feed"
)

// Selection says which messages of recordings are handed on; the others are passed over. Torn and malformed lines are
// handed on whatever it says.
type Selection struct {
	// From and To bound the recorded time: From is the first that counts, To the first that doesn't. Zero is no bound.
	// Messages without a recorded time are passed over when there is one.
	From, To time.Time
	// Filter is a jq expression over .metadata, .payload and .id: a message is handed on when it is neither false nor
	// null. A message on which it fails is unresolved. Empty is no filter.
	Filter string
	// Limit is how many messages are handed on; 0 is no limit.
	Limit int64
}

// has reports whether a message of that time is handed on.
func (s *Selection) has(t time.Time) bool {
	if s.From.IsZero() && s.To.IsZero() {
		return true
	}
	return !t.IsZero() && !t.Before(s.From) && (s.To.IsZero() || t.Before(s.To))
}

// passedOver counts the messages that a [Selection] leaves out.
type passedOver struct{ byTime, byFilter atomic.Int64 }

// PassedOver returns how many messages were not handed on because of their time, and because of the filter. It may be
// called at any time.
func (s *fileSource) PassedOver() (byTime, byFilter int64) {
	return s.passed.byTime.Load(), s.passed.byFilter.Load()
}

// position is behind the line that was read last.
func (s *fileSource) position() feed.Position {
	return feed.Position{File: s.index, Offset: s.lines.Offset(), Line: s.lines.Line()}
}

// choose reports whether the filter wants a message that was read, and says when it is due. The error is that of a
// source that stops.
func (s *fileSource) choose(item *feed.Item) (bool, error) {
	if item.Rejected != nil {
		return true, nil
	}
	if s.filter != nil {
		value := expression.Message(item.Message.Metadata, item.Message.Payload)
		value["id"] = item.Message.UUID
		wanted, err := s.filter.Matches(s.Stopping(), value)
		switch {
		case s.Stopping().Err() != nil:
			return false, s.Stopping().Err()
		case err != nil:
			s.giveUp(item.Place(), fmt.Errorf("filter: %w", err))
			return false, nil
		case !wanted:
			s.passed.byFilter.Add(1)
			s.Resolve(s.position())
			return false, nil
		}
	}
	if s.config.Speed > 0 && !s.entry.Time.IsZero() {
		item.NotBefore = s.due(s.entry.Time)
	}
	return true, nil
}
