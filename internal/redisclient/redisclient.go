// Package redisclient sets up go-redis clients and tells what their errors mean for a message.
package redisclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

const (
	dialTimeout = 5 * time.Second
	// ioTimeout bounds one request. A server that is alive but slower than this (swapping, a huge DEL) is as good as
	// away: the engine closes its gate and asks again.
	ioTimeout = 5 * time.Second
)

// Config says how to reach a Redis server.
type Config struct {
	// Address is "host:port", or the path of a unix socket.
	Address string
	// Sentinel, when set, tells the address instead, now and after every failover.
	Sentinel *Sentinel
	// Cluster are addresses, "host:port", of nodes of a cluster, for [NewCluster]; one that answers will do.
	Cluster []string
	// DB is the number of the database.
	DB int
	// User and Password log in; both may be empty.
	User, Password string
	// Login, when set, is asked for user and password whenever a connection is made, instead: they may be rotated.
	Login func() (user, password string)
	// TLS is nil for a plain connection.
	TLS *tls.Config
	// Name is what the server's list of clients says; "" for none.
	Name string
	// Connections is how many requests may run at once.
	Connections int
	// Timeout bounds one request; 0 means 5 s.
	Timeout time.Duration
	// OnConnect, when set, is called whenever a connection has been made and is ready; it must not block.
	OnConnect func()
}

// Sentinel says how to ask Redis Sentinels for the master. They are reached with the TLS settings of the server.
type Sentinel struct {
	// Master is the name under which the Sentinels know the master.
	Master string
	// Addresses of the Sentinels, "host:port"; one that answers will do.
	Addresses []string
	// User and Password log in to the Sentinels; both may be empty.
	User, Password string
}

// New returns a client for c. It connects when it is first used, and again whenever a connection broke. Requests fail
// with the errors that [Outcome] understands; one that met a broken connection is repeated once. Config.Cluster is not
// looked at: see [NewCluster].
func New(c Config) *redis.Client {
	o := c.options()
	if s := c.Sentinel; s != nil {
		o.MasterName, o.Addrs = s.Master, s.Addresses
		o.SentinelUsername, o.SentinelPassword = s.User, s.Password
		// go-redis subscribes to the Sentinels and closes all connections to a master that is one no more.
		return redis.NewFailoverClient(o.Failover())
	}
	o.Addrs = []string{c.Address}
	return redis.NewClient(o.Simple())
}

// NewCluster returns a client for the Redis Cluster that the nodes at c.Cluster know; Address, Sentinel and DB are
// not looked at. Connections is for each node. The client follows redirections of its own requests; a node's client
// doesn't.
func NewCluster(c Config) *redis.ClusterClient {
	o := c.options()
	o.Addrs = c.Cluster
	return redis.NewClusterClient(o.Cluster())
}

// options is what all kinds of client have in common.
func (c Config) options() *redis.UniversalOptions {
	quiet.Do(func() { redis.SetLogger(noLog{}) })
	timeout := cmp.Or(c.Timeout, ioTimeout)
	return &redis.UniversalOptions{
		DB:         c.DB,
		Username:   c.User,
		Password:   c.Password,
		ClientName: c.Name,

		CredentialsProvider: c.Login,

		PoolSize:     max(c.Connections, 1),
		Dialer:       c.dialer(),
		OnConnect:    c.onConnect(),
		DialTimeout:  dialTimeout,
		ReadTimeout:  timeout,
		WriteTimeout: timeout,
		// A deadline of the caller counts, too.
		ContextTimeoutEnabled: true,
		// One repetition spares an idle connection that a proxy has closed from looking like an outage.
		MaxRetries: 1,
		// RESP2 has everything that is needed here, in every server and proxy.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (c Config) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err == nil && c.TLS != nil {
			conn, err = encrypt(ctx, conn, addr, c.TLS)
		}
		if err != nil {
			return refusedConn{err: err}, nil
		}
		return conn, nil
	}
}

func (c Config) onConnect() func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, _ *redis.Conn) error {
		inside.Answered(ctx)
		if c.OnConnect != nil {
			c.OnConnect()
		}
		return nil
	}
}

func encrypt(ctx context.Context, conn net.Conn, addr string, config *tls.Config) (net.Conn, error) {
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			// Redis waits for the end of what it takes for a command.
			err = fmt.Errorf("%w: %w", errNoHandshake, err)
		}
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return encrypted, nil
}

var errNoHandshake = reason.New("no answer to the TLS handshake (does the server speak TLS on this port?)")

// quiet takes away go-redis's logger, which is one for the whole process: it writes to stderr what callers get as an
// error anyway, and some things of its own that nobody needs to know.
var quiet sync.Once

type noLog struct{}

func (noLog) Printf(context.Context, string, ...any) {}

// refusedConn stands for a connection that could not be made: its first use fails with the dialer's error. go-redis
// answers a failed dial with log lines of its own, waits in its pool and a goroutine that outlives the client by up
// to a second; a failed first write just fails.
type refusedConn struct{ err error }

