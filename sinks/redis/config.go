package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// Config stores cache writes (what the decode transforms put out) in a Redis, newer wins.
//
// Messages that arrive together share one script call per connection; inside it every write is decided by itself. A
// message is stored when all its writes are: carried out, older than what is there, or kept out by their condition. A
// payload that holds no cache writes fails for good, alone. While Redis is away, read-only, loading or full, the sink
// is unavailable and nothing is lost.
//
// Order: writes with a version need none, since the newer one wins whatever comes first, and a write that comes twice
// changes nothing. Writes without a version are stored as they arrive: the last one stays. order: source on the
// pipeline keeps the order of a source that has one; a write that was carried out just when the connection broke is
// carried out again.
type Config struct {
	// Where the server is, instead of host, port, db, user and password: "redis://user:password@host:port/db",
	// "rediss://…" for an encrypted connection, or "unix://user:password@/path/of/the.sock?db=0"; all but host or
	// path may be left out.
	URL pipeline.Secret `yaml:"url" excludes:"host,port,db,user,password,sentinel.master,cluster.addresses,embedded" pattern:"^([rR][eE][dD][iI][sS][sS]?|[uU][nN][iI][xX])://" want:"redis://, rediss:// or unix://" code:"PS058" example:"redis://localhost:6379/0"`
	// Host name or address of the server; "host:port" is understood, too, and the path of a unix socket.
	Host string `yaml:"host" default:"localhost" excludes:"sentinel.master,cluster.addresses" pattern:"^(/.*|\\[[0-9A-Fa-f:.%a-z]+\\](:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?|[^:/\\[\\]\\s]+(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%a-z]*)$" want:"a host, or host:port" note:"a URL goes into url" code:"PS058"`
	// Port of the server; 1 to 65535.
	Port int `yaml:"port" default:"6379" range:"1..65535" excludes:"sentinel.master,cluster.addresses"`
	// Redis Sentinels that know the server, instead of host and port.
	Sentinel Sentinel `yaml:"sentinel" when:"master" needs:"sentinel.addresses" excludes:"cluster.addresses" example:"{master: cache, addresses: [\"sentinel-0:26379\"]}"`
	// A Redis Cluster, instead of host and port.
	Cluster Cluster `yaml:"cluster" when:"addresses" excludes:"db" note:"a cluster has no other database than 0" example:"{addresses: [\"redis-0:6379\"]}"`
	// Number of the database; 0 or more; a cluster has only 0.
	DB int `yaml:"db" default:"0" range:"0.." unit:"number of the database"`
	// User to log in as; empty for the default user.
	User string `yaml:"user" needs:"password" example:"penstock"`
	// Password to log in with; empty for none.
	Password pipeline.Secret `yaml:"password"`
	// Name of the connections in the server's CLIENT LIST: no blanks; empty for none.
	ClientName string `yaml:"client_name" pattern:"^[!-~]+$" want:"ASCII without blanks" example:"penstock"`
	// Encryption of the connections, to Sentinels too.
	TLS TLS `yaml:"tls" when:"enabled=true;ca_file|cert_file|key_file|server_name" excludes:"host=/*,url=redis://*,url=unix://*" needs:";tls.enabled=true|url" note:"rediss:// is encrypted, redis:// and unix sockets are not" example:"{enabled: true}"`
	// How long one request may take before the server counts as away; 100ms to 30s.
	Timeout time.Duration `yaml:"timeout" default:"5s" range:"100ms..30s"`
	// Prefix of all keys, put before them with a colon: the SDK's environmentPrefix. One with a hash tag, such as
	// "{production}", keeps all keys in one slot of a cluster, and so on one node.
	Prefix string `yaml:"prefix" default:"production"`
	// How long entries live after their last write, at least 1ms; negative: for ever. A write may say otherwise
	// (ttl). The clock keys beside them (tombstones of deletes included) live as long, and at least 15 days.
	TTL time.Duration `yaml:"ttl" default:"168h" range:"<0,1ms..876000h" note:"negative means that entries never expire"`
	// How many connections write at the same time, to each node of a cluster; 1 to 1000.
	Connections int `yaml:"connections" default:"2" range:"1..1000" unit:"connections"`
	// On how many replicas of the Redis a write must be before it counts as stored.
	WaitReplicas WaitReplicas `yaml:"wait_replicas" example:"{count: 1}"`
	// For messages that are no cache writes but JSON objects of a key, a value, and perhaps a version and a TTL: the
	// names of these members; {} takes the defaults. Each message is one entry then, and any source will do, without
	// a transform.
	Plain *Plain `yaml:"plain" example:"{version: updated_at}"`
	// How messages are gathered into one script call.
	Batch pipeline.Batch `yaml:"batch" example:"{count: 100}"`
	// Whether to wait with a write while an SDK holds the lock of its customer, so that the SDK's own write, decided
	// before ours, can't undo it: the message is tried again every 50 to 200 ms, and written after 10 s in any case.
	// Needs the right to read keys that start with the prefix and "-"; without it there is a warning, and locks are
	// not looked at.
	RespectSDKLocks bool `yaml:"respect_sdk_locks" default:"true"`
	// Address such as "127.0.0.1:6380" on which to serve a built-in Redis, in memory and gone with the process, instead
	// of dialling one; host, port, user, password and tls are not used then.
	Embedded string `yaml:"embedded" pattern:"^(\\[[^\\]]*\\]|[^:\\[\\]]*):[0-9A-Za-z]*$" want:"an address such as 127.0.0.1:6380" code:"PS058" excludes:"host,port,sentinel.master,cluster.addresses,tls.enabled=true,user,password,wait_replicas.count" example:"127.0.0.1:6380"`
}

