// Package configfacts names what the config of one component tells another part of the program about itself. Components
// must not import each other, so each of these is an interface: the one who tells implements it and says so with a
// guard (var _ configfacts.Sender = …), the one who asks looks whether a config implements it. A config that does not
// is asked no further.
package configfacts

// HashTagger is implemented by configs of transforms that make the keys of cache writes.
type HashTagger interface {
	// HashTagged tells whether all keys that belong together carry the same hash tag, so that a Redis Cluster keeps
	// them on one node. The redis sink asks before it accepts a cluster, and inspect to find the keys of a customer.
	HashTagged() bool
}

// QueueConsumer is implemented by configs of sources that consume queues.
type QueueConsumer interface {
	// Queues lists the queues as the config gives them: URLs, ARNs or names. The sqs sink's doctor asks, to find a sink
	// that feeds its own source.
	Queues() []string
}

// PointerFetcher is implemented by configs of transforms that can fetch a payload from where a message points to.
type PointerFetcher interface {
	// FetchesPointers tells whether pointers to payloads in S3 are followed. The sqs source's doctor asks when it sees
	// one on the queue.
	FetchesPointers() bool
}

// Sender is implemented by configs of components that send something to others than the pipeline's own servers.
type Sender interface {
	// Sends says what leaves and where to, such as "ids of customers to edge.example.com"; "" is nothing. The start of
	// a run tells it.
	Sends() string
}

// PassThrough is implemented by configs of transforms that leave messages what they are, or take something off them:
// they make no cache writes of them.
type PassThrough interface {
	// PassesThrough does nothing: it marks the config. Sinks that store cache writes warn when nothing else stands
	// before them.
	PassesThrough()
}

// Ordered is implemented by configs of sources whose messages stand in an order that a user may take for granted,
// such as the lines of a file.
type Ordered interface {
	// HasOrder does nothing: it marks the config. Sinks that keep no order warn.
	HasOrder()
}
