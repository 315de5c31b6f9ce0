package cli

import (
	"testing"

	"github.com/spf13/pflag"
)

// One number syntax everywhere: what a pipeline file refuses, a flag refuses, too, and says how to write it.
func TestDecimal_flagsAreReadAsPipelineFilesAre(t *testing.T) {
	for text, c := range map[string]struct {
		want  int64
		wrong string
	}{
		"0": {0, ""}, "5": {5, ""}, "-1": {-1, ""}, "123456789012": {123456789012, ""},
		"010":   {0, "want a whole number: no leading zeros (in some YAML they mean octal): write 10"},
		"0x10":  {0, "want a whole number: write it in decimal, 16"},
		"0b101": {0, "want a whole number: write it in decimal, 5"},
		"1_000": {0, "want a whole number: write 1000"},
		"+5":    {0, "want a whole number: write 5"},
		"1:30":  {0, "want a whole number: write it in decimal, 90"},
		"1e3":   {0, "want a whole number"}, "1.5": {0, "want a whole number"}, "": {0, "want a whole number"}, " 5": {0, "want a whole number"},
		"９": {0, "want a whole number"}, "many": {0, "want a whole number"},
		"99999999999999999999": {0, "want a whole number of up to 18 digits"},
	} {
		var n int64
		flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
		decimalVar(flags, &n, "limit", "most messages")
		got := ""
		if err := flags.Lookup("limit").Value.Set(text); err != nil {
			got = err.Error()
		}
		if n != c.want || got != c.wrong {
			t.Errorf("%q: %d, %q; want %d, %q", text, n, got, c.want, c.wrong)
		}
	}
}
