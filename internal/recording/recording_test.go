package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var sample = Entry{
	ID:       "0b9f2b8e-1111-4c55-9f0e-aaaaaaaaaaaa",
	Time:     time.Date(2026, 11, 22, 10, 15, 30, 250, time.UTC),
	Metadata: map[string]string{"sqs_queue": "events", "sqs_sent_at": "1795169730250"},
	Payload:  []byte(`{"type":"measurement.reported","customer":{"id":"customer-3"}}`),
}

func same(a, b *Entry) bool {
	if (a.Poison == nil) != (b.Poison == nil) || a.Poison != nil && *a.Poison != *b.Poison {
		return false
	}
	return a.ID == b.ID && a.Time.Equal(b.Time) && maps.Equal(a.Metadata, b.Metadata) && bytes.Equal(a.Payload, b.Payload)
}

func TestEntries_comeBackByteForByte(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	cases := map[string]Entry{
		"an event":               sample,
		"nothing":                {Payload: []byte{}},
		"quotes and controls":    {Payload: []byte("\"\\\x00\x1f\x7f\r\n\t\b\f</script>&")},
		"unicode":                {ID: "客户:müller/😀", Payload: []byte("ресурс \u2028\u2029\ufeff\ufffd😀")},
		"not UTF-8":              {Payload: []byte("a\xff\xfe")},
		"every byte":             {ID: string(all), Metadata: map[string]string{string(all): "v", "k": string(all), "n": "ü"}, Payload: all},
		"a surrogate in UTF-8":   {Payload: []byte("\xed\xa0\x80")},
		"base64 of nothing much": {Payload: []byte("\xff")},
		"metadata like members":  {Metadata: map[string]string{"payload": "x", "": "", "id": "y"}, Payload: []byte("{}")},
		"poison": {ID: "1", Time: sample.Time, Payload: []byte(`{"torn`), Poison: &Poison{Reason: "<why> & \"where\"", Stage: "transforms[1].decode_entitlements", Attempts: 1,
			ReceivedAt: "2026-11-22T10:15:30Z", At: "2026-11-22T10:15:31.5Z", Pipeline: "p", Stack: "goroutine 1\n\tx.go"}},
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			line := Append(nil, &want)
			if bytes.IndexByte(line, '\n') != len(line)-1 || !json.Valid(line) {
				t.Fatalf("not one JSON object on one line: %q", line)
			}
			var p Parser
			var got Entry
			if err := p.Parse(line, &got); err != nil {
				t.Fatalf("parse %s: %v", line, err)
			}
			if !same(&want, &got) {
				t.Fatalf("came back as %+v of %s", got, line)
			}
			if again := Append(nil, &got); !bytes.Equal(again, line) {
				t.Fatalf("written again as\n%s not\n%s", again, line)
			}
		})
	}
}

