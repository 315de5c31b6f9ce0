package pipeline

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

const oddFile = "name: x\nsource: {tick: {}}\nsink:\n  store:\n    host: a\n    prefix: pröd\n"

func asUTF16(order binary.AppendByteOrder, mark bool, text string) string {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xfeff)
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// Files as editors, shells and other programs leave them: read as they are meant, or refused with what is odd about
// them.
func TestLoad_oddFiles(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(oddFile, old, new, 1) }
	tests := map[string]struct{ text, wrong string }{
		"carriage returns alone":        {strings.ReplaceAll(oddFile, "\n", "\r"), ""},
		"UTF-16, little end first":      {asUTF16(binary.LittleEndian, true, oddFile), ""},
		"UTF-16, big end first":         {asUTF16(binary.BigEndian, true, oddFile), ""},
		"a mistake in UTF-16":           {asUTF16(binary.LittleEndian, true, with("host", "hots")), "x.yaml:5:5: sink.store.hots: unknown key (did you mean host?)"},
		"the end of the document":       {oddFile + "...\n", ""},
		"a tab behind a value":          {with("pröd", "pröd\t"), ""},
		"UTF-16 without its mark":       {asUTF16(binary.LittleEndian, false, oddFile), "x.yaml:1:1: the file is UTF-16: convert it (iconv -f UTF-16LE -t UTF-8 FILE)"},
		"UTF-16 BE without its mark":    {asUTF16(binary.BigEndian, false, oddFile), "x.yaml:1:1: the file is UTF-16: convert it (iconv -f UTF-16BE -t UTF-8 FILE)"},
		"UTF-16 cut in a character":     {asUTF16(binary.LittleEndian, true, oddFile) + "\n", "x.yaml:1:1: the file is UTF-16 with half a character at its end: is it whole?"},
		"UTF-32":                        {"\xff\xfe\x00\x00n\x00\x00\x00", "x.yaml:1:1: the file is UTF-32: convert it (iconv -f UTF-32 -t UTF-8 FILE)"},
		"Latin-1":                       {with("ö", "\xf6"), "x.yaml:6:15: the file is not UTF-8: the byte 0xf6; if it is of an old encoding: convert it (iconv -f ISO-8859-1 -t UTF-8 FILE)"},
		"a NUL":                         {with("ö", "\x00"), `x.yaml:6:15: not YAML: the control character "\x00"`},
		"an escape sequence":            {with("pröd", "\x1b[1mprod"), `x.yaml:6:13: not YAML: the control character "\x1b"`},
		"gzip":                          {"\x1f\x8b\x08\x00", "x.yaml:1:1: the file is compressed: want a pipeline in YAML; is it a recording?"},
		"zstd":                          {"\x28\xb5\x2f\xfd\x00", "x.yaml:1:1: the file is compressed: want a pipeline in YAML; is it a recording?"},
		"a line to name the YAML":       {"%YAML 1.2\n---\n" + oddFile, "x.yaml:1:1: this line is not understood: leave it and the --- below it out"},
		"a blank of HTML before a key":  {with("    host", "\u00a0   host"), `(line 5 has a blank of an unusual kind "\u00a0" at column 1)`},
		"a blank of HTML behind a key":  {with("host:", "host\u00a0:"), `unknown key: the key has a blank of an unusual kind in it: "\u00a0", character 5 of 5`},
		"a zero-width blank in a key":   {with("host:", "ho\u200bst:"), `unknown key: the key has a character that can't be seen in it: "\u200b", character 3 of 5`},
		"a next line in a value":        {with("pröd", "pr\u0085d"), `(line 6 has a line end "\u0085" at column 15)`},
		"a line separator in a value":   {with("pröd", "pr\u2028d"), `(line 6 has a line end "\u2028" at column 15)`},
		"a key in capitals beside it":   {oddFile + "    Host: b\n", "x.yaml:7:5: sink.store.Host: unknown key (did you mean host?)"},
		"a key again, in quotes":        {oddFile + "    \"host\": b\n", "x.yaml:7:5: sink.store.host: duplicate key: it is on line 5 already"},
		"a list 20,000 deep":            {oddFile + "x-deep: " + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), "exceeded max depth of 10000"},
		"a block for one word":          {with("pröd", "|\n      pröd"), "write the text on the line of its key (| and > keep the line end, |- and >- leave it out)"},
		"a block without its line end":  {with("pröd", "|-\n      pröd"), ""},
		"a value of half a code point":  {with("pröd", `"pr\ud800"`), "not YAML: found invalid Unicode character escape code"},
		"a value that lost its letters": {with("ö", "\ufffd"), `has a replacement character in it ("\ufffd"), which is what a wrong encoding leaves behind: character 3 of 4`},
		"quotes of a word processor":    {with("pröd", "”pröd”"), "is wrapped in quotes (”…”)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, _, err := LoadBytes(testRegistry(), "x.yaml", []byte(test.text), testOptions())
			switch {
			case test.wrong == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case test.wrong == "":
				if got := c.Sink.Config.(*storeConfig).Common.Prefix; got != "pröd" {
					t.Errorf("prefix %q", got)
				}
			case err == nil:
				t.Errorf("accepted, want %q", test.wrong)
			case !strings.Contains(err.Error(), test.wrong):
				t.Errorf("got  %v\nwant %v", err, test.wrong)
			}
		})
	}
}

func TestDecode_durationsOfOtherSyntaxesAreToldHowToWriteThem(t *testing.T) {
	for text, hint := range map[string]string{
		"7d": ": write 168h", "1w": ": write 168h", "2 weeks": ": write 336h", "-1d": ": write -24h", "168H": ": write 168h", "1h 30m": ": write 1h30m",
		"'1,5h'": ": write 1.5h", "1:30:00": ": write 1h30m0s", "P7D": ": write 168h", "PT30S": ": write 30s", "P1DT2H5M": ": write 26h5m",
		"9999999h": ": that is more than the 292 years that a duration can hold", "1e3s": "", "P": "", "１６８h": "", "soon": "", "1 month": "",
	} {
		got, wrong := decodeAs[time.Duration](text)
		want := `:1:1: want a duration such as 500ms, 30s or 168h, got "` + strings.Trim(text, "'") + `"` + hint
		if wrong != want {
			t.Errorf("%s: %v %q\nwant %q", text, got, wrong, want)
		}
	}
}
