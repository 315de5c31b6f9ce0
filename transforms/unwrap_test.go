package transforms

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

func unwrap(t testing.TB, c UnwrapConfig) pipeline.Transform {
	t.Helper()
	if c.MaxDepth == 0 {
		c.MaxDepth = 8
	}
	if c.MaxSize == 0 {
		c.MaxSize = 16 << 20
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	transform, err := c.NewTransform(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return transform
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func sns(body string) string {
	return `{"Type":"Notification","MessageId":"m","TopicArn":"arn:aws:sns:eu-west-1:000000000000:t","Message":` + quote(body) +
		`,"Timestamp":"2026-11-20T10:15:31.900Z","MessageAttributes":{"eventType":{"Type":"String","Value":"ENTITLEMENTS_UPDATED"}}}`
}

func eventBridge(body string) string {
	return `{"version":"0","detail-type":"USAGE_UPDATED","source":"x","time":"2026-11-20T11:00:01Z","detail":` + body + `}`
}

func TestUnwrap_takesEnvelopesOff(t *testing.T) {
	const event = `{"customerId":"c","n":12345678901234567890}`
	b64 := base64.StdEncoding.EncodeToString
	snsMeta := map[string]string{"envelope_time": "2026-11-20T10:15:31.900Z", "envelope_type": "ENTITLEMENTS_UPDATED"}
	bridgeMeta := map[string]string{"envelope_time": "2026-11-20T11:00:01Z", "envelope_type": "USAGE_UPDATED"}
	graphQL := map[string]string{"envelope_type": "entitlementsUpdated"}
	cases := map[string]struct {
		body string
		want []string
		meta map[string]string
	}{
		"raw":                           {event, []string{event}, nil},
		"raw, names of envelopes in it": {`{"detail":1,"data":[1],"Message":"x"}`, []string{`{"detail":1,"data":[1],"Message":"x"}`}, nil},
		"not JSON":                      {`hello, world`, []string{`hello, world`}, nil},
		"broken JSON":                   {`{"data":`, []string{`{"data":`}, nil},
		"broken JSON after a value":     {`{"data":{} "x":1}`, []string{`{"data":{} "x":1}`}, nil},
		"empty":                         {``, []string{``}, nil},
		"number":                        {`42`, []string{`42`}, nil},
		"SNS":                           {sns(event), []string{event}, snsMeta},
		"SNS, text in it":               {sns("hello"), []string{"hello"}, snsMeta},
		"EventBridge":                   {eventBridge(event), []string{event}, bridgeMeta},
		"EventBridge, bad time":         {`{"detail-type":"X","time":"noon","detail":{"a":1}}`, []string{`{"a":1}`}, map[string]string{"envelope_type": "X"}},
		"GraphQL":                       {` {"data": {"entitlementsUpdated": ` + event + `}} `, []string{event}, graphQL},
		"GraphQL, no errors":            {`{"errors":[],"extensions":{},"data":{"entitlementsUpdated":` + event + `}}`, []string{event}, graphQL},
		"GraphQL, errors null":          {`{"errors":null,"data":{"entitlementsUpdated":` + event + `}}`, []string{event}, graphQL},
		"data alone":                    {`{"data":` + event + `}`, []string{event}, nil},
		"webhook": {
			`{"type":"entitlements.updated","messageId":"m","timestamp":"t","data":{"customerId":"c","messageId":"inner"}}`,
			[]string{`{"type":"entitlements.updated","timestamp":"t","customerId":"c","messageId":"inner"}`}, nil,
		},
		"webhook, one member":  {`{"type":"x","data":{"customer":{"id":"c"}}}`, []string{`{"type":"x","customer":{"id":"c"}}`}, nil},
		"webhook, empty":       {`{"type":"x","data":{}}`, []string{`{"type":"x"}`}, nil},
		"data beside others":   {`{"id":1,"data":{"a":1}}`, []string{`{"id":1,"data":{"a":1}}`}, nil},
		"data is no object":    {`{"type":"x","data":"y"}`, []string{`{"type":"x","data":"y"}`}, nil},
		"array":                {`[` + event + `, {"b":2}]`, []string{event, `{"b":2}`}, nil},
		"array of one":         {`[` + event + `]`, []string{event}, nil},
		"empty array":          {`[]`, nil, nil},
		"array of others":      {`[1,{"a":1}]`, []string{`[1,{"a":1}]`}, nil},
		"broken array":         {`[{"a":1}`, []string{`[{"a":1}`}, nil},
		"base64":               {b64([]byte(event)), []string{event}, nil},
		"base64, blanks":       {" " + b64([]byte(event)) + "\n", []string{event}, nil},
		"base64, not JSON":     {b64([]byte("hello")), []string{b64([]byte("hello"))}, nil},
		"base64, URL-safe":     {base64.RawURLEncoding.EncodeToString([]byte(`{"a":"???>>>"}`)), []string{`{"a":"???>>>"}`}, nil},
		"gzip":                 {b64([]byte(gzipped(event))), []string{event}, nil},
		"gzip, array":          {b64([]byte(gzipped(`[` + event + `,` + event + `]`))), []string{event, event}, nil},
		"looks like gzip":      {b64([]byte("\x1f\x8bnothing of the kind")), []string{b64([]byte("\x1f\x8bnothing of the kind"))}, nil},
		"SNS in EventBridge":   {eventBridge(sns(event)), []string{event}, snsMeta},
		"EventBridge in SNS":   {sns(eventBridge(event)), []string{event}, bridgeMeta},
		"gzip in SNS":          {sns(b64([]byte(gzipped(event)))), []string{event}, snsMeta},
		"SNS in an array":      {`[` + sns(event) + `,{"b":2}]`, []string{event, `{"b":2}`}, nil},
		"GraphQL in SNS":       {sns(`{"data":{"usageUpdated":{"a":1}}}`), []string{`{"a":1}`}, map[string]string{"envelope_time": "2026-11-20T10:15:31.900Z", "envelope_type": "usageUpdated"}},
		"unicode in SNS":       {sns(`{"id":"客户:müller/😀"}`), []string{`{"id":"客户:müller/😀"}`}, snsMeta},
		"names in other case":  {`{"type":"Notification","message":"{}","topicarn":"x","data":1}`, []string{`{"type":"Notification","message":"{}","topicarn":"x","data":1}`}, nil},
		"SNS without a string": {`{"Type":"Notification","TopicArn":"x","Message":{}}`, []string{`{"Type":"Notification","TopicArn":"x","Message":{}}`}, nil},
	}
	transform := unwrap(t, UnwrapConfig{})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			msg := message.NewMessage("id", []byte(c.body))
			msg.Metadata.Set("kept", "1")
			got, err := transform(msg)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.want) {
				t.Fatalf("%d messages, want %d", len(got), len(c.want))
			}
			for i, m := range got {
				if string(m.Payload) != c.want[i] {
					t.Errorf("message %d: %s\nwant %s", i, m.Payload, c.want[i])
				}
				if m.Metadata.Get("kept") != "1" {
					t.Error("metadata lost")
				}
				if len(got) == 1 {
					delete(m.Metadata, "kept")
					if m.UUID != "id" || !maps.Equal(m.Metadata, c.meta) {
						t.Errorf("UUID %s, metadata %v, want %v", m.UUID, m.Metadata, c.meta)
					}
				} else if m.UUID != fmt.Sprintf("id-%d", i) {
					t.Errorf("UUID of message %d: %s", i, m.UUID)
				}
			}
		})
	}
}

