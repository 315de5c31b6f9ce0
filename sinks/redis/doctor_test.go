package redis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

func TestDoctor_findings(t *testing.T) {
	_, cert, key := certificates(t)
	secured := testserver.Redis(t, "--port", "0", "--tls-port", testserver.Port, "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	plain := testserver.Redis(t)
	locked := testserver.Redis(t, "--requirepass", "geheim", "--user", "penstock", "on", ">geheim", "~p:*", "+@read", "+@write", "+@scripting", "+@connection")
	evicting := testserver.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	volatile := testserver.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
	full := testserver.Redis(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	replica := testserver.Redis(t, "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes")
	writable := testserver.Redis(t, "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes", "--replica-read-only", "no")
	cluster := testserver.Redis(t, "--cluster-enabled", "yes")
	gone := testserver.StartRedis(t)
	gone.Stop()
	nodes := testserver.StartRedisCluster(t, 0)
	third := testClient(t, nodes.Addrs()[2])
	for setting, value := range map[string]string{"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"} {
		if err := third.ConfigSet(t.Context(), setting, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := third.Set(t.Context(), taggedInto([]goredis.ClusterSlot{{Start: slots * 2 / 3, End: slots - 1}}, "p-a"), "1", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}

	// Databases of one server, by what is in them.
	fill := func(db int, keys map[string]time.Duration) {
		client := redisclient.New(redisclient.Config{Address: plain, DB: db})
		defer func() { _ = client.Close() }()
		for key, ttl := range keys {
			if err := client.Set(t.Context(), key, "1", ttl).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(1, map[string]time.Duration{"staging:c_a": 0, "staging:penstock:c_b": 0, "p:eu:c_x": 0})
	fill(2, map[string]time.Duration{"staging:c_a": 0, "p:c_a": 0})
	fill(3, map[string]time.Duration{"p-a": time.Minute})
	fill(4, map[string]time.Duration{"p-a": 0})
	fill(5, map[string]time.Duration{"p:c_a": 0, "p:c_a:f_x": 0, "p:penstock:contents": 0, "sessions": 0, "other-x": 0})

	password := pipeline.NewSecret("geheim")
	for name, c := range map[string]struct {
		edit func(*Config)
		want []string // for each finding: code, severity, and a part of its text
	}{
		"empty":                   {func(c *Config) { c.Host = plain }, nil},
		"our keys and nobody's":   {func(c *Config) { c.Host, c.DB = plain, 5 }, nil},
		"unreachable":             {func(c *Config) { c.Host = gone.Addr() }, []string{"PS201 broken connection refused"}},
		"no password":             {func(c *Config) { c.Host = locked }, []string{"PS202 broken unauthenticated"}},
		"wrong password":          {func(c *Config) { c.Host, c.Password = locked, pipeline.NewSecret("falsch") }, []string{"PS202 broken WRONGPASS"}},
		"no TLS there":            {func(c *Config) { c.Host, c.TLS.Enabled = plain, true }, []string{"PS203 broken TLS handshake"}},
		"unknown authority":       {func(c *Config) { c.Host, c.TLS.Enabled = secured, true }, []string{"PS203 broken certificate"}},
		"a file that isn't there": {func(c *Config) { c.Host, c.TLS = secured, TLS{Enabled: true, CAFile: "absent"} }, []string{"PS203 broken absent"}},
		"no such database":        {func(c *Config) { c.Host, c.DB = plain, 99 }, []string{"PS204 broken no database 99"}},
		"another prefix": {func(c *Config) {
			c.Host, c.User, c.Password, c.Prefix, c.RespectSDKLocks = locked, "penstock", password, "q", false
		},
			[]string{"PS205 broken NOPERM", "PS209 note INFO"}},
		"no right to locks and INFO": {func(c *Config) { c.Host, c.User, c.Password = locked, "penstock", password },
			[]string{"PS209 note INFO", "PS205 warning p-*"}},
		"replica":                  {func(c *Config) { c.Host = replica }, []string{"PS206 broken takes no writes"}},
		"writable replica":         {func(c *Config) { c.Host = writable }, []string{"PS206 broken although it takes writes"}},
		"full":                     {func(c *Config) { c.Host = full }, []string{"PS207 broken OOM", "PS211 warning of its maxmemory"}},
		"cluster":                  {func(c *Config) { c.Host = cluster }, []string{"PS208 broken Redis Cluster"}},
		"eviction":                 {func(c *Config) { c.Host = evicting }, []string{"PS210 warning allkeys-lru"}},
		"eviction of what expires": {func(c *Config) { c.Host = volatile }, []string{"PS210 warning volatile-lru"}},
		"eviction of what expires, and nothing does": {func(c *Config) { c.Host, c.TTL = volatile, -1 }, nil},
		"too few replicas":                           {func(c *Config) { c.Host, c.WaitReplicas.Count = plain, 1 }, []string{"PS212 broken has 0 replicas"}},
		"other prefixes only":                        {func(c *Config) { c.Host, c.DB = plain, 1 }, []string{`PS220 warning none has the prefix "p", but others are there: "staging" (2), "p:eu" (1)`}},
		"other prefixes too":                         {func(c *Config) { c.Host, c.DB = plain, 2 }, []string{`PS220 note other prefixes, too: "staging" (1); "p" has 1`}},
		"plain messages":                             {func(c *Config) { c.Host, c.DB, c.Plain = plain, 1, &Plain{} }, nil},
		"locks":                                      {func(c *Config) { c.Host, c.DB = plain, 3 }, []string{"PS221 note SDKs hold 1 locks"}},
		"locks that are not respected":               {func(c *Config) { c.Host, c.DB, c.RespectSDKLocks = plain, 3, false }, []string{"PS221 warning may undo"}},
		"a lock for ever":                            {func(c *Config) { c.Host, c.DB = plain, 4 }, []string{`PS222 warning "p-a" looks like`, "PS221 note SDKs"}},
		"embedded":                                   {func(c *Config) { c.Embedded = "127.0.0.1:1" }, nil},
		"cluster, well":                              {func(c *Config) { c.Cluster.Addresses = nodes.Addrs()[1:2] }, []string{`PS210 warning cluster node ` + nodes.Addrs()[2] + `: maxmemory-policy is allkeys-lru`, "PS221 note SDKs hold 1 locks"}},
		"cluster that has no slots":                  {func(c *Config) { c.Cluster.Addresses = []string{cluster} }, []string{"PS207 broken CLUSTERDOWN No node has slots"}},
		"no cluster":                                 {func(c *Config) { c.Cluster.Addresses = []string{plain} }, []string{"PS208 broken it is no node of a Redis Cluster"}},
		"cluster, unreachable":                       {func(c *Config) { c.Cluster.Addresses = []string{gone.Addr()} }, []string{"PS201 broken connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Port: 6379, Prefix: "p", TTL: time.Hour, Connections: 1, RespectSDKLocks: true, Timeout: 5 * time.Second}
			c.edit(&config)
			found := config.Diagnose(t.Context(), pipeline.DoctorEnv{})
			ok := len(found) == len(c.want)
			for i := range min(len(found), len(c.want)) {
				rest, same := strings.CutPrefix(c.want[i], fmt.Sprintf("%s %s ", found[i].Code, found[i].Severity))
				ok = ok && same && strings.Contains(found[i].What, rest)
			}
			if !ok {
				t.Errorf("got %+v\nwant %v", found, c.want)
			}
		})
	}
	client := testClient(t, plain)
	if keys := client.Keys(t.Context(), "*").Val(); !slices.Equal(keys, nil) {
		t.Errorf("the doctor left keys behind: %v", keys)
	}
}

func TestDoctor_asManyReplicasAsWantedAreEnough(t *testing.T) {
	master := testserver.StartRedis(t)
	testserver.Redis(t, "--replicaof", "127.0.0.1", fmt.Sprint(master.Port()))
	client := testClient(t, master.Addr())
	awaitTrue(t, "a replica", func() bool { return replicasOf(t, client) == 1 })
	config := Config{Host: master.Addr(), Port: 6379, Prefix: "p", TTL: time.Hour, Connections: 1, Timeout: 5 * time.Second,
		WaitReplicas: WaitReplicas{Count: 1, Timeout: time.Second}}
	if found := config.Diagnose(t.Context(), pipeline.DoctorEnv{}); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	config.WaitReplicas.Count = 0
	if found := config.Diagnose(t.Context(), pipeline.DoctorEnv{}); len(found) != 1 || found[0].Code != codeNoWait || found[0].Severity != pipeline.SeverityNote {
		t.Errorf("without waiting: found %+v", found)
	}
	config.WaitReplicas.Count = 2
	if found := config.Diagnose(t.Context(), pipeline.DoctorEnv{}); len(found) != 1 || found[0].Code != codeReplicas {
		t.Errorf("with two wanted: found %+v", found)
	}
}
