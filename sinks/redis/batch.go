package redis

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// maxWrites bounds the writes of one script call: while a script runs, Redis serves nobody else.
const maxWrites = 1000

// batch is the writes of some messages on their way through Redis. Its buffers are used again.
type batch struct {
	writes   []cache.Write
	message  []int32          // of each write: the index of its message
	standsIn []int32          // of each write: the write that is sent in its place, or one that leads to it; itself when it is sent
	latest   map[string]int32 // of each key: its last write
	previous []int32          // of each write: the one of the same key before it; -1 = none
	apart    []bool           // of each write: whether all writes of its key are sent
	older    int              // writes that lost against another of the batch
	failures map[int32]error  // of writes that were sent
	calls    []*call          // to use again; the first used ones are the calls of this batch
	used     int
	slots    []slotted // in a cluster: the writes to send, by slot
	keys     []byte
}

// slotted is a write and the slot of its key.
type slotted struct {
	slot  int
	write int32
}

func newBatch() *batch {
	return &batch{latest: map[string]int32{}, failures: map[int32]error{}}
}

func (w *writer) release(b *batch) {
	// Buffers that one huge batch has made large are given back.
	if cap(b.writes) > 8*maxWrites || cap(b.calls) > 2*maxWrites {
		return
	}
	for _, c := range b.calls {
		if cap(c.request.buffer) > 1<<20 {
			return
		}
	}
	clear(b.writes)
	clear(b.latest)
	clear(b.failures)
	b.older = 0
	b.writes, b.message, b.standsIn, b.previous, b.apart, b.slots =
		b.writes[:0], b.message[:0], b.standsIn[:0], b.previous[:0], b.apart[:0], b.slots[:0]
	for _, c := range b.calls[:b.used] {
		if c.abandoned {
			return // left to what still reads it
		}
	}
	for _, c := range b.calls[:b.used] {
		c.reset()
	}
	b.used = 0
	w.scratch.Put(b)
}

// store carries out the writes of msgs and returns an error for each message, or nil when all are stored.
func (w *writer) store(ctx context.Context, msgs []*message.Message) []error {
	b := w.scratch.Get().(*batch)
	defer w.release(b)
	var refused map[int]error
	for i, msg := range msgs {
		if err := w.gather(b, int32(i), msg); err != nil {
			if refused == nil {
				refused = map[int]error{}
			}
			refused[i] = pipeline.Permanent(err)
		}
	}
	b.collapse()
	b.fill(w.config.Prefix, w.config.clustered())
	if calls := b.calls[:b.used]; len(calls) > 0 {
		w.exec(ctx, calls)
		for _, c := range calls {
			w.settle(ctx, b, c)
		}
		if w.wipe.check.Load() && calls[0].err == nil {
			_ = w.checkForWipe(ctx) // an error comes again with the next ping
		}
	}
	w.stale.Add(float64(b.older))
	if len(refused) == 0 && len(b.failures) == 0 {
		return nil
	}
	errs := make([]error, len(msgs))
	for i, err := range refused {
		errs[i] = err
	}
	failed := map[int32][]error{} // by message
	for i := range b.writes {
		if err := b.failures[b.sentFor(int32(i))]; err != nil {
			failed[b.message[i]] = append(failed[b.message[i]], err)
		}
	}
	for i, all := range failed {
		errs[i] = pipeline.Worst(all...)
	}
	return errs
}

// gather adds the writes of a message to b, all or none.
func (w *writer) gather(b *batch, index int32, msg *message.Message) error {
	n := len(b.writes)
	writes, err := w.parse(b.writes, msg.Payload)
	if err != nil {
		return err
	}
	if len(writes) == n {
		return reason.New("redis: the payload holds no cache write")
	}
	b.writes = writes
	lockless := !w.locks.Load() || msg.Context().Value(pastLocks{}) != nil
	for i := n; i < len(writes); i++ {
		if err := w.admit(&writes[i]); err != nil {
			clear(writes[n:])
			b.writes = writes[:n]
			b.message = b.message[:n]
			return reason.Errorf("redis: key %q: %w", writes[i].Key, err)
		}
		if lockless {
			writes[i].Lock = ""
		}
		b.message = append(b.message, index)
	}
	return nil
}

// parse appends the writes of a payload to dst.
func (w *writer) parse(dst []cache.Write, payload []byte) ([]cache.Write, error) {
	if plain := w.config.Plain; plain != nil {
		write, err := plain.write(payload)
		if err != nil {
			return dst, reason.Errorf("redis: plain: %w", err)
		}
		return append(dst, write), nil
	}
	writes, err := cache.Parse(dst, payload)
	if err != nil {
		return dst, reason.Errorf("redis: the payload is not cache writes: %w", err)
	}
	return writes, nil
}

