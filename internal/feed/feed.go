// Package feed hands on the messages of a source that makes them itself, from files or out of thin air: one by one,
// at a bounded rate, watching what becomes of each, and offering again what was nacked.
package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// Item is a message and where it comes from.
type Item struct {
	Message *message.Message
	// Rejected, when set, says why the message can't be what it should be: the engine poisons it as it stands.
	Rejected error
	// NotBefore, when set, is when to hand the message on.
	NotBefore time.Time
	// File and Line are the place that is named when the message is given up.
	File string
	Line int64
	// End is where the message ends, for [Feed.Resolved].
	End Position
}

// Place returns where the message comes from, such as "events.ndjson:17".
func (i Item) Place() string { return fmt.Sprintf("%s:%d", i.File, i.Line) }

// Settings are what a [Feed] needs to know.
type Settings struct {
	// Next makes the next message, or returns an error when there is none any more. It is called from one goroutine.
	Next func() (Item, error)
	// Ready, when set, may change a message at the moment when it is handed on for the first time.
	Ready func(*Item)
	// Late makes each message only when its turn has come, for messages that tell the time at which they are made.
	// Otherwise one is made ahead, so that the end is seen as soon as it is there.
	Late bool
	// Rate is how many messages are handed on in a second; 0 means as many as are taken. Messages that are offered again
	// don't count.
	Rate float64
	// OneByOne hands on a message when the one before is settled, so that a nacked one comes again before the next.
	OneByOne bool
	// Redeliveries is how often a nacked message is offered again before it is given up.
	Redeliveries int
	// Checkpoints has the feed follow how far everything is resolved: see [Feed.Resolved].
	Checkpoints bool
}

// Feed is the runtime of such a source: a message.Subscriber that is a [pipeline.Drainer] and [pipeline.Finite]. What
// was nacked is offered again at once, before what is next: the engine has spent its patience on it already. It
// closes the channel when there is no next message and all are settled. It holds no more than what was handed on and
// is not settled.
type Feed struct {
	settings Settings
	out      chan *message.Message
	wake     chan struct{} // there is something to offer again, or all is settled
	added    chan struct{} // there is something to watch
	stop     context.Context
	halt     context.CancelFunc
	running  sync.WaitGroup
	handed   atomic.Int64
	again    atomic.Int64 // len(nacked), to be looked at without the lock
	prefix   prefix

	mu         sync.Mutex
	subscribed bool
	watched    []offer // in the order of handing on; before head they are settled
	head       int
	sweepAt    int
	nacked     []offer
	unresolved int64
	first      []string
}

type offer struct {
	Item
	tries int
	mark  *mark // nil without checkpoints
}

var (
	_ message.Subscriber = (*Feed)(nil)
	_ pipeline.Drainer   = (*Feed)(nil)
	_ pipeline.Finite    = (*Feed)(nil)
)

// New makes a feed.
func New(s Settings) *Feed {
	f := &Feed{settings: s, out: make(chan *message.Message), wake: make(chan struct{}, 1), added: make(chan struct{}, 1), sweepAt: minSweep}
	f.stop, f.halt = context.WithCancel(context.Background())
	return f
}

// Subscribe starts handing on; the topic means nothing. It may be called once.
func (f *Feed) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subscribed {
		return nil, errors.New("already subscribed: this source has one stream of messages")
	}
	f.subscribed = true
	context.AfterFunc(ctx, f.halt)
	f.running.Go(f.hand)
	f.running.Go(f.watch)
	return f.out, nil
}

// Drain stops handing on and closes the channel. What is nacked from then on is not offered again and not counted.
func (f *Feed) Drain() { f.halt() }

// Stopped returns a channel that is closed when the feed stops: a [Settings].Next that waits for something returns
// then.
func (f *Feed) Stopped() <-chan struct{} { return f.stop.Done() }

// Close drains, and returns when nothing runs any more.
func (f *Feed) Close() error {
	f.halt()
	f.running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.watched[f.head:] { // what was acked while the pipeline stopped
		f.settled(o)
	}
	return nil
}

// Resolved returns where the first message begins that is not resolved: not acked yet, or given up. all tells that
// there is none among those made so far. It is exact once the feed is closed; before, acks may not be counted yet.
// Safe for concurrent use.
func (f *Feed) Resolved() (at Position, all bool) { return f.prefix.get() }

// Resolve says that there is nothing to hand on up to end, for [Feed.Resolved]. It is for Settings.Next.
func (f *Feed) Resolve(end Position) {
	if f.settings.Checkpoints {
		f.prefix.resolve(f.prefix.add(end))
	}
}

// Stopping returns a context that is canceled when the feed stops.
func (f *Feed) Stopping() context.Context { return f.stop }

// Unresolved returns how many messages were given up, and where the first ten are.
func (f *Feed) Unresolved() (int64, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unresolved, append([]string(nil), f.first...)
}

// Handed returns how many messages were handed on; offering again doesn't count.
func (f *Feed) Handed() int64 { return f.handed.Load() }

const namedPlaces = 10

// GiveUp counts a message that can't even be handed on.
func (f *Feed) GiveUp(place string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prefix.stop()
	f.giveUp(place)
}

func (f *Feed) giveUp(place string) {
	f.unresolved++
	if len(f.first) < namedPlaces {
		f.first = append(f.first, place)
	}
}

