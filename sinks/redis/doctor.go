package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// Codes of what [Config.Diagnose] finds.
const (
	codeUnreachable = "PS201"
	codeLogin       = "PS202"
	codeTLS         = "PS203"
	codeDatabase    = "PS204"
	codeRight       = "PS205"
	codeReplica     = "PS206"
	codeRefusing    = "PS207"
	codeCluster     = "PS208"
	codeNoInfo      = "PS209"
	codeEviction    = "PS210"
	codeNearlyFull  = "PS211"
	codeReplicas    = "PS212"
	codeNoWait      = "PS213"
	codeClock       = "PS214"
	codePrefixes    = "PS220"
	codeLocks       = "PS221"
	codeStuckLock   = "PS222"
)

const (
	// scanLimit and scanTime bound the look at a database's keys, which may be many millions.
	scanLimit = 100_000
	scanTime  = 3 * time.Second
	// nearlyFull is the part of maxmemory at which a Redis that evicts nothing will refuse writes soon.
	nearlyFull = 0.9
	// mostSkew is how far the server's clock and this machine's may be apart before it is told.
	mostSkew = 5 * time.Second
)

// Diagnose looks at the server: whether it takes writes, what it does when it is full, whose keys it holds. It writes
// and deletes one key of penstock's own in one step, as readiness does.
func (c *Config) Diagnose(ctx context.Context, _ pipeline.DoctorEnv) []pipeline.Finding {
	if c.Embedded != "" {
		return nil // it lives in the process that runs the pipeline, and is as that wants it
	}
	config := *c
	config.WaitReplicas.Count = 0 // how many there are is asked
	d := &doctor{config: c, writer: newWriter(&config, pipeline.Env{}, writeScript)}
	defer d.writer.close() //nolint:errcheck // nothing was left unsaid
	if !d.write(ctx) {
		return d.found
	}
	s, err := d.writer.connected()
	if err != nil {
		return d.found // it has been told
	}
	nodes, err := d.nodes(ctx, s)
	if err != nil {
		d.add(codeNoInfo, pipeline.SeverityNote, "allow +cluster to the user", "the nodes of the cluster can't be seen: %v", err)
		d.allow()
	}
	for _, node := range nodes {
		d.server(ctx, node)
	}
	if c.Plain == nil { // plain messages are no SDK's business
		d.locks(ctx, s.any())
		d.keys(ctx, s.any(), nodes)
	}
	return d.found
}

// node is a server that takes writes, and what to call it.
type node struct {
	*redis.Client
	name string
}

// nodes returns the server, or the masters of the cluster by their addresses.
func (d *doctor) nodes(ctx context.Context, s *servers) ([]node, error) {
	if s.cluster == nil {
		return []node{{s.one, "redis at " + d.config.Address()}}, nil
	}
	var mu sync.Mutex
	var nodes []node
	err := s.cluster.ForEachMaster(ctx, func(_ context.Context, client *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node{client, "cluster node " + client.Options().Addr})
		return nil
	})
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.name, b.name) })
	return nodes, err
}

const clusterRemedy = "use cluster: {addresses: […]} instead of host and port, and keys with hash tags; or a server (or Sentinels) outside a cluster, as the provider's SDKs need it"

type doctor struct {
	config *Config
	writer *writer
	found  []pipeline.Finding
}

