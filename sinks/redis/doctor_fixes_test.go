package redis

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/redisclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// rightCodes are the findings of a user who lacks something.
var rightCodes = []string{codeRight, codeNoInfo}

// pastesACL does what a line says that is to be pasted into redis-cli.
func pastesACL(t *testing.T, admin *goredis.Client, line string) {
	t.Helper()
	var words []any
	for word := range strings.FieldsSeq(line) {
		words = append(words, word)
	}
	if len(words) < 3 || words[0] != "ACL" {
		t.Fatalf("no command of Redis: %q", line)
	}
	if err := admin.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
}

func TestDoctor_theACLThatIsPrintedHealsTheUser(t *testing.T) {
	address := testserver.Redis(t)
	admin := testClient(t, address)
	password := pipeline.NewSecret("geheim")
	all := []string{"~p:*", "~p-*", "+@read", "+@write", "+@scripting", "+@connection", "+info"}
	cases := map[string][]string{"nothing at all": nil, "all, to keys of another prefix": {"~q:*", "~q-*", "+@all"}, "all but EVALSHA": append(slices.Clone(all), "-evalsha", "-eval")}
	for i, right := range all {
		cases["all but "+right] = slices.Delete(slices.Clone(all), i, i+1)
	}
	for name, rights := range cases {
		t.Run(name, func(t *testing.T) {
			rules := append([]string{"reset", "on", ">geheim"}, rights...)
			if err := admin.ACLSetUser(t.Context(), "penstock", rules...).Err(); err != nil {
				t.Fatal(err)
			}
			config := Config{Host: address, Port: 6379, Prefix: "p", TTL: time.Hour, Connections: 1, RespectSDKLocks: true, Timeout: 5 * time.Second,
				DB: 1, User: "penstock", Password: password} // SELECT is a right of its own
			look := func() (found []pipeline.Finding, fix string) {
				for _, f := range config.Diagnose(t.Context(), pipeline.DoctorEnv{}) {
					if slices.Contains(rightCodes, f.Code) {
						found, fix = append(found, f), f.Fix
					}
				}
				return found, fix
			}
			found, fix := look()
			if len(found) == 0 {
				t.Fatal("nothing was found")
			}
			pastesACL(t, admin, fix)
			if found, _ := look(); len(found) > 0 {
				t.Errorf("after %s there is still %+v", fix, found)
			}
		})
	}
}

func TestDoctor_aPrefixIsNoPatternInTheACL(t *testing.T) {
	config := Config{Prefix: `a*[b]?\`, User: "u", WaitReplicas: WaitReplicas{Count: 1}, Cluster: Cluster{Addresses: []string{"x:1"}}}
	want := `ACL SETUSER u ~a\*\[b\]\?\\:* ~a\*\[b\]\?\\-* +@read +@write +@scripting +@connection +info +time +cluster +wait`
	if got := (&doctor{config: &config}).acl(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDoctor_comparesTheClocks(t *testing.T) {
	off := miniredis.RunT(t)
	off.SetTime(time.Now().Add(time.Hour))
	address := testserver.Redis(t)
	admin := testClient(t, address)
	if err := admin.ACLSetUser(t.Context(), "timeless", "reset", "on", "nopass", "+@all", "-time").Err(); err != nil {
		t.Fatal(err)
	}
	timeless := redisclient.New(redisclient.Config{Address: address, User: "timeless", Password: "any"})
	t.Cleanup(func() { _ = timeless.Close() })
	inAnHour := strconv.FormatInt(time.Now().Add(time.Hour).UnixMicro(), 10)
	for name, c := range map[string]struct {
		client *goredis.Client
		info   string
		want   string
	}{
		"as ours":                       {admin, "", ""},
		"as ours, whatever INFO says":   {admin, inAnHour, ""},
		"an hour ahead":                 {testClient(t, off.Addr()), "", "behind that of redis at x"},
		"no right to TIME, INFO tells":  {timeless, inAnHour, "behind that of redis at x"},
		"no right to TIME, INFO agrees": {timeless, strconv.FormatInt(time.Now().UnixMicro(), 10), ""},
		"neither tells":                 {timeless, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &doctor{config: &Config{}}
			d.clock(t.Context(), node{c.client, "redis at x"}, c.info)
			var told string
			for _, f := range d.found {
				told += f.Code + " " + f.What
			}
			if (told == "") != (c.want == "") || !strings.Contains(told, c.want) || told != "" && !strings.HasPrefix(told, codeClock) {
				t.Errorf("told %q, want %q", told, c.want)
			}
		})
	}
}
