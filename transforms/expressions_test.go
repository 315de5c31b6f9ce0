package transforms

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
)

// made makes the transform that settings in YAML declare.
func made(t *testing.T, settings string, metrics prometheus.Registerer) pipeline.Transform {
	t.Helper()
	c, _, err := pipeline.LoadBytes(registry(), "p.yaml", []byte("name: p\nsource: {none: {}}\nsink: {none: {}}\ntransforms:\n  - "+settings+"\n"), pipeline.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	transform, err := c.Transforms[0].New(pipeline.Env{Metrics: metrics, Path: "transforms[0]"})
	if err != nil {
		t.Fatal(err)
	}
	return transform
}

var testNow = time.Date(2026, 11, 27, 10, 0, 0, 500_000_000, time.UTC)

func given(payload string) *message.Message {
	msg := message.NewMessage("m1", []byte(payload))
	msg.Metadata.Set("source", "unit")
	msg.SetContext(pipeline.WithNow(context.Background(), testNow))
	return msg
}

// outcome says what becomes of a message, in one line: "id payload [metadata]" for each that comes out.
func outcome(f pipeline.Transform, msg *message.Message) string {
	out, err := f(msg)
	switch {
	case err != nil && pipeline.IsPermanent(err):
		return "poisoned: " + err.Error()
	case err != nil && inside.IsRelease(err):
		return "released: " + err.Error()
	case err != nil:
		return "tried again: " + err.Error()
	case len(out) == 0:
		return "filtered"
	}
	var parts []string
	for _, m := range out {
		var metadata []string
		for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
			metadata = append(metadata, k+"="+m.Metadata[k])
		}
		parts = append(parts, fmt.Sprintf("%s %s %v", m.UUID, strings.TrimSuffix(string(m.Payload), "\n"), metadata))
	}
	return strings.Join(parts, " | ")
}

func TestExpressions_becomeWhatTheySay(t *testing.T) {
	const order = `{"id":"A-17","total":20,"n":12345678901234567890,"items":[{"sku":"a"},{"sku":"b"}],"at":"2026-11-20T10:05:00Z"}`
	for _, c := range []struct{ settings, payload, want string }{
		{`filter: {if: '.total >= 3'}`, order, "m1 " + order + " [source=unit]"},
		{`filter: {if: '.total >= 30'}`, order, "filtered"},
		{`filter: {if: '$metadata.source == "unit"'}`, order, "m1 " + order + " [source=unit]"},
		{`filter: {if: '$metadata.source == "other"'}`, order, "filtered"},
		{`filter: {if: '$now == 1795773600.5'}`, `{}`, "m1 {} [source=unit]"},
		{`filter: {if: '(.at | fromdateiso8601) < $now'}`, order, "m1 " + order + " [source=unit]"},
		{`filter: {if: 'startswith("WARN")'}`, `WARN disk`, "m1 WARN disk [source=unit]"},
		{`filter: {if: '.n == 12345678901234567890'}`, order, "m1 " + order + " [source=unit]"},
		{`filter: {if: '.n == 12345678901234567891'}`, order, "filtered"},
		{`filter: {if: '.a.b.c'}`, `{}`, "filtered"},
		{`filter: {if: '.total >= 3'}`, `[1]`, "poisoned: if: the expression fails: expected an object but got: array ([1])"},
		{`filter: {if: 'error("no")', on_error: filter}`, `{}`, "filtered"},
		{`filter: {if: 'error("no")', on_error: release}`, `{}`, "released: if: the expression fails: error: no"},
		{`filter: {if: 'def f: f; f'}`, `{}`, "poisoned: if: the expression fails: the expression takes too long: more than 10000000 steps"},

		{`map: {to: '{id, n, total: (.total * 2)}'}`, order, `m1 {"id":"A-17","n":12345678901234567890,"total":40} [source=unit]`},
		{`map: {to: .id}`, order, `m1 "A-17" [source=unit]`},
		{`map: {to: .id, raw: true}`, order, `m1 A-17 [source=unit]`},
		{`map: {to: .total, raw: true}`, order, `m1 20 [source=unit]`},
		{`map: {to: 'empty'}`, order, "filtered"},
		{`map: {to: '1, 2'}`, order, "poisoned: to: the expression makes 2 values, want one"},
		{`map: {to: '.total / 0'}`, order, "poisoned: to: the expression fails: cannot divide number (20) by: number (0)"},
		{`map: {to: .a}`, `{"a":1e400}`, "poisoned: to: a number is beyond a double, or no number: readers would take it for something else"},
		{`map: {to: '[nan]'}`, `{}`, "poisoned: to: a number is beyond a double, or no number: readers would take it for something else"},
		{`map: {metadata: {id: .id, total: .total, list: '[.total]', source: 'null', none: 'empty'}}`, order, "m1 " + order + " [id=A-17 list=[20] total=20]"},
		{`map: {to: '{source: $metadata.source}', metadata: {source: .id}}`, order, `m1 {"source":"unit"} [source=A-17]`},
		{`map: {metadata: {id: 'error'}, to: '1'}`, `{"a":1}`, `poisoned: metadata.id: the expression fails: error: {"a":1}`},

		{`split: {at: .items}`, order, `m1/0 {"sku":"a"} [source=unit] | m1/1 {"sku":"b"} [source=unit]`},
		{`split: {at: '. as $o | [.items[] + {order: $o.id}]'}`, order, `m1/0 {"order":"A-17","sku":"a"} [source=unit] | m1/1 {"order":"A-17","sku":"b"} [source=unit]`},
		{`split: {at: .items}`, `{"items":[]}`, "filtered"},
		{`split: {at: .items}`, `{}`, "poisoned: at: want a list, got null"},
		{`split: {at: '.items[]'}`, order, "poisoned: at: the expression makes 2 values, want one"},
		{`split: {at: .items}`, `{"items":{"a":1}}`, "poisoned: at: want a list, got an object"},
		{`split: {at: '.'}`, `some text`, "poisoned: at: want a list, got a text"},
	} {
		if got := outcome(made(t, c.settings, nil), given(c.payload)); got != c.want {
			t.Errorf("%s of %s\n got %s\nwant %s", c.settings, c.payload, got, c.want)
		}
	}
}

