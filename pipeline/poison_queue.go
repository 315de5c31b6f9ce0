package pipeline

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// PoisonKeeper is implemented by configs of sinks that, as poison queue, can be read again. "penstock poison" works on
// them: it lists and shows what they hold, sends it through the pipeline again (redrive), or drops it.
type PoisonKeeper interface {
	// OpenPoison opens the poison queue that the config describes; env is what a constructor gets. With change entries
	// will be removed: then it makes sure that this is possible, and that nobody else does the same at the same time
	// where two would be in each other's way. The pipeline itself may go on storing. The error says what to do.
	OpenPoison(ctx context.Context, env Env, change bool) (PoisonQueue, error)
}

// PoisonQueue is an open poison queue. Remove may be called while Entries runs, and concurrently; Close when both have
// returned.
type PoisonQueue interface {
	// Entries hands on what the queue holds, each entry once, and returns when there is no more: what is stored while it
	// runs may be left out. It goes on when each has returned nil, and returns the error that each returned otherwise. A
	// place that can't be read goes to damaged, as an error that names it, and stays as it is. The error is that of the
	// queue, of ctx, or of each. Nothing in the queue changes for good. It may be called again when it has returned.
	Entries(ctx context.Context, each func(*PoisonEntry) error, damaged func(error)) error
	// Remove takes entries out of the queue for good. When it returns an error any of them may still be there.
	Remove(ctx context.Context, entries []*PoisonEntry) error
	// Close gives back what is held, so that entries that were not removed are there for others at once.
	Close() error
}

// PoisonEntry is one message in a poison queue. It belongs to who was given it.
type PoisonEntry struct {
	// Message is what the sink was given as poison queue: the original with its metadata and the poison_ metadata, such as
	// [MetadataPoisonReason]. recorded_at (RFC 3339) says when the original was received, where the queue knows.
	Message *message.Message
	// Place is where the entry stands, for people: "poison/p-1.ndjson:17"; "" when there is nothing to say.
	Place string
	// Handle is the queue's own.
	Handle any
}
