package pipeline

import (
	"strings"
	"testing"
)

func testExpander() expander {
	o := testOptions()
	return expander{env: o.Env, readFile: o.ReadFile}
}

// What a scalar becomes, by what is written. HOST is "redis.internal", EMPTY is set and empty, NO is not set.
func TestInterpolation_followsTheShell(t *testing.T) {
	tests := map[string]string{
		"":                                 "",
		"plain":                            "plain",
		"${HOST}":                          "redis.internal",
		"${HOST}:${PORT}":                  "redis.internal:6380",
		"a${HOST}b":                        "aredis.internalb",
		"${EMPTY}":                         "",
		"${NO:-default}":                   "default",
		"${EMPTY:-default}":                "default",
		"${HOST:-default}":                 "redis.internal",
		"${NO:-}":                          "",
		"${NO-default}":                    "default",
		"${EMPTY-default}":                 "",
		"${HOST-default}":                  "redis.internal",
		"${HOST:?message}":                 "redis.internal",
		"${HOST?message}":                  "redis.internal",
		"${EMPTY?message}":                 "",
		"${HOST:+there}":                   "there",
		"${EMPTY:+there}":                  "",
		"${EMPTY+there}":                   "there",
		"${NO:+there}":                     "",
		"${NO+there}":                      "",
		"${NO:-${PORT}}":                   "6380",
		"${NO:-${NEITHER:-x}}":             "x",
		"${NO:-a${PORT}b}":                 "a6380b",
		"${HOST:-${NO}}":                   "redis.internal",
		"${HOST:-${NO:?not asked for}}":    "redis.internal",
		"${NO:-{a}}":                       "{a}",
		`${NO:-{"a": {}}}`:                 `{"a": {}}`,
		"${NO:-: - ? + $ -}":               ": - ? + $ -",
		"$${HOST}":                         "${HOST}",
		"$${HOST}${PORT}":                  "${HOST}6380",
		"$$${HOST}":                        "$${HOST}",
		"${NO:-$${HOST}}":                  "${HOST}",
		"${HOST:-$${PORT}}":                "redis.internal",
		"${HOST:-${NO:-${NEITHER}}}":       "redis.internal",
		"$HOST":                            "$HOST",
		"$$HOST":                           "$$HOST",
		"$":                                "$",
		"pa$$word$":                        "pa$$word$",
		"{HOST}":                           "{HOST}",
		"}":                                "}",
		"${INJECT}":                        testEnv["INJECT"],
		"${file:/run/secrets/password}":    "correct horse",
		"${file:/run/secrets/crlf}":        "battery",
		"${file:/run/secrets/empty}":       "",
		"${file:${FILE}}":                  "correct horse",
		"${FILE:+${file:${FILE}}}":         "correct horse",
		"${NO:+${file:${NO}}}":             "",
		"${file:-no such file}":            "no such file",
		"${HOST:-${file:/not/asked/for}}":  "redis.internal",
		"${NO:-${file:/run/secrets/crlf}}": "battery",
		"é${HOST}ü":                        "éredis.internalü",
	}
	for written, want := range tests {
		t.Run(written, func(t *testing.T) {
			got := testExpander().expand(written)
			if len(got.problems) > 0 {
				t.Fatalf("problems: %v", got.problems)
			}
			if got.text != want {
				t.Errorf("got %q, want %q", got.text, want)
			}
		})
	}
}

