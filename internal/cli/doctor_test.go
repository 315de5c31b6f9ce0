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
		return []pipeline.Finding{{Code: "PS000", Severity: severity, What: "it <is> at " + env.Path + " of " + env.Pipeline.Name, Remedy: "mend it"}}
	}
	switch c.Always {
	case "broken":
		return finding(pipeline.SeverityBroken)
	case "warning":
		return finding(pipeline.SeverityWarning)
	case "note":
		return finding(pipeline.SeverityNote)
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
