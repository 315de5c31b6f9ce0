package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"github.com/penstock-dev/penstock/internal/awsclient"
)

// sqsBench measures messages from an SQS queue to Redis.
type sqsBench struct {
	*bench
	redis  *redisServer
	models map[int]model // by number of messages
}

// sqsSettings is what contenders written here are told.
type sqsSettings struct {
	Endpoint, Queue string
	Redis, Script   string
	Messages        int
	Subscriptions   int
	// Receive is how many messages the subscriber asks for at a time; 0 is its default.
	Receive int32
}

// sqsContenders are the contenders in the order of the table. share is the part of the messages that a contender
// gets, as it is, and with the delay, so that the slow ones don't take all day.
var sqsContenders = []struct {
	name, what     string
	share, delayed float64
	start          func(*sqsBench, sqsSettings) (*exec.Cmd, error)
	// noStore marks the one that writes nothing: it ends by itself and tells its own cost.
	noStore bool
	// own marks the one whose values are its own: one key an event and its version, which alone is compared. Its AWS
	// client is its own, too, and may lose responses on loopback: its rates are to tell of its work, not of the wait
	// for what was lost.
	own bool
}{
	{name: "raw loop", what: "8 loops that receive 10 and delete 10, and store nothing", share: 1, delayed: 0.5, start: (*sqsBench).raw, noStore: true},
	{name: "penstock", what: "sqs → unwrap → decode → redis", share: 1, delayed: 0.5, start: (*sqsBench).penstock},
	{name: "penstock (A/A)", what: "the same again: the noise of this run", share: 1, delayed: 0.5, start: (*sqsBench).penstock},
	{name: "watermill-aws", what: "its subscriber as it comes, router, a script call per message", share: 0.15, delayed: 0.01, start: stock(1, 0)},
	{name: "watermill-aws × 8", what: "8 subscriptions", share: 0.3, delayed: 0.05, start: stock(8, 0)},
	{name: "watermill-aws × 8 × 10", what: "8 subscriptions that ask for 10: its best", share: 0.5, delayed: 0.05, start: stock(8, 10)},
	{name: benthosName, what: "Benthos 4.27: 8 aws_sqs inputs → mapping → a newer-wins script for a batch of 128, one write an event, no layout", share: 1, delayed: 0.5, start: (*sqsBench).runBenthos, own: true},
}

// delay is what the delaying proxy adds to every request.
const delay = 10 * time.Millisecond

type sqsResult struct {
	rates, requests, delayed, delayedRequests, cpu, rss sample
	// stalls is how often an own contender stalled; its rates are without.
	stalls int
}

