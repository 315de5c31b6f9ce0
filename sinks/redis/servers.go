package redis

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// servers are the clients of what the sink writes to: of one server (by Sentinels, the master of the moment), or of a
// cluster.
type servers struct {
	one     *redis.Client
	cluster *redis.ClusterClient
}

// any is for requests about one key, or about none: in a cluster such a one goes to any node.
func (s *servers) any() redis.UniversalClient {
	if s.cluster != nil {
		return s.cluster
	}
	return s.one
}

func (s *servers) close() error { return s.any().Close() }

// everywhere returns a key of penstock's own for each server that takes writes: in a cluster, for each master that
// has slots, with a hash tag that leads to it, unless the prefix leads all keys to one.
func (s *servers) everywhere(ctx context.Context, prefix, key string) ([]string, error) {
	if s.cluster == nil || hasTag(prefix) {
		return []string{key}, nil
	}
	//lint:ignore SA1019 servers before Redis 7 have no CLUSTER SHARDS
	ranges, err := s.cluster.ClusterSlots(ctx).Result()
	if err != nil && err.Error() == noNodes {
		err = redisclient.ReplyError("CLUSTERDOWN No node has slots")
	}
	if err != nil {
		return nil, err
	}
	masters := map[string][]redis.ClusterSlot{}
	var order []string
	for _, r := range ranges {
		if len(r.Nodes) == 0 {
			continue
		}
		master := r.Nodes[0].Addr
		if masters[master] == nil {
			order = append(order, master)
		}
		masters[master] = append(masters[master], r)
	}
	if len(masters) == 0 {
		return nil, redisclient.ReplyError("CLUSTERDOWN No node has slots") // as a node says it when one slot is missing
	}
	keys := make([]string, len(order))
	for i, master := range order {
		keys[i] = taggedInto(masters[master], key)
	}
	return keys, nil
}

// noNodes is how go-redis puts it when a node knows of no node with slots.
const noNodes = "redis: cluster has no nodes"

// taggedInto returns key with the first hash tag {0}, {1}, … whose slot is in one of the ranges.
func taggedInto(ranges []redis.ClusterSlot, key string) string {
	for n := 0; ; n++ { // there is one: the numbers reach every slot
		tagged := fmt.Sprintf("%s:{%d}", key, n)
		slot := slotOf(tagged)
		for _, r := range ranges {
			if r.Start <= slot && slot <= r.End {
				return tagged
			}
		}
	}
}

// call is one call of the script: writes whose keys are on one server and, in a cluster, in one slot.
type call struct {
	request request
	sent    []int32 // the writes in the request, in its order

	got answers
	err error

	redirected redirection // by the node that was asked last
	abandoned  bool        // the request still runs and reads this: it can't be used again
}

func (c *call) reset() {
	c.request.reset()
	c.sent, c.got, c.err, c.redirected = c.sent[:0], answers{}, nil, redirection{}
}

// exec carries out calls, those of one key in their order, and sets their answers or errors.
func (w *writer) exec(ctx context.Context, calls []*call) {
	s, err := w.connected()
	if err != nil {
		for _, c := range calls {
			c.err = err
		}
		return
	}
	if s.cluster != nil {
		w.execCluster(ctx, s.cluster, calls)
		return
	}
	for i, c := range calls {
		w.execOn(ctx, s.one, calls[i:i+1])
		if c.misled() && ctx.Err() == nil {
			w.renew(s)
		}
		if c.err == nil || !pipeline.IsUnavailable(w.failed(c.err)) {
			continue
		}
		for _, rest := range calls[i+1:] { // they would wait for the same server, one after another
			rest.err = c.err
		}
		return
	}
}

// misled reports whether an error is one of the connections, and not of what was asked: one broke, or leads to a server
// that takes no writes.
func (c *call) misled() bool {
	err := c.err
	if len(c.got.errs) > 0 {
		err = c.got.errorAt(0)
	}
	if err == nil || pipeline.IsUnavailable(err) { // too few replicas
		return false
	}
	failure := redisclient.FailureOf(err)
	return failure == redisclient.Unreachable || failure == redisclient.ReadOnly
}

// maxRedirections bounds how often a call is sent on: more mean that nodes disagree about who has the slot.
const maxRedirections = 4

// execCluster sends each call to the node that has its slot, all nodes at the same time.
//
// go-redis would follow redirections of a pipeline itself, but only so that WAIT, which is about its own connection
// and has no key, can go to another node than the writes.
func (w *writer) execCluster(ctx context.Context, cluster *redis.ClusterClient, calls []*call) {
	var known map[string]*redis.Client // nodes by address, as far as redirections want them
	for range maxRedirections {
		byNode := map[*redis.Client][]*call{}
		for _, c := range calls {
			node := known[c.redirected.to]
			if node == nil {
				c.redirected = redirection{}
				if node, c.err = cluster.MasterForKey(ctx, c.request.key()); c.err != nil {
					continue
				}
			}
			byNode[node] = append(byNode[node], c)
		}
		var wg sync.WaitGroup
		for node, calls := range byNode {
			wg.Go(func() { w.execOn(ctx, node, calls) })
		}
		wg.Wait()
		var again []*call
		broken := false
		for _, c := range calls {
			switch c.redirected = redirectionOf(c.err); {
			case c.redirected.to != "":
				again = append(again, c)
			case c.err != nil:
				broken = true
			}
		}
		if broken {
			cluster.ReloadState(ctx) // in the background: a replica may have taken over
		}
		if len(again) == 0 {
			return
		}
		calls, known = again, nodesOf(ctx, cluster)
	}
}

