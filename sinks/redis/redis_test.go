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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
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

var _ configfacts.HashTagger = (*tagging)(nil)

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
		"no JSON":                {message.Payload("{"), writeLua, true, "the payload is not cache writes: "},
		"an event":               {message.Payload(`{"type":"entitlements.updated"}`), writeLua, true, "the payload is not cache writes: "},
		"nothing":                {message.Payload(""), writeLua, true, "the payload holds no cache write"},
		"a good one, too":        {append(payload(good("half")), '{'), writeLua, true, "the payload is not cache writes: "},
		"penstock's own key":     {payload(good("half"), good("penstock:c_1")), writeLua, true, `keys that start with "penstock:" are penstock's own`},
		"the clocks of probe":    {payload(cache.Write{Key: "probe", Version: 1, AsOf: 1, Value: []byte("1")}), writeLua, true, "would overwrite a key of penstock's own"},
		"the clocks of contents": {payload(cache.Write{Key: "contents", Version: 1, AsOf: 1, Delete: true}), writeLua, true, "would overwrite a key of penstock's own"},
		"a huge key":             {payload(good("half"), good(strings.Repeat("k", maxKey+1))), writeLua, true, "key of 65537 bytes"},
		"a huge value":           {payload(good("half"), cache.Write{Key: "huge", Version: 1, Value: []byte(`"` + strings.Repeat("v", 1<<20) + `"`)}), writeLua, true, "value of 1048578 bytes: the server takes at most 1048576"},
		"the script upset":       {payload(good("upset")), upset, false, "upset"},
		"refused by a server":    {payload(good("refused")), refuse, false, "ERR refused"},
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
	// The check for a wipe, which every new connection brings about, sets a key of its own.
	if err := sink.Publisher.Publish("", message.NewMessage("first", payload(cache.Write{Key: "other", Version: 1, Value: []byte(`{}`)}))); err != nil {
		t.Fatal(err)
	}
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
