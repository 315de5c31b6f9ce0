package jsonscan

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/penstock-dev/penstock/internal/reason"
)

var errBehind = reason.New("text after the end")

// what is what is wrong, or "".
func what(s *Scanner) string {
	if s.Err == nil {
		return ""
	}
	return s.Err.Error()
}

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

// texts are the seeds: every kind of value, and of mistake.
var texts = []string{
	`{"a":[1,-0.5e+10,"x\u00e9\ud83d\ude00",null,true,false,{}],"b":{}}`, ` [ ] `, "\t{ \"a\" :\r\n [ 1 , 2 ] , \"b\" : { } } ", `0`, `-0`, `1e5`, `1E-5`, `1.25`, `""`, `null`, `true`, `false`,
	`12345678901234567890123`, `"` + strings.Repeat("x", 40) + "é\"", `"客户:müller/😀"`, `"\"\\\/\b\f\n\r\t"`, "{\"ключ\":1}",
	`01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `0x1`, `NaN`, `Infinity`, `"\x"`, `"\u12g4"`, `"\u12`, `"\`, "\"\x01\"", "\"a\nb\"", `{"a" 1}`, `{,}`, `{"a":1,}`, `[1,]`, `[1 2]`, `[1}`, `{"a":1]`, `{1:2}`, `nul`, `True`, `'a'`, `{"a":1}}`, `1 2`, "", " ", "\xff", "\"\xff\"", "\ufeff1",
	`"\ud83d"`, `"\ude00\ud83d"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\u0041"`,
	strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	// Three levels at a time, so that no 64 levels look like the 64 before.
	strings.Repeat(`[[{"a":`, 80) + "1" + strings.Repeat(`}]]`, 80), strings.Repeat(`[[{"a":`, 80) + "1" + strings.Repeat(`]}]`, 80), strings.Repeat(`{"a":[{"b":`, 80) + "1" + strings.Repeat(`}]}`, 80),
	strings.Repeat(`{"a":[`, 70) + strings.Repeat(`]}`, 70), strings.Repeat(`{"a":[`, 70) + strings.Repeat(`}]`, 70),
}

