package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppend_leavesOutZeroFieldsAndPutsValueLast(t *testing.T) {
	cases := map[string]struct {
		write Write
		want  string
	}{
		"value only":  {Write{Key: "c_x", Value: []byte(`{"n":1}`)}, `{"key":"c_x","value":{"n":1}}`},
		"usage":       {Write{Key: "c_x:f_y", Value: []byte(`{}`), Version: 7, Lock: "x"}, `{"key":"c_x:f_y","version":7,"lock":"x","value":{}}`},
		"two clocks":  {Write{Key: "k", Value: []byte(`[]`), Version: 7, AsOf: 9}, `{"key":"k","version":7,"as_of":9,"value":[]}`},
		"delete":      {Write{Key: "k", Delete: true, Version: 7, AsOf: 7}, `{"key":"k","version":7,"as_of":7,"delete":true}`},
		"conditional": {Write{Key: "k", Value: []byte(`1`), IfAnyExists: []string{"a", "b"}}, `{"key":"k","if_any_exists":["a","b"],"value":1}`},
		"escapes":     {Write{Key: "a\"b\\c\nd\x01é", Value: []byte(`""`)}, `{"key":"a\"b\\c\nd\u0001é","value":""}`},
		"no expiry":   {Write{Key: "k", Value: []byte(`1`), TTL: -1}, `{"key":"k","ttl":-1,"value":1}`},
		"all": {
			Write{Key: "k", Value: []byte(`null`), Version: 1<<63 - 1, AsOf: 1, IfAnyExists: []string{"k"}, Lock: "l", TTL: 1500 * time.Millisecond},
			`{"key":"k","version":9223372036854775807,"as_of":1,"if_any_exists":["k"],"lock":"l","ttl":1500,"value":null}`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := string(Append([]byte("before"), c.write))
			if got != "before"+c.want+"\n" {
				t.Errorf("got  %s\nwant before%s", got, c.want)
			}
			back, err := Parse(nil, []byte(got[len("before"):]))
			if err != nil || len(back) != 1 || !reflect.DeepEqual(back[0], c.write) {
				t.Errorf("comes back as %+v, %v", back, err)
			}
		})
	}
}