func TestCacheWrite_makesTheWriteThatTheExpressionsSay(t *testing.T) {
	for _, c := range []struct{ settings, payload, want string }{
		{`{key: '"order:\(.id)"', version: .updated, ttl: 24h}`, `{"id": "A-17", "total": 7.50, "updated": "2026-11-20T10:05:00Z"}`,
			`{"key":"order:A-17","version":1795169100000,"as_of":1795169100000,"ttl":86400000,"value":{"id":"A-17","total":7.50,"updated":"2026-11-20T10:05:00Z"}}`},
		{`{key: .id, value: .total}`, `{"id":7,"total":7.50}`, `{"key":"7","value":7.5}`},
		{`{key: .id, value: .n}`, `{"id":12345678901234567890,"n":12345678901234567890}`, `{"key":"12345678901234567890","value":12345678901234567890}`},
		{`{key: '"flags"', value: .}`, `"on"`, `{"key":"flags","value":"on"}`},
		{`{key: '"line"'}`, `some "text"`, `{"key":"line","value":"some \"text\""}`},
		{`{key: .id, version: '.v'}`, `{"id":"a","v":null}`, `{"key":"a","value":{"id":"a","v":null}}`},
		{`{key: .id, version: .v, as_of: .t}`, `{"id":"a","v":3,"t":"2026-11-20T10:05:00Z"}`, `{"key":"a","version":3,"as_of":1795169100000,"value":{"id":"a","v":3,"t":"2026-11-20T10:05:00Z"}}`},
		{`{key: .id, version: .v, delete: .gone}`, `{"id":"a","v":"3","gone":true}`, `{"key":"a","version":3,"as_of":3,"delete":true}`},
		{`{key: .id, delete: .gone, value: '1'}`, `{"id":"a","gone":null}`, `{"key":"a","value":1}`},
		{`{key: .id, value: '1', ttl: .ttl}`, `{"id":"a","ttl":1.5}`, `{"key":"a","ttl":1500,"value":1}`},
		{`{key: .id, value: '1', ttl: .ttl}`, `{"id":"a","ttl":"90s"}`, `{"key":"a","ttl":90000,"value":1}`},
		{`{key: .id, value: '1', ttl: .ttl}`, `{"id":"a","ttl":-1}`, `{"key":"a","ttl":-1,"value":1}`},
		{`{key: .id, value: '1', ttl: .ttl}`, `{"id":"a"}`, `{"key":"a","value":1}`},
		{`{key: .id, value: '1', ttl: -1s}`, `{"id":"a"}`, `{"key":"a","ttl":-1,"value":1}`},
		{`{key: .id, value: '1', if_any_exists: ['"c_\(.id)"']}`, `{"id":"a"}`, `{"key":"a","if_any_exists":["c_a"],"value":1}`},
		{`{key: .id, value: '1', if_any_exists: ['.l', '"x"']}`, `{"id":"a","l":["b","c"]}`, `{"key":"a","if_any_exists":["b","c","x"],"value":1}`},

		{`{key: .id}`, `{}`, `poisoned: key: want a key: a text that is not empty, or a whole number, got null`},
		{`{key: .id}`, `{"id":""}`, `poisoned: key: want a key: a text that is not empty, or a whole number, got ""`},
		{`{key: .id}`, `{"id":1.5}`, `poisoned: key: want a key: a text that is not empty, or a whole number, got 1.5`},
		{`{key: .id}`, `{"id":"a","x":1e400}`, `poisoned: value: number is too large: readers would take it for Infinity: 1e400`},
		{`{key: '"k"'}`, strings.Repeat("[", 201) + strings.Repeat("]", 201), `poisoned: value: nested more than 200 levels deep`},
		{`{key: .id, value: 'empty'}`, `{"id":"a"}`, `poisoned: value: the expression makes no value`},
		{`{key: .id, version: .v}`, `{"id":"a","v":1.5}`, `poisoned: version: want a version: a whole number from 1 to 2^63-1, or a time such as 2026-11-27T10:00:00Z, got 1.5`},
		{`{key: .id, version: .v}`, `{"id":"a","v":"2026-11-29T10:05:00Z"}`, `poisoned: version: want a version: a time that is not more than 24 hours ahead of the clock, got "2026-11-29T10:05:00Z"`},
		{`{key: .id, version: .v, as_of: .t}`, `{"id":"a","t":3}`, `poisoned: as_of: there is a time, and no version`},
		{`{key: .id, delete: .gone}`, `{"id":"a","gone":"yes"}`, `poisoned: delete: want true or false, got "yes"`},
		{`{key: .id, value: '1', ttl: .ttl}`, `{"id":"a","ttl":0}`, `poisoned: ttl: want a TTL: seconds, or text such as "90s", of 1ms to 876000h0m0s, or negative, got 0`},
		{`{key: .id, value: '1', if_any_exists: [.l]}`, `{"id":"a"}`, `poisoned: if_any_exists[0]: want texts that are not empty, got null`},
		{`{key: .id, value: '1', if_any_exists: [.l]}`, `{"id":"a","l":[]}`, `poisoned: if_any_exists: the expressions make no key`},
		{`{key: .id, on_error: release}`, `{}`, `released: key: want a key: a text that is not empty, or a whole number, got null`},
	} {
		want := c.want
		if strings.HasPrefix(want, "{") {
			want = "m1 " + want + " [source=unit]"
		}
		msg := given(c.payload)
		if got := outcome(made(t, "cache_write: "+c.settings, nil), msg); got != want {
			t.Errorf("%s of %s\n got %s\nwant %s", c.settings, c.payload, got, want)
		} else if strings.HasPrefix(c.want, "{") {
			if _, err := cache.Parse(nil, msg.Payload); err != nil {
				t.Errorf("%s of %s: %v", c.settings, c.payload, err)
			}
		}
	}
}