func TestUnwrap_messagesOfAnArrayShareNoMetadata(t *testing.T) {
	got, err := unwrap(t, UnwrapConfig{})(message.NewMessage("id", []byte(`[`+sns(`{}`)+`,{"b":2}]`)))
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Metadata.Get("envelope_type") == "" || got[1].Metadata.Get("envelope_type") != "" {
		t.Errorf("metadata %v and %v", got[0].Metadata, got[1].Metadata)
	}
}

func TestUnwrap_refusesForGood(t *testing.T) {
	deep := `{"a":1}`
	for range 9 {
		deep = `{"data":{"x":` + deep + `}}`
	}
	bomb := base64.StdEncoding.EncodeToString([]byte(gzipped(`{"a":"` + strings.Repeat("x", 4000) + `"}`)))
	cases := map[string]struct {
		config UnwrapConfig
		body   string
		want   string
	}{
		"half a character in an SNS message": {
			UnwrapConfig{}, `{"Type":"Notification","TopicArn":"t","Message":"{\"customerId\":\"\ud83d\"}"}`,
			`the Message of an SNS notification is no text that UTF-8 can carry`,
		},
		"S3 pointer": {
			UnwrapConfig{}, `["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k/1"}]`,
			`the payload is not here but in S3, where unwrap looks only with its setting s3: bucket "b", key "k/1"`,
		},
		"old S3 pointer in SNS": {
			UnwrapConfig{}, sns(`["com.amazon.sqs.javamessaging.MessageS3Pointer",{"s3BucketName":"b","s3Key":"k"}]`),
			`the payload is not here but in S3, where unwrap looks only with its setting s3: bucket "b", key "k"`,
		},
		"SNS subscription": {
			UnwrapConfig{}, `{"Type":"SubscriptionConfirmation","TopicArn":"arn:t","Message":"You have chosen…"}`,
			`this is no event but an SNS SubscriptionConfirmation of topic "arn:t"`,
		},
		"GraphQL errors": {
			UnwrapConfig{}, `{"errors":[{"message":"no"}],"data":{"entitlementsUpdated":{"a":1}}}`,
			`this is no event but a GraphQL result with errors`,
		},
		"too deep":           {UnwrapConfig{}, deep, `more than 8 envelopes in one another (max_depth)`},
		"too deep, arrays":   {UnwrapConfig{MaxDepth: 1}, `[` + sns(`{}`) + `]`, `element 0: more than 1 envelopes in one another (max_depth)`},
		"too large":          {UnwrapConfig{MaxSize: 4000}, bomb, `unpacks to more than 4000 (max_size)`},
		"too large together": {UnwrapConfig{MaxSize: 6000}, `[` + sns(bomb) + `,` + sns(bomb) + `]`, `element 1: unpacks to more than 6000 (max_size)`},
		"torn gzip": {
			UnwrapConfig{}, base64.StdEncoding.EncodeToString([]byte(gzipped(`{"a":"bcdefgh"}`)[:20])),
			`base64 text with broken gzip in it: unexpected EOF`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			body := []byte(c.body)
			got, err := unwrap(t, c.config)(message.NewMessage("id", body))
			if err == nil || err.Error() != c.want || !pipeline.IsPermanent(err) {
				t.Errorf("got %d messages, %v (permanent %v)\nwant %s", len(got), err, pipeline.IsPermanent(err), c.want)
			}
			if string(body) != c.body {
				t.Error("payload changed")
			}
		})
	}
}