// TLS declares how the connection is encrypted.
type TLS struct {
	// Whether the connection is encrypted.
	Enabled bool `yaml:"enabled" default:"false"`
	// File with the certificates (PEM) of the authorities to trust; empty for the system's.
	CAFile string `yaml:"ca_file" example:"/etc/ssl/redis-ca.pem"`
	// File with the client's certificate (PEM); needs key_file.
	CertFile string `yaml:"cert_file" needs:"key_file" example:"/etc/ssl/client.pem"`
	// File with the client certificate's private key (PEM); needs cert_file.
	KeyFile string `yaml:"key_file" needs:"cert_file" example:"/etc/ssl/client.key"`
	// Name that the server's certificate must be for; empty for the host.
	ServerName string `yaml:"server_name" example:"redis.internal"`
}

// Sentinel declares the Sentinels of a Redis. After a failover the sink goes on with the new master.
type Sentinel struct {
	// Name under which the Sentinels know the master; empty: no Sentinels.
	Master string `yaml:"master" example:"cache"`
	// Addresses of the Sentinels, each "host:port"; one that answers will do.
	Addresses []string `yaml:"addresses" needs:"master" pattern:"^(\\[[0-9A-Fa-f:.%a-z]+\\]|[^:\\[\\]\\s]+):0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})$" want:"host:port" code:"PS058" example:"[\"sentinel-0:26379\"]"`
	// User to log in to the Sentinels as; empty for the default user.
	User string `yaml:"user" needs:"master" example:"penstock"`
	// Password to log in to the Sentinels with; empty for none.
	Password pipeline.Secret `yaml:"password" needs:"master"`
}

// Cluster declares a Redis Cluster. A write and what belongs to it (its version, its clock key) are one step, so
// their keys must lie in one hash slot: by a hash tag in the prefix, or by keys with hash tags (decode_entitlements:
// {hash_tags: true}).
type Cluster struct {
	// Addresses of nodes, each "host:port"; one that answers will do, it knows the others.
	Addresses []string `yaml:"addresses" pattern:"^(\\[[0-9A-Fa-f:.%a-z]+\\]|[^:\\[\\]\\s]+):0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})$" want:"host:port" code:"PS058" example:"[\"redis-0:6379\"]"`
}

// WaitReplicas declares what a failover may cost. A server that crashes loses what it had not replicated; with count
// 0 those are the last moments before the crash.
type WaitReplicas struct {
	// Number of Redis replicas that must have a write before its message is acked; 0: none.
	Count int `yaml:"count" default:"0" range:"0..100" unit:"replicas"`
	// How long to wait for them; more than 0 and less than the sink's timeout. After that the store counts as away, until
	// there are enough of them.
	Timeout time.Duration `yaml:"timeout" default:"1s" range:"1ms..30s"`
}

const (
	defaultHost = "localhost"
	defaultPort = 6379
	// minClocksTTL outlives every message that could still arrive: SQS keeps one for at most 14 days.
	minClocksTTL = 15 * 24 * time.Hour
	maxTTL       = 100 * 365 * 24 * time.Hour
)

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error {
	errs := []error{pipeline.CheckTags(c)}
	bad := func(c code.Code, field, format string, args ...any) {
		errs = append(errs, code.Mark(c, pipeline.Invalid(field, format, args...)))
	}
	c.checkTarget(bad)
	if c.WaitReplicas.Count > 0 && c.WaitReplicas.Timeout >= c.Timeout {
		bad(code.OutOfRange, "wait_replicas.timeout", "must be less than timeout (%s), got %s", c.Timeout, c.WaitReplicas.Timeout)
	}
	if c.Prefix == "" {
		bad(code.Required, "prefix", "must not be empty: it is the SDK's environmentPrefix")
	}
	return errors.Join(errs...)
}

