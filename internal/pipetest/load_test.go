package pipetest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const oneTest = "tests:\n  - name: one\n    input: {payload: 1}\n"

func TestLoad_findsTestsInAndBesidePipelines(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for file, text := range map[string]string{
		"in.yaml": pipelineText + oneTest, "beside.yml": pipelineText, "beside_test.yml": oneTest,
		"deep/er/both.yaml": pipelineText + oneTest, "deep/er/both_test.yaml": oneTest,
		"without.yaml": pipelineText, "compose.yaml": "services: {a: {image: b}}\n", "template.yaml": "a: {{ .b }}\n",
		"other.yaml": "tests: 5\n", ".hidden/in.yaml": pipelineText + oneTest, "notes.txt": "tests:\nsource:\n",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, text)
	}
	for name, c := range map[string]struct {
		refs []string
		want string
		err  string
	}{
		"a directory":                 {[]string{"."}, "beside_test.yml deep/er/both.yaml deep/er/both_test.yaml in.yaml", ""},
		"a pipeline with tests in it": {[]string{"in.yaml"}, "in.yaml", ""},
		"one with tests beside it":    {[]string{"beside.yml"}, "beside_test.yml", ""},
		"the file beside alone":       {[]string{"deep/er/both_test.yaml"}, "deep/er/both_test.yaml", ""},
		"both, once":                  {[]string{"beside.yml", "beside_test.yml", "."}, "beside_test.yml deep/er/both.yaml deep/er/both_test.yaml in.yaml", ""},
		"no tests":                    {[]string{"without.yaml"}, "", "without.yaml: no tests: they stand in it under tests:, or beside it in without_test.yaml [PS072]"},
		"no tests in a directory":     {[]string{".hidden/.."}, "beside_test.yml deep/er/both.yaml deep/er/both_test.yaml in.yaml", ""},
		"no such file":                {[]string{"nowhere.yaml", "no_test.yaml"}, "", "nowhere.yaml: no such file or directory [PS001]\nno_test.yaml: no such file or directory [PS001]"},
	} {
		t.Run(name, func(t *testing.T) {
			suites, err := (&Loader{Registry: registry(), ReadFile: os.ReadFile}).Load(c.refs)
			var files []string
			for _, s := range suites {
				files = append(files, s.File)
			}
			if got := strings.Join(files, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if (err != nil || c.err != "") && (err == nil || err.Error() != c.err) {
				t.Errorf("error %v, want %s", err, c.err)
			}
		})
	}
	if err := os.Mkdir("empty", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Loader{Registry: registry(), ReadFile: os.ReadFile}).Load([]string{"empty"}); err == nil || err.Error() != "empty: no pipeline file in or below it has tests [PS072]" {
		t.Errorf("an empty directory: %v", err)
	}
}

