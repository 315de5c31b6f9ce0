package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/pipeline/pipelinetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nowhere is a source for pipeline files that never run.
type nowhere struct{}

func (*nowhere) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }

func load(t *testing.T, sink string) (*Config, error) {
	t.Helper()
	r := pipeline.NewRegistry()
	pipeline.AddSource[nowhere](r, "nowhere")
	pipeline.AddSink[Config](r, "redis")
	c, _, err := pipeline.LoadBytes(r, "x.yaml", []byte("name: x\nsource: {nowhere: {}}\nsink: {redis: "+sink+"}\n"), pipeline.LoadOptions{})
	if err != nil {
		return nil, err
	}
	return c.Sink.Config.(*Config), nil
}

func TestConfig_defaults(t *testing.T) {
	got, err := load(t, "{}")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Host: "localhost", Port: 6379, Prefix: "production", TTL: 7 * 24 * time.Hour, Connections: 2,
		Batch: pipeline.Batch{Count: 256, Bytes: 1 << 20}, RespectSDKLocks: true, Timeout: 5 * time.Second,
		WaitReplicas: WaitReplicas{Timeout: time.Second},
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

func TestConfig_everyMistakeIsNamed(t *testing.T) {
	for sink, want := range map[string]string{
		"{port: 0}":                           "sink.redis.port: must be 1 to 65535, got 0",
		"{host: 'a:b'}":                       `sink.redis.host: want a host, or host:port, got "a:b"`,
		"{host: 'a:7000', port: 7001}":        "sink.redis.port: host says port 7000, port says 7001: leave one out",
		"{host: 'redis://a'}":                 "sink.redis.host: want a host, or host:port: a URL goes into url",
		"{db: -1}":                            "sink.redis.db: must not be negative, got -1",
		"{user: me}":                          "sink.redis.password: user needs a password",
		"{client_name: 'a b'}":                `sink.redis.client_name: must be ASCII without blanks, got "a b"`,
		"{ttl: 0s}":                           "sink.redis.ttl: must not be 0: entries would be gone at once; negative means that they never expire",
		"{ttl: 1us}":                          "sink.redis.ttl: must be at least 1ms, got 1µs",
		"{ttl: 2000000h}":                     "sink.redis.ttl: must be at most 876000h0m0s",
		"{connections: 0}":                    "sink.redis.connections: must be 1 to 1000, got 0",
		"{batch: {count: 0}}":                 "sink.redis.batch.count: must be at least 1, got 0",
		"{tls: {ca_file: x}}":                 "sink.redis.tls: has settings but is not enabled: add enabled: true",
		"{tls: {enabled: true, key_file: x}}": "sink.redis.tls: cert_file and key_file go together",
		"{host: /run/redis.sock, tls: {enabled: true}}": "sink.redis.tls: is not for unix sockets",
		"{timeout: 1ms}": "sink.redis.timeout: must be 100ms to 30s, got 1ms",
		"{wait_replicas: {count: 1, timeout: 5s}}":                "sink.redis.wait_replicas.timeout: must be at least 1ms and less than timeout (5s), got 5s",
		"{wait_replicas: {count: -1}}":                            "sink.redis.wait_replicas.count: must be 0 to 100, got -1",
		"{sentinel: {master: m}}":                                 "sink.redis.sentinel.addresses: must name at least one Sentinel",
		"{sentinel: {addresses: ['a:1']}}":                        "sink.redis.sentinel.master: is required",
		"{sentinel: {master: m, addresses: [a]}}":                 `sink.redis.sentinel.addresses[0]: want host:port, got "a"`,
		"{sentinel: {master: m, addresses: ['a:1']}, host: b}":    "sink.redis.sentinel: excludes host, port and cluster",
		"{embedded: '127.0.0.1:6380', wait_replicas: {count: 1}}": "sink.redis.wait_replicas.count: must be 0 with embedded",
		"{embedded: '6380'}":                                      `sink.redis.embedded: want an address such as 127.0.0.1:6380, got "6380"`,
		"{embedded: '127.0.0.1:6380', host: b}":                   "sink.redis.embedded: excludes host, port, sentinel and cluster",
		"{embedded: '127.0.0.1:6380', password: pw}":              "sink.redis.embedded: excludes user, password and tls",
		"{cluster: {addresses: [a]}}":                             `sink.redis.cluster.addresses[0]: want host:port, got "a"`,
		"{cluster: {addresses: ['a:1']}, host: b}":                "sink.redis.cluster: excludes host and port",
		"{cluster: {addresses: ['a:1']}, db: 1}":                  "sink.redis.db: must be 0: a cluster has no other database",
		"{url: 'redis://a', host: b}":                             "sink.redis.url: excludes host, port, db, user and password",
		"{url: 'redis://a', password: b}":                         "sink.redis.url: excludes host, port, db, user and password",
		"{url: 'redis://a', cluster: {addresses: ['a:1']}}":       "sink.redis.url: excludes sentinel, cluster and embedded",
		"{url: 'redis://a', tls: {enabled: true}}":                "sink.redis.url: must begin with rediss:// when tls is enabled",
		"{url: 'redis://a', tls: {ca_file: x}}":                   "sink.redis.tls: has settings but is not enabled",
		"{url: 'http://a'}":                                       "sink.redis.url: want redis://, rediss:// or unix://",
		"{url: 'redis://:6379'}":                                  "sink.redis.url: names no host",
		"{url: 'redis://a:0'}":                                    `sink.redis.url: want a port from 1 to 65535, got "0"`,
		"{url: 'redis://a/x'}":                                    `sink.redis.url: want the number of a database, got "x"`,
		"{url: 'redis://a?timeout=3s'}":                           `sink.redis.url: parameter "timeout" is not understood`,
		"{url: 'redis://me@a'}":                                   "sink.redis.url: user needs a password",
		"{url: 'redis://:geheim%@a'}":                             "sink.redis.url: not a URL; in user and password write %",
		"{url: 'unix://a'}":                                       "sink.redis.url: names no socket",
	} {
		t.Run(sink, func(t *testing.T) {
			if _, err := load(t, sink); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v\nwant %s", err, want)
			} else if strings.Contains(err.Error(), "geheim") {
				t.Errorf("%v: tells the password", err)
			}
		})
	}
}

