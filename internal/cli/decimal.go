package cli

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// decimal is a flag of a whole number, in the syntax that pipeline files and variables have: pflag's own flags take
// 010 for 8.
type decimal[N int | int64] struct{ to *N }

// decimalVar adds such a flag, which is 0 when it is not given.
func decimalVar[N int | int64](flags *pflag.FlagSet, to *N, name, usage string) {
	flags.Var(decimal[N]{to}, name, usage)
}

func (d decimal[N]) Set(text string) error {
	if !plaintext.IsDecimal(text, false) {
		return errors.New("want a whole number" + plaintext.DecimalHint(text))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || int64(N(n)) != n {
		return errors.New("want a whole number of up to 18 digits")
	}
	*d.to = N(n)
	return nil
}

func (d decimal[N]) String() string {
	if d.to == nil {
		return "0"
	}
	return strconv.FormatInt(int64(*d.to), 10)
}

func (decimal[N]) Type() string { return "int" }