func (d *doctor) add(code string, severity pipeline.Severity, remedy, format string, args ...any) {
	d.found = append(d.found, pipeline.Finding{Code: code, Severity: severity, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// acl is the command that gives the user what penstock needs, and takes nothing from it.
func (d *doctor) acl() string {
	prefix := escapeGlob.Replace(d.config.Prefix)
	line := fmt.Sprintf("ACL SETUSER %s ~%s:* ~%s-* +@read +@write +@scripting +@connection +info +time", cmp.Or(d.config.User, "default"), prefix, prefix)
	if d.config.clustered() {
		line += " +cluster"
	}
	if d.config.WaitReplicas.Count > 0 {
		line += " +wait"
	}
	return line
}

// escapeGlob makes a pattern of a text that matches the text alone.
var escapeGlob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// allow has the command of acl mend the last finding.
func (d *doctor) allow() { d.found[len(d.found)-1].Fix = d.acl() }

// write does what a write does, and reports whether there is a server to go on with.
func (d *doctor) write(ctx context.Context) bool {
	err := d.writer.probe(ctx)
	if err == nil {
		return true
	}
	at := d.config.Address()
	broken := func(code, remedy, what string) {
		d.add(code, pipeline.SeverityBroken, remedy, "redis at %s: %s: %v", at, what, err)
	}
	switch redisclient.FailureOf(err) {
	case redisclient.BadTLS:
		broken(codeTLS, "tls.enabled must be as the server has it on this port; tls.ca_file must name the server's authority, tls.server_name its certificate's name, tls.cert_file and key_file a certificate that it takes", "no TLS connection")
	case redisclient.BadLogin:
		broken(codeLogin, "set user and password to what the server wants (no user: the default one)", "the login is refused")
	case redisclient.NoRight:
		broken(codeRight, d.acl(), "the user lacks a right, or its keys have another prefix")
		d.allow()
		return true
	case redisclient.NoDatabase:
		broken(codeDatabase, "set db to one of the server's databases: 0 to 15, unless configured otherwise; only 0 in a cluster", fmt.Sprintf("there is no database %d", d.config.DB))
	case redisclient.ReadOnly:
		broken(codeReplica, "point the sink at the master, or at the Sentinels that know it", "it is a replica, which takes no writes")
		return true
	case redisclient.Cluster:
		if d.config.clustered() {
			broken(codeRefusing, "wait until the slots have settled: CLUSTER INFO should say cluster_state:ok", "slots of the cluster are without a node, or on their way to another one")
			return true
		}
		broken(codeCluster, clusterRemedy, "it is a node of a Redis Cluster, whose keys are spread over servers")
	case redisclient.NoCluster:
		broken(codeCluster, "use host and port, or sentinel, instead of cluster", "it is no node of a Redis Cluster")
	case redisclient.Refusing:
		broken(codeRefusing, "see to what it says: memory, disk, replicas, connections; events are held meanwhile", "it takes no writes now")
		return true
	case redisclient.NoCommand, redisclient.Other:
		broken(codeRefusing, "penstock needs EVAL and EVALSHA (Redis 5 or newer, or a server like it)", "a write fails")
		return true
	case redisclient.Unreachable:
		broken(codeUnreachable, "check host, port and tls, and the network between; a server that wants TLS doesn't answer without", "it can't be reached")
	}
	return false
}

// server looks at what INFO tells.
func (d *doctor) server(ctx context.Context, server node) {
	text, err := server.Info(ctx).Result()
	if err != nil {
		d.add(codeNoInfo, pipeline.SeverityNote, "allow +info to the user, or look yourself: maxmemory-policy should be noeviction, the role master",
			"how %s is set up can't be seen: INFO fails: %v", server.name, err)
		d.allow()
		return
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[key] = value
		}
	}
	d.clock(ctx, server, info["server_time_usec"])
	told := func(code string) bool {
		return slices.ContainsFunc(d.found, func(f pipeline.Finding) bool { return f.Code == code })
	}
	if info["role"] == "slave" && !told(codeReplica) {
		d.add(codeReplica, pipeline.SeverityBroken, "point the sink at the master, or at the Sentinels that know it: what is written to a replica is undone",
			"%s is a replica of %s:%s, although it takes writes", server.name, info["master_host"], info["master_port"])
	}
	if info["cluster_enabled"] == "1" && !d.config.clustered() && !told(codeCluster) {
		d.add(codeCluster, pipeline.SeverityBroken, clusterRemedy, "%s is a node of a Redis Cluster, whose keys are spread over servers", server.name)
	}
	if want := d.config.WaitReplicas.Count; want > 0 {
		if have, err := strconv.Atoi(info["connected_slaves"]); err == nil && have < want {
			d.add(codeReplicas, pipeline.SeverityBroken, "bring up replicas, or set wait_replicas.count to less", "%s has %d replicas, and wait_replicas wants %d: no write counts as stored", server.name, have, want)
		}
	}
	if have := info["connected_slaves"]; d.config.WaitReplicas.Count == 0 && have != "" && have != "0" {
		d.add(codeNoWait, pipeline.SeverityNote, "wait_replicas: {count: 1}, if that must not be",
			"%s has replicas (%s), and wait_replicas is 0: a failover may lose the writes of the last moments, whose messages are acked", server.name, have)
	}
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	if limit == 0 {
		return // it is bounded by its machine alone, and evicts nothing
	}
	policy := info["maxmemory_policy"]
	spared := strings.HasPrefix(policy, "volatile-") && d.config.TTL < 0 // those evict only keys that expire
	if policy != "" && policy != "noeviction" && !spared {
		d.add(codeEviction, pipeline.SeverityWarning, "CONFIG SET maxmemory-policy noeviction, and memory enough (with a managed Redis: its parameter group)",
			"%s: maxmemory-policy is %s: a full Redis drops customers, whom the SDKs then miss, and the tombstones of deletes, without which old events bring back what was deleted", server.name, policy)
		d.found[len(d.found)-1].Fix = "CONFIG SET maxmemory-policy noeviction"
	}
	if used, _ := strconv.ParseFloat(info["used_memory"], 64); used/limit >= nearlyFull {
		d.add(codeNearlyFull, pipeline.SeverityWarning, "give it more memory, or entries a shorter ttl", "%s uses %.0f %% of its maxmemory", server.name, 100*used/limit)
	}
}

// clock compares the server's clock with this machine's. told is the time that INFO has told, in microseconds, for a
// user who may not ask for TIME.
func (d *doctor) clock(ctx context.Context, server node, told string) {
	began := time.Now()
	there, err := server.Time(ctx).Result()
	ended := time.Now()
	if err != nil {
		microseconds, err := strconv.ParseInt(told, 10, 64)
		if err != nil {
			return // an old server and a user without the right
		}
		there, began = time.UnixMicro(microseconds), began.Add(-time.Second)
	}
	skew := time.Duration(0)
	switch { // it was some time between began and ended there
	case there.Before(began):
		skew = began.Sub(there)
	case there.After(ended):
		skew = ended.Sub(there)
	}
	if skew.Abs() <= mostSkew {
		return
	}
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}
	d.add(codeClock, pipeline.SeverityWarning, "have NTP keep both clocks: timedatectl status, chronyc tracking",
		"this machine's clock is %s %s that of %s: one of them is wrong, and with it ages and lag, or when keys expire", skew.Abs().Round(time.Second), direction, server.name)
}

// locks looks at the right to read the SDK's locks.
func (d *doctor) locks(ctx context.Context, client redis.Cmdable) {
	if !d.config.RespectSDKLocks {
		return
	}
	if err := client.Get(ctx, d.config.Prefix+"-penstock").Err(); redisclient.IsNoPermission(err) {
		d.add(codeRight, pipeline.SeverityWarning, fmt.Sprintf("ACL SETUSER %s ~%s-*, or set respect_sdk_locks: false", cmp.Or(d.config.User, "default"), d.config.Prefix),
			"the user may not read the SDK's locks (%s-*): an SDK that refetches a customer at the moment of a newer event may undo it", d.config.Prefix)
		d.allow()
	}
}

// keys looks at whose keys the database holds: the prefix decides whether readers find what is written.
func (d *doctor) keys(ctx context.Context, client redis.Cmdable, nodes []node) {
	ctx, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	var locks []string
	others := map[string]int{}
	ours, seen := 0, 0
	for _, node := range nodes {
		err := scan(ctx, node.Client, scanLimit/len(nodes), func(key string) {
			seen++
			switch owner, kind := keyOwner(d.config.Prefix, key); kind {
			case keyOfOurs:
				ours++
			case keyOfLock:
				locks = append(locks, key)
			case keyOfOther:
				others[owner]++
			}
		})
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			d.add(codeNoInfo, pipeline.SeverityNote, "allow +scan to the user", "whose keys %s holds can't be seen: SCAN fails: %v", node.name, err)
			d.allow()
			return
		}
	}
	d.prefixes(ours, seen, others)
	d.held(ctx, client, locks)
}