func TestExpressions_failuresAreCounted(t *testing.T) {
	metrics := prometheus.NewRegistry()
	f := made(t, `filter: {if: 'error("no")', on_error: filter}`, metrics)
	for range 3 {
		outcome(f, given(`{}`))
	}
	g := made(t, `map: {to: 'error("no")'}`, metrics)
	outcome(g, given(`{}`))
	want := `# HELP penstock_expression_errors_total Messages on which an expression of a transform failed, by the transform's place in the pipeline and by what happened to them (on_error).
# TYPE penstock_expression_errors_total counter
penstock_expression_errors_total{on_error="filter",stage="transforms[0].filter"} 3
penstock_expression_errors_total{on_error="poison",stage="transforms[0].map"} 1
`
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "penstock_expression_errors_total"); err != nil {
		t.Error(err)
	}
}

// An attempt that has ended says nothing of the message: it must not go to the poison queue for it.
func TestExpressions_anEndedAttemptIsNoFailureOfTheMessage(t *testing.T) {
	for _, settings := range []string{`filter: {if: 'def f: f; f'}`, `map: {to: 'def f: f; f', on_error: filter}`, `split: {at: 'def f: f; f'}`, `cache_write: {key: 'def f: f; f'}`} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		msg := given(`{}`)
		msg.SetContext(ctx)
		if got := outcome(made(t, settings, nil), msg); got != "tried again: context canceled" {
			t.Errorf("%s: %s", settings, got)
		}
	}
}

// The original of a message is kept for the poison queue: its bytes must stay what they are.
func TestExpressions_leaveTheOriginalAlone(t *testing.T) {
	for _, settings := range []string{
		`filter: {if: '.a = 2'}`, `map: {to: '.a = 2 | .l |= reverse'}`, `split: {at: '.l | reverse'}`, `cache_write: {key: .k, value: '.a = 2'}`, `cache_write: {key: .k}`,
	} {
		const payload = `{ "a": 1, "k": "k", "l": [1, 2] }`
		original := []byte(payload)
		msg := given("")
		msg.Payload = original
		if got := outcome(made(t, settings, nil), msg); strings.HasPrefix(got, "poisoned") {
			t.Error(got)
		}
		if string(original) != payload {
			t.Errorf("%s: the original became %s", settings, original)
		}
	}
}
