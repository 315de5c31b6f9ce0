package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/sync/errgroup"
)

// replicasResult is what a number of replicas showed.
type replicasResult struct {
	rate, requests, delayed, delayedRequests, cpu sample
}

// runReplicas measures penstocks that compete for one queue and fill one Redis.
func runReplicas(ctx context.Context, b *bench) (string, error) {
	s := &sqsBench{bench: b, models: map[int]model{}}
	var err error
	if s.redis, err = startRedis(ctx); err != nil {
		return "", err
	}
	defer s.redis.stop()
	results := make([]replicasResult, len(b.replicas))
	for round := range b.rounds {
		for i := range b.replicas {
			i := (i + round) % len(b.replicas)
			n, r := b.replicas[i], &results[i]
			for _, delay := range []time.Duration{0, delay} {
				if err := s.compete(ctx, n, delay, r); err != nil {
					return "", fmt.Errorf("%d replicas: %w", n, err)
				}
			}
			b.say("replicas: %d  %7.0f messages/s, %.2f requests a message; with %s more a request %6.0f/s, %.2f", n,
				r.rate.last(), r.requests.last(), delay, r.delayed.last(), r.delayedRequests.last())
		}
	}
	t := table{header: []string{"replicas", "messages/s", "requests a message", "messages/s, 10 ms more a request", "requests a message", "CPU of all, µs a message"}}
	for i, r := range results {
		t.add(strconv.Itoa(b.replicas[i]), r.rate.spread(0), r.requests.spread(2), r.delayed.spread(0), r.delayedRequests.spread(2), r.cpu.spread(0))
	}
	steady, err := s.steadyRequests(ctx)
	if err != nil {
		return "", err
	}
	var requests []float64
	for _, r := range results {
		requests = append(requests, r.requests.median(), r.delayedRequests.median())
	}
	return fmt.Sprintf("%s messages in one queue of `fauxqs`, and as many penstocks as the table says, each a process, into one Redis. After every run the queue was "+
		"empty and the Redis equalled the model: the same state, however many. Emulator, Redis and replicas share the machine's cores, so the rates say only that "+
		"replicas don't stand in each other's way; request counts carry over to SQS.\n\n%s\n"+
		"Messages that come one by one, at a steady rate: requests a message, by the number of replicas (what a message costs is this by $0.40 a million).\n\n%s\n%s",
		thousands(float64(b.messages)), t.String(), steady, aims(atMost("requests a message, whatever the number", 0.25, 2, requests...))), nil
}

// compete runs n penstocks once on a queue that is full.
func (s *sqsBench) compete(ctx context.Context, n int, delay time.Duration, r *replicasResult) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout(s.messages))
	defer cancel()
	if err := s.redis.empty(ctx); err != nil {
		return err
	}
	q, err := s.newQueue(ctx, delay)
	if err != nil {
		return err
	}
	defer q.close()
	w := workload{seed: s.seed, events: s.messages, distinct: true, customers: s.messages}
	if err := q.fill(ctx, w); err != nil {
		return err
	}
	if s.models[s.messages] == nil {
		if s.models[s.messages], err = newModel(w); err != nil {
			return err
		}
	}
	var all []*process
	for range n {
		cmd, err := s.penstock(sqsSettings{Endpoint: q.proxy.url(), Queue: q.url})
		if err != nil {
			return err
		}
		p, err := startProcess(cmd)
		if err != nil {
			return err
		}
		defer p.kill()
		all = append(all, p)
	}
	came, err := s.stored(ctx, all[0], int64(s.models[s.messages].redisKeys()))
	if err != nil {
		return err
	}
	if err := q.drained(ctx, all[0]); err != nil {
		return err
	}
	requests := float64(q.proxy.requests()) / float64(s.messages)
	var cpu time.Duration
	var errs []error
	for _, p := range all {
		took, err := p.stop(ctx)
		errs = append(errs, err)
		cpu += took.CPU
	}
	errs = append(errs, s.models[s.messages].compare(ctx, s.redis.client, prefix))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	rate := float64(s.messages) / came.wall().Seconds()
	if delay > 0 {
		r.delayed.add(rate)
		r.delayedRequests.add(requests)
		return nil
	}
	r.rate.add(rate)
	r.requests.add(requests)
	r.cpu.add(float64(cpu.Microseconds()) / float64(s.messages))
	return nil
}

// steadyRequests returns a table of the requests a message at steady rates.
func (s *sqsBench) steadyRequests(ctx context.Context) (string, error) {
	t := table{header: []string{"messages/s"}}
	for _, n := range s.bench.replicas {
		t.header = append(t.header, fmt.Sprintf("%d", n))
	}
	for _, rate := range s.trickles {
		row := []string{thousands(float64(rate))}
		for _, n := range s.bench.replicas {
			requests, err := s.steadily(ctx, n, rate)
			if err != nil {
				return "", fmt.Errorf("%d replicas at %d/s: %w", n, rate, err)
			}
			row = append(row, number(requests, 2))
			s.say("replicas: %d at %d messages/s: %.2f requests a message", n, rate, requests)
		}
		t.add(row...)
	}
	return t.String(), nil
}

// steadily sends messages at a rate, one by one, to a queue that n penstocks consume, and returns the requests a
// message.
func (s *sqsBench) steadily(ctx context.Context, n, rate int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout(s.messages))
	defer cancel()
	if err := s.redis.empty(ctx); err != nil {
		return 0, err
	}
	q, err := s.newQueue(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer q.close()
	var all []*process
	for range n {
		cmd, err := s.penstock(sqsSettings{Endpoint: q.proxy.url(), Queue: q.url})
		if err != nil {
			return 0, err
		}
		p, err := startProcess(cmd)
		if err != nil {
			return 0, err
		}
		defer p.kill()
		all = append(all, p)
	}
	period := s.idlePeriod / 4
	messages := max(int(float64(rate)*period.Seconds()), 1)
	select {
	case <-time.After(period / 10): // they wait for messages
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	before := q.proxy.requests()
	bodies := make(chan []byte)
	var sending errgroup.Group
	for range 4 {
		sending.Go(func() error {
			for body := range bodies {
				if _, err := q.client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(q.url), MessageBody: aws.String(string(body))}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	err = workload{seed: s.seed, events: messages, distinct: true, customers: messages}.each(func(body []byte) error {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case bodies <- bytes.Clone(body):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(bodies)
	if err := errors.Join(err, sending.Wait()); err != nil {
		return 0, err
	}
	if err := q.drained(ctx, all[0]); err != nil {
		return 0, err
	}
	requests := float64(q.proxy.requests()-before) / float64(messages)
	var errs []error
	for _, p := range all {
		_, err := p.stop(ctx)
		errs = append(errs, err)
	}
	return requests, errors.Join(errs...)
}
