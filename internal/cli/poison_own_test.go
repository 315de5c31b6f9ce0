package cli

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// shelf is a poison queue of a user's own.
type shelf struct {
	mu      sync.Mutex
	entries []*pipeline.PoisonEntry
	open    int
}

var shelves sync.Map // by name

type shelfConfig struct {
	Name string `yaml:"name"`
}

var _ pipeline.PoisonKeeper = (*shelfConfig)(nil)

func (c *shelfConfig) NewSink(pipeline.Env) (pipeline.Sink, error) {
	return pipeline.SinkFunc(func(context.Context, *message.Message) error { return nil }), nil
}

func (c *shelfConfig) OpenPoison(_ context.Context, env pipeline.Env, _ bool) (pipeline.PoisonQueue, error) {
	found, _ := shelves.Load(c.Name)
	s := found.(*shelf)
	s.mu.Lock()
	defer s.mu.Unlock()
	if env.Role == pipeline.RolePoisonQueue && env.Pipeline == "p" {
		s.open++
	}
	return s, nil
}

func (s *shelf) Entries(_ context.Context, each func(*pipeline.PoisonEntry) error, _ func(error)) error {
	s.mu.Lock()
	all := append([]*pipeline.PoisonEntry{}, s.entries...)
	s.mu.Unlock()
	for _, e := range all {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) Remove(_ context.Context, entries []*pipeline.PoisonEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, gone := range entries {
		for i, e := range s.entries {
			if e == gone {
				s.entries = append(s.entries[:i:i], s.entries[i+1:]...)
				break
			}
		}
	}
	return nil
}

func (s *shelf) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	return nil
}

func TestPoison_worksOnAQueueOfAUsersOwn(t *testing.T) {
	b := newPoisonBench(t, "")
	s := &shelf{}
	for _, id := range []string{"m1", "m2", "m3"} {
		msg := message.NewMessage(id, []byte("{}"))
		msg.Metadata[pipeline.MetadataPoisonReason] = "because of " + id
		s.entries = append(s.entries, &pipeline.PoisonEntry{Message: msg, Handle: id})
	}
	shelves.Store(b.dir, s)
	pipeline.AddSink[shelfConfig](b.registry, "shelf")
	text := "name: p\nsource: {file: {paths: [in.ndjson]}}\nsink: {keep: {name: " + b.dir + "}}\npoison_queue: {shelf: {name: " + b.dir + "}}\n"
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.kept.refuses["m3"] = pipeline.Permanent
	if code, out, errs := b.run("redrive"); code != 1 || b.wrote() != "m1 m2" || b.left() != "m3" || s.open != 0 {
		t.Errorf("code %d, wrote %q, left %q, %d open\n%s%s", code, b.wrote(), b.left(), s.open, out, errs)
	}
	if code, out, _ := b.run("show", "m3"); code != 0 || !strings.Contains(out, "because of m3") {
		t.Errorf("code %d, %s", code, out)
	}
	if code, _, errs := b.run("drop", "--yes", "--to", b.dir+".dropped"); code != 0 || b.left() != "" || s.open != 0 {
		t.Errorf("code %d, left %q, %s", code, b.left(), errs)
	}
}
