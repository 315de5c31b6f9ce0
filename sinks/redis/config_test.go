package redis

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/pipeline"
)

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
		"{port: 0}":                    "sink.redis.port: must be 1 to 65535, got 0",
		"{host: 'a:b'}":                `sink.redis.host: want a host, or host:port, got "a:b"`,
		"{host: 'a:7000', port: 7001}": "sink.redis.port: host says port 7000, port says 7001: leave one out",
		"{host: '" + strings.Repeat("x", 3000) + "'}": "sink.redis.host: want a host, or host:port, got \"" + strings.Repeat("x", 60) + "…\"",
		"{tls: true}":                         "sink.redis.tls: want settings (key: value), got true: write tls: {enabled: true}",
		"{tls: yes}":                          `sink.redis.tls: want settings (key: value), got "yes": write tls: {enabled: true}`,
		"{tls: 'Off'}":                        `sink.redis.tls: want settings (key: value), got "Off": write tls: {enabled: false}`,
		"{tls: secure}":                       `sink.redis.tls: want settings (key: value), got "secure"`,
		"{tls: '${TLS:-1}'}":                  `got "${TLS:-1}": write enabled: ${TLS:-1} on a line of its own below tls:`,
		"{host: 'redis://a'}":                 "sink.redis.host: want a host, or host:port; a URL goes into url",
		"{db: -1}":                            "sink.redis.db: must not be negative, got -1",
		"{user: me}":                          "sink.redis.user: needs password",
		"{client_name: 'a b'}":                `sink.redis.client_name: want ASCII without blanks, got "a b"`,
		"{ttl: 0s}":                           "sink.redis.ttl: must be negative, or 1ms to 876000h, got 0s; negative means that entries never expire",
		"{ttl: 1us}":                          "sink.redis.ttl: must be negative, or 1ms to 876000h, got 1µs",
		"{ttl: 2000000h}":                     "sink.redis.ttl: must be negative, or 1ms to 876000h, got 2000000h0m0s",
		"{connections: 0}":                    "sink.redis.connections: must be 1 to 1000, got 0",
		"{batch: {count: 0}}":                 "sink.redis.batch.count: must be at least 1, got 0",
		"{tls: {ca_file: x}}":                 "sink.redis.tls.ca_file: needs tls.enabled: true or url; rediss:// is encrypted",
		"{tls: {enabled: true, key_file: x}}": "sink.redis.tls.key_file: needs cert_file",
		"{host: /run/redis.sock, tls: {enabled: true}}": "sink.redis.tls.enabled: can't be combined with host: /…; rediss:// is encrypted, redis:// and unix sockets are not",
		"{timeout: 1ms}": "sink.redis.timeout: must be 100ms to 30s, got 1ms",
		"{wait_replicas: {count: 1, timeout: 5s}}":                "sink.redis.wait_replicas.timeout: must be less than timeout (5s), got 5s",
		"{wait_replicas: {count: -1}}":                            "sink.redis.wait_replicas.count: must be 0 to 100, got -1",
		"{sentinel: {master: m}}":                                 "sink.redis.sentinel.master: needs sentinel.addresses",
		"{sentinel: {addresses: ['a:1']}}":                        "sink.redis.sentinel.addresses: needs master",
		"{sentinel: {master: m, addresses: [a]}}":                 `sink.redis.sentinel.addresses[0]: want host:port, got "a"`,
		"{sentinel: {master: m, addresses: ['a:1']}, host: b}":    "sink.redis.host: can't be combined with sentinel.master",
		"{embedded: '127.0.0.1:6380', wait_replicas: {count: 1}}": "sink.redis.embedded: can't be combined with wait_replicas.count",
		"{embedded: '6380'}":                                      `sink.redis.embedded: want an address such as 127.0.0.1:6380, got "6380"`,
		"{embedded: '127.0.0.1:6380', host: b}":                   "sink.redis.embedded: can't be combined with host",
		"{embedded: '127.0.0.1:6380', password: pw}":              "sink.redis.embedded: can't be combined with password",
		"{cluster: {addresses: [a]}}":                             `sink.redis.cluster.addresses[0]: want host:port, got "a"`,
		"{cluster: {addresses: ['a:1']}, host: b}":                "sink.redis.host: can't be combined with cluster.addresses",
		"{cluster: {addresses: ['a:1']}, db: 1}":                  "sink.redis.cluster.addresses: can't be combined with db; a cluster has no other database than 0",
		"{url: 'redis://a', host: b}":                             "sink.redis.url: can't be combined with host",
		"{url: 'redis://a', password: b}":                         "sink.redis.url: can't be combined with password",
		"{url: 'redis://a', cluster: {addresses: ['a:1']}}":       "sink.redis.url: can't be combined with cluster.addresses",
		"{url: 'redis://a', tls: {enabled: true}}":                "sink.redis.tls.enabled: can't be combined with url: redis://…",
		"{url: 'redis://a', tls: {ca_file: x}}":                   "sink.redis.tls: has settings but is not enabled",
		"{url: 'http://a'}":                                       "sink.redis.url: want redis://, rediss:// or unix://",
		"{url: 'redis://:6379'}":                                  "sink.redis.url: names no host",
		"{url: 'redis://a:0'}":                                    `sink.redis.url: want a port from 1 to 65535, got "0"`,
		"{url: 'redis://:geheim@a..b'}":                           `sink.redis.url: want a host, or host:port, got "a..b"`,
		"{url: 'redis://" + strings.Repeat("x", 300) + "'}":       "sink.redis.url: want a host, or host:port, got \"" + strings.Repeat("x", 60) + "…\"",
		"{url: 'redis://a:70000'}":                                `sink.redis.url: want a port from 1 to 65535, got "70000"`,
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
