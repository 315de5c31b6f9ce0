package pipeline

import (
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/pipeline/internal/expand"
	"github.com/penstock-dev/penstock/pipeline/internal/yamlfile"
)

// decodeAs decodes one value of type T and returns it with the problems, one a line.
func decodeAs[T any](text string) (any, string) {
	var v T
	o := testOptions()
	decoded := language.Decode([]byte(text), &v, yamlfile.Options{
		Catalog: catalog{testRegistry()}, Expander: expand.Expander{Env: o.Env, ReadFile: o.ReadFile},
	})
	if len(decoded.Problems) == 1 && decoded.Problems[0].What == "the file is empty: want a pipeline" {
		return "absent", ""
	}
	for i := range decoded.Problems {
		decoded.Problems[i].Code = "" // the golden files have them
	}
	if err := configError(problemsIn("", decoded.Problems)); err != nil {
		return nil, err.Error()
	}
	return v, ""
}

type word string

type leg struct {
	Weight int `yaml:"weight" default:"7"`
}

func TestDecode_valuesByType(t *testing.T) {
	const fine = ""
	tests := map[string]struct {
		decode func(string) (any, string)
		want   any
		wrong  string
	}{
		// Text is what was written, whatever YAML would make of it.
		"hello":             {decodeAs[string], "hello", fine},
		"'quoted'":          {decodeAs[string], "quoted", fine},
		"0123":              {decodeAs[string], "0123", fine},
		"1e3":               {decodeAs[string], "1e3", fine},
		"'yes'":             {decodeAs[string], "yes", fine},
		"yes":               {decodeAs[string], nil, `1:1: yes without quotes is a boolean to many readers of YAML: write "yes" if the text is meant`},
		"Off":               {decodeAs[string], nil, `1:1: Off without quotes is a boolean to many readers of YAML: write "Off" if the text is meant`},
		"true":              {decodeAs[string], "true", fine},
		"2026-11-22":        {decodeAs[string], "2026-11-22", fine},
		"|\n  a\n  b\n":     {decodeAs[string], nil, `1:1: has a line end in it: "\n", character 2 of 4: write the text on the line of its key (| and > keep the line end, |- and >- leave it out)`},
		"!!str 5":           {decodeAs[string], "5", fine},
		"named":             {decodeAs[word], word("named"), fine},
		"~":                 {decodeAs[string], "absent", fine},
		"''":                {decodeAs[string], "absent", fine},
		"${EMPTY}":          {decodeAs[string], "absent", fine},
		"'${EMPTY}'":        {decodeAs[string], "absent", fine},
		"{a: b}":            {decodeAs[string], nil, "1:1: want text, got a mapping"},
		"!secret a":         {decodeAs[string], nil, "1:1: YAML tags are not supported here: a value that begins with ! needs quotes"},
		"!!binary aGk=":     {decodeAs[string], nil, "1:1: YAML tags are not supported here: a value that begins with ! needs quotes"},
		"[a, 'b', 3]":       {decodeAs[[]string], []string{"a", "b", "3"}, fine},
		"[a, \"${EMPTY}\"]": {decodeAs[[]string], []string{"a"}, fine},

		"5":                    {decodeAs[int], 5, fine},
		"-5":                   {decodeAs[int64], int64(-5), fine},
		"0x10":                 {decodeAs[int], nil, "1:1: want a whole number, got 0x10: write it in decimal, 16"},
		"0x18EB":               {decodeAs[int], nil, "1:1: want a whole number, got 0x18EB: write it in decimal, 6379"},
		"0o17":                 {decodeAs[int], nil, "1:1: want a whole number, got 0o17: write it in decimal, 15"},
		"0b101":                {decodeAs[int], nil, "1:1: want a whole number, got 0b101: write it in decimal, 5"},
		"-0x10":                {decodeAs[int], nil, "1:1: want a whole number, got -0x10: write it in decimal, -16"},
		"1_000":                {decodeAs[int], nil, "1:1: want a whole number, got 1_000: write 1000"},
		"6_379":                {decodeAs[uint16], nil, "1:1: want a whole number, got 6_379: write 6379"},
		"010000":               {decodeAs[int], nil, "1:1: want a whole number, got 010000: no leading zeros (in some YAML they mean octal): write 10000"},
		"06379":                {decodeAs[int], nil, `1:1: want a whole number, got 06379: no leading zeros (in some YAML they mean octal): write 6379`},
		"+5":                   {decodeAs[int], nil, "1:1: want a whole number, got +5: write 5"},
		"1:30":                 {decodeAs[int], nil, `1:1: want a whole number, got "1:30": write it in decimal, 90`},
		"190:20:30":            {decodeAs[int], nil, `1:1: want a whole number, got "190:20:30": write it in decimal, 685230`},
		"-0":                   {decodeAs[int], 0, fine},
		"${LINK}":              {decodeAs[int], nil, `1:1: want a whole number, got "tcp://10.0.0.7:6379" (from ${LINK}): a container link, or a service link of Kubernetes, has set the variable; switch that off (enableServiceLinks: false in the pod), or set the variable yourself`},
		"${HEX}":               {decodeAs[int], nil, `1:1: want a whole number, got "0x10" (from ${HEX}): write it in decimal, 16`},
		"0x1p4":                {decodeAs[float64], nil, `1:1: want a number, got "0x1p4"`},
		"1_0.5":                {decodeAs[float64], nil, "1:1: want a number, got 1_0.5"},
		".5":                   {decodeAs[float64], nil, "1:1: want a number, got .5: write 0.5"},
		"5.":                   {decodeAs[float64], nil, "1:1: want a number, got 5."},
		"1.5e-3":               {decodeAs[float64], 1.5e-3, fine},
		"01.5":                 {decodeAs[float64], nil, "1:1: want a number, got 01.5"},
		"12":                   {decodeAs[uint8], uint8(12), fine},
		"256":                  {decodeAs[uint8], nil, "1:1: want a whole number from 0 to 255, got 256"},
		"-1":                   {decodeAs[uint], nil, "1:1: want a whole number from 0 to 18446744073709551615, got -1"},
		"-32769":               {decodeAs[int16], nil, "1:1: want a whole number from -32768 to 32767, got -32769"},
		"18446744073709551615": {decodeAs[uint64], uint64(math.MaxUint64), fine},
		"99999999999999999999": {decodeAs[int64], nil, "1:1: want a whole number from -9223372036854775808 to 9223372036854775807, got 99999999999999999999"},
		"'5'":                  {decodeAs[int], nil, `1:1: want a whole number, got "5"`},
		"5.0":                  {decodeAs[int], nil, "1:1: want a whole number, got 5.0"},
		"${PORT}":              {decodeAs[int], 6380, fine},
		"'${PORT}'":            {decodeAs[int], nil, `1:1: want a whole number, got "6380" (from ${PORT}): a quoted expansion stays text, write it without quotes and on a line of its own`},
		"!!str ${PORT}":        {decodeAs[uint], nil, `1:1: want a whole number, got "6380" (from ${PORT}): a quoted expansion stays text, write it without quotes and on a line of its own`},
		"${ZIP}":               {decodeAs[int], nil, `1:1: want a whole number, got "0123" (from ${ZIP}): no leading zeros (in some YAML they mean octal): write 123`},
		"${NO:-7}":             {decodeAs[uint], uint(7), fine},

		"1.5":         {decodeAs[float64], 1.5, fine},
		"2":           {decodeAs[float32], float32(2), fine},
		"1e40":        {decodeAs[float32], nil, "1:1: want a number, got 1e40"},
		".inf":        {decodeAs[float64], nil, "1:1: want a number, got .inf"},
		"${NO:-0.25}": {decodeAs[float64], 0.25, fine},
		"${NO:-NaN}":  {decodeAs[float64], nil, `1:1: want a number, got "NaN" (from ${NO:-NaN})`},

		"false":     {decodeAs[bool], false, fine},
		"on":        {decodeAs[bool], true, fine},
		"1":         {decodeAs[bool], nil, "1:1: want true or false, got 1"},
		"\"true\"":  {decodeAs[bool], nil, `1:1: want true or false, got "true"`},
		"${YES}":    {decodeAs[bool], true, fine},
		"'${YES}'":  {decodeAs[bool], nil, `1:1: want true or false, got "Yes" (from ${YES}): a quoted expansion stays text, write it without quotes and on a line of its own`},
		"${NO:-no}": {decodeAs[*bool], new(bool), fine},

		"1m30s":          {decodeAs[time.Duration], 90 * time.Second, fine},
		"0":              {decodeAs[time.Duration], time.Duration(0), fine},
		"'-1s'":          {decodeAs[time.Duration], -time.Second, fine},
		"30":             {decodeAs[time.Duration], nil, "1:1: want a duration with its unit, such as 30s, got 30"},
		"7d":             {decodeAs[time.Duration], nil, `1:1: want a duration such as 500ms, 30s or 168h, got "7d": write 168h`},
		"'${TTL}'":       {decodeAs[time.Duration], 90 * time.Second, fine},
		"${SECONDS}s":    {decodeAs[time.Duration], 604800 * time.Second, fine},
		"${file:${NO}}":  {decodeAs[time.Duration], nil, "1:1: environment variable NO is not set"},
		"[5s]":           {decodeAs[time.Duration], nil, "1:1: want a duration, got a list"},
		"64MiB":          {decodeAs[ByteSize], ByteSize(64 << 20), fine},
		"064MiB":         {decodeAs[ByteSize], nil, `1:1: want a size such as 64MiB, got "064MiB": no leading zeros (in some YAML they mean octal): write 64`},
		"+64MiB":         {decodeAs[ByteSize], nil, `1:1: want a size such as 64MiB, got "+64MiB": write 64`},
		"1000":           {decodeAs[ByteSize], ByteSize(1000), fine},
		"-1MiB":          {decodeAs[ByteSize], nil, `1:1: want a size such as 64MiB, got "-1MiB"`},
		"127.0.0.1":      {decodeAs[netip.Addr], netip.MustParseAddr("127.0.0.1"), fine},
		"${NO:-::1}":     {decodeAs[netip.Addr], netip.MustParseAddr("::1"), fine},
		"nowhere":        {decodeAs[netip.Addr], nil, `1:1: ParseAddr("nowhere"): unable to parse IP`},
		"hunter2":        {decodeAs[Secret], NewSecret("hunter2"), fine},
		"12345":          {decodeAs[Secret], NewSecret("12345"), fine},
		"{hunter2: a}":   {decodeAs[Secret], nil, "1:1: want a secret, got a mapping"},
		"[hunter2]":      {decodeAs[*Secret], nil, "1:1: want a secret, got a list"},
		"{a: 1, b: 2}":   {decodeAs[map[string]int], map[string]int{"a": 1, "b": 2}, fine},
		"{1: a}":         {decodeAs[map[int]word], map[int]word{1: "a"}, fine},
		"{one: a}":       {decodeAs[map[int]word], nil, `one: want a whole number, got "one"`},
		"{'': a}":        {decodeAs[map[string]word], nil, "the key is empty"},
		"{a: [1, two]}":  {decodeAs[map[string][]int], nil, `1:9: a[1]: want a whole number, got "two"`},
		"{? [a] : b}":    {decodeAs[map[string]string], nil, "1:4: want a name as the key, got a list"},
		"{a: b, a: c}":   {decodeAs[map[string]string], nil, "1:8: a: duplicate key: it is on line 1 already"},
		"[[a], [b, c]]":  {decodeAs[[][]word], [][]word{{"a"}, {"b", "c"}}, fine},
		"[{a: 1}]":       {decodeAs[any], []any{map[string]any{"a": 1}}, fine},
		"{a: {b: 1, b}}": {decodeAs[any], nil, "1:12: a.b: duplicate key: it is on line 1 already"},
		"{a: !x b}":      {decodeAs[any], nil, "1:5: a: YAML tags are not supported here: a value that begins with ! needs quotes"},
		"{a: *b}":        {decodeAs[any], nil, ":1:5: no anchor (&name) for this alias (*name): a value that begins with * needs quotes"},
		"nothing":        {decodeAs[chan int], nil, "1:1: chan int can't be given in YAML"},
		strings.Repeat("ä", 70): {decodeAs[int], nil,
			`1:1: want a whole number, got "` + strings.Repeat("ä", 60) + `…"`},

		// Defaults apply wherever a struct stands.
		"[{}, {weight: 1}]":            {decodeAs[[]leg], []leg{{7}, {1}}, fine},
		"{a: {}}":                      {decodeAs[map[string]leg], map[string]leg{"a": {7}}, fine},
		"{}":                           {decodeAs[*leg], &leg{7}, fine},
		"[{}]":                         {decodeAs[[]*leg], []*leg{{7}}, fine},
		"{'${HOST}': a}":               {decodeAs[map[string]string], map[string]string{"${HOST}": "a"}, fine},
		"${file:/run/secrets/number}":  {decodeAs[ByteSize], nil, "1:1: want a size, not what ${file:/run/secrets/number} holds"},
		"a${file:/run/secrets/number}": {decodeAs[time.Duration], nil, "1:1: want a duration such as 500ms, 30s or 168h, got what a${file:/run/secrets/number} holds"},

		// Anchors copy, merge keys add, and what is written next to a merge key wins.
		"[&a [1], *a, *a]":                              {decodeAs[any], []any{[]any{1}, []any{1}, []any{1}}, fine},
		"{a: &x {b: 1, c: 1}, d: {<<: *x, c: 2}}":       {decodeAs[map[string]map[string]int], map[string]map[string]int{"a": {"b": 1, "c": 1}, "d": {"b": 1, "c": 2}}, fine},
		"{a: &x {b: 1}, c: {<<: [*x, {b: 2, d: 3}]}}":   {decodeAs[any], map[string]any{"a": map[string]any{"b": 1}, "c": map[string]any{"b": 1, "d": 3}}, fine},
		"{a: &x {b: 1}, c: &y {<<: *x}, d: {<<: *y}}":   {decodeAs[any], map[string]any{"a": map[string]any{"b": 1}, "c": map[string]any{"b": 1}, "d": map[string]any{"b": 1}}, fine},
		"{a: {'<<': 1}}":                                {decodeAs[any], map[string]any{"a": map[string]any{"<<": 1}}, fine},
		"{&k a: 1, b: {*k : 2}}":                        {decodeAs[any], map[string]any{"a": 1, "b": map[string]any{"a": 2}}, fine},
		"{a: {<<: {b: 1}, <<: {c: 1}}}":                 {decodeAs[any], nil, "1:18: a.<<: duplicate key: it is on line 1 already"},
		"{a: &x '${PORT}', b: *x, c: [*x]}":             {decodeAs[any], map[string]any{"a": "6380", "b": "6380", "c": []any{"6380"}}, fine},
		"{a: &x ${NO:-[}, b: *x}":                       {decodeAs[any], nil, ":1:1: not YAML: did not find expected ',' or '}' (inside { } and [ ] an expansion needs quotes, and stays text; on a line of its own it needs none)"},
		"{a: {<<: [[{b: 1}]]}}":                         {decodeAs[any], nil, "1:11: a: the merge key << wants an alias of a mapping, or a list of them, got a list"},
		"[&a a, &b [*a, *a], {<<: &c {d: *b}, e: *c }]": {decodeAs[any], []any{"a", []any{"a", "a"}, map[string]any{"d": []any{"a", "a"}, "e": map[string]any{"d": []any{"a", "a"}}}}, fine},
	}
	for text, test := range tests {
		t.Run(text, func(t *testing.T) {
			got, wrong := test.decode(text)
			if wrong != "" && test.wrong != "" && strings.HasSuffix(wrong, test.wrong) {
				return
			}
			if wrong != test.wrong || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, %q, want %#v, %q", got, wrong, test.want, test.wrong)
			}
		})
	}
}

