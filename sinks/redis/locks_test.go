package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// checkLock publishes a write while an SDK has its lock: nothing may be written, others must pass, and when the lock is
// gone it must be written.
func checkLock(ctx context.Context, s *store) error {
	locked := cache.Write{Key: "c_locked", Version: 1, AsOf: 1, Value: []byte("1"), Lock: "locked"}
	other := cache.Write{Key: "c_other", Version: 1, AsOf: 1, Value: []byte("1"), Lock: "other"}
	if err := s.client.Set(ctx, s.prefix+"-locked", "an SDK", time.Minute).Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	const waits = "penstock_lock_waits_total"
	before := s.counted(waits)
	go func() { done <- s.publish(0, locked) }()
	for s.counted(waits) == before && len(done) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.publish(0, other); err != nil {
		return err
	}
	keys, err := s.client.Exists(ctx, s.names("c_locked")...).Result()
	if err != nil {
		return err
	}
	if err := s.client.Del(ctx, s.prefix+"-locked").Err(); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	if keys != 0 {
		return errors.New("written while the lock was held")
	}
	for _, key := range []string{"c_locked", "c_other"} {
		if s.client.Exists(ctx, s.names(key)...).Val() != 3 {
			return fmt.Errorf("%s was not written", key)
		}
	}
	return nil
}

func TestLocks_aWriteWaitsForTheLockOfItsCustomer(t *testing.T) {
	t.Parallel()
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			if err := checkLock(t.Context(), newStore(t, serve(t), 1, writeScript)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLocks_patienceEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		patience, timeout time.Duration
	}{"after a while": {300 * time.Millisecond, time.Minute}, "well before the message's time is up": {time.Hour, 2 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, testserver.Redis(t), 1, writeScript)
			s.sinks[0].Publisher.(*lockWaiter).patience = c.patience
			s.client.Set(t.Context(), "p-x", "an SDK that hangs", 0)
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			msg := message.NewMessage("m", payload(cache.Write{Key: "c_x", Version: 1, AsOf: 1, Value: []byte("1"), Lock: "x"}))
			msg.SetContext(ctx)
			if err := s.sinks[0].Publisher.Publish("", msg); err != nil {
				t.Fatal(err)
			}
			if s.client.Exists(t.Context(), s.names("c_x")...).Val() != 3 {
				t.Error("not written")
			}
		})
	}
}

func TestLocks_aMessageThatIsGivenUpStopsWaiting(t *testing.T) {
	t.Parallel()
	s := newStore(t, testserver.Redis(t), 1, writeScript)
	s.client.Set(t.Context(), "p-x", "an SDK", 0)
	ctx, cancel := context.WithCancel(t.Context())
	msg := message.NewMessage("m", payload(cache.Write{Key: "c_x", Version: 1, AsOf: 1, Value: []byte("1"), Lock: "x"}))
	msg.SetContext(ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.sinks[0].Publisher.Publish("", msg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func TestLocks_withoutTheRightToReadThemThereIsAWarning(t *testing.T) {
	t.Parallel()
	addr := testserver.Redis(t, "--user", "penstock", "on", ">pw", "~p:*", "+@all")
	conf := testConfig(addr)
	conf.User, conf.Password = "penstock", pipeline.NewSecret("pw")
	core, logs := observer.New(zap.WarnLevel)
	sink := started(t, newSink(conf, pipeline.Env{Logger: zap.New(core)}, writeScript))
	if n := logs.FilterMessageSnippet("no right to read the SDK's locks").Len(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	write := cache.Write{Key: "c_x", Version: 1, AsOf: 1, Value: []byte("1"), Lock: "x"}
	if err := sink.Publisher.Publish("", message.NewMessage("m", payload(write))); err != nil {
		t.Error(err)
	}
}

// sdk is the provider's own writer, in a process of its own.
type sdk struct {
	in  *bufio.Writer
	out *bufio.Scanner
}

func startSDK(t *testing.T, addr, prefix string) *sdk {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/sdk_writer.cjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", script, testserver.NodeModules(t, "@stigg/node-server-sdk"), port, prefix)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends when its input does
		if err := cmd.Wait(); err != nil {
			t.Errorf("SDK: %v: %s", err, complaints.String())
		}
	})
	s := &sdk{in: bufio.NewWriter(in), out: bufio.NewScanner(out)}
	s.await(t, "ready")
	return s
}

func (s *sdk) await(t *testing.T, line string) {
	t.Helper()
	if !s.out.Scan() || s.out.Text() != line {
		t.Fatalf("SDK said %q, %v, want %q", s.out.Text(), s.out.Err(), line)
	}
}

func (s *sdk) write(t *testing.T, what, customer string, version int64) {
	t.Helper()
	_, _ = fmt.Fprintln(s.in, what, customer, version)
	if err := s.in.Flush(); err != nil {
		t.Fatal(err)
	}
}

// race lets the SDK and the sink write the same customers at the same time until the older snapshot wins, or the trials
// are over. It returns the number of the trial that was lost; 0 = none.
func race(t *testing.T, respectLocks bool, trials int) int {
	t.Helper()
	addr := testserver.Redis(t)
	conf := testConfig(addr)
	conf.RespectSDKLocks = respectLocks
	sink := started(t, newSink(conf, pipeline.Env{}, writeScript))
	writer, client := startSDK(t, addr, "p"), testClient(t, addr)
	for i := 1; i <= trials; i++ {
		customer := fmt.Sprintf("customer-%d", i)
		ours, theirs := int64(2000), int64(1000)
		if i%4 == 0 {
			theirs = 3000
		}
		writer.write(t, "set", customer, theirs)
		time.Sleep(rand.N(1500 * time.Microsecond))
		err := sink.Publisher.Publish("", message.NewMessage("m", payload(cache.Write{
			Key: "c_" + customer, Version: ours, AsOf: ours, Value: []byte(`{"ours":true}`), Lock: customer,
		})))
		if err != nil {
			t.Fatal(err)
		}
		writer.await(t, customer)
		if got, want := client.Get(t.Context(), "p:c_"+customer+"#timestamp").Val(), fmt.Sprint(max(ours, theirs)); got != want {
			t.Logf("%s: version %s survived, want %s", customer, got, want)
			return i
		}
	}
	return 0
}

func TestLocks_theNewestSnapshotSurvivesTheSDKsOwnWrites(t *testing.T) {
	t.Parallel()
	const trials = 300
	if race(t, true, trials) != 0 {
		t.Error("the older snapshot won")
	}
	// The same harness without the locks must be able to lose, or it shows nothing.
	if race(t, false, 20*trials) == 0 {
		t.Error("no race was lost without locks: the harness doesn't race")
	}
}