// What is wrong in every environment is a mistake of the file; what an expansion may mend is not.
func TestLoad_reportsTheMistakesOfAPipelineAndNotThoseOfItsEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	write(t, file, strings.Replace(pipelineText, "sink:", "snik: {}\nsink:", 1)+"tests:\n  - {name: a, inptu: {}}\n")
	_, err := (&Loader{Registry: registry(), ReadFile: os.ReadFile}).Load([]string{file})
	want := strings.ReplaceAll(`F:6:1: snik: unknown key (did you mean sink?) [PS012]
F:13:5: tests[0].input: is required [PS022]
F:13:15: tests[0].inptu: unknown key (did you mean input?) [PS012]`, "F:", file+":")
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestRun_tellsWhichVariableTheTestLacks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	write(t, file, strings.Replace(pipelineText, "${WORD:-none}", "${WORD}", 1)+oneTest)
	t.Setenv("WORD", "of the process")
	l := &Loader{Registry: registry(), ReadFile: os.ReadFile}
	suites, err := l.Load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	want := file + ":5:13: transforms[0].step.word: environment variable WORD is not set [PS040]\na test has the variables of its env: and no others\n"
	if got := told(runAll(t, l, suites[0])[0]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRun_readsRecordings(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ndjson"), `{"id":"1","time":"2026-11-01T00:00:00Z","metadata":{"k":"v"},"payload":"1"}`+"\n\n"+`{"id":"2","payload":"2"}`+"\n")
	write(t, filepath.Join(dir, "b.ndjson"), `{"id":"3","payload":"3"}`+"\n"+`{"id":"4","payl`+"\n")
	write(t, filepath.Join(dir, "p.yaml"), pipelineText+`tests:
  - name: read
    input: {recording: "a.*"}
    output:
      - {payload: {word: none, body: 1}, metadata: {k: v, recorded_at: "2026-11-01T00:00:00Z"}}
      - {payload: {word: none, body: 2}}
  - name: torn
    input: {recording: "*.ndjson"}
`)
	l := &Loader{Registry: registry(), ReadFile: os.ReadFile}
	suites, err := l.Load([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	results := runAll(t, l, suites[0])
	if got := told(results[0]); got != "" {
		t.Error(got)
	}
	if got, want := told(results[1]), filepath.Join(dir, "b.ndjson")+":2: torn or malformed entry"; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

const beforeUpdate = `# at the top
tests:
  # about the first
  - name: differs   # so it does
    env: {WORD: w}
    input:
      payload: {a: 1, b: two}
    # about outputs
    output:         # in order
      # about this output
      - payload:    # a payload
          body:
            b: "old"     # a member
            # above a
            a: 2
            gone: true   # with its member
          word: w
        metadata: {word: old}

    # about what is behind
    outcome: written

  - name: the same
    input: {payload: 7}
    output: [ {payload:   {word: none,   body: 7}} ]
  - name: of another number
    input: [{payload: two}, {payload: lines}]
    output:
    - payload: {n: 2}      # stays
    - payload: '{"n": 9}'  # text stays text
  - name: partial
    input: {payload: {a: 1, b: 2}}
    output:
      - payload: {body: {a: 3}}
        partial: true
  - name: wrong
    input: {payload: permanent}
    outcome: written
    output: [{payload: 1}]   # left alone: it did not come so far
  - output: []
    name: first key
    input: {payload: text}
  - name: asks for nothing
    input: {payload: 1}
    outcome: written
  - name: new
    input: {payload: '{"s": "2026-11-01", "n": 1e400, "t": "yes", "l": "a\nb"}'}
`

const afterUpdate = `# at the top
tests:
  # about the first
  - name: differs   # so it does
    env: {WORD: w}
    input:
      payload: {a: 1, b: two}
    # about outputs
    output: # in order
      # about this output
      - payload: # a payload
          body:
            b: two # a member
            # above a
            a: 1
          word: w
        metadata: {word: w}

    # about what is behind
    outcome: written

  - name: the same
    input: {payload: 7}
    output: [ {payload:   {word: none,   body: 7}} ]
  - name: of another number
    input: [{payload: two}, {payload: lines}]
    output:
      - payload: {n: 1}
      - payload: {n: 2} # stays
      - payload: '{"n":1}' # text stays text
      - payload: {n: 2}
  - name: partial
    input: {payload: {a: 1, b: 2}}
    output:
      - payload: {body: {a: 1}}
        partial: true
  - name: wrong
    input: {payload: permanent}
    outcome: written
    output: [{payload: 1}]   # left alone: it did not come so far
  - output:
      - payload: "some text\n"
    name: first key
    input: {payload: text}
  - name: asks for nothing
    input: {payload: 1}
    outcome: written
  - name: new
    input: {payload: '{"s": "2026-11-01", "n": 1e400, "t": "yes", "l": "a\nb"}'}
    output:
      - payload: '{"word":"none","body":{"s": "2026-11-01", "n": 1e400, "t": "yes", "l": "a\nb"}}'
`

func TestUpdate_writesOutputsAndLeavesEverythingElse(t *testing.T) {
	for name, newline := range map[string]string{"Unix": "\n", "Windows": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			results, l, s := runTests(t, strings.ReplaceAll(beforeUpdate, "\n", newline))
			results, err := l.Update(t.Context(), s, results)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(s.File)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(afterUpdate, "\n", newline); string(data) != want {
				t.Errorf("got:\n%s\ndifference:\n%s", data, unified(want, string(data)))
			}
			for _, r := range results {
				if r.Passed() == (r.Name == "wrong") {
					t.Errorf("%s: %s", r.Name, told(r))
				}
				if updated := !slices.Contains([]string{"the same", "wrong", "asks for nothing"}, r.Name); r.Updated != updated {
					t.Errorf("%s: updated %t", r.Name, r.Updated)
				}
			}
			// A second time there is nothing to do, not even to the file.
			before, _ := os.Stat(s.File)
			suites, err := l.Load([]string{s.Pipeline})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Update(t.Context(), suites[0], runAll(t, l, suites[0])); err != nil {
				t.Fatal(err)
			}
			if after, _ := os.Stat(s.File); !os.SameFile(before, after) {
				t.Error("the file was written again")
			}
		})
	}
}

func TestUpdate_refusesWhatItCannotReplaceLineByLine(t *testing.T) {
	for name, tests := range map[string]string{
		"in braces":         "tests: [{name: a, input: {payload: 1}, output: []}]\n",
		"braces over lines": "tests:\n  - {name: a, input: {payload: 1},\n     output: []}\n",
		"an alias":          "x-o: &o [{payload: 5}]\ntests:\n  - name: a\n    input: {payload: 1}\n    output: *o\n",
	} {
		t.Run(name, func(t *testing.T) {
			results, l, s := runTests(t, tests)
			_, err := l.Update(t.Context(), s, results)
			if err == nil || !strings.Contains(err.Error(), "on lines of their own") {
				t.Errorf("error %v", err)
			}
			if data, _ := os.ReadFile(s.File); string(data) != tests {
				t.Errorf("the file is now\n%s", data)
			}
		})
	}
}

func TestReport_everyFormatTellsTheSame(t *testing.T) {
	results := []Result{
		{File: "a.yaml", Line: 3, Name: "good", Took: 2 * time.Millisecond},
		{File: "a.yaml", Line: 9, Name: `bad <&"`, Took: time.Second, Failures: []Failure{
			{Line: 11, Column: 5, What: "differs", Diff: "- 1\n+ 2\n"}, {Line: 12, Column: 7, What: "was poisoned"},
		}},
		{File: "b.yaml", Line: 1, Name: "updated", Updated: true},
	}
	var text, asJSON, junit bytes.Buffer
	for _, err := range []error{WriteText(&text, results), WriteJSON(&asJSON, results), WriteJUnit(&junit, results)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := `FAIL  a.yaml  2 tests in 1.002s
  FAIL  bad <&"
    a.yaml:11:5: differs
        - 1
        + 2
    a.yaml:12:7: was poisoned
ok    b.yaml  1 test in 0s
      updated: updated
3 tests: 2 passed, 1 failed
`
	if text.String() != want {
		t.Errorf("text:\n%s", text.String())
	}
	var decoded []struct {
		File, Name string
		Line       int
		Passed     bool
		Seconds    float64
		Failures   []struct {
			Line, Column int
			What, Diff   string
		}
	}
	if err := json.Unmarshal(asJSON.Bytes(), &decoded); err != nil {
		t.Fatal(err)
	}
	if d := decoded[1]; len(decoded) != 3 || d.Passed || d.Name != `bad <&"` || d.Seconds != 1 || len(d.Failures) != 2 || d.Failures[0].Diff != "- 1\n+ 2\n" || decoded[0].Failures == nil {
		t.Errorf("JSON: %+v", decoded)
	}
	var suites struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Time     string `xml:"time,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(junit.Bytes(), &suites); err != nil {
		t.Fatal(err)
	}
	a := suites.Suites[0]
	if len(suites.Suites) != 2 || a.Tests != 2 || a.Failures != 1 || a.Time != "1.002" || a.Cases[0].Failure != nil ||
		a.Cases[1].Name != `bad <&"` || a.Cases[1].Failure.Message != "differs" || !strings.Contains(a.Cases[1].Failure.Text, "a.yaml:11:5: differs\n- 1\n+ 2\na.yaml:12:7") {
		t.Errorf("JUnit:\n%s", junit.String())
	}
}
