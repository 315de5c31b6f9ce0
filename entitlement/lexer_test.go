package entitlement

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/rfc3339"
)

// depth is how deep a JSON text is nested.
func depth(b []byte) int {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	now, most := 0, 0
	for {
		tok, err := dec.Token()
		if err != nil {
			return most
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			now++
			most = max(most, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// FuzzLexer_skip: the lexer accepts what encoding/json does, in valid UTF-8 and not too deep, and nothing else.
func FuzzLexer_skip(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-0.5e+10,"x\u00e9\ud83d",null,true,false,{}],"b":{}}`, ` [ ] `, `01`, `-`, `1.`, `1e`, `"\x"`, "\"\x01\"", `{"a" 1}`, `{,}`, `[1,]`, `nul`, "\"\xff\"", `"` + strings.Repeat("x", 40) + "é\"",
		strings.Repeat("[", 101) + strings.Repeat("]", 101),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := lex(b)
		raw, ok := l.skip()
		ok = ok && l.end()
		if want := json.Valid(b) && utf8.Valid(b) && depth(b) <= maxDepth; ok != want {
			t.Fatalf("%q: accepted %v, want %v (%+v)", b, ok, want, l.failure())
		}
		if !ok {
			if l.Err == nil || l.At < 0 || l.At > len(b) {
				t.Fatalf("%q: bad error %+v", b, l.failure())
			}
			return
		}
		if !bytes.Equal(raw, bytes.Trim(b, " \t\r\n")) {
			t.Fatalf("%q skipped as %q", b, raw)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			t.Fatal(err)
		}
		if got := jsonscan.AppendCompact(nil, raw); !bytes.Equal(got, compact.Bytes()) {
			t.Fatalf("%q compacted to %q, want %q", raw, got, compact.Bytes())
		}
	})
}

// FuzzLexer_str: a string is what encoding/json makes of it; half a surrogate pair is refused.
func FuzzLexer_str(f *testing.F) {
	for _, s := range []string{`"a\"\\\/\b\f\n\r\té"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\ud83dx"`, `null`, `"` + strings.Repeat("é", 20) + `"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := lex(b)
		var got []byte
		if !l.str(&got) || !l.end() {
			return
		}
		var want *string
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if want == nil {
			if got != nil {
				t.Fatalf("null is %q", got)
			}
			return
		}
		if string(got) != *want {
			t.Fatalf("%q is %q, want %q", b, got, *want)
		}
		var back string
		if err := json.Unmarshal(jsonscan.AppendQuoted(nil, got), &back); err != nil || back != *want {
			t.Fatalf("%q comes back as %q, %v", got, back, err)
		}
	})
}

// FuzzParseTime: the short way agrees with the long one.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{
		"2026-11-20T10:15:30.250Z", "2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "1969-12-31T23:59:59.999Z", "0000-01-01T00:00:00Z",
		"0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2026-00-01T00:00:00Z", "2026-11-20T24:00:00Z", "2026-11-20T10:15:60Z",
		"1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-11-20T10:15:30,250Z", "2026-11-20t10:15:30.250Z", "2026-13-20T10:15:30.250Z",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTime([]byte(s))
		want, known := rfc3339.Parse(s)
		if ok != known || ok && got != want.UnixMilli() {
			t.Fatalf("%q: %d, %v; want %d, %v", s, got, ok, want.UnixMilli(), known)
		}
	})
}

func TestParseTime_everyDayAgreesWithPackageTime(t *testing.T) {
	for day := time.Date(1896, 1, 1, 7, 8, 9, 10e6, time.UTC); day.Year() < 2106; day = day.AddDate(0, 0, 1) {
		s := day.Format("2006-01-02T15:04:05.000Z")
		if got, ok := parseUTC([]byte(s)); !ok || got != day.UnixMilli() {
			t.Fatalf("%s: %d, %v; want %d", s, got, ok, day.UnixMilli())
		}
	}
}

func TestLexer_sizesAroundEightBytes(t *testing.T) {
	for n := range 40 {
		for _, special := range []string{"", `\n`, "é", "\x80", "\x1f", `\`} {
			for at := range n + 1 {
				s := `"` + strings.Repeat("a", at) + special + strings.Repeat("b", n-at) + `"`
				l := lex([]byte(s))
				var got []byte
				ok := l.str(&got) && l.end()
				var want string
				err := json.Unmarshal([]byte(s), &want)
				if valid := err == nil && utf8.ValidString(s); ok != valid {
					t.Fatalf("%q: %v, want %v", s, ok, valid)
				} else if ok && string(got) != want {
					t.Fatalf("%q: %q", s, got)
				}
			}
		}
	}
}

func TestParsePath(t *testing.T) {
	steps, err := parsePath("$.a.b c[2][0].ü")
	want := []step{{"a", -1}, {"b c", -1}, {"", 2}, {"", 0}, {"ü", -1}}
	if err != nil || !reflect.DeepEqual(steps, want) {
		t.Errorf("%v, %v", steps, err)
	}
}