func TestAppend_writesTheDocumentedFormat(t *testing.T) {
	poison := sample
	poison.Poison = &Poison{Reason: "no customer id", Stage: "transforms[0].decode_entitlements", Attempts: 1, ReceivedAt: "2026-11-22T10:15:30Z", At: "2026-11-22T10:15:30.5Z", Pipeline: "cache"}
	binary := Entry{ID: "2", Metadata: map[string]string{"b": "\xff"}, Payload: []byte("\xff")}
	got := Append(Append(Append(nil, &sample), &poison), &binary)
	golden := filepath.Join("testdata", "entries.ndjson")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestParse_acceptsWhatOthersWrite(t *testing.T) {
	cases := map[string]struct {
		line string
		want Entry
	}{
		"only a payload":       {`{"payload":"x"}`, Entry{Payload: []byte("x")}},
		"spaces":               {" { \"id\" : \"1\" ,\t\"payload\" : \"x\" , \"metadata\" : { } } \r", Entry{ID: "1", Payload: []byte("x")}},
		"another order":        {`{"payload":"x","metadata":{"a":"b"},"time":"2026-11-22T10:15:30+01:00","id":"1"}`, Entry{ID: "1", Time: time.Date(2026, 11, 22, 9, 15, 30, 0, time.UTC), Metadata: map[string]string{"a": "b"}, Payload: []byte("x")}},
		"members of others":    {`{"id":"1","offset":{"a":[1,{}]},"payload":"x"}`, Entry{ID: "1", Payload: []byte("x")}},
		"escapes of all kinds": {`{"payload":"\u00e4\ud83d\ude00\/\b\f\n\r\t\"\\\u0000"}`, Entry{Payload: []byte("ä😀/\b\f\n\r\t\"\\\x00")}},
		"escapes in a name":    {`{"p\u0061yload":"x"}`, Entry{Payload: []byte("x")}},
		"base64 of text":       {`{"payload_base64":"eA=="}`, Entry{Payload: []byte("x")}},
		"base64 of nothing":    {`{"payload_base64":""}`, Entry{Payload: []byte{}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var p Parser
			var got Entry
			if err := p.Parse([]byte(c.line), &got); err != nil {
				t.Fatal(err)
			}
			if !same(&c.want, &got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestParse_saysWhatIsWrong(t *testing.T) {
	whole := string(bytes.TrimSpace(Append(nil, &sample)))
	cases := map[string]struct{ line, want string }{
		"torn":                      {whole[:len(whole)-9], "line ends in the middle of an entry"},
		"torn at the end":           {whole[:len(whole)-1], "line ends in the middle of an entry"},
		"torn in metadata":          {whole[:120], "line ends in the middle of an entry"},
		"two on a line":             {whole + whole, "more than one JSON value on the line"},
		"no object":                 {`["x"]`, "want a JSON object, got ["},
		"no JSON":                   {`hello`, "invalid character 'h' looking for beginning of value"},
		"no payload":                {`{"id":"1"}`, "neither payload nor payload_base64"},
		"two bodies":                {`{"payload":"x","payload_base64":""}`, "both payload and payload_base64"},
		"an object as payload":      {`{"payload":{"a":1}}`, "payload: want a string that UTF-8 can carry"},
		"null as payload":           {`{"payload":null}`, "payload: want a string that UTF-8 can carry"},
		"half a surrogate pair":     {`{"payload":"\ud83d"}`, "payload: want a string that UTF-8 can carry"},
		"two halves, wrong order":   {`{"payload":"\ude00\ud83d"}`, "payload: want a string that UTF-8 can carry"},
		"half a surrogate, in name": {`{"metadata":{"\ud83d":"x"},"payload":"x"}`, "metadata: name of a member: want a string that UTF-8 can carry"},
		"not UTF-8":                 {"{\"payload\":\"\xff\"}", "line is not valid UTF-8"},
		"a control character":       {"{\"payload\":\"a\tb\"}", "invalid character '\\t' in string literal"},
		"bad base64":                {`{"payload_base64":"e"}`, "payload_base64: illegal base64 data at input byte 0"},
		"bad time":                  {`{"time":"yesterday","payload":"x"}`, `time: parsing time "yesterday" as "2006-01-02T15:04:05.999999999Z07:00": cannot parse "yesterday" as "2006"`},
		"twice the payload":         {`{"payload":"x","payload":"y"}`, `"payload" stands there twice`},
		"twice a metadata name":     {`{"metadata":{"a":"1","a":"2"},"payload":"y"}`, `metadata: "a" stands there twice`},
		"a number in metadata":      {`{"metadata":{"a":1},"payload":"y"}`, `metadata: "a": want a string that UTF-8 can carry`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var p Parser
			var e Entry
			err := p.Parse([]byte(c.line), &e)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestParse_keepsNothingOfTheLine(t *testing.T) {
	line := Append(nil, &sample)
	var p Parser
	var got Entry
	if err := p.Parse(line, &got); err != nil {
		t.Fatal(err)
	}
	clear(line)
	var other Entry
	if err := p.Parse(Append(nil, &Entry{ID: strings.Repeat("x", 200), Payload: bytes.Repeat([]byte("y"), 500)}), &other); err != nil {
		t.Fatal(err)
	}
	if !same(&sample, &got) {
		t.Errorf("became %+v", got)
	}
}

func TestAppend_writesAReasonThatIsNotUTF8(t *testing.T) {
	line := Append(nil, &Entry{Poison: &Poison{Reason: "bad byte \xff in <body>"}})
	if want := `"poison":{"reason":"bad byte \ufffd in <body>"}`; !bytes.Contains(line, []byte(strings.ReplaceAll(want, `\ufffd`, "\ufffd"))) {
		t.Errorf("got %s", line)
	}
}

func FuzzEntries_comeBackByteForByte(f *testing.F) {
	f.Add("id", int64(1795169730250), "k", "v", []byte("payload"))
	f.Add("\xff", int64(0), "\xff", "\u2028", []byte("\xed\xa0\x80\x00\"\\"))
	f.Fuzz(func(t *testing.T, id string, ns int64, key, value string, payload []byte) {
		want := Entry{ID: id, Payload: payload, Metadata: map[string]string{key: value, "k" + key: key}}
		if ns != 0 {
			want.Time = time.Unix(0, ns).UTC()
		}
		line := Append(nil, &want)
		if !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("not one line of JSON: %q", line)
		}
		var p Parser
		var got Entry
		if err := p.Parse(line, &got); err != nil {
			t.Fatalf("parse %s: %v", line, err)
		}
		if !same(&want, &got) {
			t.Fatalf("came back as %+v of %s", got, line)
		}
	})
}

// The two ways of parsing agree: the fast one never accepts what the slow one refuses, or reads it as something else.
func FuzzParse_bothWaysAgree(f *testing.F) {
	f.Add(Append(nil, &sample))
	f.Add([]byte(`{"payload":"\ud83d\ude00","metadata":{"a":"b","a":"c"}}`))
	f.Add([]byte(`{"id":"1","payload":"x"} {`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var p Parser
		var fast, slow Entry
		if !p.fast(line, &fast) {
			return
		}
		if err := p.slow(line, &slow); err != nil {
			t.Fatalf("%q: only the fast way accepts it: %v", line, err)
		}
		if !same(&fast, &slow) || fast.TimeText != slow.TimeText {
			t.Fatalf("%q: fast %+v, slow %+v", line, fast, slow)
		}
		var std struct{ Payload string }
		if err := json.Unmarshal(line, &std); err != nil {
			t.Fatalf("%q: not JSON: %v", line, err)
		}
	})
}

func TestReader_readsOnBehindBadLines(t *testing.T) {
	good := string(Append(nil, &sample))
	for name, end := range map[string]string{"with a last newline": "\n", "without one": ""} {
		t.Run(name, func(t *testing.T) {
			text := "\ufeff" + good + "\n  \r\n" + `{"torn` + "\n" + good + strings.Repeat("x", 2000) + "\n" + strings.TrimSpace(good) + end
			lines, err := NewLines(strings.NewReader(text), 1000)
			if err != nil {
				t.Fatal(err)
			}
			r := NewReader(lines, "events.ndjson")
			var got []string
			for {
				var e Entry
				err := r.Next(&e)
				if errors.Is(err, io.EOF) {
					break
				}
				var bad *LineError
				switch {
				case errors.As(err, &bad):
					got = append(got, fmt.Sprintf("%v (%s)", err, bad.Raw))
				case err != nil:
					got = append(got, fmt.Sprintf("%d: %v", r.Line(), err))
				case same(&e, &sample):
					got = append(got, fmt.Sprintf("%d: good", r.Line()))
				default:
					t.Fatalf("read %+v", e)
				}
			}
			want := []string{"1: good", `events.ndjson:4: torn or malformed entry: line ends in the middle of an entry ({"torn)`, "5: good", "6: line is too long", "7: good"}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n%s", strings.Join(got, "\n"))
			}
			if lines.Unterminated() != (end == "") {
				t.Errorf("unterminated: %v", lines.Unterminated())
			}
		})
	}
}

func TestLines_areTheSameHoweverTheyAreRead(t *testing.T) {
	var text bytes.Buffer
	var want []string
	for i := range 3000 {
		line := strings.Repeat("a", i*7%611)
		want = append(want, line)
		text.WriteString(line + "\n")
	}
	// One byte more than the buffer, and exactly as long as is allowed.
	for _, n := range []int{256<<10 + 1, 512 << 10} {
		want = append(want, strings.Repeat("b", n))
		text.WriteString(want[len(want)-1] + "\n")
	}
	l, err := NewLines(&oddReader{r: &text}, 512<<10)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		line, err := l.Next()
		if err != nil || string(line) != w {
			t.Fatalf("line %d: %d bytes (%v), want %d", i+1, len(line), err, len(w))
		}
	}
	if _, err := l.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last line: %v", err)
	}
}

// oddReader reads in pieces of changing sizes.
type oddReader struct {
	r io.Reader
	n int
}

func (o *oddReader) Read(p []byte) (int, error) {
	o.n = (o.n*31 + 7) % 5003
	return o.r.Read(p[:min(len(p), 1+o.n)])
}

func BenchmarkReader(b *testing.B) {
	e := sample
	e.Payload = []byte(`{"__typename":"UsageUpdatedV2","accountId":"acc-7d1e","environmentId":"env-2b40","customerId":"customer-17","resourceId":null,` +
		`"entitlementReference":{"type":"FEATURE","id":"feature-api-calls"},"usage":{"currentUsage":130,"usageUpdatedAt":"2026-11-20T11:00:00.000Z","usagePeriodStart":null,"usagePeriodEnd":null}}`)
	line := Append(nil, &e)
	text := bytes.Repeat(line, 1000)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	var r *Reader
	var got Entry
	for i := range b.N {
		if i%1000 == 0 {
			lines, _ := NewLines(bytes.NewReader(text), 0)
			r = NewReader(lines, "")
		}
		if err := r.Next(&got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	line := Append(nil, &sample)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for range b.N {
		line = Append(line[:0], &sample)
	}
}

func TestLines_offsetIsTheEndOfTheLineReturned(t *testing.T) {
	l, err := NewLines(strings.NewReader("\xef\xbb\xbfone\n"+strings.Repeat("x", 2000)+"\n\nlast"), 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{7, 2008, 2009, 2013, 2013} {
		if _, err := l.Next(); err != nil && !errors.Is(err, ErrLineTooLong) && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if got := l.Offset(); got != want {
			t.Errorf("offset %d, want %d", got, want)
		}
	}
}