func runSQS(ctx context.Context, b *bench) (string, error) {
	s := &sqsBench{bench: b, models: map[int]model{}}
	var err error
	if s.redis, err = startRedis(ctx); err != nil {
		return "", err
	}
	defer s.redis.stop()
	results := make([]sqsResult, len(sqsContenders))
	for round := range b.rounds {
		for i := range sqsContenders {
			i := (i + round) % len(sqsContenders)
			c, r := sqsContenders[i], &results[i]
			if !b.wants(c.name) {
				continue
			}
			for _, delayed := range []bool{false, true} {
				if err := s.measure(ctx, i, delayed, r); err != nil {
					return "", fmt.Errorf("sqs: %s: %w", c.name, err)
				}
			}
			b.say("sqs: %-22s %7.0f messages/s, %.2f requests a message; with %s more a request %6.0f/s, %.2f", c.name,
				r.rates.last(), r.requests.last(), delay, r.delayed.last(), r.delayedRequests.last())
		}
	}
	idle := sample{}
	if b.wants("penstock") {
		n, err := s.idle(ctx)
		if err != nil {
			return "", fmt.Errorf("sqs: idle: %w", err)
		}
		idle.add(n)
	}
	own := ""
	by := map[string]sqsResult{}
	for i, r := range results {
		by[sqsContenders[i].name] = r
	}
	one, two := by["penstock"], by["penstock (A/A)"]
	rates, delayed := []sample{one.rates, two.rates}, []sample{one.delayed, two.delayed}
	best := by["watermill-aws × 8 × 10"].rates
	if stock := by["watermill-aws × 8"].rates; stock.median() > best.median() {
		best = stock
	}
	t := table{header: []string{"contender", "messages/s", "requests a message", "messages/s, 10 ms more a request", "requests a message", "its CPU, µs a message", "peak RSS, MB"}}
	for i, r := range results {
		if len(r.rates) == 0 {
			continue
		}
		c := sqsContenders[i]
		if c.own {
			own = fmt.Sprintf(" Of %s, whose values are its own, the versions were compared; left out of its rates: %d pauses of %s and "+
				"more (see *Peers at their best*).", c.name, r.stalls, stall)
		}
		t.add(fmt.Sprintf("**%s**: %s", c.name, c.what), r.rates.spread(0), r.requests.spread(2), r.delayed.spread(0),
			r.delayedRequests.spread(2), r.cpu.spread(0), r.rss.spreadOr("–", 0))
	}
	return fmt.Sprintf("%s messages in the queue (fewer for the slow ones), one in ten a snapshot; a queue of `fauxqs`, behind a proxy "+
		"that counts requests. After every run the queue was empty and the Redis equalled the model.%s An empty queue costs "+
		"penstock %s requests a minute. Request counts carry over to SQS; rates are this emulator's.\n\n%s\n%s",
		thousands(float64(b.messages)), own, idle.spread(0), t.String(), aims(
			atMost("requests a message", 0.22, 2, one.requests.median(), two.requests.median()),
			atLeast("messages/s, as a multiple of watermill-aws's best", 3, 1, ratios(rates, best)...),
			atLeast("messages/s, as a part of the raw loop (this or the one above)", 0.8, 2, ratios(rates, by["raw loop"].rates)...),
			atLeast("with 10 ms more a request, as a multiple of watermill-aws as it comes", 50, 0, ratios(delayed, by["watermill-aws"].delayed)...),
			atLeast("messages/s, as a multiple of Benthos", 1.5, 2, ratios(rates, by[benthosName].rates)...),
			atMost("requests a minute of an empty queue", 4, 0, idle...),
		)), nil
}

// measure runs a contender once and notes what came out.
func (s *sqsBench) measure(ctx context.Context, i int, delayed bool, r *sqsResult) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout(s.messages))
	defer cancel()
	c := sqsContenders[i]
	messages, wait := max(int(float64(s.messages)*c.share), 10), time.Duration(0)
	if delayed {
		messages, wait = max(int(float64(s.messages)*c.delayed), 10), delay
	}
	if err := s.redis.empty(ctx); err != nil {
		return err
	}
	q, err := s.newQueue(ctx, wait)
	if err != nil {
		return err
	}
	defer q.close()
	w := workload{seed: s.seed, events: messages, distinct: true, customers: messages}
	if err := q.fill(ctx, w); err != nil {
		return err
	}
	if s.models[messages] == nil {
		if s.models[messages], err = newModel(w); err != nil {
			return err
		}
	}
	cmd, err := c.start(s, sqsSettings{
		Endpoint: q.proxy.url(), Queue: q.url, Redis: s.redis.addr, Script: filepath.Join(s.root, "sinks", "redis", "write.lua"),
		Messages: messages,
	})
	if err != nil {
		return err
	}
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	defer p.kill()
	var wall time.Duration
	var requests int
	var took cost
	if c.noStore {
		if took, err = p.wait(ctx); err != nil {
			return err
		}
		if err := p.report(&took); err != nil {
			return err
		}
		wall, requests = took.Wall, q.proxy.requests()
	} else {
		want := s.models[messages].redisKeys()
		if c.own {
			want = 2 * messages
		}
		came, err := s.stored(ctx, p, int64(want))
		if err != nil {
			return err
		}
		wall = came.wall()
		if c.own {
			wall -= came.stalled
			r.stalls += came.stalls
		}
		if err := q.drained(ctx, p); err != nil {
			return err
		}
		requests = q.proxy.requests()
		if took, err = p.stop(ctx); err != nil {
			return err
		}
		if c.own {
			err = checkVersions(ctx, s.redis.client, w)
		} else {
			err = s.models[messages].compare(ctx, s.redis.client, prefix)
		}
		if err != nil {
			return err
		}
	}
	rate, perMessage := float64(messages)/wall.Seconds(), float64(requests)/float64(messages)
	if delayed {
		r.delayed.add(rate)
		r.delayedRequests.add(perMessage)
		return nil
	}
	r.rates.add(rate)
	r.requests.add(perMessage)
	r.cpu.add(float64(took.CPU.Microseconds()) / float64(messages))
	r.rss.add(float64(took.RSS) / 1e6)
	return nil
}

