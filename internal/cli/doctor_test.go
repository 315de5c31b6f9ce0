package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
)

// Diagnose finds what Always says, so that files can say what is wrong.
func (c *actConfig) Diagnose(_ context.Context, env pipeline.DoctorEnv) []pipeline.Finding {
	finding := func(severity pipeline.Severity) []pipeline.Finding {
		return []pipeline.Finding{{Code: "PS000", Severity: severity, What: "it <is> at " + env.Path + " of " + env.Pipeline.Name, Remedy: "mend it", Fix: "first line\nsecond"}}
	}
	switch c.Always {
	case "broken":
		return finding(pipeline.SeverityBroken)
	case "warning":
		return finding(pipeline.SeverityWarning)
	case "note":
		return finding(pipeline.SeverityNote)
	case "twice":
		return append(append(finding(pipeline.SeverityNote), pipeline.Finding{Code: "PS001", What: "more", Fix: "first line\nsecond"}), pipeline.Finding{Code: "PS002", What: "last"})
	case "peek":
		if env.Peek {
			return finding(pipeline.SeverityNote)
		}
	}
	return nil
}

func TestDoctor_saysWhatIsFoundAndHowBadItIs(t *testing.T) {
	file := func(name, always string) string {
		return "name: " + name + "\nsource: {list: {}}\nsink: {act: {always: " + always + "}}\n"
	}
	files := map[string]string{
		"well.yaml": file("well", "nothing"), "note.yaml": file("noted", "note"), "warning.yaml": file("warned", "warning"),
		"broken.yaml": file("ill", "broken"), "peek.yaml": file("peek", "peek"), "wrong.yaml": "name: x\nsource: {list: {}}\n",
		"nothing.yaml": "name: plain\nsource: {list: {}}\nsink: {act: {}}\npoison_queue: {act: {always: warning}}\n",
	}
	for name, c := range map[string]struct {
		args  []string
		code  int
		wants []string
	}{
		"well":           {[]string{"well.yaml"}, 0, []string{"well: ", "\nsink.act  act\n  ok\n", "\nnothing is wrong\n"}},
		"a note":         {[]string{"note.yaml"}, 0, []string{"  PS000 note     it <is> at sink.act of noted\n        remedy   mend it\n", "\n1 note\n"}},
		"a warning":      {[]string{"warning.yaml"}, 0, []string{"  PS000 warning  it <is>", "\n1 warning\n"}},
		"broken":         {[]string{"broken.yaml"}, 1, []string{"  PS000 broken   it <is>", "\n1 broken\n"}},
		"several files":  {[]string{"broken.yaml", "warning.yaml", "note.yaml", "well.yaml"}, 1, []string{"\n1 broken, 1 warning, 1 note\n"}},
		"no peeking":     {[]string{"peek.yaml"}, 0, []string{"nothing is wrong"}},
		"peeking":        {[]string{"--peek", "peek.yaml"}, 0, []string{"1 note"}},
		"a wrong file":   {[]string{"wrong.yaml", "well.yaml"}, 2, nil},
		"every place":    {[]string{"nothing.yaml"}, 0, []string{"\nsink.act  act\n  ok\n", "\npoison_queue.act  act\n  PS000 warning"}},
		"no environment": {nil, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := invoke{args: append([]string{"doctor"}, c.args...), files: files}.run(t)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, stdout, stderr)
			}
			for _, want := range c.wants {
				if !strings.Contains(stdout, want) {
					t.Errorf("got %q\nwant %q in it", stdout, want)
				}
			}
			if c.code == 2 && stdout != "" {
				t.Errorf("looked although the configuration is wrong: %s", stdout)
			}
		})
	}
	code, stdout, _ := invoke{args: []string{"doctor", "--json", "broken.yaml", "well.yaml"}, files: files}.run(t)
	var got map[string]string
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 1 {
		t.Fatalf("exit code %d, %v: %q", code, err, stdout)
	}
	if got["pipeline"] != "ill" || got["path"] != "sink.act" || got["code"] != "PS000" || got["severity"] != "broken" || got["remedy"] != "mend it" {
		t.Errorf("got %v", got)
	}
}

func TestDoctor_fixHintsAreWhatCanBePasted(t *testing.T) {
	files := map[string]string{"p.yaml": "name: p\nsource: {list: {}}\nsink: {act: {always: twice}}\n", "well.yaml": "name: well\nsource: {list: {}}\nsink: {act: {}}\n"}
	code, stdout, _ := invoke{args: []string{"doctor", "--fix-hints", "p.yaml"}, files: files}.run(t)
	if want := "\n  to mend PS000, PS001:\n\n    first line\n    second\n"; code != 0 || strings.Count(stdout, want) != 1 || strings.Count(stdout, "to mend") != 1 {
		t.Errorf("exit code %d: %q\nwant once %q", code, stdout, want)
	}
	if _, stdout, _ := (invoke{args: []string{"doctor", "p.yaml"}, files: files}).run(t); strings.Contains(stdout, "first line") {
		t.Errorf("hints that nobody asked for: %s", stdout)
	}
	for name, c := range map[string]struct {
		args  []string
		fixes []string
	}{
		"an array":            {[]string{"--format", "json"}, []string{"", "", ""}},
		"an array, and hints": {[]string{"--format", "json", "--fix-hints"}, []string{"first line\nsecond", "first line\nsecond", ""}},
	} {
		code, stdout, _ := invoke{args: append([]string{"doctor", "p.yaml", "well.yaml"}, c.args...), files: files}.run(t)
		var got []struct{ Pipeline, Path, Severity, Fix string }
		if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil || len(got) != len(c.fixes) {
			t.Fatalf("%s: exit code %d, %v: %s", name, code, err, stdout)
		}
		for i, f := range got {
			if f.Fix != c.fixes[i] || f.Pipeline != "p" || f.Path != "sink.act" {
				t.Errorf("%s: got %+v", name, f)
			}
		}
	}
	if code, stdout, _ := (invoke{args: []string{"doctor", "--format", "json", "well.yaml"}, files: files}).run(t); code != 0 || strings.TrimSpace(stdout) != "[]" {
		t.Errorf("nothing found: exit code %d: %q", code, stdout)
	}
	if code, _, stderr := (invoke{args: []string{"doctor", "--format", "jsn", "well.yaml"}, files: files}).run(t); code != 2 || !strings.Contains(stderr, "did you mean json?") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
