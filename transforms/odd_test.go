package transforms

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/pipeline"
)

// becomes says what a body becomes on its way through unwrap and decode_entitlements, in one line: the writes,
// "filtered", or "permanent: what is wrong".
func becomes(t *testing.T, body string) string {
	t.Helper()
	decodeStep, _, _ := decode(t, DecodeEntitlementsConfig{Layout: "v3"})
	msg := message.NewMessage("m", []byte(body))
	msg.Metadata.Set("sqs_sent_at", "1795169730000")
	parts, err := unwrap(t, UnwrapConfig{MaxSize: 1 << 20})(msg)
	var lines []string
	for _, part := range parts {
		var out []*message.Message
		if out, err = decodeStep(part); err != nil {
			break
		}
		if len(out) == 0 {
			lines = append(lines, "filtered")
		}
		for _, m := range out {
			ws, perr := cache.Parse(nil, m.Payload)
			if perr != nil {
				t.Fatalf("%q: what was decoded is no cache write: %v", body, perr)
			}
			for _, w := range ws {
				what := string(w.Value)
				if w.Delete {
					what = "delete"
				}
				lines = append(lines, fmt.Sprintf("%q v%d %s", w.Key, w.Version, what))
			}
		}
	}
	if err != nil {
		kind := "retryable: "
		if pipeline.IsPermanent(err) {
			kind = "permanent: "
		}
		lines = append(lines, kind+err.Error())
	}
	return strings.Join(lines, " | ")
}

func utf16Of(text string, bigEndian bool) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		if bigEndian {
			b = append(b, byte(unit>>8), byte(unit))
		} else {
			b = append(b, byte(unit), byte(unit>>8))
		}
	}
	return string(b)
}

