package expand

import (
	"io/fs"
	"strings"
	"testing"
)

var (
	environment = map[string]string{
		"HOST": "redis.internal", "PORT": "6380", "EMPTY": "", "FILE": "/run/secrets/password", "PASSWORD": "hunter2",
		"INJECT": "x\nsink: {nowhere: {}} # ${HOST}",
	}
	files = map[string]string{
		"/run/secrets/password": "correct horse\n", "/run/secrets/crlf": "battery\r\n", "/run/secrets/empty": "",
	}
)

func testExpander() Expander {
	return Expander{
		Env: func(name string) (string, bool) { v, ok := environment[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
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
		"${INJECT}":                        environment["INJECT"],
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
			got := testExpander().Expand(written)
			if len(got.Problems) > 0 {
				t.Fatalf("problems: %v", got.Problems)
			}
			if got.Text != want {
				t.Errorf("got %q, want %q", got.Text, want)
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
			for _, p := range testExpander().Expand(written).Problems {
				got = append(got, p.What)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestInterpolation_leavesOutLineEndsAndSaysSo(t *testing.T) {
	x := Expander{
		Env: func(name string) (string, bool) {
			return map[string]string{"A": "x\n", "B": "x\r\n\r\n", "C": "a\nb", "D": "\n"}[name], true
		},
		ReadFile: func(name string) ([]byte, error) {
			return []byte(map[string]string{"one": "x\n", "crlf": "x\r\n", "more": "x\n\n"}[name]), nil
		},
	}
	for written, want := range map[string]struct {
		text    string
		trimmed string
	}{
		"${A}": {"x", "A"}, "${B}": {"x", "B"}, "${C}": {"a\nb", ""}, "${A}${A}": {"xx", "A"}, "${D:-empty}": {"empty", "D"}, "${D:+there}": {"", "D"},
		"${file:one}": {"x", ""}, "${file:crlf}": {"x", ""}, "${file:more}": {"x", "the file more"},
	} {
		got := x.Expand(written)
		if got.Text != want.text || strings.Join(got.Trimmed, ",") != want.trimmed || len(got.Problems) > 0 {
			t.Errorf("%s: %+v, want %+v", written, got, want)
		}
	}
}

func FuzzInterpolation_neverPanics(f *testing.F) {
	for _, s := range []string{"${HOST}", "$${", "${NO:-${PORT}}", "${file:${FILE}}", "${NO:?x}", "${HOST:-{}}", "${A+b}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := testExpander().Expand(s)
		if !strings.Contains(s, "${") && (got.Text != s || got.Count > 0 || len(got.Problems) > 0) {
			t.Errorf("%q became %+v", s, got)
		}
		if got.Whole && (got.Count != 1 || !strings.HasPrefix(s, "${") || !strings.HasSuffix(s, "}")) {
			t.Errorf("%q is not one expansion", s)
		}
	})
}
