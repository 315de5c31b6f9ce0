package testserver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisCluster is a running Redis Cluster of three masters.
type RedisCluster struct {
	// Nodes are the three masters, then their replicas, in turn.
	Nodes []*RedisServer
	// IDs are the names of the nodes in the cluster.
	IDs []string
}

// Addrs returns the addresses of the nodes.
func (c *RedisCluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// StartRedisCluster starts three masters, each with a third of the slots and that many replicas. With replicas a node
// that isn't heard of for two seconds counts as failed; without, there is nobody to take over, and a machine that is
// busy must not look like a failure.
func StartRedisCluster(t testing.TB, replicas int) *RedisCluster {
	t.Helper()
	const masters, slots = 3, 16384
	nodeTimeout := "2000"
	if replicas == 0 {
		nodeTimeout = "30000"
	}
	ctx := t.Context()
	c := &RedisCluster{}
	var clients []*redis.Client
	do := func(node int, args ...any) string {
		t.Helper()
		text, err := clients[node].Do(ctx, args...).Text()
		if err != nil {
			t.Fatalf("start a Redis Cluster: %v: %v", args, err)
		}
		return text
	}
	for i := range masters * (1 + replicas) {
		node := StartRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", nodeTimeout, "--cluster-replica-validity-factor", "0",
			"--repl-diskless-sync-delay", "0")
		client := redis.NewClient(&redis.Options{Addr: node.Addr(), Protocol: 2, DisableIdentity: true})
		defer func() { _ = client.Close() }()
		c.Nodes, clients = append(c.Nodes, node), append(clients, client)
		c.IDs = append(c.IDs, do(i, "cluster", "myid"))
		do(i, "cluster", "meet", "127.0.0.1", c.Nodes[0].Port())
	}
	for i := range masters {
		do(i, "cluster", "addslotsrange", i*slots/masters, (i+1)*slots/masters-1)
	}
	all := func(what string, ok func(ctx context.Context, client *redis.Client) bool) {
		t.Helper()
		for _, client := range clients {
			for deadline := time.Now().Add(startTimeout); !ok(ctx, client); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("start a Redis Cluster: %s: not after %s", what, startTimeout)
				}
			}
		}
	}
	all("the nodes know each other", func(ctx context.Context, client *redis.Client) bool {
		return strings.Contains(client.ClusterInfo(ctx).Val(), fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Nodes)))
	})
	for i := masters; i < len(c.Nodes); i++ {
		do(i, "cluster", "replicate", c.IDs[i%masters])
	}
	all("every slot has a node and every master its replicas", func(ctx context.Context, client *redis.Client) bool {
		role := client.Info(ctx, "replication").Val()
		return strings.Contains(client.ClusterInfo(ctx).Val(), "cluster_state:ok") &&
			strings.Count(client.ClusterNodes(ctx).Val(), "slave ") == masters*replicas &&
			(strings.Contains(role, "role:slave") || strings.Count(role, "state=online") == replicas)
	})
	return c
}