// checkTarget reports what is wrong with where the server is, as far as the tags don't say.
func (c *Config) checkTarget(bad func(c code.Code, field, format string, args ...any)) {
	t, err := c.target()
	if err != nil {
		bad(code.BadAddress, "url", "%w", err)
	}
	if strings.Contains(c.Host, "://") {
		bad(code.BadAddress, "host", "want a host, or host:port: a URL goes into url") // not shown: it may hold a password
	} else if !strings.HasPrefix(c.Host, "/") && !plaintext.IsHost(c.Host) {
		bad(code.BadAddress, "host", "want a host, or host:port, got %q", plaintext.Cut(c.Host))
	} else if _, port, err := net.SplitHostPort(c.Host); err == nil {
		if n, err := strconv.Atoi(port); err == nil && c.Port != defaultPort && c.Port != n {
			bad(code.Contradiction, "port", "host says port %d, port says %d: leave one out", n, c.Port)
		}
	}
	if !c.URL.IsZero() && err == nil && !t.tls && c.TLS != (TLS{}) && !c.TLS.Enabled {
		bad(code.Contradiction, "tls", "has settings but is not enabled: url must begin with rediss://")
	}
	for _, list := range []struct {
		field     string
		addresses []string
	}{{"sentinel", c.Sentinel.Addresses}, {"cluster", c.Cluster.Addresses}} {
		for i, address := range list.addresses {
			if host, _, err := net.SplitHostPort(address); err != nil || host == "" || !plaintext.IsHost(address) {
				bad(code.BadAddress, fmt.Sprintf("%s.addresses[%d]", list.field, i), "want host:port, got %q", plaintext.Cut(address))
			}
		}
	}
	if _, _, err := net.SplitHostPort(c.Embedded); c.Embedded != "" && err != nil {
		bad(code.BadAddress, "embedded", "want an address such as 127.0.0.1:6380, got %q", plaintext.Cut(c.Embedded))
	}
}

// Check refuses keys of which a cluster couldn't write those that belong together in one step.
func (c *Config) Check(whole *pipeline.Config) error {
	if !c.clustered() || hasTag(c.Prefix) {
		return nil
	}
	for _, t := range whole.Transforms {
		if tagger, ok := t.Config.(configfacts.HashTagger); ok && !tagger.HashTagged() {
			return code.Mark(code.HashSlots, pipeline.Invalid("cluster", "%s writes keys without hash tags: the entry of a customer, its version and its clock key "+
				"would lie in different hash slots, on several nodes, and could not be written in one step. "+
				"Set hash_tags: true there, for readers of your own (penstock inspect is one), "+
				`or prefix: "{%s}" here, which keeps all keys in one slot, on one node, as the provider's SDKs need it`, t.Path, c.Prefix))
		}
	}
	return nil
}

// Warnings tells when the sink can probably not store what reaches it, or only in the order of its arrival.
func (c *Config) Warnings(whole *pipeline.Config) []error {
	if c.Plain == nil {
		if err := configfacts.WarnWithoutWrites(c, whole); err != nil {
			return []error{err}
		}
		return nil
	}
	if _, ordered := whole.Source.Config.(configfacts.Ordered); ordered && c.Plain.Version == "" && whole.Order == "" && whole.MaxInFlight > 1 &&
		configfacts.RoleOf(c, whole) == pipeline.RoleSink {
		return []error{code.Mark(code.Overtaking, pipeline.Invalid("plain.version", "without it the last message to arrive wins, and the messages of the source overtake each other: "+
			"name the member that is the version, or set order: source on the pipeline (order: none says that it doesn't matter)"))}
	}
	return nil
}

func (c *Config) clustered() bool { return len(c.Cluster.Addresses) > 0 }

// target is where a single server is, and how to log in there.
type target struct {
	address        string // "host:port", or the path of a unix socket
	db             int
	user, password string
	tls            bool
}

