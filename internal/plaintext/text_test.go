package plaintext

import (
	"strings"
	"testing"
)

func TestCheck_refusesWhatCantBeSeen(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"production":                "",
		"two words":                 "",
		"it's":                      "",
		`a "quoted" word`:           "",
		`"`:                         "",
		"客户:müller/😀":               "",
		"production\n":              `has a line end in it: "\n", character 11 of 11`,
		"production\r\n":            `has a line end in it: "\r", character 11 of 12`,
		"prod\nuction":              `has a line end in it: "\n", character 5 of 11`,
		"a\tb":                      `has a tab in it: "\t", character 2 of 3`,
		"a\x00b":                    `has a control character in it: "\x00", character 2 of 3`,
		"a\x7f":                     `has a control character in it: "\x7f", character 2 of 2`,
		"\x1b[31mred":               `has a control character in it: "\x1b", character 1 of 8`,
		"a\u0085b":                  `has a line end in it: "\u0085", character 2 of 3`,
		"a\u2028b":                  `has a line end in it: "\u2028", character 2 of 3`,
		"pro\u00a0duction":          `has a blank of an unusual kind in it: "\u00a0", character 4 of 11`,
		"\u3000x":                   `has a blank of an unusual kind in it: "\u3000", character 1 of 2`,
		"prod\u200buction":          `has a character that can't be seen in it: "\u200b", character 5 of 11`,
		"\ufeffproduction":          `has a character that can't be seen in it: "\ufeff", character 1 of 11`,
		"soft\u00adhyphen":          `has a character that can't be seen in it: "\u00ad", character 5 of 11`,
		"right\u202eleft":           `has a character that can't be seen in it: "\u202e", character 6 of 10`,
		"caf\xe9":                   "is not UTF-8: it has the byte 0xe9 at position 4",
		" production":               `begins with a blank (" ")`,
		"production ":               `ends with a blank (" ")`,
		" ":                         `begins with a blank (" ")`,
		`"production"`:              `is wrapped in quotes ("…")`,
		`'production'`:              `is wrapped in quotes ('…')`,
		"`production`":              "is wrapped in quotes (`…`)",
		"“production”":              `is wrapped in quotes (“…”)`,
		`""`:                        `is wrapped in quotes ("…")`,
		`"production'`:              "",
		"’production’":              `is wrapped in quotes (’…’)`,
		"„production”":              `is wrapped in quotes („…”)`,
		"»production«":              `is wrapped in quotes (»…«)`,
		"‹production›":              `is wrapped in quotes (‹…›)`,
		"’":                         "",
		"prod\u3164":                `has a character that can't be seen in it: "\u3164", character 5 of 5`,
		"prod\u2800":                `has a blank of an unusual kind in it: "\u2800", character 5 of 5`,
		"prod\ufe0f":                `has a character that can't be seen in it: "\ufe0f", character 5 of 5`,
		"prod\u034fx":               `has a character that can't be seen in it: "\u034f", character 5 of 6`,
		"prod\u180e":                `has a character that can't be seen in it: "\u180e", character 5 of 5`,
		"prod\U000e0041":            `has a character that can't be seen in it: "\U000e0041", character 5 of 5`,
		"prod\ufffdx":               `has a replacement character in it ("\ufffd"), which is what a wrong encoding leaves behind: character 5 of 6`,
		strings.Repeat("x", 100000): "",
	} {
		err := Check(text)
		if got := ""; err == nil && want != got || err != nil && (want == "" || !strings.HasPrefix(err.Error(), strings.TrimSuffix(want, ")"))) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestCut(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "short": "short", strings.Repeat("ä", 60): strings.Repeat("ä", 60), strings.Repeat("ä", 61): strings.Repeat("ä", 60) + "…",
	} {
		if got := Cut(text); got != want {
			t.Errorf("%d characters: %q", len([]rune(text)), got)
		}
	}
}