// What is odd and means one thing only is taken; everything else is poisoned, with what is wrong and where.
func TestTransforms_oddBodies(t *testing.T) {
	usage := func(id, number string) string {
		return `{"customerId":` + id + `,"featureId":"f","currentUsage":` + number + `}`
	}
	at := func(clock string) string {
		return `{"timestamp":` + clock + `,"customerId":"c","featureId":"f","currentUsage":1}`
	}
	noTime := func(clock string) string {
		return `permanent: timestamp: want a time such as 2006-01-02T15:04:05.000Z, got ` + clock + ` (byte 14)`
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	good := usage(`"c"`, "1")
	const written = `"c_c:f_f" v1795169730000 {"currentUsage":1}`
	for name, c := range map[string]struct{ body, want string }{
		"negative zero":           {usage(`"c"`, "-0"), `"c_c:f_f" v1795169730000 {"currentUsage":-0}`},
		"negative zero, fraction": {usage(`"c"`, "-0.0"), `"c_c:f_f" v1795169730000 {"currentUsage":-0.0}`},
		"1e-400":                  {usage(`"c"`, "1e-400"), `"c_c:f_f" v1795169730000 {"currentUsage":1e-400}`},
		"1E400":                   {usage(`"c"`, "1E400"), `permanent: currentUsage: number is too large: readers would take it for Infinity: 1E400 (byte 50)`},
		"huge exponent":           {usage(`"c"`, "1e99999999999999999999"), `permanent: currentUsage: number is too large: readers would take it for Infinity: 1e99999999999999999999 (byte 50)`},
		"zero huge exponent":      {usage(`"c"`, "0e99999999999999999999"), `"c_c:f_f" v1795169730000 {"currentUsage":0e99999999999999999999}`},
		"largest double":          {usage(`"c"`, "1.7976931348623157e308"), `"c_c:f_f" v1795169730000 {"currentUsage":1.7976931348623157e308}`},
		"rounds to infinity":      {usage(`"c"`, "1.7976931348623159e308"), `permanent: currentUsage: number is too large: readers would take it for Infinity: 1.7976931348623159e308 (byte 50)`},
		"very many digits":        {usage(`"c"`, "0."+strings.Repeat("1", 2000)), `"c_c:f_f" v1795169730000 {"currentUsage":0.` + strings.Repeat("1", 2000) + `}`},
		"309 digits":              {usage(`"c"`, strings.Repeat("9", 309)), "permanent: currentUsage: number is too large: readers would take it for Infinity: 9999999999999999999999999999999999999999… (byte 50)"},
		"hex":                     {usage(`"c"`, "0x10"), `permanent: want ',' or '}', got 'x' (byte 51)`},
		"leading plus":            {usage(`"c"`, "+1"), `permanent: currentUsage: want a number, got '+' (byte 50)`},
		"leading zero":            {usage(`"c"`, "01"), `permanent: want ',' or '}', got a number (byte 51)`},
		"no digit after point":    {usage(`"c"`, "1."), `permanent: currentUsage: bad number (byte 52)`},
		"no digit before point":   {usage(`"c"`, ".5"), `permanent: currentUsage: want a number, got '.' (byte 50)`},
		"number string":           {usage(`"c"`, `"12"`), `permanent: currentUsage: want a number, got a string (byte 50)`},
		"underscore":              {usage(`"c"`, `1_000`), `permanent: want ',' or '}', got '_' (byte 51)`},
		"NaN":                     {usage(`"c"`, "NaN"), `permanent: currentUsage: want a number, got 'N' (byte 50)`},
		"-Infinity":               {usage(`"c"`, "-Infinity"), `permanent: currentUsage: bad number (byte 51)`},
		"Infinity string":         {usage(`"c"`, `"Infinity"`), `permanent: currentUsage: want a number, got a string (byte 50)`},
		"boolean for number":      {usage(`"c"`, `true`), `permanent: currentUsage: want a number, got a boolean (byte 50)`},
		"leap second":             {at(`"2026-06-30T23:59:60Z"`), noTime(`"2026-06-30T23:59:60Z"`)},
		"hour 24":                 {at(`"2026-06-30T24:00:00Z"`), noTime(`"2026-06-30T24:00:00Z"`)},
		"year 0":                  {at(`"0000-01-01T00:00:00Z"`), `permanent: timestamp: time is before 1970 (byte 14)`},
		"year 10000":              {at(`"10000-01-01T00:00:00Z"`), noTime(`"10000-01-01T00:00:00Z"`)},
		"expanded year":           {at(`"+002026-11-20T10:15:30Z"`), noTime(`"+002026-11-20T10:15:30Z"`)},
		"no zone":                 {at(`"2026-11-20T10:15:30"`), noTime(`"2026-11-20T10:15:30"`)},
		"date only":               {at(`"2026-11-20"`), noTime(`"2026-11-20"`)},
		"lower t z":               {at(`"2026-11-20t10:15:30z"`), written},
		"blank for T":             {at(`"2026-11-20 10:15:30Z"`), noTime(`"2026-11-20 10:15:30Z"`)},
		"comma fraction":          {at(`"2026-11-20T10:15:30,250Z"`), `"c_c:f_f" v1795169730250 {"currentUsage":1}`},
		"fraction of 1":           {at(`"2026-11-20T10:15:30.2Z"`), `"c_c:f_f" v1795169730200 {"currentUsage":1}`},
		"fraction of 12":          {at(`"2026-11-20T10:15:30.250999999999Z"`), `"c_c:f_f" v1795169730250 {"currentUsage":1}`},
		"empty fraction":          {at(`"2026-11-20T10:15:30.Z"`), noTime(`"2026-11-20T10:15:30.Z"`)},
		"no seconds":              {at(`"2026-11-20T10:15Z"`), noTime(`"2026-11-20T10:15Z"`)},
		"basic format":            {at(`"20261120T101530Z"`), noTime(`"20261120T101530Z"`)},
		"zone +24":                {at(`"2026-11-20T10:15:30+24:00"`), noTime(`"2026-11-20T10:15:30+24:00"`)},
		"zone +25":                {at(`"2026-11-20T10:15:30+25:00"`), noTime(`"2026-11-20T10:15:30+25:00"`)},
		"zone +99:99":             {at(`"2026-11-20T10:15:30+99:99"`), noTime(`"2026-11-20T10:15:30+99:99"`)},
		"zone +23:59":             {at(`"2026-11-20T10:15:30+23:59"`), `"c_c:f_f" v1795083390000 {"currentUsage":1}`},
		"zone +00:60":             {at(`"2026-11-20T10:15:30+00:60"`), noTime(`"2026-11-20T10:15:30+00:60"`)},
		"zone 0200":               {at(`"2026-11-20T12:15:30+0200"`), noTime(`"2026-11-20T12:15:30+0200"`)},
		"zone UTC":                {at(`"2026-11-20T10:15:30 UTC"`), noTime(`"2026-11-20T10:15:30 UTC"`)},
		"zone -00:00":             {at(`"2026-11-20T10:15:30-00:00"`), written},
		"blank around":            {at(`" 2026-11-20T10:15:30Z "`), noTime(`" 2026-11-20T10:15:30Z "`)},
		"RFC 1123":                {at(`"Fri, 20 Nov 2026 10:15:30 GMT"`), noTime(`"Fri, 20 Nov 2026 10:15:30 GMT"`)},
		"seconds string":          {at(`"1795169730"`), noTime(`"1795169730"`)},
		"ms string":               {at(`"1795169730000"`), noTime(`"1795169730000"`)},
		"empty time":              {at(`""`), noTime(`""`)},
		"time escaped":            {at(`"2026\u002d11-20T10:15:30Z"`), written},
		"time object":             {at(`{"seconds":1795169730,"nanos":0}`), `permanent: timestamp: want a time, got an object (byte 14)`},
		"time list":               {at(`[2026,11,20]`), `permanent: timestamp: want a time, got an array (byte 14)`},
		"duplicate member":        {`{"customerId":"c","featureId":"f","currentUsage":1,"currentUsage":2}`, `"c_c:f_f" v1795169730000 {"currentUsage":2}`},
		"duplicate clock":         {`{"timestamp":"2026-11-20T10:15:30.001Z","timestamp":"2026-11-20T10:15:30.002Z","customerId":"c","featureId":"f","currentUsage":1}`, `"c_c:f_f" v1795169730002 {"currentUsage":1}`},
		"duplicate id same":       {`{"customerId":"c","customerId":"c","featureId":"f","currentUsage":1}`, written},
		"duplicate id other":      {`{"customerId":"c","customerId":"d","featureId":"f","currentUsage":1}`, `permanent: customerId: another id than elsewhere in the event: d, c (byte 32)`},
		"duplicate null":          {`{"customerId":"c","customerId":null,"featureId":"f","currentUsage":1}`, written},
		"duplicate list":          {`{"customerId":"c","entitlements":[{"feature":{"id":"a"}}],"entitlements":[]}`, `"c_c" v1795169730000 {}`},
		"lone high":               {usage(`"c\ud800"`, "1"), `permanent: customerId: half a surrogate pair in a string (byte 17)`},
		"lone low":                {usage(`"c\udc00x"`, "1"), `permanent: customerId: half a surrogate pair in a string (byte 17)`},
		"swapped pair":            {usage(`"\ude00\ud83d"`, "1"), `permanent: customerId: half a surrogate pair in a string (byte 16)`},
		"CESU bytes":              {usage("\"c\xed\xa0\xbd\"", "1"), `permanent: customerId: string is not valid UTF-8 (byte 17)`},
		"overlong":                {usage("\"c\xc0\xaf\"", "1"), `permanent: customerId: string is not valid UTF-8 (byte 17)`},
		"NUL escaped":             {usage(`"c\u0000d"`, "1"), `"c_c\x00d:f_f" v1795169730000 {"currentUsage":1}`},
		"NUL raw":                 {usage("\"c\x00d\"", "1"), `permanent: customerId: control character in a string (byte 17)`},
		"newline in id":           {usage(`"c\nd"`, "1"), `"c_c\nd:f_f" v1795169730000 {"currentUsage":1}`},
		"tab raw":                 {usage("\"c\td\"", "1"), `permanent: customerId: control character in a string (byte 17)`},
		"empty id":                {usage(`""`, "1"), `permanent: customerId: missing`},
		"blank id":                {usage(`" "`, "1"), `"c_ :f_f" v1795169730000 {"currentUsage":1}`},
		"id number":               {usage(`12`, "1"), `permanent: customerId: want a string, got a number (byte 15)`},
		"id null":                 {usage(`null`, "1"), `permanent: customerId: missing`},
		"long id":                 {usage(`"`+strings.Repeat("x", 3000)+`"`, "1"), `"c_` + strings.Repeat("x", 3000) + `:f_f" v1795169730000 {"currentUsage":1}`},
		"id :r_":                  {usage(`"a:r_b"`, "1"), `"c_a:r_b:f_f" v1795169730000 {"currentUsage":1}`},
		"id :f_":                  {usage(`"a:f_b"`, "1"), `"c_a:f_b:f_f" v1795169730000 {"currentUsage":1}`},
		"id #timestamp":           {usage(`"a#timestamp"`, "1"), `"c_a#timestamp:f_f" v1795169730000 {"currentUsage":1}`},
		"id penstock:":            {usage(`"penstock:x"`, "1"), `"c_penstock:x:f_f" v1795169730000 {"currentUsage":1}`},
		"NFD":                     {usage(`"e\u0301"`, "1"), "\"c_é:f_f\" v1795169730000 {\"currentUsage\":1}"},
		"zero width":              {usage(`"c\u200b"`, "1"), `"c_c\u200b:f_f" v1795169730000 {"currentUsage":1}`},
		"array good bad":          {`[` + good + `,{"customerId":"c"}]`, `"c_c:f_f" v1795169730000 {"currentUsage":1} | permanent: neither an event type nor the shape of a known event`},
		"array bad good":          {`[{"customerId":"c"},` + good + `]`, `permanent: neither an event type nor the shape of a known event`},
		"array not event":         {`[` + good + `,7]`, `permanent: want an object, got an array (byte 1)`},
		"array nested":            {`[[` + good + `]]`, `permanent: want an object, got an array (byte 1)`},
		"empty array":             {`[]`, ``},
		"array trailing comma":    {`[` + good + `,]`, `permanent: want an object, got an array (byte 1)`},
		"trailing comma":          {`{"customerId":"c","featureId":"f","currentUsage":1,}`, `permanent: want a member's name, got '}' (byte 52)`},
		"deep 90":                 {`{"x":` + strings.Repeat("[", 90) + strings.Repeat("]", 90) + `,` + good[1:], written},
		"deep 101":                {`{"x":` + strings.Repeat("[", 101) + strings.Repeat("]", 101) + `,` + good[1:], `permanent: x: nested too deeply (byte 106)`},
		"deep 100000":             {`{"x":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `,` + good[1:], `permanent: x: nested too deeply (byte 106)`},
		"deep array":              {strings.Repeat("[", 100000) + strings.Repeat("]", 100000), `permanent: want an object, got an array (byte 1)`},
		"base64":                  {b64(good), written},
		"base64 twice":            {b64(b64(good)), `permanent: want an object, got 'Z' (byte 1)`},
		"base64 lines":            {b64(good)[:40] + "\r\n" + b64(good)[40:], written},
		"base64 url":              {base64.URLEncoding.EncodeToString([]byte(usage(`"c?>"`, "1"))), `"c_c?>:f_f" v1795169730000 {"currentUsage":1}`},
		"base64 mixed alphabets":  {"-" + b64(good)[1:40] + "+/" + b64(good)[42:], `permanent: want an object, got a number (byte 1)`},
		"base64 quoted":           {`"` + b64(good) + `"`, `permanent: want an object, got a string (byte 1)`},
		"base64 data url":         {"data:application/json;base64," + b64(good), `permanent: want an object, got 'd' (byte 1)`},
		"base64 torn":             {b64(good)[:41], `permanent: want an object, got 'e' (byte 1)`},
		"gzip":                    {b64(gzipped(good)), written},
		"gzip padding":            {b64(gzipped(good) + "\x00\x00\x00\x00"), written},
		"gzip garbage":            {b64(gzipped(good) + "xyz"), `permanent: base64 text with broken gzip in it: 3 bytes behind its end are not gzip`},
		"gzip two members":        {b64(gzipped(good[:20]) + gzipped(good[20:])), written},
		"gzip torn":               {b64(gzipped(good)[:40]), `permanent: base64 text with broken gzip in it: unexpected EOF`},
		"gzip raw":                {gzipped(good), `permanent: text is gzip as it stands: unpack it before, or send it in base64 through unwrap (byte 1)`},
		"gzip bomb":               {b64(gzipped(`{"a":"` + strings.Repeat("x", 2<<20) + `"}`)), `permanent: unpacks to more than 1MiB (max_size)`},
		"gzip bomb of blanks":     {b64(gzipped(strings.Repeat(" ", 2<<20))), `permanent: unpacks to more than 1MiB (max_size)`},
		"gzip in gzip":            {b64(gzipped(gzipped(good))), `permanent: want an object, got 'H' (byte 1)`},
		"UTF-16LE":                {utf16Of(good, false), `permanent: text is UTF-16, and must be UTF-8 (byte 1)`},
		"UTF-16BE":                {utf16Of(good, true), `permanent: text is UTF-16, and must be UTF-8 (byte 1)`},
		"UTF-16 no BOM":           {utf16Of(good, false)[2:], `permanent: text is UTF-16, and must be UTF-8 (byte 1)`},
		"BOM":                     {"\ufeff" + good, written},
		"BOM array":               {"\ufeff[" + good + "]", written},
		"BOM base64":              {b64("\ufeff" + good), written},
		"BOM in SNS":              {sns("\ufeff" + `{"customerId":"c","entitlements":[]}`), `"c_c" v1795169731900 {}`},
		"Latin-1":                 {usage("\"M\xfcller\"", "1"), `permanent: customerId: string is not valid UTF-8 (byte 17)`},
		"trailing garbage":        {good + "x", `permanent: text after the end of the event (byte 52)`},
		"two objects":             {good + good, `permanent: text after the end of the event (byte 52)`},
		"two lines":               {good + "\n" + good, `permanent: text after the end of the event (byte 53)`},
		"NUL behind":              {good + "\x00", `permanent: text after the end of the event (byte 52)`},
		"comment":                 {"/* x */" + good, `permanent: want an object, got '/' (byte 1)`},
		"line comment":            {good + " // x", `permanent: text after the end of the event (byte 53)`},
		"single quotes":           {`{'customerId':'c'}`, `permanent: want a member's name, got '\'' (byte 2)`},
		"no quotes":               {`{customerId:"c"}`, `permanent: want a member's name, got 'c' (byte 2)`},
		"JSON in a string":        {quote(good), `permanent: want an object, got a string (byte 1)`},
		"nbsp":                    {"\u00a0" + good, `permanent: want an object, got byte 0xc2 (byte 1)`},
		"empty":                   {"", `permanent: want an object, got the end (byte 1)`},
		"blanks":                  {" \n", `permanent: want an object, got the end (byte 3)`},
		"null":                    {"null", `permanent: want an object, got null (byte 1)`},
		"form":                    {"customerId=c&currentUsage=1", `permanent: want an object, got 'c' (byte 1)`},
		"XML":                     {"<event/>", `permanent: want an object, got '<' (byte 1)`},
		"proto key":               {`{"__proto__":{"x":1},` + good[1:], written},
		"names in other case":     {`{"CustomerID":"c","featureId":"f","currentUsage":1}`, `permanent: customerId: missing`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := becomes(t, c.body); got != c.want {
				t.Errorf("%.300q\ngot  %.300s\nwant %.300s", c.body, got, c.want)
			}
		})
	}
}
