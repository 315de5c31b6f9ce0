package e2e

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/testserver"
)

// intoCluster is a pipeline from recordings to a Redis Cluster.
const intoCluster = `
name: into-cluster
source:
  file: {paths: ["${FILES}"]}
transforms:
  - unwrap: {}
  - decode_entitlements:
      hash_tags: ${HASH_TAGS}
sink:
  redis:
    cluster: {addresses: ["${NODE}"]}
    prefix: "${PREFIX}"
`

func TestCluster_hashTagsAreForReadersOfOnesOwn(t *testing.T) {
	t.Parallel()
	node := testserver.StartRedisCluster(t, 0).Addrs()[1]
	events := readerFills(t)["a"]
	env := map[string]string{"FILES": recordingOf(t, events...), "NODE": node, "HASH_TAGS": "true", "PREFIX": "production"}
	if l := start(t, intoCluster, env).wait(); l.Written+l.Filtered != int64(len(events)) {
		t.Fatalf("%+v", l)
	}
	inspect := penstockProgram(t, env, "inspect", "customer-fir", "--resource", "site-berlin", "-f", writeFile(t, intoCluster))
	out, err := inspect.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"key c_{customer-fir}:r_site-berlin", "SDK 3.x  HIT\n", "SDK 4.x  HIT\n", "feature-api-calls  yes     4211 "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("inspect doesn't say %q:\n%s", want, out)
		}
	}
}

// TestCluster_aPrefixWithATagIsForTheSDK: the SDK talks to one node only, and a tag in the prefix has all keys on one.
func TestCluster_aPrefixWithATagIsForTheSDK(t *testing.T) {
	t.Parallel()
	cluster := testserver.StartRedisCluster(t, 0)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), Protocol: 2, DisableIdentity: true})
	defer func() { _ = client.Close() }()
	holder, err := client.MasterForKey(t.Context(), "{a}")
	if err != nil {
		t.Fatal(err)
	}
	events := readerFills(t)["a"]
	env := map[string]string{"FILES": recordingOf(t, events...), "NODE": cluster.Addrs()[0], "HASH_TAGS": "false", "PREFIX": "{a}"}
	if l := start(t, intoCluster, env).wait(); l.Written+l.Filtered != int64(len(events)) {
		t.Fatalf("%+v", l)
	}
	api := startAPI(t)
	reader := startReader(t, holder.Options().Addr, api.URL)
	defer reader.close()
	for _, name := range []string{"boolean", "metered, incremental", "resource-scoped", "unicode"} {
		c := readerCases[name]
		if c.question.Prefix != "a" {
			t.Fatalf("%s is not about these events", name)
		}
		c.question.Prefix = "{a}"
		t.Run(name, func(t *testing.T) { hit(t, reader.ask(c.question), c.want) })
	}
	if asked := api.asked(); len(asked) != 0 {
		t.Errorf("the API was asked for %v", asked)
	}
}