// target returns what url or the other settings say. An error doesn't quote the URL, which may hold a password.
func (c *Config) target() (target, error) {
	if !c.URL.IsZero() {
		return parseURL(c.URL.Current())
	}
	t := target{address: c.Host, db: c.DB, user: c.User, password: c.Password.Current(), tls: c.TLS.Enabled}
	if _, _, err := net.SplitHostPort(c.Host); err != nil && !strings.HasPrefix(c.Host, "/") {
		t.address = net.JoinHostPort(strings.Trim(c.Host, "[]"), strconv.Itoa(c.Port))
	}
	return t, nil
}

func parseURL(text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		if _, _, ok := strings.Cut(text, "@"); ok {
			err = errors.New("not a URL; in user and password write %, /, ?, #, : and @ as %25, %2F, %3F, %23, %3A and %40")
		}
		return target{}, err
	}
	t := target{user: u.User.Username(), tls: u.Scheme == "rediss"}
	t.password, _ = u.User.Password()
	if t.user != "" && t.password == "" {
		return target{}, errors.New("user needs a password: user:password@, or :password@ for the default user")
	}
	db := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis", "rediss":
		if err := plaintext.CheckURLHost(u); err != nil {
			return target{}, err
		}
		port := u.Port()
		if port == "" {
			port = strconv.Itoa(defaultPort)
		}
		t.address = net.JoinHostPort(u.Hostname(), port)
	case "unix":
		if t.address = u.Path; u.Host != "" || t.address == "" {
			return target{}, errors.New("names no socket: want unix:///path/of/the.sock")
		}
		db = ""
	default:
		return target{}, errors.New("want redis://, rediss:// or unix://")
	}
	for name, values := range u.Query() {
		if name != "db" || len(values) != 1 || db != "" {
			return target{}, fmt.Errorf("parameter %q is not understood: the other settings of the sink are its own fields", plaintext.Cut(name))
		}
		db = values[0]
	}
	if db != "" {
		if t.db, err = strconv.Atoi(db); err != nil || t.db < 0 {
			return target{}, fmt.Errorf("want the number of a database, got %q", plaintext.Cut(db))
		}
	}
	return t, nil
}

// parseAddress returns the port of "host:port".
func parseAddress(address string) (port int, err error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("want a port from 1 to 65535, got %q", plaintext.Cut(text))
	}
	return port, nil
}

// Address returns "host:port" of the server that the sink writes to: what a reader of the cache must be pointed to.
// With Sentinels it is "master at" and their addresses, with a cluster "cluster" and the addresses, with a unix
// socket its path.
func (c *Config) Address() string {
	switch {
	case c.Embedded != "":
		return c.Embedded
	case c.Sentinel.Master != "":
		return c.Sentinel.Master + " at " + strings.Join(c.Sentinel.Addresses, ",")
	case c.clustered():
		return "cluster " + strings.Join(c.Cluster.Addresses, ",")
	}
	t, _ := c.target()
	return t.address
}

// Single returns where the one server is that the sink writes to and the number of the database there; false with
// Sentinels, a cluster or a unix socket.
func (c *Config) Single() (host string, port, db int, ok bool) {
	if c.Sentinel.Master != "" || c.clustered() {
		return "", 0, 0, false
	}
	t, _ := c.target()
	if c.Embedded != "" {
		t.address = c.Embedded
	}
	port, err := parseAddress(t.address)
	if err != nil {
		return "", 0, 0, false
	}
	host, _, _ = net.SplitHostPort(t.address)
	return host, port, t.db, true
}

// connect reads the certificates and sets up clients with that many connections, to each server. onConnect may be nil.
func (c *Config) connect(connections int, onConnect func()) (*servers, error) {
	t, err := c.target()
	if err != nil {
		return nil, err
	}
	if c.Embedded != "" {
		t.address = c.Embedded
	}
	conf := redisclient.Config{
		Address: t.address, DB: t.db, User: t.user, Password: t.password, Connections: connections,
		Login: func() (user, password string) {
			if now, err := c.target(); err == nil {
				return now.user, now.password
			}
			return t.user, t.password
		},
		Timeout: c.Timeout, OnConnect: onConnect, Name: c.ClientName, Cluster: c.Cluster.Addresses,
	}
	if s := c.Sentinel; s.Master != "" {
		conf.Sentinel = &redisclient.Sentinel{
			Master: s.Master, Addresses: s.Addresses, User: s.User, Password: s.Password.Current(),
		}
	}
	if t.tls {
		if conf.TLS, err = c.TLS.load(); err != nil {
			return nil, err
		}
	}
	if c.clustered() {
		return &servers{cluster: redisclient.NewCluster(conf)}, nil
	}
	return &servers{one: redisclient.New(conf)}, nil
}

func (t *TLS) load() (*tls.Config, error) {
	conf := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}