// tagging is a transform that says how it makes keys.
type tagging struct {
	Tags bool `yaml:"tags"`
}

func (*tagging) NewTransform(pipeline.Env) (pipeline.Transform, error) { return nil, nil }
func (c *tagging) HashTagged() bool                                    { return c.Tags }

var _ configfacts.HashTagger = (*tagging)(nil)

func TestConfig_clusterWantsKeysInOneSlot(t *testing.T) {
	for name, c := range map[string]struct{ pipeline, want string }{
		"keys without tags": {"transforms: [{tagging: {}}]\nsink: {redis: {cluster: {addresses: ['a:1']}}}",
			"x.yaml:4:16: sink.redis.cluster: transforms[0].tagging writes keys without hash tags: "},
		"inside of another sink": {"transforms: [{tagging: {}}]\nsink: {both: {sink: {redis: {cluster: {addresses: ['a:1']}}}}}",
			"x.yaml:4:30: sink.both.sink.redis.cluster: transforms[0].tagging writes keys without hash tags: "},
		"keys with tags":    {"transforms: [{tagging: {tags: true}}]\nsink: {redis: {cluster: {addresses: ['a:1']}}}", ""},
		"a tag for all":     {"transforms: [{tagging: {}}]\nsink: {redis: {cluster: {addresses: ['a:1']}, prefix: '{p}'}}", ""},
		"no tag in it":      {"transforms: [{tagging: {}}]\nsink: {redis: {cluster: {addresses: ['a:1']}, prefix: '{}p'}}", "writes keys without hash tags"},
		"keys of one's own": {"sink: {redis: {cluster: {addresses: ['a:1']}}}", ""},
		"no cluster":        {"transforms: [{tagging: {}}]\nsink: {redis: {}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := pipeline.NewRegistry()
			pipeline.AddSource[nowhere](r, "nowhere")
			pipeline.AddTransform[tagging](r, "tagging")
			pipeline.AddSink[Config](r, "redis")
			pipeline.AddSink[outer](r, "both")
			_, _, err := pipeline.LoadBytes(r, "x.yaml", []byte("name: x\nsource: {nowhere: {}}\n"+c.pipeline), pipeline.LoadOptions{})
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

// outer is a sink made of a sink.
type outer struct {
	Sink pipeline.SinkSpec `yaml:"sink"`
}

func (*outer) NewSink(pipeline.Env) (pipeline.Sink, error) { return pipeline.Sink{}, nil }

func TestConfig_urls(t *testing.T) {
	for text, want := range map[string]target{
		"redis://a":                         {address: "a:6379"},
		"redis://a:7/3":                     {address: "a:7", db: 3},
		"redis://a?db=3":                    {address: "a:6379", db: 3},
		"redis://:pw@a":                     {address: "a:6379", password: "pw"},
		"rediss://me:p%40%2F%3A%25@[::1]:7": {address: "[::1]:7", user: "me", password: "p@/:%", tls: true},
		"unix:///run/redis.sock":            {address: "/run/redis.sock"},
		"unix://me:pw@/run/r.sock?db=2":     {address: "/run/r.sock", db: 2, user: "me", password: "pw"},
	} {
		t.Run(text, func(t *testing.T) {
			c, err := load(t, fmt.Sprintf("{url: %q}", text))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.target(); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if got := c.Address(); got != want.address {
				t.Errorf("address %s, want %s", got, want.address)
			}
			if got := fmt.Sprintf("%+v", *c); strings.Contains(got, "pw") {
				t.Errorf("%s: tells the password", got)
			}
		})
	}
	if c, err := load(t, "{url: 'rediss://a', tls: {ca_file: x, server_name: y}}"); err != nil || c.TLS.CAFile != "x" {
		t.Errorf("TLS settings beside rediss://: got %v", err)
	}
}

func TestConfig_addressOfTheServer(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"host and port":  {Config{Host: "a", Port: 7}, "a:7"},
		"host with port": {Config{Host: "a:7", Port: 6379}, "a:7"},
		"IPv6":           {Config{Host: "::1", Port: 7}, "[::1]:7"},
		"IPv6 in braces": {Config{Host: "[::1]", Port: 7}, "[::1]:7"},
		"unix socket":    {Config{Host: "/run/redis.sock", Port: 6379}, "/run/redis.sock"},
		"Sentinel":       {Config{Host: "localhost", Port: 6379, Sentinel: Sentinel{Master: "m", Addresses: []string{"a:1", "b:2"}}}, "m at a:1,b:2"},
		"embedded":       {Config{Host: "localhost", Port: 6379, Embedded: "127.0.0.1:6380"}, "127.0.0.1:6380"},
		"cluster":        {Config{Host: "localhost", Port: 6379, Cluster: Cluster{Addresses: []string{"a:1", "b:2"}}}, "cluster a:1,b:2"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.config.Address(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// certificates makes an authority and a certificate for 127.0.0.1, and returns the files.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	must(err)
	ca = write("ca.pem", "CERTIFICATE", der)
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test server"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err = x509.CreateCertificate(rand.Reader, server, authority, serverKey.Public(), authorityKey)
	must(err)
	cert = write("server.pem", "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(serverKey)
	must(err)
	return ca, cert, write("server.key", "EC PRIVATE KEY", der)
}

func TestStart_worksOrSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca, cert, key := certificates(t)
	secured := testserver.Redis(t, "--port", "0", "--tls-port", testserver.Port, "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", ca, "--tls-auth-clients", "yes")
	plain := testserver.Redis(t)
	locked := testserver.Redis(t, "--requirepass", "geheim", "--user", "penstock", "on", ">geheim", "~p:*", "~p-*", "+@read", "+@write", "+@scripting", "+@connection",
		"--user", "reader", "on", ">geheim", "~p:*", "+@read", "+@connection", "+@scripting")
	full := testserver.Redis(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	replica := testserver.Redis(t, "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes")
	cluster := testserver.Redis(t, "--cluster-enabled", "yes")
	node := testClient(t, cluster)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "the cluster", func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	gone := testserver.StartRedis(t)
	gone.Stop()
	// Not under TempDir: the path of a socket has room for about 100 bytes.
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	testserver.Redis(t, "--unixsocket", socket)

	password := func(s string) pipeline.Secret { return pipeline.NewSecret(s) }
	for name, c := range map[string]struct {
		config Config
		is     func(error) bool
		want   string
	}{
		"plain":             {config: Config{Host: plain}},
		"database":          {config: Config{Host: plain, DB: 15}},
		"password":          {config: Config{Host: locked, Password: password("geheim")}},
		"user":              {config: Config{Host: locked, User: "penstock", Password: password("geheim")}},
		"TLS":               {config: Config{Host: secured, TLS: TLS{Enabled: true, CAFile: ca, CertFile: cert, KeyFile: key}}},
		"unix socket":       {config: Config{Host: socket}},
		"URL":               {config: Config{URL: password("redis://penstock:geheim@" + locked)}},
		"URL with TLS":      {config: Config{URL: password("rediss://" + secured), TLS: TLS{CAFile: ca, CertFile: cert, KeyFile: key}}},
		"URL of a socket":   {config: Config{URL: password("unix://" + socket + "?db=1")}},
		"cluster":           {config: Config{Cluster: Cluster{Addresses: []string{gone.Addr(), cluster}}, Prefix: "{p}"}},
		"no cluster":        {Config{Cluster: Cluster{Addresses: []string{plain}}}, pipeline.IsFatal, "the server is no node of a Redis Cluster: use host and port"},
		"cluster is away":   {Config{Cluster: Cluster{Addresses: []string{gone.Addr()}}}, pipeline.IsUnavailable, "connection refused"},
		"URL, wrong":        {Config{URL: password("redis://:falsch@" + locked)}, pipeline.IsFatal, "wrong user or password: WRONGPASS"},
		"unreachable":       {Config{Host: gone.Addr()}, pipeline.IsUnavailable, "redis at " + gone.Addr() + ": dial tcp " + gone.Addr() + ": connect: connection refused"},
		"wrong password":    {Config{Host: locked, Password: password("falsch")}, pipeline.IsFatal, "wrong user or password: WRONGPASS"},
		"wrong user":        {Config{Host: locked, User: "nobody", Password: password("geheim")}, pipeline.IsFatal, "wrong user or password: WRONGPASS"},
		"no password":       {Config{Host: locked}, pipeline.IsFatal, "the server wants a password: set password"},
		"another prefix":    {Config{Host: locked, User: "penstock", Password: password("geheim"), Prefix: "q"}, pipeline.IsFatal, "the user lacks a right: NOPERM"},
		"read only user":    {Config{Host: locked, User: "reader", Password: password("geheim")}, pipeline.IsFatal, "the user lacks a right: "},
		"no such database":  {Config{Host: plain, DB: 16}, pipeline.IsFatal, "the server has no such database: set db"},
		"node of a cluster": {Config{Host: cluster}, pipeline.IsFatal, "the server is a node of a Redis Cluster, where keys lie on several servers: use cluster.addresses"},
		"full":              {Config{Host: full}, pipeline.IsUnavailable, "OOM"},
		"replica":           {Config{Host: replica}, pipeline.IsUnavailable, "READONLY"},
		"TLS to plain port": {Config{Host: plain, TLS: TLS{Enabled: true}}, pipeline.IsUnavailable, "no answer to the TLS handshake (does the server speak TLS on this port?)"},
		"unknown authority": {Config{Host: secured, TLS: TLS{Enabled: true}}, pipeline.IsFatal, "the server's certificate can't be trusted: set tls.ca_file"},
		"another name":      {Config{Host: secured, TLS: TLS{Enabled: true, CAFile: ca, ServerName: "x"}}, pipeline.IsFatal, "the server's certificate can't be trusted: set tls.ca_file or tls.server_name"},
		"no certificate":    {Config{Host: secured, TLS: TLS{Enabled: true, CAFile: ca}}, pipeline.IsFatal, "the server refuses the TLS connection: check tls.cert_file"},
		"no such CA file":   {Config{Host: secured, TLS: TLS{Enabled: true, CAFile: "missing.pem"}}, pipeline.IsFatal, "tls.ca_file: open missing.pem"},
		"CA file is a key":  {Config{Host: secured, TLS: TLS{Enabled: true, CAFile: key}}, pipeline.IsFatal, "holds no certificate in PEM form"},
		"embedded twice":    {Config{Embedded: plain}, pipeline.IsFatal, "serve the built-in Redis: listen tcp " + plain},
	} {
		t.Run(name, func(t *testing.T) {
			conf := testConfig(c.config.Host)
			if c.config.Prefix == "" {
				c.config.Prefix = "p"
			}
			conf.DB, conf.User, conf.Password, conf.TLS, conf.Prefix, conf.Embedded, conf.URL, conf.Cluster =
				c.config.DB, c.config.User, c.config.Password, c.config.TLS, c.config.Prefix, c.config.Embedded, c.config.URL, c.config.Cluster
			sink, err := conf.NewSink(pipeline.Env{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sink.Publisher.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = sink.Publisher.(pipeline.Starter).Start(ctx)
			for name == "no certificate" && pipeline.IsUnavailable(err) && ctx.Err() == nil {
				// A TLS 1.3 server refuses after the handshake; now and then its reset overtakes the reason.
				err = sink.Publisher.(pipeline.Starter).Start(ctx)
			}
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := sink.Publisher.Publish("", message.NewMessage("m", payload(cache.Write{Key: "c_x", Version: 1, AsOf: 1, Value: []byte("{}")}))); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %s", err, c.want)
			}
			if !c.is(err) {
				t.Errorf("%v: of the wrong kind", err)
			}
			if strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "falsch") {
				t.Errorf("%v: tells the password", err)
			}
		})
	}
}

// batched gives messages to the sink so that they come to it as one batch, and returns the error of each.
func batched(t *testing.T, sink pipeline.Sink, payloads ...message.Payload) []error {
	t.Helper()
	errs := make([]error, len(payloads))
	var wg sync.WaitGroup
	for i, p := range payloads {
		wg.Go(func() { errs[i] = sink.Publisher.Publish("", message.NewMessage(fmt.Sprint(i), p)) })
	}
	wg.Wait()
	return errs
}

func TestStore_oneBadMessageFailsAlone(t *testing.T) {
	good := func(key string) cache.Write { return cache.Write{Key: key, Version: 5, Value: []byte(`{}`)} }
	upset := strings.Replace(writeLua, "local answers, errors", "for i = 1, #KEYS do if KEYS[i] == 'p:upset' then error('upset') end end\nlocal answers, errors", 1)
	refuse := strings.Replace(writeLua, "if answer == 'e' then", "if KEYS[i] == 'p:refused' then answer, failure = 'e', 'ERR refused' end\n    if answer == 'e' then", 1)
	for name, c := range map[string]struct {
		bad       message.Payload
		script    string
		permanent bool
		want      string
	}{
		"no JSON":             {message.Payload("{"), writeLua, true, "the payload is not cache writes: "},
		"an event":            {message.Payload(`{"type":"entitlements.updated"}`), writeLua, true, "the payload is not cache writes: "},
		"nothing":             {message.Payload(""), writeLua, true, "the payload holds no cache write"},
		"a good one, too":     {append(payload(good("half")), '{'), writeLua, true, "the payload is not cache writes: "},
		"penstock's own key":  {payload(good("half"), good("penstock:c_1")), writeLua, true, `keys that start with "penstock:" are penstock's own`},
		"the clocks of probe": {payload(cache.Write{Key: "probe", Version: 1, AsOf: 1, Value: []byte("1")}), writeLua, true, "would overwrite a key of penstock's own"},
		"the clocks of epoch": {payload(cache.Write{Key: "epoch", Version: 1, AsOf: 1, Delete: true}), writeLua, true, "would overwrite a key of penstock's own"},
		"a huge key":          {payload(good("half"), good(strings.Repeat("k", maxKey+1))), writeLua, true, "key of 65537 bytes"},
		"a huge value":        {payload(good("half"), cache.Write{Key: "huge", Version: 1, Value: []byte(`"` + strings.Repeat("v", 1<<20) + `"`)}), writeLua, true, "value of 1048578 bytes: the server takes at most 1048576"},
		"the script upset":    {payload(good("upset")), upset, false, "upset"},
		"refused by a server": {payload(good("refused")), refuse, false, "ERR refused"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := testserver.Redis(t, "--proto-max-bulk-len", "1mb")
			conf := testConfig(addr)
			conf.Connections, conf.Batch.Period, conf.Batch.Bytes = 1, 20*time.Millisecond, 4<<20
			st := &store{client: testClient(t, addr), prefix: "p", sinks: []pipeline.Sink{started(t, newSink(conf, pipeline.Env{}, newScript(c.script)))}}
			errs := batched(t, st.sinks[0], payload(good("a")), c.bad, payload(good("b"), good("c")))
			if errs[0] != nil || errs[2] != nil {
				t.Errorf("neighbours: %v, %v", errs[0], errs[2])
			}
			if errs[1] == nil || !strings.Contains(errs[1].Error(), c.want) || pipeline.IsPermanent(errs[1]) != c.permanent || pipeline.IsUnavailable(errs[1]) {
				t.Errorf("got %v\nwant %s (permanent: %v)", errs[1], c.want, c.permanent)
			}
			for key, want := range map[string]bool{"a": true, "b": true, "c": true, "half": false} {
				if n := st.client.Exists(t.Context(), "p:"+key).Val(); (n == 1) != want {
					t.Errorf("key %s is there: %v, want %v", key, n == 1, want)
				}
			}
		})
	}
}

func TestStore_writesOfABatchToOneKeyCollapse(t *testing.T) {
	addr := testserver.Redis(t)
	metrics := prometheus.NewRegistry()
	sink := started(t, newSink(testConfig(addr), pipeline.Env{Metrics: metrics}, writeScript))
	var writes []cache.Write
	for i := range int64(100) {
		writes = append(writes, cache.Write{Key: "u", Version: 1 + (i*37)%100, Value: []byte(`{}`)})
	}
	writes = append(writes, writes...) // duplicates are not older
	client := testClient(t, addr)
	client.ConfigResetStat(t.Context())
	if err := sink.Publisher.Publish("", message.NewMessage("m", payload(writes...))); err != nil {
		t.Fatal(err)
	}
	if got := client.Get(t.Context(), "p:u#timestamp").Val(); got != "100" {
		t.Errorf("version %s, want 100", got)
	}
	if stats := client.Info(t.Context(), "commandstats").Val(); !strings.Contains(stats, "cmdstat_set:calls=2,") {
		t.Errorf("want 2 SETs, got %s", stats)
	}
	want := `
		# HELP penstock_stale_writes_total Writes that were older than what the store held, or than another write of the same batch.
		# TYPE penstock_stale_writes_total counter
		penstock_stale_writes_total 198
	`
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "penstock_stale_writes_total"); err != nil {
		t.Error(err)
	}
}

func TestStore_failureOfACollapsedWriteIsEveryOnesFailure(t *testing.T) {
	addr := testserver.Redis(t)
	conf := testConfig(addr)
	conf.Connections, conf.Batch.Period = 1, 20*time.Millisecond
	sink := started(t, newSink(conf, pipeline.Env{}, writeScript))
	testClient(t, addr).ConfigSet(t.Context(), "maxmemory", "1")
	one, two := cache.Write{Key: "u", Version: 1, Value: []byte(`{}`)}, cache.Write{Key: "u", Version: 2, Value: []byte(`{}`)}
	for i, err := range batched(t, sink, payload(one), payload(two), payload(one)) {
		if !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("message %d: got %v, want OOM", i, err)
		}
	}
}

func TestStore_withoutExpiry(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			addr := serve(t)
			conf := testConfig(addr)
			conf.TTL = -1
			s := &store{client: testClient(t, addr), prefix: "p", sinks: []pipeline.Sink{started(t, newSink(conf, pipeline.Env{}, writeScript))}}
			write := cache.Write{Key: "c", Version: 1, AsOf: 2, Value: []byte(`{}`)}
			for range 2 { // the second one renews
				if err := s.publish(0, write); err != nil {
					t.Fatal(err)
				}
				for _, key := range s.names("c") {
					if ttl := s.client.PTTL(t.Context(), key).Val(); ttl != -1 {
						t.Errorf("TTL of %s is %s", key, ttl)
					}
					s.client.Expire(t.Context(), key, time.Hour)
				}
			}
		})
	}
}