// check holds the scanner to encoding/json for one text.
func check(t *testing.T, b []byte) {
	t.Helper()
	s := Scanner{Text: b}
	raw, ok := s.Value(MaxDepth)
	ok = ok && s.End(errBehind)
	valid := json.Valid(b) && depth(b) <= MaxDepth
	if want := valid && utf8.Valid(b); ok != want {
		t.Fatalf("%q: accepted %v, want %v (%s)", b, ok, want, s.Err)
	}
	end, form, fault := Value(b, 0, MaxDepth)
	if any := fault == None && Space(b, end) == len(b); any != valid {
		t.Fatalf("%q: accepted with any bytes %v, want %v", b, any, valid)
	}
	if !ok {
		if s.OK() || s.At < 0 || s.At > len(b) {
			t.Fatalf("%q: bad failure %q at %d", b, s.Err, s.At)
		}
		if got, _ := prefix(b[:s.At]); !got {
			t.Fatalf("%q: %s at %d, but there is a mistake before that", b, s.Err, s.At)
		}
		return
	}
	if !bytes.Equal(raw, bytes.Trim(b, " \t\r\n")) {
		t.Fatalf("%q read as %q", b, raw)
	}
	ascii := true
	for _, c := range b {
		ascii = ascii && c < 0x80
	}
	if form&Infinite != 0 != (json.Unmarshal(b, new(any)) != nil) {
		t.Fatalf("%q: infinite %v", b, form&Infinite != 0)
	}
	if form&Foreign != 0 == ascii || form&Escaped != 0 != bytes.Contains(b, []byte(`\`)) {
		t.Fatalf("%q has form %b", b, form)
	}
	if got := Extent(raw, 0); got != len(raw) {
		t.Fatalf("%q has extent %d", raw, got)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	if got := AppendCompact(nil, raw); !bytes.Equal(got, compact.Bytes()) {
		t.Fatalf("%q compacted to %q, want %q", raw, got, compact.Bytes())
	}
	switch raw[0] {
	case '"':
		checkString(t, raw)
	case '{', '[':
		checkParts(t, raw)
	default:
		if raw[0] == '-' || raw[0]-'0' <= 9 {
			checkNumber(t, raw)
		}
	}
}

// prefix reports whether b can go on to become JSON: encoding/json finds nothing wrong but that it ends.
func prefix(b []byte) (ok bool, err error) {
	var v json.RawMessage
	err = json.NewDecoder(bytes.NewReader(b)).Decode(&v)
	_, syntax := err.(*json.SyntaxError) //nolint:errorlint // the decoder wraps nothing
	return !syntax || strings.Contains(err.Error(), "exceeded max depth"), err
}

func checkString(t *testing.T, raw []byte) {
	t.Helper()
	var want string
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	s := Scanner{Text: raw}
	got, ok := s.String()
	if !ok {
		// The one thing in which encoding/json is lax: it reads half a pair as U+FFFD.
		if what(&s) != HalfPair.String() || !strings.Contains(want, "\ufffd") {
			t.Fatalf("%q: %s", raw, s.Err)
		}
		return
	}
	if string(got) != want {
		t.Fatalf("%q is %q, want %q", raw, got, want)
	}
	appended, end, fault := AppendString([]byte("before"), raw, 0)
	if fault != None || end != len(raw) || string(appended) != "before"+want {
		t.Fatalf("%q appended as %q, %d, %s", raw, appended, end, fault)
	}
	var back string
	if err := json.Unmarshal(AppendQuoted(nil, got), &back); err != nil || back != want {
		t.Fatalf("%q comes back as %q, %v", got, back, err)
	}
}

func checkNumber(t *testing.T, raw []byte) {
	t.Helper()
	end, ok := Number(raw, 0)
	f, err := strconv.ParseFloat(string(raw), 64)
	if !ok || end != len(raw) || Finite(raw) != (err == nil && !math.IsInf(f, 0)) {
		t.Fatalf("%q: %d, %v, finite %v", raw, end, ok, Finite(raw))
	}
}

// checkParts takes an object or an array apart and holds the parts to encoding/json.
func checkParts(t *testing.T, raw []byte) {
	t.Helper()
	s := Scanner{Text: raw}
	first := true
	if raw[0] == '[' {
		var want []json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		s.Array()
		n := 0
		for ; s.Element(&first); n++ {
			if value, ok := s.Value(MaxDepth); !ok || !bytes.Equal(value, want[n]) {
				t.Fatalf("%q: element %d is %q, want %q", raw, n, value, want[n])
			}
		}
		if !s.OK() || n != len(want) {
			t.Fatalf("%q: %d elements, want %d: %s", raw, n, len(want), s.Err)
		}
		return
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	for s.Object(); ; {
		name, ok := s.Member(&first)
		if !ok {
			break
		}
		value, ok := s.Value(MaxDepth)
		if !ok {
			t.Fatalf("%q: %s", raw, s.Err)
		}
		got[string(name)] = value
	}
	if what(&s) == HalfPair.String() {
		return
	}
	if !s.OK() || len(got) != len(want) {
		t.Fatalf("%q: %d members, want %d: %s", raw, len(got), len(want), s.Err)
	}
	for name, value := range want {
		if !bytes.Equal(got[name], value) {
			t.Fatalf("%q: member %q is %q, want %q", raw, name, got[name], value)
		}
	}
}

// FuzzScanner: what encoding/json accepts is accepted, and nothing else; strings, numbers and parts are the same.
func FuzzScanner(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(check)
}

// TestScanner_agreesAtEverySizeAroundEightBytes: what is read eight bytes at a time is read the same at every offset.
func TestScanner_agreesAtEverySizeAroundEightBytes(t *testing.T) {
	for n := range 26 {
		for _, special := range []string{"", `\n`, `\"`, `\\`, "é", "😀", "\x80", "\x1f", `\`, `"`, `\u0041`, `\ud83d\ude00`, `\ud83d`} {
			for at := range n + 1 {
				text := strings.Repeat("a", at) + special + strings.Repeat("b", n-at)
				for _, form := range []string{`"%"`, `["%"]`, `{"%":1}`, `{"a":"%","b":2}`, "[ \"%\" ,\n          1 ]"} {
					check(t, []byte(strings.ReplaceAll(form, "%", text)))
				}
			}
		}
	}
}

func TestFinite_isTheRangeOfADouble(t *testing.T) {
	for number, want := range map[string]bool{
		"0": true, "-1": true, "9007199254740993": true, "123456789012345678901234567890": true, "1e308": true, "-1.7976931348623157e308": true, "1e-400": true, "0e999": true,
		"1e400": false, "-1e400": false, "1.8e308": false, "1E+309": false, strings.Repeat("9", 308): true, strings.Repeat("9", 310): false, "-" + strings.Repeat("9", 310): false,
		"0." + strings.Repeat("9", 400): true,
	} {
		if got := Finite([]byte(number)); got != want {
			t.Errorf("%.40s: %v, want %v", number, got, want)
		}
	}
}

func TestScanner_saysWhatIsWrongAndWhere(t *testing.T) {
	for text, want := range map[string]struct {
		at   int
		what string
	}{
		``: {0, "not JSON: the end"}, `{"a":`: {5, "not JSON: the end"}, `{"a"`: {4, "want ':', got the end"}, `{"a":1 "b"`: {7, "want ',' or '}', got a string"},
		`[1`: {2, "want ',' or ']', got the end"}, `{1`: {1, "want a member's name, got a number"}, `[nul]`: {1, "not JSON: 'n'"}, `[-]`: {2, "bad number"},
		"[\"aé\xff\"]": {5, "string is not valid UTF-8"}, "[\"a\x00\"]": {3, "control character in a string"}, `["a\y"]`: {3, "bad escape in a string"}, `["abc`: {5, "the text ends inside a string"},
		`[[[[]]]]`: {3, "nested too deeply"}, `[1] x`: {4, "text after the end"},
	} {
		s := Scanner{Text: []byte(text)}
		if _, ok := s.Value(3); ok && s.End(errBehind) || what(&s) != want.what || s.At != want.at {
			t.Errorf("%q: %q at %d, want %q at %d", text, what(&s), s.At, want.what, want.at)
		}
	}
	s := Scanner{Text: []byte(`"a\ud83d"`)}
	if _, ok := s.String(); ok || s.At != 2 || what(&s) != "half a surrogate pair in a string" {
		t.Errorf("%q at %d", what(&s), s.At)
	}
	s = Scanner{Text: []byte(`{"1e999": [2, -1e400]}`), FiniteOnly: true}
	if _, ok := s.Value(3); ok || s.At != 14 || what(&s) != "number is too large: readers would take it for Infinity: -1e400" {
		t.Errorf("%q at %d", what(&s), s.At)
	}
	s = Scanner{Text: []byte("\"\xff\""), AnyBytes: true}
	if got, ok := s.String(); !ok || string(got) != "\xff" {
		t.Errorf("any bytes: %q, %s", got, s.Err)
	}
}

func TestScanner_allocatesNothing(t *testing.T) {
	text := []byte(texts[0])
	if n := testing.AllocsPerRun(100, func() {
		s := Scanner{Text: text}
		if _, ok := s.Value(MaxDepth); !ok {
			t.Fatal(s.Err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWhole_readsUpTo18Digits(t *testing.T) {
	check := func(text string) {
		t.Helper()
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		want, err := strconv.ParseInt(text[:digits], 10, 64)
		ok := err == nil && digits <= 18 && text[0] != '0'
		n, end, got := Whole([]byte("x"+text), 1)
		if got != ok || ok && (n != want || end != 1+digits) {
			t.Errorf("%q: %d, %d, %t, want %d, %d, %t", text, n, end, got, want, 1+digits, ok)
		}
	}
	const all = "98765432109876543210"
	for n := range len(all) {
		for _, behind := range []string{"", ",", "}", "/", ":", ".5", "e3", "\xb5", "\x00", ",\"lock\":\"", "::::::::", "////////"} {
			check(all[:n] + behind)
			check(strings.Repeat("0", n) + behind)
			check(strings.Repeat("9", n) + behind)
		}
		for c := range 256 { // no other byte is taken for a digit, wherever it stands
			check(all[:n] + string([]byte{byte(c)}) + all[n:])
		}
	}
}

// TestScanner_reasonsHoldNothingOfTheText: texts for people do.
func TestScanner_reasonsHoldNothingOfTheText(t *testing.T) {
	for text, want := range map[string]struct{ what, reason string }{
		`[ß]`:          {"not JSON: byte 0xc3", "not JSON: …"},
		`[q]`:          {"not JSON: 'q'", "not JSON: …"},
		`["a" "b"]`:    {"want ',' or ']', got a string", "want ',' or ']', got a string"},
		`{"a":1;}`:     {"want ',' or '}', got ';'", "want ',' or '}', got …"},
		`[-12345e987]`: {"number is too large: readers would take it for Infinity: -12345e987", "number is too large: readers would take it for Infinity: …"},
		`["\q"]`:       {"bad escape in a string", "bad escape in a string"},
		`[1`:           {"want ',' or ']', got the end", "want ',' or ']', got the end"},
	} {
		s := Scanner{Text: []byte(text), FiniteOnly: true}
		if _, ok := s.Value(3); ok || what(&s) != want.what || s.Err.Reason() != want.reason {
			t.Errorf("%q: %q, %q, want %q, %q", text, what(&s), s.Err.Reason(), want.what, want.reason)
		}
	}
}

func BenchmarkValue(b *testing.B) {
	for name, text := range map[string]string{
		"flat":   `{"currentUsage":4300,"usagePeriodStart":1794700800000,"usagePeriodEnd":2112998400000}`,
		"nested": `{"feature-sso":{"calculatedEntitlement":{"feature":{"id":"feature-sso","featureType":"BOOLEAN"},"usageLimit":null,"hasUnlimitedUsage":false},"featureUsage":{"resetPeriod":null,"currentUsage":0}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(text + "    ") // others follow it
			for b.Loop() {
				if _, _, fault := Value(text, 0, MaxDepth); fault != None {
					b.Fatal(fault)
				}
			}
			b.SetBytes(int64(len(text)))
		})
	}
}