func TestSetDefaults_reachesIntoLists(t *testing.T) {
	c := struct{ Legs []*leg }{[]*leg{{}, {Weight: 1}}}
	SetDefaults(&c)
	if c.Legs[0].Weight != 7 || c.Legs[1].Weight != 1 {
		t.Errorf("got %+v, %+v", c.Legs[0], c.Legs[1])
	}
}

func TestLoad_accepts(t *testing.T) {
	const source = "name: x\nsource: {tick: {}}\n"
	tests := map[string]string{
		"null documents around":      "---\n---\n" + source + "sink: {nowhere: {}}\n---\n---\n",
		"admin on loopback":          source + "sink: {nowhere: {}}\nservice: {admin: {address: \"127.0.0.1:4001\"}}\n",
		"admin on IPv6 loopback":     source + "sink: {nowhere: {}}\nservice: {admin: {address: \"[::1]:4001\"}}\n",
		"admin on localhost":         source + "sink: {nowhere: {}}\nservice: {admin: {address: \"localhost:0\"}}\n",
		"admin with token":           source + "sink: {nowhere: {}}\nservice: {admin: {address: \":4001\", token: a}}\n",
		"nothing for what may be":    source + "sink: {nowhere: }\ntransforms:\nretry:\nservice: {http: }\npoison_queue:\nrecord:\n",
		"variable without its value": source + "sink:\n  store:\n    host: a\n    prefix: ${EMPTY}\n    tls: ${EMPTY}\n    modes: ${EMPTY}\n",
		"carriage returns":           strings.ReplaceAll(source, "\n", "\r\n") + "sink: {nowhere: {}}\r\n",
		"a byte order mark":          "\ufeff" + source + "sink: {nowhere: {}}\n",
		"JSON":                       `{"name": "x", "source": {"tick": {"count": 5}}, "sink": {"nowhere": {}}}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			c, warnings, err := LoadBytes(testRegistry(), "x.yaml", []byte(text), testOptions())
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%v, warnings %v", err, warnings)
			}
			if c.Name != "x" || c.Source.Name != "tick" || c.Sink.IsZero() || c.PoisonQueue != nil || c.Record != nil {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// What a rule says about a value that did not decode is not told: nobody wrote that value.
func TestValidate_isNotAskedAboutWhatDidNotDecode(t *testing.T) {
	const file = "name: x\nsource: {tick: {}}\nsink:\n  store:\n    host: localhost\n    password: hunter2\n    ttl: 0s\n    port: big\n    prefix: [a b]\n"
	_, _, err := LoadBytes(testRegistry(), "x.yaml", []byte(file), testOptions())
	// The rule about the component as a whole (no password with localhost) might rest on the port; the one about ttl
	// does not.
	const want = `x.yaml:7:10: sink.store.ttl: must not be 0; negative means no expiry [PS090]
x.yaml:8:11: sink.store.port: want a whole number, got "big" [PS030]
x.yaml:9:5: sink.store.prefix: want text, got a list [PS021]`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v", err)
	}
}

type fragileConfig struct {
	nowhereConfig `yaml:"-"`
	Inner         *struct{ Port int } `yaml:"inner" required:"true"`
}

func (c *fragileConfig) Validate() error {
	if c.Inner.Port == 0 {
		return Invalid("inner.port", "must not be 0")
	}
	return nil
}

func TestValidate_mayRelyOnWhatIsRequired(t *testing.T) {
	r := AddSink[fragileConfig](testRegistry(), "fragile")
	_, _, err := LoadBytes(r, "x.yaml", []byte("name: x\nsource: {tick: {}}\nsink: {fragile: {}}\n"), testOptions())
	if err == nil || err.Error() != "x.yaml:3:8: sink.fragile.inner: is required [PS022]" {
		t.Errorf("got %v", err)
	}
	_, _, err = LoadBytes(r, "x.yaml", []byte("name: x\nsource: {tick: {}}\nsink: {fragile: {inner: {port: 0}}}\n"), testOptions())
	if err == nil || err.Error() != "x.yaml:3:32: sink.fragile.inner.port: must not be 0 [PS090]" {
		t.Errorf("got %v", err)
	}
}