func TestStart_connectionsHaveAName(t *testing.T) {
	addr := testserver.Redis(t)
	conf := testConfig(addr)
	conf.ClientName = "penstock-1"
	started(t, newSink(conf, pipeline.Env{}, writeScript))
	if list := testClient(t, addr).ClientList(t.Context()).Val(); !strings.Contains(list, " name=penstock-1 ") {
		t.Errorf("no client penstock-1 in %s", list)
	}
}

func TestStore_scriptsForgottenByTheServerAreSentAgain(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, serve(t), 1, writeScript)
			for i := range int64(3) {
				if err := s.client.ScriptFlush(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				if err := s.publish(0, cache.Write{Key: "u", Version: 1 + i, Value: []byte(`{}`)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestStore_lag(t *testing.T) {
	metrics := prometheus.NewRegistry()
	sink := started(t, newSink(testConfig(testserver.Redis(t)), pipeline.Env{Metrics: metrics}, writeScript))
	ago := time.Now().Add(-2 * time.Second).UnixMilli()
	err := sink.Publisher.Publish("", message.NewMessage("m", payload(
		cache.Write{Key: "a", Version: ago, Value: []byte(`1`)}, cache.Write{Key: "b", Version: 1, AsOf: ago, Value: []byte(`1`)},
		cache.Write{Key: "no time", Version: 17, Value: []byte(`1`)}, cache.Write{Key: "none", Value: []byte(`1`)},
	)))
	if err != nil {
		t.Fatal(err)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "penstock_event_lag_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			if mean := h.GetSampleSum() / float64(h.GetSampleCount()); h.GetSampleCount() != 2 || mean < 2 || mean > 10 {
				t.Errorf("got %d observations of %.1f s, want 2 of 2 s", h.GetSampleCount(), mean)
			}
			return
		}
	}
	t.Error("no metric penstock_event_lag_seconds")
}

func TestEmbedded_servesReadersAndForgetsWhatExpires(t *testing.T) {
	t.Parallel()
	conf := testConfig(defaultHost)
	conf.Embedded, conf.TTL = freeAddress(t), 1500*time.Millisecond
	sink, err := conf.NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	started(t, sink)
	reader, err := conf.NewReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if err := sink.Publisher.Publish("", message.NewMessage("m", payload(cache.Write{Key: "c", Version: 1, Value: []byte(`{}`)}))); err != nil {
		t.Fatal(err)
	}
	entries, err := reader.Get(t.Context(), "c", "c#timestamp", "d")
	if err != nil {
		t.Fatal(err)
	}
	if c := entries[0]; !c.Found || string(c.Value) != "{}" || c.TTL <= 0 || c.TTL > conf.TTL {
		t.Errorf("entry %+v", c)
	}
	if c := entries[1]; !c.Found || string(c.Value) != "1" {
		t.Errorf("version %+v", c)
	}
	if entries[2].Found {
		t.Error("found an entry that nobody wrote")
	}
	for deadline := time.Now().Add(20 * time.Second); entries[0].Found; {
		if time.Now().After(deadline) {
			t.Fatal("the entry does not expire")
		}
		time.Sleep(50 * time.Millisecond)
		if entries, err = reader.Get(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReader_tellsEntriesApart(t *testing.T) {
	addr := testserver.Redis(t)
	client := testClient(t, addr)
	ctx := t.Context()
	client.Set(ctx, "p:empty", "", 0)
	client.Set(ctx, "p:mortal", "m", time.Hour)
	client.HSet(ctx, "p:hash", "a", "b")
	reader, err := testConfig(addr).NewReader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	got, err := reader.Get(ctx, "empty", "mortal", "hash", "absent")
	if err != nil {
		t.Fatal(err)
	}
	if e := got[0]; !e.Found || len(e.Value) != 0 || e.TTL != -1 {
		t.Errorf("empty: %+v", e)
	}
	if e := got[1]; !e.Found || string(e.Value) != "m" || e.TTL > time.Hour || e.TTL < 59*time.Minute {
		t.Errorf("mortal: %+v", e)
	}
	if got[2].Found || got[3].Found {
		t.Errorf("hash: %+v, absent: %+v", got[2], got[3])
	}
	if got, err := reader.Get(ctx); err != nil || len(got) != 0 {
		t.Errorf("no keys: %v, %v", got, err)
	}
	if _, err := testConfig(freeAddress(t)).NewReader(ctx); !pipeline.IsUnavailable(err) {
		t.Errorf("no server: got %v, want unavailable", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestOutage_nothingIsLostAndNothingPoisoned takes the server away before the start, kills it while messages flow, and
// freezes it.
func TestOutage_nothingIsLostAndNothingPoisoned(t *testing.T) {
	t.Parallel()
	server := testserver.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	server.Stop()
	const n = 3000
	var payloads []string
	for i := range int64(n) {
		payloads = append(payloads, string(payload(cache.Write{Key: fmt.Sprintf("u_%d", i%50), Version: i + 1, Value: fmt.Appendf(nil, "%d", i+1)})))
	}
	queue := pipelinetest.NewQueue(false)
	conf := testConfig(server.Addr())
	sink, err := conf.NewSink(pipeline.Env{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	poison := &pipelinetest.Store{}
	poisonSink := poison.Sink()
	engine, err := pipeline.New(pipeline.Settings{}, &pipeline.Pipeline{
		Name: "outage", Source: queue.Source(), Sink: sink, PoisonQueue: &poisonSink, MaxInFlight: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ledger := engine.Ledgers()[0]
		pipelinetest.CheckLedger(t, ledger)
		if ledger.Poisoned != 0 || len(poison.Payloads()) != 0 {
			t.Errorf("poisoned %d", ledger.Poisoned)
		}
		if ledger.Written != n {
			t.Errorf("written %d, want %d", ledger.Written, n)
		}
	}()
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not after 40 s; health %+v", what, engine.Health()[0])
			}
		}
	}
	up := func(want bool) func() bool { return func() bool { return engine.Health()[0].SinkConnected == want } }
	written := func(want int64) func() bool { return func() bool { return engine.Ledgers()[0].Written >= want } }

	queue.Push(payloads[:1000]...)
	await("away at the start", up(false))
	server.Restart()
	await("the first third", written(300))
	server.Stop()
	queue.Push(payloads[1000:2000]...)
	await("killed", up(false))
	server.Restart()
	await("the second third", written(1300))
	server.Pause()
	queue.Push(payloads[2000:]...)
	await("frozen", up(false))
	server.Resume()
	await("the rest", written(n))
	await("back", up(true))

	client := testClient(t, server.Addr())
	for i := range 50 {
		want := fmt.Sprint(n - 49 + i)
		if got := client.Get(t.Context(), fmt.Sprintf("p:u_%d", i)).Val(); got != want {
			t.Errorf("u_%d = %s, want %s", i, got, want)
		}
	}
}

// checkOtherTypes publishes writes to keys that hold other types: they are overwritten and counted.
func checkOtherTypes(ctx context.Context, s *store) error {
	before := s.counted("penstock_other_types_overwritten_total")
	pipe := s.client.Pipeline()
	for _, key := range []string{"c_hash", "u_hash"} {
		for _, name := range s.names(key) {
			pipe.Del(ctx, name)
			pipe.HSet(ctx, name, "a", "b")
		}
	}
	pipe.Set(ctx, "p:u_string", "s", 0)
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	err := s.publish(0,
		cache.Write{Key: "c_hash", Version: 1, AsOf: 2, Value: []byte("{}")}, cache.Write{Key: "u_hash", Version: 1, Value: []byte("{}")},
		cache.Write{Key: "u_string", Version: 1, Value: []byte("{}")}, cache.Write{Key: "u_new", Version: 1, Value: []byte("{}")},
	)
	if err != nil {
		return err
	}
	for key, want := range map[string]string{"c_hash": `value "{}", version "1", clocks 2 1 v`, "u_string": `value "{}", version "1", clocks -`} {
		if got, err := s.text(ctx, key); err != nil || got != want {
			return fmt.Errorf("key %s: got %s, %w, want %s", key, got, err, want)
		}
	}
	if got := s.counted("penstock_other_types_overwritten_total") - before; got != 2 {
		return fmt.Errorf("counted %v, want 2", got)
	}
	return nil
}

func TestStore_keysOfOtherTypesAreOverwrittenAndCounted(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			if err := checkOtherTypes(t.Context(), newStore(t, serve(t), 1, writeScript)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWipe_anEmptiedRedisIsNoticed(t *testing.T) {
	t.Parallel()
	for name, empty := range map[string]func(t *testing.T, server *testserver.RedisServer, client *goredis.Client){
		"by a ping after FLUSHDB": func(t *testing.T, _ *testserver.RedisServer, client *goredis.Client) {
			if err := client.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		},
		"by the next write after a restart": func(_ *testing.T, server *testserver.RedisServer, _ *goredis.Client) { server.Restart() },
		"though another replica was faster": func(t *testing.T, _ *testserver.RedisServer, client *goredis.Client) {
			if err := client.Set(t.Context(), "p:penstock:epoch", "theirs", 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.StartRedis(t)
			client := testClient(t, server.Addr())
			client.Set(t.Context(), "p:c_old", "of another service", 0)
			core, logs := observer.New(zap.WarnLevel)
			st := &store{metrics: prometheus.NewRegistry()}
			conf := testConfig(server.Addr())
			st.sinks = append(st.sinks, started(t, newSink(conf, pipeline.Env{Metrics: st.metrics, Logger: zap.New(core)}, writeScript)))
			look := func() {
				t.Helper()
				if strings.HasPrefix(name, "by the next write") {
					for st.publish(0, cache.Write{Key: "u", Version: 1, Value: []byte("1")}) != nil && t.Context().Err() == nil {
						time.Sleep(10 * time.Millisecond)
					}
				} else if err := st.sinks[0].Publisher.(pipeline.Pinger).Ping(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			look()
			reporter := st.sinks[0].Publisher.(pipeline.Reporter)
			if r := reporter.Report(); len(r) != 0 {
				t.Errorf("first contact reported: %v", r)
			}
			if n := st.counted("penstock_store_wiped_total"); n != 0 {
				t.Fatalf("first contact counted as %v wipes", n)
			}
			if ttl := client.TTL(t.Context(), "p:penstock:epoch").Val(); ttl != -1 {
				t.Errorf("TTL of penstock:epoch is %s, want none", ttl)
			}
			empty(t, server, client)
			look()
			look()
			if n := st.counted("penstock_store_wiped_total"); n != 1 {
				t.Errorf("counted %v wipes, want 1", n)
			}
			if n := logs.FilterMessageSnippet("Redis has been emptied").Len(); n != 1 {
				t.Errorf("%d log lines, want 1", n)
			}
			if r := reporter.Report(); r["wiped_at"] == nil || !strings.Contains(fmt.Sprint(r["wiped"]), "penstock replay") {
				t.Errorf("report of a wipe: %v", r)
			}
		})
	}
}

// TestFailover_aDemotedServerIsWaitedFor makes the server a replica while messages flow, and a master again.
func TestFailover_aDemotedServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := testserver.StartRedis(t)
	client := testClient(t, server.Addr())
	s := newStore(t, server.Addr(), 1, writeScript)
	write := func(version int64) error {
		return s.publish(0, cache.Write{Key: "u", Version: version, Value: []byte("1")})
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	client.SlaveOf(t.Context(), "127.0.0.1", "1")
	for range 3 {
		if err := write(2); !pipeline.IsUnavailable(err) || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("got %v, want READONLY, unavailable", err)
		}
		if err := s.sinks[0].Publisher.(pipeline.Pinger).Ping(t.Context()); !pipeline.IsUnavailable(err) {
			t.Errorf("ping: got %v, want unavailable", err)
		}
	}
	client.SlaveOf(t.Context(), "no", "one")
	if err := write(2); err != nil {
		t.Error(err)
	}
}