// admit completes a write, or says why it can never be carried out.
func (w *writer) admit(write *cache.Write) error {
	most := w.maxValue.Load()
	switch {
	case strings.HasPrefix(write.Key, ownKeys):
		return reason.Errorf("keys that start with %q are penstock's own", ownKeys)
	case (write.AsOf != 0 || write.Delete) && isOwn(ownKeys+write.Key):
		return reason.New("the clocks of a key of this name would overwrite a key of penstock's own")
	case int64(len(write.Value)) > most:
		return reason.Errorf("value of %d bytes: the server takes at most %d (%s)", len(write.Value), most, maxValueSetting)
	case len(write.Key) > maxKey:
		return reason.Errorf("key of %d bytes: at most %d are stored", len(write.Key), maxKey)
	}
	if write.Delete && write.AsOf == 0 {
		write.AsOf = write.Version // a delete is always remembered, with both clocks
	}
	if w.config.clustered() {
		return w.inOneSlot(write)
	}
	return nil
}

// isOwn reports whether key, without the prefix, is one of penstock's own other than clocks.
func isOwn(key string) bool {
	return key == probeKey || key == contentsKey || strings.HasPrefix(key, probeKey+":{") || strings.HasPrefix(key, contentsKey+":{")
}

// inOneSlot reports keys of a write that a cluster could not look at in one step.
func (w *writer) inOneSlot(write *cache.Write) error {
	prefix := w.config.Prefix + ":"
	slot := slotOf(prefix + write.Key)
	others := []string{prefix + write.Key + versionSuffix}
	if write.AsOf != 0 {
		others = append(others, prefix+ownKeys+write.Key)
	}
	for _, key := range write.IfAnyExists {
		others = append(others, prefix+key+versionSuffix)
	}
	if write.Lock != "" && w.locks.Load() {
		others = append(others, w.config.Prefix+"-"+write.Lock)
	}
	for _, other := range others {
		if got := slotOf(other); got != slot {
			return reason.Errorf("is in slot %d of the cluster, and %q, which must be looked at in the same step, in slot %d: "+
				"keys need a hash tag, such as c_{customer-1}, or the sink's prefix one, such as {production}", slot, other, got)
		}
	}
	return nil
}

// versionSuffix makes the key of an entry's version.
const versionSuffix = "#timestamp"

// maxKey is far beyond every key that somebody means, and far below every limit of Redis.
const maxKey = 64 << 10

// collapse finds the writes that need not be sent because another one of the batch decides for them, too: the
// greatest of a key, when that is so for all writes of the key. Otherwise all of them are sent, in the order of
// arrival.
func (b *batch) collapse() {
	for i := range b.writes {
		n := int32(i)
		b.standsIn = append(b.standsIn, n)
		b.previous = append(b.previous, -1)
		b.apart = append(b.apart, false)
		last, ok := b.latest[b.writes[i].Key]
		b.latest[b.writes[i].Key] = n
		if !ok {
			continue
		}
		b.previous[n] = last
		winner := b.sentFor(last)
		switch {
		case b.apart[last]:
			b.apart[n] = true
		case b.writes[n].Version != 0 && covers(&b.writes[winner], &b.writes[n]): // without a version nothing beats the last arrival
			b.standsIn[n] = winner
		case covers(&b.writes[n], &b.writes[winner]):
			b.standsIn[winner] = n
		default:
			for m := n; m >= 0; m = b.previous[m] {
				b.standsIn[m], b.apart[m] = m, true
			}
		}
	}
	for i := range b.writes {
		if sent := b.sentFor(int32(i)); sent != int32(i) && cache.Compare(b.writes[i], b.writes[sent]) != 0 {
			b.older++
		}
	}
}

// sentFor returns the write that was sent in the place of i.
func (b *batch) sentFor(i int32) int32 {
	for b.standsIn[i] != i {
		i = b.standsIn[i]
	}
	return i
}

// covers reports whether loser is superfluous beside winner, a write of the same key: whatever Redis holds, the result
// is the same with and without it, unless there is a third one that neither covers.
func covers(winner, loser *cache.Write) bool {
	if (winner.AsOf == 0) != (loser.AsOf == 0) || (winner.Version == 0) != (loser.Version == 0) {
		return false
	}
	if len(winner.IfAnyExists) > 0 && !slices.Equal(winner.IfAnyExists, loser.IfAnyExists) {
		return false // the condition may keep out the winner alone
	}
	if winner.Lock != "" && winner.Lock != loser.Lock {
		return false // so may the lock
	}
	if winner.Version == 0 {
		return true
	}
	// A foreign writer's version may keep out a greater write with a smaller Version, and let the other one in.
	if winner.Version < loser.Version {
		return false
	}
	c := cache.Compare(*winner, *loser)
	return c > 0 || c == 0 && winner.TTL == loser.TTL // of equal ones the last to arrive renews
}