func TestParse_acceptsWhatPeopleWriteByHand(t *testing.T) {
	cases := map[string]struct {
		payload string
		want    []Write
	}{
		"nothing":                 {"", nil},
		"no last line break":      {`{"key":"k","value":1}`, []Write{{Key: "k", Value: []byte("1")}}},
		"blanks, carriage return": {" { \"key\" : \"k\" , \"value\" : [ 1 , {} ] } \r\n", []Write{{Key: "k", Value: []byte("[ 1 , {} ]")}}},
		"numbers of a double":     {`{"key":"k","value":[1.7976931348623157e308,1e-400,9007199254740993,-0]}`, []Write{{Key: "k", Value: []byte(`[1.7976931348623157e308,1e-400,9007199254740993,-0]`)}}},
		"any order": {
			`{"lock":"l","as_of":2,"key":"k","version":1,"value":{"a":{"b":[[],{}]},"c":-0.5e+3}}`,
			[]Write{{Key: "k", Lock: "l", Version: 1, AsOf: 2, Value: []byte(`{"a":{"b":[[],{}]},"c":-0.5e+3}`)}},
		},
		"escaped key": {`{"key":"\ud83d\ude00\u0041\/\t\b\f\r","lock":"x","value":1}`, []Write{{Key: "😀A/\t\b\f\r", Lock: "x", Value: []byte("1")}}},
		"escape before a plain string": {
			`{"if_any_exists":["a\"value\":","b"],"key":"k","value":1}`,
			[]Write{{Key: "k", IfAnyExists: []string{`a"value":`, "b"}, Value: []byte("1")}},
		},
		"two lines": {
			"{\"key\":\"a\",\"delete\":true}\n{\"key\":\"b\",\"value\":true}\n",
			[]Write{{Key: "a", Delete: true}, {Key: "b", Value: []byte("true")}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(nil, []byte(c.payload))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestParse_saysWhatIsWrongAndWhere(t *testing.T) {
	beyond := func(at int, number string) string {
		return fmt.Sprintf(`line 1, byte %d: number is too large: readers would take it for Infinity: %s`, at, number)
	}
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	cases := map[string]struct{ payload, want string }{
		"not an object":      {`"x"`, `line 1, byte 1: want '{', got a string`},
		"blank line":         {"{\"key\":\"k\",\"value\":1}\n\n", `line 2, byte 1: want '{', got the end`},
		"unknown field":      {`{"key":"k","vlaue":1}`, `line 1, byte 12: unknown field "vlaue"`},
		"twice":              {`{"key":"k","key":"k","value":1}`, `line 1, byte 12: field key comes twice`},
		"no key":             {`{"value":1}`, `line 1, byte 12: no key`},
		"empty key":          {`{"key":"","value":1}`, `line 1, byte 2: key is empty`},
		"key no string":      {`{"key":1,"value":1}`, `line 1, byte 8: want a string, got a number`},
		"neither":            {`{"key":"k"}`, `line 1, byte 12: neither value nor delete`},
		"both":               {`{"key":"k","delete":true,"value":1}`, `line 1, byte 36: a delete has no value`},
		"delete false":       {`{"key":"k","delete":false}`, `line 1, byte 21: delete must be true, or left out`},
		"value not last":     {`{"key":"k","value":1,"lock":"l"}`, `line 1, byte 21: value must be the last field`},
		"no value":           {`{"key":"k","value":}`, `line 1, byte 20: not JSON: '}'`},
		"half a value":       {`{"key":"k","value":{"a":1}`, `line 1, byte 27: want '}', got the end`},
		"bad value":          {`{"key":"k","value":{"a":01}}`, `line 1, byte 26: want ',' or '}', got a number`},
		"bad number":         {`{"key":"k","value":1.}`, `line 1, byte 22: bad number`},
		"number beyond":      {`{"key":"k","value":1e400}`, beyond(20, "1e400")},
		"number below":       {`{"key":"k","value":{"a":[0,-1E+400]}}`, beyond(28, "-1E+400")},
		"400 digits":         {`{"key":"k","value":[1` + strings.Repeat("0", 400) + `]}`, beyond(21, "1"+strings.Repeat("0", 39)+"…")},
		"rounds to Infinity": {`{"key":"k", "value":1.7976931348623159e308}`, beyond(21, "1.7976931348623159e308")},
		"comma too many":     {`{"key":"k","value":[1,]}`, `line 1, byte 23: not JSON: ']'`},
		"wrong closing":      {`{"key":"k","value":[1}}`, `line 1, byte 22: want ',' or ']', got '}'`},
		"member without key": {`{"key":"k","value":{1:2}}`, `line 1, byte 21: want a member's name, got a number`},
		"too deep":           {`{"key":"k","value":` + deep + `}`, `line 1, byte 220: nested too deeply`},
		"version 0":          {`{"key":"k","version":0,"value":1}`, `line 1, byte 22: want a whole number from 1 to 2^63-1`},
		"version negative":   {`{"key":"k","version":-1,"value":1}`, `line 1, byte 22: want a whole number from 1 to 2^63-1`},
		"version too large":  {`{"key":"k","version":9223372036854775808,"value":1}`, `line 1, byte 22: want a whole number from 1 to 2^63-1`},
		"version 20 digits":  {`{"key":"k","version":10000000000000000000,"value":1}`, `line 1, byte 22: want a whole number from 1 to 2^63-1`},
		"version fraction":   {`{"key":"k","version":1.5,"value":1}`, `line 1, byte 23: want a whole number`},
		"ttl 0":              {`{"key":"k","ttl":0,"value":1}`, `line 1, byte 18: want a TTL of 1 to 3153600000000 ms, or -1 for none`},
		"ttl negative":       {`{"key":"k","ttl":-15,"value":1}`, `line 1, byte 20: want '}', got a number`},
		"ttl too long":       {`{"key":"k","ttl":3153600000001,"value":1}`, `line 1, byte 18: want a TTL of 1 to 3153600000000 ms, or -1 for none`},
		"as_of alone":        {`{"key":"k","as_of":1,"value":1}`, `line 1, byte 32: as_of without version`},
		"text after":         {`{"key":"k","value":1} x`, `line 1, byte 23: text after the write's closing brace`},
		"open string":        {`{"key":"k`, `line 1, byte 10: the text ends inside a string`},
		"control character":  {"{\"key\":\"k\x01\",\"value\":1}", `line 1, byte 10: control character in a string`},
		"bad escape":         {`{"key":"\x","value":1}`, `line 1, byte 9: bad escape in a string`},
		"half a pair":        {`{"key":"a\ud83d","value":1}`, `line 1, byte 10: half a surrogate pair in a string`},
		"second line":        {"{\"key\":\"k\",\"value\":1}\n{}", `line 2, byte 2: want a string, got '}'`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := []Write{{Key: "before"}}
			got, err := Parse(before, []byte(c.payload))
			var pe *ParseError
			if !errors.As(err, &pe) || err.Error() != "cache writes: "+c.want {
				t.Errorf("got  %v\nwant cache writes: %s", err, c.want)
			}
			if !reflect.DeepEqual(got, before) {
				t.Errorf("writes appended in spite of the error: %+v", got)
			}
		})
	}
}

func TestParse_stringsSurviveThePayload(t *testing.T) {
	payload := Append(nil, Write{Key: "key", Lock: "lock", IfAnyExists: []string{"a"}, Value: []byte("1")})
	got, err := Parse(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	clear(payload)
	if got[0].Key != "key" || got[0].Lock != "lock" || got[0].IfAnyExists[0] != "a" {
		t.Errorf("changed with the payload: %+v", got[0])
	}
}

func TestCompare_isTheOrderOfTheContract(t *testing.T) {
	ascending := []Write{
		{Value: []byte("z")},
		{Version: 1, Value: []byte("z")},
		{Version: 9, AsOf: 2, Delete: true},
		{Version: 9, AsOf: 3, Value: []byte("z")},
		{Version: 2, AsOf: 5, Delete: true},
		{Version: 2, AsOf: 5, Value: []byte("a")},
		{Version: 2, AsOf: 5, Value: []byte("aa")},
		{Version: 2, AsOf: 5, Value: []byte("b")},
		{Version: 3, AsOf: 5, Delete: true},
		{Version: 3, AsOf: 5, Value: []byte("a")},
		{Version: 6, Value: []byte("a")},
		{Version: 6, AsOf: 6, Value: []byte("b")},
		{Version: 1, AsOf: 7, Value: []byte("a")},
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := Compare(a, b); got != want {
				t.Errorf("Compare(%d: %+v, %d: %+v) = %d, want %d", i, a, j, b, got, want)
			}
		}
	}
	shuffled := slices.Clone(ascending)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if got := slices.MaxFunc(shuffled, Compare); !reflect.DeepEqual(got, ascending[len(ascending)-1]) {
		t.Errorf("greatest is %+v", got)
	}
	same := Write{Version: 5, Value: []byte("a"), Key: "x", Lock: "y"}
	if Compare(same, Write{Version: 5, AsOf: 5, Value: []byte("a")}) != 0 {
		t.Error("an AsOf that equals Version makes a difference")
	}
}

// FuzzParse: whatever Parse accepts is JSON by the standard library's judgement, and comes back the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"key":"c_x","version":1,"as_of":2,"if_any_exists":["a","b\u0041"],"lock":"x","ttl":5,"value":{"a":[1,-2.5e3,"\n",null,true]}}` + "\n"))
	f.Add([]byte("{\"key\":\"a\",\"version\":3,\"as_of\":4,\"delete\":true}\n{ \"key\" : \"\\ud83d\\ude00\", \"value\" : false }"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		writes, err := Parse(nil, payload)
		if !bytes.Equal(before, payload) {
			t.Fatal("payload changed")
		}
		if err != nil {
			return
		}
		var again []byte
		for _, w := range writes {
			if !w.Delete && !json.Valid(w.Value) {
				t.Fatalf("value is not JSON: %q", w.Value)
			}
			again = Append(again, w)
		}
		back, err := Parse(nil, again)
		if err != nil || len(back) != len(writes) {
			t.Fatalf("%q\ndoes not come back: %v", again, err)
		}
		for i := range back {
			if !reflect.DeepEqual(back[i], writes[i]) {
				t.Fatalf("comes back as %+v, was %+v", back[i], writes[i])
			}
		}
	})
}

// FuzzAppend: every write that Append is allowed to be given comes back the same, as one line.
func FuzzAppend(f *testing.F) {
	f.Add("c_客户:müller/😀", "lock", "if", []byte(`{"a":1}`), int64(5), int64(6))
	f.Add("\"\\\n\x00\xff", "", "", []byte(`"x"`), int64(1), int64(0))
	f.Fuzz(func(t *testing.T, key, lock, cond string, value []byte, version, asOf int64) {
		if key == "" || version < 1 || asOf < 0 || json.Unmarshal(value, new(any)) != nil || bytes.ContainsAny(value, "\n\r\t ") || bytes.Count(value, []byte("["))+bytes.Count(value, []byte("{")) > maxDepth {
			return
		}
		w := Write{Key: key, Lock: lock, Value: value, Version: version, AsOf: asOf}
		if cond != "" {
			w.IfAnyExists = []string{cond, key}
		}
		line := Append(nil, w)
		back, err := Parse(nil, line)
		if err != nil || len(back) != 1 || !reflect.DeepEqual(back[0], w) {
			t.Fatalf("%q comes back as %+v, %v", line, back, err)
		}
		if utf8.ValidString(key+lock+cond) && !json.Valid(line) {
			t.Fatalf("%q is not JSON", line)
		}
	})
}

var usage = Write{
	Key: "c_customer-000123:f_feature-api-calls", Version: 1795172400000, Lock: "customer-000123",
	Value: []byte(`{"currentUsage":4300,"usagePeriodStart":1794700800000,"usagePeriodEnd":2112998400000}`),
}

var plain300 = Write{
	Key: "c_customer-000123", Version: 1795172400000, AsOf: 1795172400001, Lock: "customer-000123",
	Value: []byte(`{"feature-sso":{"calculatedEntitlement":{"feature":{"id":"feature-sso","featureType":"BOOLEAN"},"usageLimit":null,"hasUnlimitedUsage":false},"featureUsage":{"resetPeriod":null,"currentUsage":0}}}`),
}

func BenchmarkAppend(b *testing.B) {
	for name, w := range map[string]Write{"usage": usage, "300": plain300} {
		b.Run(name, func(b *testing.B) {
			var dst []byte
			for b.Loop() {
				dst = Append(dst[:0], w)
			}
			b.SetBytes(int64(len(dst)))
			b.ReportAllocs()
		})
	}
}

// plain3000 is a snapshot of ten features.
func plain3000() Write {
	w := plain300
	var value []byte
	for i := range 10 {
		value = fmt.Appendf(value, `,"feature-%d":{"calculatedEntitlement":{"feature":{"id":"feature-%d","featureType":"NUMBER","displayName":"Größe of feature %d","units":"call"},`+
			`"usageLimit":%d,"hasUnlimitedUsage":false,"hasSoftLimit":true,"accessDeniedReason":null},"featureUsage":{"resetPeriod":"MONTH","currentUsage":%d.5,"usagePeriodEnd":2112998400000}}`, i, i, i, 1000*i, i)
	}
	value[0] = '{'
	w.Value = append(value, '}')
	return w
}

func BenchmarkParse(b *testing.B) {
	for name, w := range map[string]Write{"usage": usage, "300": plain300, "3000": plain3000()} {
		b.Run(name, func(b *testing.B) {
			payload := Append(nil, w)
			var dst []Write
			var err error
			for b.Loop() {
				if dst, err = Parse(dst[:0], payload); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
		})
	}
}

// FuzzCanonical: the short way reads the same as the parser, or gives up.
func FuzzCanonical(f *testing.F) {
	for _, w := range []Write{
		usage, plain300, {Key: "k", Delete: true, Version: 1, AsOf: 1}, {Key: "k", Value: []byte(`[1,-2.5e3,"x",{"a":[],"b":{}},null,true,false]`), IfAnyExists: []string{"a", ""}},
	} {
		line := Append(nil, w)
		f.Add(line[:len(line)-1])
	}
	f.Add([]byte(`{"key":"k","version":123456789012345678,"as_of":999999999999999999,"value":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var quick, slow Write
		if !canonical(line, &quick) {
			return
		}
		p := parserOf(line)
		if !p.write(&slow) || !reflect.DeepEqual(quick, slow) {
			t.Fatalf("%q: %+v, but %+v, %s", line, quick, slow, p.Err)
		}
	})
}

// TestParse_readsItsOwnFormTheShortWay: what Append makes of ordinary writes needs no second look.
func TestParse_readsItsOwnFormTheShortWay(t *testing.T) {
	for _, w := range []Write{
		usage, plain300, {Key: "k", Delete: true, Version: 1, AsOf: 1},
		{Key: "客户", Value: []byte(`{"a":[1.5,{}],"b":null}`), Version: 7, AsOf: 9, IfAnyExists: []string{"a", "b"}, Lock: "l"},
	} {
		line := Append(nil, w)
		var got Write
		if !canonical(line[:len(line)-1], &got) || !reflect.DeepEqual(got, w) {
			t.Errorf("%s is %+v", line, got)
		}
	}
}