// dialError is unwrapped by go-redis, once: what is left is the dialer's error with the address in it.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (c refusedConn) Read([]byte) (int, error)         { return 0, &dialError{c.err} }
func (c refusedConn) Write([]byte) (int, error)        { return 0, &dialError{c.err} }
func (c refusedConn) Close() error                     { return nil }
func (c refusedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c refusedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c refusedConn) SetDeadline(time.Time) error      { return nil }
func (c refusedConn) SetReadDeadline(time.Time) error  { return nil }
func (c refusedConn) SetWriteDeadline(time.Time) error { return nil }

// ReplyError is an error that a script caught and returned as text.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// RedisError marks e as an answer of the server, as [redis.Error] wants.
func (e ReplyError) RedisError() {}

var (
	// Servers before 7 put the code of an error that a script ran into behind a prefix of theirs.
	awayCodes = regexp.MustCompile(`(?:^|[ :]-?)(?:LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|ASK|OOM|MISCONF|NOREPLICAS|BUSY|UNKILLABLE|NOREPL|FAILOVER|NOSCRIPT) |max number of clients|max clients reached`)
	authCodes = regexp.MustCompile(`^WRONGPASS |invalid password|invalid username-password|called without any password configured|no password is set`)
	noAuth    = regexp.MustCompile(`^NOAUTH |unauthenticated (?:multi)?bulk length`)
	noPerm    = regexp.MustCompile(`(?:^|[ :]-?)NOPERM |ACL failure in script|has no permissions to|can't run this command or subcommand|can't access at least one of the keys`)
	badDB     = regexp.MustCompile(`DB index is out of range|invalid DB index|SELECT is not allowed in cluster mode`)
	moved     = regexp.MustCompile(`^MOVED |access a non local key in a cluster node`)
	crossed   = regexp.MustCompile(`^CROSSSLOT |access keys that do not hash to the same slot`)
	noCluster = regexp.MustCompile(`has cluster support disabled`)
	unknown   = regexp.MustCompile(`unknown command`)
)

// Outcome returns err as what it means for the messages of a request, in the terms of package pipeline, or err itself
// when that depends on the message.
//
//   - No connection, a broken one, no answer in time, a server that is loading, full, read-only or without its master:
//     [pipeline.Unavailable].
//   - Wrong credentials, missing rights, a database that doesn't exist, a certificate that can't be trusted, a server
//     in cluster mode (a caller that is prepared for one looks at [FailureOf] first) or without scripts:
//     [pipeline.Fatal], with what to do about it.
//   - The end of the caller's own context: err.
func Outcome(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrClosed) {
		return err
	}
	if pipeline.IsFatal(err) || pipeline.IsUnavailable(err) || pipeline.IsPermanent(err) {
		return err
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return transport(err)
	}
	text := reply.Error()
	switch {
	case awayCodes.MatchString(text):
		return pipeline.Unavailable(err)
	case authCodes.MatchString(text):
		return pipeline.Fatal(code.Mark(code.RedisLogin, reason.Errorf("wrong user or password: %w", err)))
	case noAuth.MatchString(text):
		return pipeline.Fatal(code.Mark(code.RedisLogin, reason.Errorf("the server wants a password: set password (and user, with ACLs): %w", err)))
	case noPerm.MatchString(text):
		return pipeline.Fatal(code.Mark(code.RedisRight, reason.Errorf("the user lacks a right: %w", err)))
	case badDB.MatchString(text):
		return pipeline.Fatal(code.Mark(code.RedisDatabase, reason.Errorf("the server has no such database: set db to one of its databases (0 to 15, unless configured otherwise; only 0 in a cluster): %w", err)))
	case moved.MatchString(text), crossed.MatchString(text):
		return pipeline.Fatal(code.Mark(code.RedisClusterMode, reason.Errorf("the server is a node of a Redis Cluster, where keys lie on several servers: use cluster.addresses instead of host and port, or a Redis without cluster mode: %w", err)))
	case noCluster.MatchString(text):
		return pipeline.Fatal(code.Mark(code.RedisClusterMode, reason.Errorf("the server is no node of a Redis Cluster: use host and port, or sentinel, instead of cluster: %w", err)))
	case unknown.MatchString(text):
		return pipeline.Fatal(code.Mark(code.CommandMissing, reason.Errorf("the server lacks a command that penstock needs: %w", err)))
	}
	return err
}

// IsNoPermission reports whether err is the server's answer that the user lacks a right.
func IsNoPermission(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && noPerm.MatchString(reply.Error())
}

func transport(err error) error {
	var (
		header    tls.RecordHeaderError
		cert      *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &header):
		return pipeline.Fatal(code.Mark(code.RedisTLS, reason.Errorf("the server doesn't speak TLS on this port: switch tls off, or use its TLS port: %w", err)))
	case errors.As(err, &cert), errors.As(err, &authority), errors.As(err, &host):
		return pipeline.Fatal(code.Mark(code.RedisTLS, reason.Errorf("the server's certificate can't be trusted: set tls.ca_file or tls.server_name: %w", err)))
	case errors.As(err, &op) && op.Op == "remote error": // how crypto/tls names the other side's alert
		return pipeline.Fatal(code.Mark(code.RedisTLS, reason.Errorf("the server refuses the TLS connection: check tls.cert_file and tls.key_file: %w", err)))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return pipeline.Unavailable(reason.Errorf("no answer in time: %w", err))
	}
	return pipeline.Unavailable(err)
}
