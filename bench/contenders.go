package main

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/entitlement"
)

// contenderMain runs one contender in this process. What it prints is its cost as JSON; nothing means the whole
// process's.
func contenderMain(name, settings string) error {
	decode := func(v any) error { return json.Unmarshal([]byte(settings), v) }
	switch name {
	case "limit":
		var s fileSettings
		if err := decode(&s); err != nil {
			return err
		}
		return limitMain(context.Background(), s)
	case "watermill":
		var s fileSettings
		if err := decode(&s); err != nil {
			return err
		}
		return watermillMain(context.Background(), s)
	case "profile":
		var s profileSettings
		if err := decode(&s); err != nil {
			return err
		}
		return profileMain(context.Background(), s)
	case "sqs-stock":
		var s sqsSettings
		if err := decode(&s); err != nil {
			return err
		}
		return stockMain(context.Background(), s)
	case "sqs-raw":
		var s sqsSettings
		if err := decode(&s); err != nil {
			return err
		}
		return rawMain(context.Background(), s)
	}
	return fmt.Errorf("no contender %q", name)
}

// script is the script of penstock's redis sink and how it is called, see sinks/redis/write.lua. A change of it that
// this file doesn't follow shows: the Redis no longer equals the model.
type script struct {
	text, sha string
}

func loadScript(ctx context.Context, client *redis.Client, file string) (script, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return script{}, err
	}
	sum := sha1.Sum(text)
	s := script{text: string(text), sha: hex.EncodeToString(sum[:])}
	return s, client.ScriptLoad(ctx, s.text).Err()
}

// ttl and clocksTTL are the defaults of the redis sink.
const (
	ttl       = 168 * time.Hour
	clocksTTL = 15 * 24 * time.Hour
)

// call is the command that carries out the writes.
func (s script) call(writes []cache.Write) []any {
	args := make([]any, 0, 6+6*len(writes))
	args = append(args, "evalsha", s.sha, len(writes))
	for i := range writes {
		args = append(args, []byte(prefix+":"+writes[i].Key))
	}
	args = append(args, prefix, strconv.FormatInt(ttl.Milliseconds(), 10), strconv.FormatInt(clocksTTL.Milliseconds(), 10))
	for i := range writes {
		w := &writes[i]
		if w.Lock != "" {
			args = append(args, "l", w.Lock) // the sink's default is to respect locks
		}
		switch {
		case w.Delete:
			args = append(args, "d", w.Version, max(w.AsOf, w.Version))
		case w.AsOf != 0:
			args = append(args, "a", w.Version, w.AsOf, w.Value)
		default:
			args = append(args, "v", w.Version, w.Value)
		}
	}
	return args
}

// send makes a call and checks that the script refused no write and found no lock.
func send(ctx context.Context, client *redis.Client, args []any) error {
	reply, err := client.Do(ctx, args...).Slice()
	if err != nil {
		return err
	}
	if letters, ok := reply[0].(string); !ok || strings.ContainsAny(letters, "el") {
		return fmt.Errorf("the script answered %v", reply)
	}
	return nil
}

// limitMain sends writes that are ready in memory, as fast as Redis takes them.
func limitMain(ctx context.Context, s fileSettings) error {
	client := redis.NewClient(&redis.Options{Addr: s.Redis, Protocol: 2, PoolSize: s.Connections, DisableIdentity: true})
	defer func() { _ = client.Close() }()
	script, err := loadScript(ctx, client, s.Script)
	if err != nil {
		return err
	}
	decoder, err := newDecoder()
	if err != nil {
		return err
	}
	var (
		commands [][]any
		writes   []cache.Write
		messages int
	)
	now := time.Now()
	err = readLines(s.Recording, func(line []byte) error {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		more, _, err := decoder.Decode(entitlement.Input{Body: []byte(e.Payload), Now: now})
		if err != nil {
			return err
		}
		writes = append(writes, more...)
		if messages++; messages == s.Batch {
			commands = append(commands, script.call(writes))
			writes, messages = writes[:0], 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(writes) > 0 {
		commands = append(commands, script.call(writes))
	}

	begin, err := ownCPU()
	if err != nil {
		return err
	}
	started := time.Now()
	errs := make([]error, s.Connections)
	var wg sync.WaitGroup
	for i := range s.Connections {
		wg.Go(func() {
			for n := i; n < len(commands) && errs[i] == nil; n += s.Connections {
				errs[i] = send(ctx, client, commands[n])
			}
		})
	}
	wg.Wait()
	took := cost{Wall: time.Since(started)}
	end, err := ownCPU()
	if err != nil {
		return err
	}
	took.CPU = end - begin
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// ownCPU is the time that this process has computed so far.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// watermillMain is what one writes with Watermill alone: a router and a handler that decodes a message and writes it by
// one script call.
func watermillMain(ctx context.Context, s fileSettings) error {
	client := redis.NewClient(&redis.Options{Addr: s.Redis, Protocol: 2})
	defer func() { _ = client.Close() }()
	handler, err := newHandler(ctx, client, s.Script)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	lines := &lineSubscriber{file: s.Recording}
	router.AddConsumerHandler("bench", "", lines, handler)
	// The router ends by itself when the subscriber's channel is closed and all handlers have returned.
	if err := router.Run(ctx); err != nil {
		return err
	}
	return lines.err
}

// newHandler decodes a message and writes it by one script call.
func newHandler(ctx context.Context, client *redis.Client, file string) (message.NoPublishHandlerFunc, error) {
	script, err := loadScript(ctx, client, file)
	if err != nil {
		return nil, err
	}
	decoder, err := newDecoder()
	if err != nil {
		return nil, err
	}
	return func(msg *message.Message) error {
		writes, _, err := decoder.Decode(entitlement.Input{Body: msg.Payload, Metadata: msg.Metadata, Now: time.Now()})
		if err != nil {
			return err
		}
		return send(msg.Context(), client, script.call(writes))
	}, nil
}

// inFlight is how many messages a subscriber has out at a time: penstock's default.
const inFlight = 1024

// lineSubscriber reads a recording and closes its channel when all of it is acked.
type lineSubscriber struct {
	file string
	err  error // set before the channel is closed
}

func (l *lineSubscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		room := make(chan struct{}, inFlight)
		var settled sync.WaitGroup
		n := 0
		l.err = readLines(l.file, func(line []byte) error {
			var e entry
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			n++
			msg := message.NewMessage(strconv.Itoa(n), []byte(e.Payload))
			msg.SetContext(ctx)
			room <- struct{}{}
			settled.Add(1)
			go func() {
				<-msg.Acked()
				<-room
				settled.Done()
			}()
			out <- msg
			return nil
		})
		settled.Wait()
	}()
	return out, nil
}

func (l *lineSubscriber) Close() error { return nil }
