package redisclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func kind(err error) string {
	switch {
	case err == nil:
		return "none"
	case pipeline.IsFatal(err):
		return "fatal"
	case pipeline.IsUnavailable(err):
		return "unavailable"
	case pipeline.IsPermanent(err):
		return "permanent"
	}
	return "as it is"
}

func TestOutcome(t *testing.T) {
	reply := func(s string) error { return ReplyError(s) }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nothing":                     {nil, "none"},
		"refused":                     {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "unavailable"},
		"broken":                      {io.EOF, "unavailable"},
		"broken in the middle":        {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), "unavailable"},
		"no such host":                {&net.DNSError{Name: "redis", IsNotFound: true}, "unavailable"},
		"slow":                        {context.DeadlineExceeded, "unavailable"},
		"pool exhausted":              {redis.ErrPoolTimeout, "unavailable"},
		"stopping":                    {context.Canceled, "as it is"},
		"closed":                      {redis.ErrClosed, "as it is"},
		"loading":                     {reply("LOADING Redis is loading the dataset in memory"), "unavailable"},
		"replica":                     {reply("READONLY You can't write against a read only replica."), "unavailable"},
		"replica, in a script":        {reply("READONLY You can't write against a read only replica. script: 3b7f, on @user_script:61."), "unavailable"},
		"replica, in a script of 6":   {reply("ERR Error running script (call to f_3b7f): @user_script:61: @user_script: 61: -READONLY You can't write against a read only replica."), "unavailable"},
		"full":                        {reply("OOM command not allowed when used memory > 'maxmemory'."), "unavailable"},
		"full, in a script of 6":      {reply("@user_script: 61: -OOM command not allowed when used memory > 'maxmemory'."), "unavailable"},
		"master away":                 {reply("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), "unavailable"},
		"cluster down":                {reply("CLUSTERDOWN The cluster is down"), "unavailable"},
		"slot moves":                  {reply("TRYAGAIN Multiple keys request during rehashing of slot"), "unavailable"},
		"cluster":                     {reply("MOVED 3999 127.0.0.1:6381"), "fatal"},
		"cluster, several slots":      {reply("CROSSSLOT Keys in request don't hash to the same slot"), "fatal"},
		"cluster, in a script":        {reply("ERR Script attempted to access keys that do not hash to the same slot script: 3b7f, on @user_script:186."), "fatal"},
		"slot asks":                   {reply("ASK 3999 127.0.0.1:6381"), "unavailable"},
		"disk full":                   {reply("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."), "unavailable"},
		"too few replicas":            {reply("NOREPLICAS Not enough good replicas to write."), "unavailable"},
		"another script runs":         {reply("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."), "unavailable"},
		"too many clients":            {reply("ERR max number of clients reached"), "unavailable"},
		"wrong password":              {reply("WRONGPASS invalid username-password pair or user is disabled."), "fatal"},
		"wrong password, before 6":    {reply("ERR invalid password"), "fatal"},
		"needless password, before 6": {reply("ERR Client sent AUTH, but no password is set"), "fatal"},
		"needless password":           {reply("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"), "fatal"},
		"no password":                 {reply("NOAUTH Authentication required."), "fatal"},
		"no password, long command":   {reply("ERR Protocol error: unauthenticated multibulk length"), "fatal"},
		"no right to a key":           {reply("NOPERM this user has no permissions to access one of the keys used as arguments"), "fatal"},
		"no right to a key, 7":        {reply("NOPERM No permissions to access a key"), "fatal"},
		"no right in a script":        {reply("ERR The user executing the script can't run this command or subcommand script: 3b7f, on @user_script:61."), "fatal"},
		"no right to a key in one":    {reply("ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 3b7f, on @user_script:131."), "fatal"},
		"no such database":            {reply("ERR DB index is out of range"), "fatal"},
		"database in a cluster":       {reply("ERR SELECT is not allowed in cluster mode"), "fatal"},
		"no scripts":                  {reply("ERR unknown command 'EVALSHA', with args beginning with:"), "fatal"},
		"about a key":                 {reply("WRONGTYPE Operation against a key holding the wrong kind of value"), "as it is"},
		"about a script":              {reply("ERR user_script:12: attempt to index a nil value"), "as it is"},
		"judged already":              {pipeline.Permanent(errors.New("x")), "permanent"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Outcome(c.err)
			if kind(got) != c.want {
				t.Errorf("%v: got %s, want %s", c.err, kind(got), c.want)
			}
			if !errors.Is(got, c.err) {
				t.Errorf("%v: lost in %v", c.err, got)
			}
		})
	}
}

func TestNew_anUnreachableServerIsNamed(t *testing.T) {
	s := testserver.StartRedis(t)
	s.Stop()
	client := New(Config{Address: s.Addr(), Connections: 1})
	defer func() { _ = client.Close() }()
	for range 3 { // no memory of failures that would delay what comes after them
		begin := time.Now()
		err := client.Ping(t.Context()).Err()
		if err == nil || !strings.Contains(err.Error(), "dial tcp "+s.Addr()) {
			t.Errorf("got %v, want the address", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("took %s", took)
		}
	}
	s.Restart()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("back again: %v", err)
	}
}

func TestNew_aConnectionThatTheServerClosedIsReplaced(t *testing.T) {
	addr := testserver.Redis(t)
	client := New(Config{Address: addr, Connections: 1})
	defer func() { _ = client.Close() }()
	admin := New(Config{Address: addr, Connections: 1})
	defer func() { _ = admin.Close() }()
	for range 5 {
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := admin.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
}