// scan calls f with about as many keys of a server as the limit says.
func scan(ctx context.Context, client *redis.Client, limit int, f func(key string)) error {
	cursor := uint64(0)
	for seen := 0; seen < limit; {
		page, next, err := client.Scan(ctx, cursor, "", 1000).Result()
		if err != nil {
			return err
		}
		for _, key := range page {
			f(key)
		}
		if seen, cursor = seen+len(page), next; cursor == 0 {
			break
		}
	}
	return nil
}

type keyKind uint8

const (
	keyOfNobody keyKind = iota // of no cache
	keyOfOurs
	keyOfLock
	keyOfOther
)

// keyOwner says whose key it is: the sink's own prefix, an SDK's lock under it, or another prefix, which is returned.
func keyOwner(prefix, key string) (string, keyKind) {
	if rest, ok := strings.CutPrefix(key, prefix+":"); ok {
		switch {
		case strings.HasPrefix(rest, "refetchEntityEntitlementsAfterCacheMiss-"):
			return "", keyOfLock
		case strings.HasPrefix(rest, "c_"), strings.HasPrefix(rest, ownKeys):
			return "", keyOfOurs
		}
	}
	if owner, _, ok := strings.Cut(key, ":c_"); ok {
		return strings.TrimSuffix(owner, ":"+strings.TrimSuffix(ownKeys, ":")), keyOfOther
	}
	if strings.HasPrefix(key, prefix+"-") {
		return "", keyOfLock
	}
	return "", keyOfNobody
}