func TestInterpolation_refusesWhatItCantResolve(t *testing.T) {
	tests := map[string][]string{
		"${NO}":                        {"environment variable NO is not set"},
		"${NO:?why}":                   {"environment variable NO is not set: why"},
		"${NO?why}":                    {"environment variable NO is not set: why"},
		"${NO:?}":                      {"environment variable NO is not set"},
		"${EMPTY:?why}":                {"environment variable EMPTY is empty: why"},
		"${NO:?ask ${PASSWORD}}":       {"environment variable NO is not set: ask ${PASSWORD}"},
		"${NO} and ${NEITHER}":         {"environment variable NO is not set", "environment variable NEITHER is not set"},
		"${NO:-${NEITHER}}":            {"environment variable NEITHER is not set"},
		"${file:/no/such}":             {"${file:…}: open /no/such: file does not exist"},
		"${file:${NO}}":                {"environment variable NO is not set"},
		"${file:}":                     {"${file:…}: want the path of a file"},
		"${HOST":                       {`"${" without its "}" (write $${ for a literal ${)`},
		"${HOST:-":                     {`"${" without its "}" (write $${ for a literal ${)`},
		"${HOST:-{}":                   {`"${" without its "}" (write $${ for a literal ${)`},
		"${":                           {`"${" without its "}" (write $${ for a literal ${)`},
		"${}":                          {`"${" wants the name of a variable: letters, digits and _ (write $${ for a literal ${)`},
		"${1}":                         {`"${" wants the name of a variable: letters, digits and _ (write $${ for a literal ${)`},
		"${HOST:x}":                    {"${HOST:…}: want :- (default), :? (required) or :+ after the name"},
		"${A.B}":                       {"${A…}: '.' can't be in the name of a variable"},
		"${HOST:-${A B}}":              {"${A…}: ' ' can't be in the name of a variable"},
		strings.Repeat("${NO:-", 1000): {"more than 100 expansions inside each other"},
	}
	for written, want := range tests {
		t.Run(written[:min(len(written), 30)], func(t *testing.T) {
			var got []string
			for _, p := range testExpander().expand(written).problems {
				got = append(got, p.what)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func FuzzInterpolation_neverPanics(f *testing.F) {
	for _, s := range []string{"${HOST}", "$${", "${NO:-${PORT}}", "${file:${FILE}}", "${NO:?x}", "${HOST:-{}}", "${A+b}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := testExpander().expand(s)
		if !strings.Contains(s, "${") && (got.text != s || got.count > 0 || len(got.problems) > 0) {
			t.Errorf("%q became %+v", s, got)
		}
		if got.whole && (got.count != 1 || !strings.HasPrefix(s, "${") || !strings.HasSuffix(s, "}")) {
			t.Errorf("%q is not one expansion", s)
		}
	})
}

// Whatever a variable holds, it stays the value of its field.
func FuzzLoad_aVariableNeverBecomesYAML(f *testing.F) {
	for _, s := range []string{"x", "a: b", "x\nsink: {}", "*a", "&a", "- 1", "${HOST}", "$${HOST}", "\x00", "'", `"`, "#", "~", "!!int 5", "12", "\xff"} {
		f.Add(s)
	}
	const file = `
name: x
source: {files: {paths: ["${V}", 'a${V}b']}}
transforms: [{rename: {fields: {a: "${V}"}, extra: ["${V}"]}}]
sink: {nowhere: {}}
`
	f.Fuzz(func(t *testing.T, value string) {
		if value == "" {
			return // counts as absent
		}
		env := func(string) (string, bool) { return value, true }
		c, _, err := LoadBytes(testRegistry(), "x.yaml", []byte(file), LoadOptions{Env: env})
		if err != nil {
			t.Fatal(err)
		}
		files := c.Source.Config.(*filesConfig)
		rename := c.Transforms[0].Config.(*renameConfig)
		if files.Paths[0] != value || files.Paths[1] != "a"+value+"b" || rename.Fields["a"] != value || rename.Extra.([]any)[0] != value {
			t.Errorf("%q became %q, %q, %q", value, files.Paths, rename.Fields, rename.Extra)
		}
	})
}

func FuzzLoad_neverPanics(f *testing.F) {
	for _, s := range []string{
		"name: x\nsource: {tick: {}}\nsink: {store: {host: ${HOST}}}\n",
		"a: &a [*a]\n<<: *a\n", "- - -", "? {a: b}\n: *x", "--- a\n--- b\n", "sink: {fan_out: [{route: {cases: {a: {}}}}]}",
		"transforms: [{rename: {extra: {1: 2, ~: 3, [a]: 4}}}]", "\t", "!!binary a", "x-a: &x {<<: [*x]}\nsink: *x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := LoadBytes(testRegistry(), "x.yaml", data, testOptions())
		if (c == nil) == (err == nil) {
			t.Errorf("config %v, error %v", c, err)
		}
	})
}
