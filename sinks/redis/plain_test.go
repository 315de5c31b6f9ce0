package redis

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/pipeline"
)

var plainNames = Plain{Key: "key", Value: "value", Version: "version", TTL: "ttl"}

func TestPlain_readsMessages(t *testing.T) {
	write := func(key, value string, version int64, ttl time.Duration) cache.Write {
		return cache.Write{Key: key, Value: []byte(value), Version: version, AsOf: version, TTL: ttl}
	}
	for name, c := range map[string]struct {
		payload string
		want    cache.Write
	}{
		"key and value":       {`{"key":"k","value":1}`, write("k", "1", 0, 0)},
		"any order, and more": {" {\"ttl\": 90, \"other\": {\"key\": 1}, \"value\": [1, {\"a\": null}],\n \"version\": 7, \"key\": \"a\\u0041😀\"}\n", write("aA😀", `[1, {"a": null}]`, 7, 90*time.Second)},
		"numbers as they are": {`{"key":12345678901234567890,"value":{"n":1.10,"big":12345678901234567890,"e":1E+2}}`, write("12345678901234567890", `{"n":1.10,"big":12345678901234567890,"e":1E+2}`, 0, 0)},
		"text has its quotes": {`{"key":"k","value":"a\u0041\/"}`, write("k", `"a\u0041\/"`, 0, 0)},
		"null is a value":     {`{"key":"k","value":null,"version":null,"ttl":null}`, write("k", `null`, 0, 0)},
		"greatest version":    {`{"key":"k","value":0,"version":9223372036854775807}`, write("k", `0`, 1<<63-1, 0)},
		"version in quotes":   {`{"key":"k","value":0,"version":"9007199254740993"}`, write("k", `0`, 9007199254740993, 0)},
		"version is a time":   {`{"key":"k","value":0,"version":"2026-11-27T10:00:00Z"}`, write("k", `0`, 1795773600000, 0)},
		"time with a zone":    {`{"key":"k","value":0,"version":"2026-11-27T12:00:00.25+02:00"}`, write("k", `0`, 1795773600250, 0)},
		"time with nanos":     {`{"key":"k","value":0,"version":"2026-11-27T10:00:00.001999999Z"}`, write("k", `0`, 1795773600001, 0)},
		"time in small print": {`{"key":"k","value":0,"version":"2026-11-20t10:15:30z"}`, write("k", `0`, 1795169730000, 0)},
		"time with a comma":   {`{"key":"k","value":0,"version":"2026-11-20T10:15:30,25Z"}`, write("k", `0`, 1795169730250, 0)},
		"time with an escape": {`{"key":"k","value":0,"version":"2026\u002d11-20T10:15:30Z"}`, write("k", `0`, 1795169730000, 0)},
		"version in seconds":  {`{"key":"k","value":0,"version":1795169730}`, write("k", `0`, 1795169730, 0)},
		"byte order mark":     {"\ufeff{\"key\":\"k\",\"value\":0}", write("k", `0`, 0, 0)},
		"minus nothing":       {`{"key":-0,"value":-0}`, write("-0", `-0`, 0, 0)},
		"next to nothing":     {`{"key":"k","value":1e-400}`, write("k", `1e-400`, 0, 0)},
		"nearly too large":    {`{"key":"k","value":[1.7976931348623157e308,9007199254740993]}`, write("k", `[1.7976931348623157e308,9007199254740993]`, 0, 0)},
		"text like a number":  {`{"key":"k","value":"1e400 \\\" [[["}`, write("k", `"1e400 \\\" [[["`, 0, 0)},
		"beyond, not stored":  {`{"key":"k","note":1e400,"value":0}`, write("k", `0`, 0, 0)},
		"200 levels":          {`{"key":"k","value":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, write("k", strings.Repeat("[", 200)+strings.Repeat("]", 200), 0, 0)},
		"pair in the key":     {`{"key":"\ud83d\ude00 \\ud800","value":0}`, write(`😀 \ud800`, `0`, 0, 0)},
		"NUL in the key":      {`{"key":"a\u0000b","value":0}`, write("a\x00b", `0`, 0, 0)},
		"separator in key":    {`{"key":"a#timestamp","value":0}`, write("a#timestamp", `0`, 0, 0)},
		"names twice inside":  {`{"key":"k","value":{"a":1,"a":2}}`, write("k", `{"a":1,"a":2}`, 0, 0)},
		"ttl as text":         {`{"key":"k","value":0,"ttl":"1h30m"}`, write("k", `0`, 0, 90*time.Minute)},
		"ttl below a second":  {`{"key":"k","value":0,"ttl":0.25}`, write("k", `0`, 0, 250*time.Millisecond)},
		"ttl negative":        {`{"key":"k","value":0,"ttl":-60}`, write("k", `0`, 0, -1)},
		"ttl text negative":   {`{"key":"k","value":0,"ttl":"-1s"}`, write("k", `0`, 0, -1)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plainNames.write([]byte(c.payload))
			if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestPlain_theWholeMessageMayBeTheValue(t *testing.T) {
	whole := Plain{Key: "id", Value: "$", Version: "updated", TTL: "ttl"}
	if err := whole.Validate(); err != nil {
		t.Error(err)
	}
	got, err := whole.write([]byte(" {\"id\":\"k\",\"updated\":\"2026-11-27T10:00:00Z\",\n\"$\":1}\n"))
	if err != nil || got.Key != "k" || string(got.Value) != "{\"id\":\"k\",\"updated\":\"2026-11-27T10:00:00Z\",\n\"$\":1}" || got.Version != 1795773600000 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := (&Plain{Key: "$", Value: "value", TTL: "ttl"}).Validate(); err == nil || !strings.Contains(err.Error(), "only the value can be the whole message") {
		t.Errorf("key: %v", err)
	}
}

func TestPlain_saysWhichMemberIsWrong(t *testing.T) {
	renamed := Plain{Key: "id", Value: "data", Version: "rev", TTL: "expires"}
	version, ttl := `member "rev": want a version: a whole number from 1 to 2^63-1, or a time such as 2026-11-27T10:00:00Z, got `, `member "expires": want a TTL: seconds, or text such as "90s", of 1ms to 876000h0m0s, or negative, got `
	old := `member "rev": want a version: a time from March 1973 on (was it made of seconds, taken for milliseconds?), got `
	huge := `member "data": number is too large: readers would take it for Infinity: `
	key := `member "id": want a key: text that is not empty, or a whole number, got `
	for name, c := range map[string]struct{ payload, want string }{
		"no JSON":           {`x`, `the payload is not a JSON object: invalid character 'x' looking for beginning of value`},
		"nothing":           {``, `the payload is not a JSON object: unexpected EOF`},
		"a list":            {`[1]`, `the payload is not a JSON object: it begins with [`},
		"torn":              {`{"id":"k","data":1`, `the payload is not a JSON object: unexpected EOF`},
		"torn value":        {`{"id":"k","data":{"a"`, `the payload is not a JSON object: unexpected EOF`},
		"two objects":       {`{"id":"k","data":1} {}`, `the payload is not a JSON object: there is more behind it`},
		"not UTF-8":         {"{\"id\":\"\xff\",\"data\":1}", `the payload is not a JSON object: it is not UTF-8`},
		"no key":            {`{"key":"k","data":1}`, `no key: the message has no member "id"`},
		"key null":          {`{"id":null,"data":1}`, `no key: the message has no member "id"`},
		"key empty":         {`{"id":"","data":1}`, key + `""`},
		"key fraction":      {`{"id":1.5,"data":1}`, key + `1.5`},
		"key true":          {`{"id":true,"data":1}`, key + `true`},
		"key object":        {`{"id":{"a":1},"data":1}`, key + `{"a":1}`},
		"no value":          {`{"id":"k","value":1}`, `no value: the message has no member "data"`},
		"twice":             {`{"id":"k","data":1,"id":"k"}`, `member "id" comes twice`},
		"version 0":         {`{"id":"k","data":1,"rev":0}`, version + `0`},
		"version negative":  {`{"id":"k","data":1,"rev":-1}`, version + `-1`},
		"version fraction":  {`{"id":"k","data":1,"rev":1.0}`, version + `1.0`},
		"version too large": {`{"id":"k","data":1,"rev":9223372036854775808}`, version + `9223372036854775808`},
		"version text":      {`{"id":"k","data":1,"rev":"v1"}`, version + `"v1"`},
		"version +1":        {`{"id":"k","data":1,"rev":"+1"}`, version + `"+1"`},
		"version, a date":   {`{"id":"k","data":1,"rev":"2026-11-27"}`, version + `"2026-11-27"`},
		"version, no zone":  {`{"id":"k","data":1,"rev":"2026-11-27T10:00:00"}`, version + `"2026-11-27T10:00:00"`},
		"version in 1969":   {`{"id":"k","data":1,"rev":"1969-12-31T23:59:59Z"}`, old + `"1969-12-31T23:59:59Z"`},
		"version of secs":   {`{"id":"k","data":1,"rev":"1970-01-21T18:39:29.730Z"}`, old + `"1970-01-21T18:39:29.730Z"`},
		"version in year 0": {`{"id":"k","data":1,"rev":"0000-01-01T00:00:00Z"}`, old + `"0000-01-01T00:00:00Z"`},
		"version in 2999":   {`{"id":"k","data":1,"rev":"2999-01-01T00:00:00Z"}`, `member "rev": want a version: a time that is not more than 24 hours ahead of the clock, got "2999-01-01T00:00:00Z"`},
		"version, zone":     {`{"id":"k","data":1,"rev":"2026-11-20T10:15:30+24:00"}`, version + `"2026-11-20T10:15:30+24:00"`},
		"version, blank T":  {`{"id":"k","data":1,"rev":"2026-11-20 10:15:30Z"}`, version + `"2026-11-20 10:15:30Z"`},
		"version NaN":       {`{"id":"k","data":1,"rev":"NaN"}`, version + `"NaN"`},
		"version 1e3":       {`{"id":"k","data":1,"rev":1e3}`, version + `1e3`},
		"version blank":     {`{"id":"k","data":1,"rev":" 7"}`, version + `" 7"`},
		"version empty":     {`{"id":"k","data":1,"rev":""}`, version + `""`},
		"version -0":        {`{"id":"k","data":1,"rev":-0}`, version + `-0`},
		"key half a pair":   {`{"id":"a\ud800","data":1}`, key + `"a\ud800"`},
		"key swapped pair":  {`{"id":"\\\ude00\ud83d","data":1}`, key + `"\\\ude00\ud83d"`},
		"key 1e3":           {`{"id":1e3,"data":1}`, key + `1e3`},
		"value beyond":      {`{"id":"k","data":1e400}`, huge + `1e400`},
		"value beyond, in":  {`{"id":"k","data":{"a\"":[1,-1E+400]}}`, huge + `-1E+400`},
		"value, 400 digits": {`{"id":"k","data":1` + strings.Repeat("0", 400) + `}`, huge + `1` + strings.Repeat("0", 99)},
		"value too deep":    {`{"id":"k","data":` + strings.Repeat("[", 201) + strings.Repeat("]", 201) + `}`, `member "data": nested more than 200 levels deep`},
		"value NaN":         {`{"id":"k","data":NaN}`, `the payload is not a JSON object: invalid character 'N' looking for beginning of value`},
		"value hex":         {`{"id":"k","data":0x1}`, `the payload is not a JSON object: invalid character 'x' after object key:value pair`},
		"value 01":          {`{"id":"k","data":01}`, `the payload is not a JSON object: invalid character '1' after object key:value pair`},
		"comment":           {`{"id":"k",/* x */"data":1}`, `the payload is not a JSON object: invalid character '/' looking for beginning of object key string`},
		"single quotes":     {`{'id':'k'}`, `the payload is not a JSON object: invalid character '\''`},
		"trailing comma":    {`{"id":"k","data":1,}`, `the payload is not a JSON object: invalid character '}' looking for beginning of object key string`},
		"twice by escape":   {`{"id":"k","data":1,"\u0069d":"x"}`, `member "id" comes twice`},
		"name's case":       {`{"ID":"k","data":1}`, `no key: the message has no member "id"`},
		"NUL behind":        {"{\"id\":\"k\",\"data\":1}\x00", `the payload is not a JSON object: there is more behind it`},
		"UTF-16":            {"\xff\xfe{\x00", `the payload is not a JSON object: it is not UTF-8`},
		"ttl beyond":        {`{"id":"k","data":1,"expires":1e400}`, ttl + `1e400`},
		"ttl NaN":           {`{"id":"k","data":1,"expires":"NaN"}`, ttl + `"NaN"`},
		"ttl next to 0":     {`{"id":"k","data":1,"expires":1e-400}`, ttl + `1e-400`},
		"version leap sec":  {`{"id":"k","data":1,"rev":"2016-12-31T23:59:60Z"}`, version + `"2016-12-31T23:59:60Z"`},
		"version true":      {`{"id":"k","data":1,"rev":true}`, version + `true`},
		"ttl 0":             {`{"id":"k","data":1,"expires":0}`, ttl + `0`},
		"ttl tiny":          {`{"id":"k","data":1,"expires":"1us"}`, ttl + `"1us"`},
		"ttl without unit":  {`{"id":"k","data":1,"expires":"90"}`, ttl + `"90"`},
		"ttl too long":      {`{"id":"k","data":1,"expires":3153600001}`, ttl + `3153600001`},
		"ttl text too long": {`{"id":"k","data":1,"expires":"876001h"}`, ttl + `"876001h"`},
		"ttl object":        {`{"id":"k","data":1,"expires":{}}`, ttl + `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := renamed.write([]byte(c.payload))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestPlain_namesDiffer(t *testing.T) {
	err := (&Plain{Key: "id", Value: "data", Version: "id", TTL: "data"}).Validate()
	want := "version: must not be the member that is the key, \"id\"\nttl: must not be the member that is the value, \"data\""
	if fmt.Sprint(err) != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := plainNames.Validate(); err != nil {
		t.Error(err)
	}
}

func newPlainSink(t *testing.T, addr string) pipeline.Sink {
	conf := testConfig(addr)
	conf.Plain = &plainNames
	return started(t, newSink(conf, pipeline.Env{}, writeScript))
}

func TestPlain_storesWhatMessagesSay(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			addr := serve(t)
			sink, client := newPlainSink(t, addr), testClient(t, addr)
			publish := func(payload string) error {
				return sink.Publisher.Publish("", message.NewMessage("m", []byte(payload)))
			}
			for _, payload := range []string{
				`{"key":"plain","value":{"n": 1.10}}`, `{"key":"plain","value":{"n": 1.20}}`,
				`{"key":"own","value":1,"version":5,"ttl":60}`, `{"key":"own","value":2,"version":4,"ttl":600}`,
				`{"key":"never","value":1,"version":5,"ttl":-1}`,
				`{"key":"long","value":1,"version":5,"ttl":"1000h"}`,
				`{"key":"renewed","value":1,"version":5,"ttl":60}`, `{"key":"renewed","value":1,"version":5,"ttl":"10m"}`,
				`{"key":"default","value":1,"version":5,"ttl":60}`, `{"key":"default","value":2,"version":6}`,
				`{"key":"unversioned","value":1,"ttl":60}`,
			} {
				if err := publish(payload); err != nil {
					t.Fatalf("%s: %v", payload, err)
				}
			}
			for key, want := range map[string]struct {
				value  string
				ttl    time.Duration
				clocks time.Duration // 0 = none
			}{
				"plain":       {`{"n": 1.20}`, freshTTL, 0},
				"own":         {"1", time.Minute, clocksTTL},
				"never":       {"1", -1, -1},
				"long":        {"1", 1000 * time.Hour, 1000 * time.Hour},
				"renewed":     {"1", 10 * time.Minute, clocksTTL},
				"default":     {"2", freshTTL, clocksTTL},
				"unversioned": {"1", time.Minute, 0},
			} {
				if got := client.Get(t.Context(), "p:"+key).Val(); got != want.value {
					t.Errorf("%s is %s, want %s", key, got, want.value)
				}
				lives := func(name string, ttl time.Duration) {
					t.Helper()
					got := client.PTTL(t.Context(), name).Val()
					if ttl < 0 && got != -1 || ttl > 0 && (got > ttl || got < ttl-30*time.Second) || ttl == 0 && got != -2 {
						t.Errorf("%s lives for %s, want %s", name, got, ttl)
					}
				}
				lives("p:"+key, want.ttl)
				lives("p:penstock:"+key, want.clocks)
				if want.clocks != 0 {
					lives("p:"+key+"#timestamp", want.ttl)
				}
			}
			// When an entry has gone, what is older than it stays out.
			client.Del(t.Context(), "p:own", "p:own#timestamp")
			if err := publish(`{"key":"own","value":2,"version":4}`); err != nil || client.Exists(t.Context(), "p:own").Val() != 0 {
				t.Errorf("%v, or an older value came back", err)
			}
			for _, payload := range []string{`{"value":1}`, `[]`, `{"key":"penstock:x","value":1}`} {
				if err := publish(payload); !pipeline.IsPermanent(err) {
					t.Errorf("%s: %v", payload, err)
				}
			}
		})
	}
}

// In one batch and in several, the TTL of the write that wins is the one that the entry gets.
func TestPlain_inABatchEachWriteHasItsOwnTTL(t *testing.T) {
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			addr := serve(t)
			conf := testConfig(addr)
			conf.Plain = &plainNames
			w, client := newWriter(conf, pipeline.Env{}, writeScript), testClient(t, addr)
			defer func() { _ = w.close() }()
			want := map[string]time.Duration{}
			var msgs []*message.Message
			add := func(format string, args ...any) {
				msgs = append(msgs, message.NewMessage("m", fmt.Appendf(nil, format, args...)))
			}
			for i := range 20 {
				key := fmt.Sprintf("k%d", i)
				clocks := []int{1, 2, 3, 4}
				rand.Shuffle(len(clocks), func(i, j int) { clocks[i], clocks[j] = clocks[j], clocks[i] })
				for _, clock := range clocks {
					add(`{"key":%q,"value":"x","version":%d,"ttl":%d}`, key, clock, 1000*clock+i)
				}
				want[key] = time.Duration(4000+i) * time.Second
				add(`{"key":"d%d","value":"x","version":1}`, i)
				want[fmt.Sprintf("d%d", i)] = freshTTL
			}
			add(`{"key":"equal","value":"x","version":1,"ttl":60}`)
			add(`{"key":"equal","value":"x","version":1,"ttl":6000}`)
			want["equal"] = 6000 * time.Second
			for _, err := range w.store(t.Context(), msgs) {
				if err != nil {
					t.Fatal(err)
				}
			}
			for key, ttl := range want {
				if got := client.TTL(t.Context(), "p:"+key).Val(); got > ttl || got < ttl-30*time.Second {
					t.Errorf("%s lives for %s, want %s", key, got, ttl)
				}
			}
		})
	}
}

func TestPlain_asPipelineFilesHaveIt(t *testing.T) {
	registry := pipeline.AddSink[Config](pipeline.NewRegistry(), "redis")
	pipeline.AddSource[noSource](registry, "none")
	for name, c := range map[string]struct{ plain, want string }{
		"absent":  {``, `<nil>`},
		"empty":   {`, plain: {}`, `&{Key:key Value:value Version: TTL:ttl}`},
		"renamed": {`, plain: {key: id, ttl: expires}`, `&{Key:id Value:value Version: TTL:expires}`},
		"twice":   {`, plain: {key: value}`, `sink.redis.plain.value: must not be the member that is the key, "value" [PS063]`},
	} {
		t.Run(name, func(t *testing.T) {
			file := fmt.Sprintf("name: plain\nsource: {none: {}}\nsink:\n  redis: {prefix: p%s}\n", c.plain)
			conf, _, err := pipeline.LoadBytes(registry, "plain.yaml", []byte(file), pipeline.LoadOptions{})
			got := fmt.Sprint(err)
			if err == nil {
				got = fmt.Sprintf("%+v", conf.Sink.Config.(*Config).Plain)
			}
			if !strings.HasSuffix(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

type noSource struct{}

func (*noSource) NewSource(pipeline.Env) (pipeline.Source, error) { return pipeline.Source{}, nil }

// FuzzPlain: what is read as a message has the value that stands in it, and a version and TTL that are allowed.
func FuzzPlain(f *testing.F) {
	f.Add([]byte(`{"key":"k","value":{"a":[1, 2]},"version":"7","ttl":"90s"}`))
	f.Add([]byte(`{"ttl":1e-3,"version":9223372036854775807,"value":null,"key":-0}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		w, err := plainNames.write(payload)
		if err != nil {
			return
		}
		if w.Key == "" || w.Version < 0 || w.AsOf != w.Version || w.TTL > maxTTL || w.TTL > 0 && w.TTL%time.Millisecond != 0 ||
			!strings.Contains(string(payload), string(w.Value)) {
			t.Errorf("%q is %+v", payload, w)
		}
		if w.TTL != 0 {
			line := cache.Append(nil, cache.Write{Key: w.Key, Value: []byte("1"), TTL: w.TTL})
			if back, err := cache.Parse(nil, line); err != nil || back[0].TTL != w.TTL {
				t.Errorf("%s comes back as %+v, %v", line, back, err)
			}
		}
	})
}