func (d *doctor) prefixes(ours, seen int, others map[string]int) {
	if len(others) == 0 {
		return
	}
	names := slices.SortedFunc(maps.Keys(others), func(a, b string) int {
		return cmp.Or(cmp.Compare(others[b], others[a]), cmp.Compare(a, b))
	})
	const most = 5
	var list []string
	for _, name := range names[:min(most, len(names))] {
		list = append(list, fmt.Sprintf("%q (%d)", name, others[name]))
	}
	if len(names) > most {
		list = append(list, fmt.Sprintf("%d more", len(names)-most))
	}
	if ours == 0 {
		d.add(codePrefixes, pipeline.SeverityWarning, "set prefix to the environmentPrefix of the SDKs that read here",
			"of %d keys looked at none has the prefix %q, but others are there: %s", seen, d.config.Prefix, strings.Join(list, ", "))
		return
	}
	d.add(codePrefixes, pipeline.SeverityNote, "give environments databases of their own if one must not fill or flush the other's",
		"the database holds keys of other prefixes, too: %s; %q has %d", strings.Join(list, ", "), d.config.Prefix, ours)
}

func (d *doctor) held(ctx context.Context, client redis.Cmdable, locks []string) {
	if len(locks) == 0 {
		return
	}
	slices.Sort(locks)
	const most = 100
	for _, lock := range locks[:min(most, len(locks))] {
		if ttl, err := client.PTTL(ctx, lock).Result(); err == nil && ttl == -1 && strings.HasPrefix(lock, d.config.Prefix+"-") {
			d.add(codeStuckLock, pipeline.SeverityWarning, "delete it when no SDK writes this customer: DEL "+strconv.Quote(lock),
				"%q looks like an SDK's lock and never expires: every write of that customer waits %s for it", lock, lockPatience)
			break
		}
	}
	severity, consequence, remedy := pipeline.SeverityNote, "writes of these customers wait for them", ""
	if !d.config.RespectSDKLocks {
		severity, consequence, remedy = pipeline.SeverityWarning, "what they write may undo newer events", "set respect_sdk_locks: true"
	}
	d.add(codeLocks, severity, remedy, "SDKs hold %d locks in this database, such as %q: they write to it, too; %s", len(locks), locks[0], consequence)
}