// stored waits until the Redis holds that many keys, and returns how they came. Every event of the workload has keys of
// its own, so that all are written then.
func (s *sqsBench) stored(ctx context.Context, p *process, want int64) (progress, error) {
	for g := (progress{changed: time.Now()}); ; {
		n, err := s.redis.client.DBSize(ctx).Result()
		if err != nil {
			return g, err
		}
		// penstock names the database's contents when it connects: that is no event.
		named, err := s.redis.client.Exists(ctx, prefix+":penstock:contents").Result()
		if err != nil {
			return g, err
		}
		n -= named
		now := time.Now()
		g.see(n, now)
		if n >= want {
			return g, nil
		}
		if now.Sub(g.changed) > time.Minute {
			return g, fmt.Errorf("stuck at %d of %d keys: %s", n, want, p.err.String())
		}
		select {
		case <-p.done:
			return g, errors.Join(errors.New("ended before its work was done"), p.failure)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// progress is how the keys came into the Redis.
type progress struct {
	first, changed time.Time // when the first key was there, and when their number last changed
	keys           int64
	stalled        time.Duration // all times between writes that are stalls
	stalls         int
}

// stall is a time without a write that no work explains: what a client received and lost comes back after the queue's
// visibility timeout, which is 30 s.
const stall = 10 * time.Second

// see notes how many keys there are.
func (g *progress) see(keys int64, now time.Time) {
	if keys <= g.keys {
		return
	}
	if g.first.IsZero() {
		g.first = now
	} else if pause := now.Sub(g.changed); pause >= stall {
		g.stalled += pause
		g.stalls++
	}
	g.keys, g.changed = keys, now
}

// wall is the time from the first write to the last.
func (g *progress) wall() time.Duration { return g.changed.Sub(g.first) }

// idle returns how many requests a minute penstock makes on an empty queue.
func (s *sqsBench) idle(ctx context.Context) (float64, error) {
	q, err := s.newQueue(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer q.close()
	cmd, err := s.penstock(sqsSettings{Endpoint: q.proxy.url(), Queue: q.url})
	if err != nil {
		return 0, err
	}
	p, err := startProcess(cmd)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	settle, period := 3*time.Second, s.idlePeriod
	sleep := func(d time.Duration) error {
		select {
		case <-p.done:
			return errors.Join(errors.New("ended by itself"), p.failure)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := sleep(settle); err != nil {
		return 0, err
	}
	before := q.proxy.requests()
	if err := sleep(period); err != nil {
		return 0, err
	}
	n := float64(q.proxy.requests()-before) * float64(time.Minute) / float64(period)
	_, err = p.stop(ctx)
	return n, err
}

func (s *sqsBench) penstock(settings sqsSettings) (*exec.Cmd, error) {
	host, port := s.redis.hostPort()
	text := fmt.Sprintf(`name: bench
source:
  sqs: {queue_url: %q, endpoint: %q, region: us-east-1, access_key_id: bench, secret_access_key: bench}
transforms:
  - unwrap: {}
  - decode_entitlements: {layout: dual}
sink:
  redis: {host: %s, port: %s, prefix: %s, connections: %d, batch: {count: %d}}
`, settings.Queue, settings.Endpoint, host, port, prefix, s.connections, s.batch)
	file, err := s.configFile("sqs", text)
	if err != nil {
		return nil, err
	}
	return exec.Command(s.binary, "run", file), nil
}

func (s *sqsBench) raw(settings sqsSettings) (*exec.Cmd, error) {
	settings.Subscriptions = 8
	return contender("sqs-raw", settings)
}

// stock is Watermill's own subscriber.
func stock(subscriptions int, receive int32) func(*sqsBench, sqsSettings) (*exec.Cmd, error) {
	return func(_ *sqsBench, settings sqsSettings) (*exec.Cmd, error) {
		settings.Subscriptions, settings.Receive = subscriptions, receive
		return contender("sqs-stock", settings)
	}
}

// queue is a queue on an SQS server of its own, behind a proxy.
type queue struct {
	url    string
	client *sqs.Client // past the proxy
	proxy  *proxy
	server *process
}

// newQueue starts a server with one queue. A delay is added to each request that goes through the proxy.
func (s *sqsBench) newQueue(ctx context.Context, delay time.Duration) (*queue, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.Command("node", filepath.Join(s.root, "test", "node_modules", "fauxqs", "dist", "cli.js"))
	cmd.Env = append(os.Environ(), "FAUXQS_HOST=127.0.0.1", "FAUXQS_PORT="+strconv.Itoa(port), "FAUXQS_LOGGER=false")
	server, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	q := &queue{server: server}
	if q.client, err = newSQSClient(ctx, "http://"+addr); err != nil {
		q.close()
		return nil, err
	}
	for deadline := time.Now().Add(startTimeout); ; {
		created, err := q.client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("bench")})
		if err == nil {
			q.url = aws.ToString(created.QueueUrl)
			break
		}
		select {
		case <-server.done:
			return nil, errors.Join(errors.New("fauxqs ended"), server.failure)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			q.close()
			return nil, fmt.Errorf("fauxqs is not ready after %s: %w", startTimeout, err)
		}
	}
	if q.proxy, err = startProxy(addr, delay); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

func newSQSClient(ctx context.Context, endpoint string) (*sqs.Client, error) {
	cfg, err := newAWSConfig(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	return awsclient.SQS(cfg, endpoint), nil
}

func newAWSConfig(ctx context.Context, endpoint string) (aws.Config, error) {
	return awsclient.Load(ctx, awsclient.Settings{
		Region: "us-east-1", Endpoint: endpoint, AccessKeyID: "bench", SecretAccessKey: "bench",
	})
}

// fill sends the events to the queue.
func (q *queue) fill(ctx context.Context, w workload) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	var batch []types.SendMessageBatchRequestEntry
	flush := func() {
		entries := batch
		batch = nil
		g.Go(func() error {
			out, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(q.url), Entries: entries})
			if err == nil && len(out.Failed) > 0 {
				err = fmt.Errorf("the queue refused a message: %s", aws.ToString(out.Failed[0].Message))
			}
			return err
		})
	}
	err := w.each(func(body []byte) error {
		batch = append(batch, types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(len(batch))), MessageBody: aws.String(string(body)),
		})
		if len(batch) == 10 {
			flush()
		}
		return ctx.Err()
	})
	if len(batch) > 0 {
		flush()
	}
	return errors.Join(err, g.Wait())
}

// drained waits until the queue holds nothing, neither visible nor in flight.
func (q *queue) drained(ctx context.Context, p *process) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: aws.String(q.url), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
		})
		if err != nil {
			return err
		}
		left := 0
		for _, name := range []types.QueueAttributeName{
			types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		} {
			n, err := strconv.Atoi(out.Attributes[string(name)])
			if err != nil {
				return err
			}
			left += n
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages are still in the queue: %s", left, strings.TrimSpace(p.err.String()))
		}
	}
}

func (q *queue) close() {
	if q.proxy != nil {
		q.proxy.close()
	}
	if q.client != nil {
		awsclient.CloseIdle(q.client)
	}
	q.server.kill()
}