// call returns an empty call to fill.
func (b *batch) call() *call {
	if b.used == len(b.calls) {
		b.calls = append(b.calls, &call{})
	}
	b.used++
	return b.calls[b.used-1]
}

// fill puts the writes that are to be sent into calls, in a cluster those of one slot each. Writes of one key keep
// their order.
func (b *batch) fill(prefix string, bySlot bool) {
	if !bySlot {
		var c *call
		for i := range b.writes {
			if b.standsIn[i] == int32(i) {
				c = b.into(c, prefix, int32(i))
			}
		}
		return
	}
	for i := range b.writes {
		if b.standsIn[i] == int32(i) {
			b.keys = append(append(append(b.keys[:0], prefix...), ':'), b.writes[i].Key...)
			b.slots = append(b.slots, slotted{slotOf(string(b.keys)), int32(i)})
		}
	}
	slices.SortStableFunc(b.slots, func(a, b slotted) int { return a.slot - b.slot })
	var c *call
	for i, s := range b.slots {
		if i > 0 && s.slot != b.slots[i-1].slot {
			c = nil
		}
		c = b.into(c, prefix, s.write)
	}
}

// into adds a write to the call, or to another one when there is none or it is full, and returns the call that has it.
func (b *batch) into(c *call, prefix string, write int32) *call {
	if c == nil || len(c.sent) == maxWrites {
		c = b.call()
	}
	c.sent = append(c.sent, write)
	c.request.add(prefix, &b.writes[write])
	return c
}

// add adds a write to the request.
func (r *request) add(prefix string, write *cache.Write) {
	r.begin(prefix, write.Key)
	if write.Lock != "" {
		r.literal(opLock)
		r.string(write.Lock)
	}
	if n := len(write.IfAnyExists); n > 0 {
		r.literal(opGuard)
		r.number(int64(n))
		for _, key := range write.IfAnyExists {
			r.string(key)
		}
	}
	if write.TTL != 0 {
		r.literal(opTTL)
		r.string(milliseconds(write.TTL))
	}
	switch {
	case write.Delete && write.Version == 0:
		r.literal(opDeleteUnversioned)
	case write.Delete:
		r.literal(opDelete)
		r.number(write.Version)
		r.number(write.AsOf)
	case write.Version == 0:
		r.literal(opUnversioned)
		r.value(write.Value)
	case write.AsOf == 0:
		r.literal(opOneClock)
		r.number(write.Version)
		r.value(write.Value)
	default:
		r.literal(opTwoClocks)
		r.number(write.Version)
		r.number(write.AsOf)
		r.value(write.Value)
	}
}

// settle takes note of how a call ended.
func (w *writer) settle(ctx context.Context, b *batch, c *call) {
	if c.err == nil {
		w.read(b, c)
		return
	}
	err := w.failed(c.err)
	if len(c.sent) == 1 || pipeline.IsUnavailable(err) || pipeline.IsFatal(err) || ctx.Err() != nil {
		for _, i := range c.sent {
			b.failures[i] = err
		}
		return
	}
	// The server refuses the call, and doesn't say because of which write: each one is tried by itself.
	for _, i := range c.sent {
		one := &call{sent: []int32{i}}
		one.request.add(w.config.Prefix, &b.writes[i])
		w.exec(ctx, []*call{one})
		w.settle(ctx, b, one)
	}
}

// read takes note of the script's answers.
func (w *writer) read(b *batch, c *call) {
	now := time.Now().UnixMilli()
	guarded := 0
	for at, i := range c.sent {
		switch c.got.letters[at] {
		case answerStored, answerOverwritten:
			if c.got.letters[at] == answerOverwritten {
				w.overwritten.Inc()
			}
			if when := b.writes[i].When(); when > firstPlausible {
				w.lag.Observe(float64(now-when) / 1000)
			}
		case answerOlder:
			b.older++
		case answerGuarded:
			guarded++
		case answerLocked:
			b.failures[i] = errLocked
		case answerError:
			b.failures[i] = w.failed(c.got.nextError())
		}
	}
	w.guarded.Add(float64(guarded))
}

// firstPlausible is 1973 in epoch milliseconds: a user's versions may be revision numbers, which are no times.
const firstPlausible = 100_000_000_000
