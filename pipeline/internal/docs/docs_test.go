package docs

import "testing"

func TestFirstSentence(t *testing.T) {
	for text, want := range map[string]string{
		"Drops. Everything.":               "Drops.",
		"Keeps e.g. this. And that.":       "Keeps e.g. this.",
		"Takes off what is around:\n\n- a": "Takes off what is around.",
		"No stop\n\nSecond.":               "No stop",
	} {
		if got := firstSentence(text); got != want {
			t.Errorf("of %q: %q, want %q", text, got, want)
		}
	}
}