// hand is the loop that hands on.
func (f *Feed) hand() {
	defer close(f.out)
	pace := pacer{interval: interval(f.settings.Rate)}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var made offer
	var next *offer // &made, or nil when the next message is still to be made
	for f.stop.Err() == nil {
		if f.again.Load() > 0 {
			if o, ok := f.takeNacked(); ok && !f.offer(o) {
				return
			}
			continue
		}
		if f.settings.OneByOne && !f.allSettled() {
			select {
			case <-f.wake:
				continue
			case <-f.stop.Done():
				return
			}
		}
		if next == nil && f.settings.Late {
			if d := pace.wait(); d > 0 {
				if !f.sleep(timer, d) {
					return
				}
				continue
			}
		}
		if next == nil {
			item, err := f.settings.Next()
			if err != nil {
				f.settle()
				return
			}
			made = offer{Item: item}
			if f.settings.Checkpoints {
				made.mark = f.prefix.add(item.End)
			}
			next = &made
		}
		if d := max(pace.wait(), until(next.NotBefore)); d > 0 {
			if !f.sleep(timer, d) {
				return
			}
			continue
		}
		pace.step()
		if f.settings.Ready != nil {
			f.settings.Ready(&next.Item)
		}
		if !f.offer(*next) {
			return
		}
		next = nil
	}
}

// sleep waits for d or for something to do before; false means that the feed stops.
func (f *Feed) sleep(timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-f.wake:
		return true
	case <-f.stop.Done():
		return false
	}
}

func until(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return time.Until(t)
}

// settle waits until all is settled, offering again what is nacked.
func (f *Feed) settle() {
	for {
		o, again := f.takeNacked()
		if again {
			if !f.offer(o) {
				return
			}
			continue
		}
		if f.allSettled() {
			return
		}
		select {
		case <-f.wake:
		case <-f.stop.Done():
			return
		}
	}
}

func (f *Feed) allSettled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head == len(f.watched) && len(f.nacked) == 0
}

func (f *Feed) takeNacked() (offer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.nacked) == 0 {
		return offer{}, false
	}
	o := f.nacked[0]
	f.nacked[0] = offer{}
	f.nacked = f.nacked[1:]
	f.again.Store(int64(len(f.nacked)))
	return o, true
}

// offer hands one message on; false means that the feed stops.
func (f *Feed) offer(o offer) bool {
	if o.tries > 0 {
		// An acked or nacked message is used up.
		o.Message = o.Message.Copy()
	}
	o.tries++
	if o.Rejected != nil {
		pipeline.Reject(o.Message, o.Rejected)
	}
	select {
	case f.out <- o.Message:
	case <-f.stop.Done():
		return false
	}
	if o.tries == 1 {
		f.handed.Add(1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watched)-f.head >= f.sweepAt {
		f.sweep()
	}
	f.watched = append(f.watched, o)
	if len(f.watched)-f.head == 1 {
		signal(f.added)
	}
	return true
}

// minSweep is how many messages may be watched before looking behind the oldest: more than are usually in flight.
const minSweep = 4096

// sweep forgets settled messages behind one that takes its time, so that memory stays bounded by what is in flight. The
// oldest is watch's, which may be waiting for it.
func (f *Feed) sweep() {
	kept := f.watched[:f.head+1]
	for _, o := range f.watched[f.head+1:] {
		if !f.settled(o) {
			kept = append(kept, o)
		}
	}
	clear(f.watched[len(kept):])
	f.watched = kept
	f.sweepAt = max(minSweep, 2*(len(kept)-f.head))
}

// settled reports whether the message is acked or nacked, and sees to it if it is nacked.
func (f *Feed) settled(o offer) bool {
	select {
	case <-o.Message.Acked():
		f.prefix.resolve(o.mark)
		return true
	default:
	}
	select {
	case <-o.Message.Nacked():
	default:
		return false
	}
	if f.stop.Err() != nil {
		return true
	}
	if o.tries > f.settings.Redeliveries {
		f.giveUp(o.Place())
		return true
	}
	f.nacked = append(f.nacked, o)
	f.again.Store(int64(len(f.nacked)))
	signal(f.wake)
	return true
}

// watch is the loop that waits for acks and nacks, oldest first.
func (f *Feed) watch() {
	for {
		oldest := f.oldest()
		if oldest == nil {
			select {
			case <-f.added:
				continue
			case <-f.stop.Done():
				return
			}
		}
		select {
		case <-oldest.Acked():
		case <-oldest.Nacked():
		case <-f.stop.Done():
			return
		}
	}
}

// oldest forgets settled messages and returns the oldest that is not, or nil.
func (f *Feed) oldest() *message.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.head < len(f.watched) && f.settled(f.watched[f.head]) {
		f.watched[f.head] = offer{}
		f.head++
	}
	if f.head*2 >= len(f.watched) {
		n := copy(f.watched, f.watched[f.head:])
		clear(f.watched[n:])
		f.watched, f.head = f.watched[:n], 0
	}
	if f.head == len(f.watched) {
		signal(f.wake)
		return nil
	}
	return f.watched[f.head].Message
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pacer spreads messages evenly. After a pause (back pressure, a sleeping machine) it catches up no more than maxBurst.
type pacer struct {
	interval time.Duration // 0: no pace
	due      time.Time
}

const maxBurst = 100 * time.Millisecond

func interval(rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / rate)
}

// wait returns how long it is until the next message is due.
func (p *pacer) wait() time.Duration {
	if p.interval == 0 {
		return 0
	}
	now := time.Now()
	if now.Sub(p.due) > maxBurst {
		if p.due.IsZero() {
			p.due = now
		} else {
			p.due = now.Add(-maxBurst)
		}
	}
	return p.due.Sub(now)
}

func (p *pacer) step() { p.due = p.due.Add(p.interval) }