// nodesOf asks the cluster for its nodes, so that it needs no more redirections, and returns them by their addresses;
// none when it doesn't answer.
func nodesOf(ctx context.Context, cluster *redis.ClusterClient) map[string]*redis.Client {
	var mu sync.Mutex
	nodes := map[string]*redis.Client{}
	_ = cluster.ForEachShard(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes[node.Options().Addr] = node
		return nil
	})
	return nodes
}

// redirection is where a node says that a slot is.
type redirection struct {
	to     string // address; "" for none
	asking bool   // for this request only: the slot is on its way there
}

func redirectionOf(err error) redirection {
	var fields []string
	if err != nil {
		fields = strings.Fields(err.Error()) // MOVED slot address
	}
	if len(fields) != 3 || fields[0] != "MOVED" && fields[0] != "ASK" {
		return redirection{}
	}
	return redirection{to: fields[2], asking: fields[0] == "ASK"}
}

// execOn has one server carry out calls, in one round trip, or in two when it doesn't know the script yet.
func (w *writer) execOn(ctx context.Context, client *redis.Client, calls []*call) {
	w.send(ctx, client, calls, true)
	var unknown []*call
	for _, c := range calls {
		if redis.HasErrorPrefix(c.err, "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	if len(unknown) > 0 {
		w.send(ctx, client, unknown, false)
	}
}

// send sends calls over one connection and, when it must, waits until their writes are on enough replicas. known
// tells that the server should know the script; otherwise the first call brings it along.
func (w *writer) send(ctx context.Context, client *redis.Client, calls []*call, known bool) {
	clocksTTL := w.config.TTL
	if clocksTTL >= 0 {
		clocksTTL = max(clocksTTL, minClocksTTL)
	}
	cmds := make([]*redis.Cmd, len(calls))
	ask, asking := make([]bool, len(calls)), false // copied: a request that is left alone still reads them
	for i, c := range calls {
		args := c.request.arguments(w.script.sha, w.config.Prefix, milliseconds(w.config.TTL), milliseconds(clocksTTL))
		if !known && i == 0 {
			args[0], args[1] = "eval", w.script.text
		}
		cmds[i] = redis.NewCmd(ctx, args...)
		ask[i] = c.redirected.asking
		asking = asking || ask[i]
	}
	want := w.config.WaitReplicas
	var err error
	finished := w.interruptible(ctx, func() {
		if len(calls) == 1 && want.Count == 0 && !asking {
			err = client.Process(ctx, cmds[0])
			return
		}
		pipe := client.Pipeline()
		for i, cmd := range cmds {
			if ask[i] {
				pipe.Do(ctx, "asking")
			}
			_ = pipe.Process(ctx, cmd)
		}
		var replicas *redis.IntCmd
		if want.Count > 0 {
			replicas = redis.NewIntCmd(ctx, "wait", want.Count, want.Timeout.Milliseconds()) // it is about the writes of its own connection
			_ = pipe.Process(ctx, replicas)
		}
		_, _ = pipe.Exec(ctx)
		if replicas != nil {
			if err = replicas.Err(); err == nil && replicas.Val() < int64(want.Count) {
				err = pipeline.Unavailable(reason.Errorf("after %s the writes are on %d replicas of the Redis, want %d", want.Timeout, replicas.Val(), want.Count))
			}
		}
	})
	if !finished {
		cause := context.Cause(ctx)
		if cause == nil {
			cause = redis.ErrClosed
		}
		for _, c := range calls {
			c.err, c.abandoned = cause, true
		}
		return
	}
	for i, c := range calls {
		if c.err = cmds[i].Err(); c.err == nil {
			c.err = err
		}
		if c.err == nil {
			c.got, c.err = parseAnswers(cmds[i], c.request.writes)
		}
	}
}

// interruptible runs a request and waits for its end, or for that of ctx: go-redis waits for an answer until its own
// timeout, whatever becomes of the context, which would make the stop of a pipeline wait for a server that hangs.
// Closing the clients ends a request that was left alone; a closed writer begins none.
func (w *writer) interruptible(ctx context.Context, request func()) (finished bool) {
	w.beginning.RLock()
	if w.closed.Load() {
		w.beginning.RUnlock()
		return false
	}
	done := make(chan struct{})
	w.requests.Go(func() {
		defer close(done)
		request()
	})
	w.beginning.RUnlock()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
