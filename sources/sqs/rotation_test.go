package sqs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources/sqs"
)

// accessKey is an access key in files, as a pipeline file names them.
type accessKey struct{ id, secret string }

func newAccessKey(t *testing.T, id, secret string) accessKey {
	t.Helper()
	dir := t.TempDir()
	k := accessKey{filepath.Join(dir, "id"), filepath.Join(dir, "secret")}
	write(t, k.id, id)
	write(t, k.secret, secret)
	return k
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// source makes the source of a pipeline file with this key.
func (k accessKey) source(t *testing.T, queueURL, endpoint string) pipeline.Source {
	t.Helper()
	registry := pipeline.NewRegistry()
	pipeline.AddSource[sqs.Config](registry, "sqs")
	pipeline.AddSink[nowhere](registry, "nowhere")
	text := "name: p\nsink: {nowhere: {}}\nsource:\n  sqs:\n    queue_url: " + queueURL + "\n    endpoint: " + endpoint +
		"\n    region: us-east-1\n    wait_time: 1s\n    access_key_id: ${file:" + k.id + "}\n    secret_access_key: ${file:" + k.secret + "}\n"
	conf, _, err := pipeline.LoadBytes(registry, "p.yaml", []byte(text), pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	source, err := conf.Source.New(pipeline.Env{MaxInFlight: 10, MaxInFlightBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Subscriber.Close() })
	return source
}

type nowhere struct{}

func (*nowhere) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }

// An access key that is replaced while the source runs is an outage, which ends by itself when the files hold the new
// one, also when they hold half of it for a while. Wrong from the start it stays a fatal error.
func TestSource_rotatedAccessKey(t *testing.T) {
	s := startServer(t)
	queueURL := s.createQueue(t, "rotated", nil)
	guard := testserver.GuardAWS(t, s.endpoint(), "AKIAOLD", "old")
	key := newAccessKey(t, "AKIAOLD", "old")
	source := key.source(t, queueURL, guard.URL())
	if err := source.Subscriber.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	msgs, err := source.Subscriber.Subscribe(t.Context(), source.Topic)
	if err != nil {
		t.Fatal(err)
	}
	s.send(t, queueURL, "before")
	receive(t, msgs, "before")

	guard.Want("AKIANEW", "new")
	receiver := source.Subscriber.(pipeline.Receiver)
	until(t, "receiving fails", func() bool { _, err := receiver.Receiving(); return err != nil })
	s.send(t, queueURL, "meanwhile")

	write(t, key.id, "AKIANEW") // and the old secret
	refused := guard.Refused()
	until(t, "half of the new key is refused", func() bool { return guard.Refused() > refused+1 })
	write(t, key.secret, "new")
	receive(t, msgs, "meanwhile")
	until(t, "receiving works", func() bool { _, err := receiver.Receiving(); return err == nil })

	wrong := newAccessKey(t, "AKIAOLD", "old").source(t, queueURL, guard.URL())
	if err := wrong.Subscriber.(pipeline.Starter).Start(t.Context()); !pipeline.IsFatal(err) {
		t.Errorf("wrong from the start: %v, want a fatal error", err)
	}
}

func receive(t *testing.T, msgs <-chan *message.Message, want string) {
	t.Helper()
	select {
	case msg := <-msgs:
		if string(msg.Payload) != want {
			t.Fatalf("received %q, want %q", msg.Payload, want)
		}
		msg.Ack()
	case <-time.After(30 * time.Second):
		t.Fatalf("%q did not come", want)
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