func TestUnwrap_atTheDepthLimitWorks(t *testing.T) {
	deep := `{"a":1}`
	for range 8 {
		deep = `{"data":{"x":` + deep + `}}`
	}
	got, err := unwrap(t, UnwrapConfig{})(message.NewMessage("id", []byte(deep)))
	if err != nil || string(got[0].Payload) != `{"a":1}` {
		t.Errorf("%v, %v", got, err)
	}
}

func TestUnwrapConfig_Validate(t *testing.T) {
	err := (&UnwrapConfig{MaxDepth: 101}).Validate()
	want := "max_depth: must be 1 to 100, got 101\nmax_size: must be at least 1, got 0"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// FuzzUnwrap: whatever comes in, nothing panics, the payload stays as it was, and JSON stays JSON.
func FuzzUnwrap(f *testing.F) {
	f.Add([]byte(sns(eventBridge(`{"data":{"x":{"a":1}}}`))))
	f.Add([]byte(`[{"type":"x","data":{"a":1}},{"Type":"Notification","TopicArn":"","Message":"[]"}]`))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(gzipped(`{"a":1}`)))))
	transform := unwrap(f, UnwrapConfig{MaxSize: 1 << 16})
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		msgs, err := transform(message.NewMessage("id", body))
		if !bytes.Equal(before, body) {
			t.Fatal("payload changed")
		}
		if err != nil || !json.Valid(before) {
			return
		}
		for _, m := range msgs {
			if c := first(m.Payload); (c == '{' || c == '[') && len(msgs) > 0 && !bytes.Contains(before, []byte(`"Message"`)) && !json.Valid(m.Payload) {
				t.Fatalf("%q became %q", before, m.Payload)
			}
		}
	})
}
