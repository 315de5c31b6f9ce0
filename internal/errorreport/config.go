// Package errorreport tells a Sentry what goes wrong: one event per cause, not one per message, and nothing in it that
// came from a message, a user or a secret (package cause). Without a DSN it does not exist.
package errorreport

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/getsentry/sentry-go"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// Config is where errors are reported to. The zero value reports to nobody.
type Config struct {
	// DSN is the address of a project in Sentry, with its key; "" reports nothing.
	DSN string
	// Environment is what Sentry files events under; "" is Sentry's own default, production.
	Environment string
}

// FromEnv reads SENTRY_DSN (or the file that SENTRY_DSN_FILE names), DISABLE_SENTRY and SENTRY_ENVIRONMENT. What is
// set to nothing is not set. The error joins all problems, each naming its variable; none shows the DSN.
func FromEnv(lookup func(string) (string, bool), readFile func(string) ([]byte, error)) (Config, error) {
	get := func(name string) string { v, _ := lookup(name); return v }
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	disabled := false
	switch value := strings.ToLower(get("DISABLE_SENTRY")); value {
	case "", "0", "false", "no":
	case "1", "true", "yes":
		disabled = true
	default:
		problem("DISABLE_SENTRY: want true or false (or 1, 0, yes, no), got %q", plaintext.Cut(value))
	}
	c := Config{DSN: get("SENTRY_DSN"), Environment: get("SENTRY_ENVIRONMENT")}
	if file := get("SENTRY_DSN_FILE"); file != "" && !disabled {
		content, err := readFile(file)
		secret := strings.TrimRight(string(content), "\r\n")
		switch {
		case err != nil:
			problem("SENTRY_DSN_FILE: %w", err)
		case secret == "":
			problem("SENTRY_DSN_FILE: %q is empty", file)
		case c.DSN != "" && c.DSN != secret:
			problem("SENTRY_DSN and SENTRY_DSN_FILE are both set and say different things")
		default:
			c.DSN = secret
		}
	}
	if disabled {
		c = Config{}
	}
	if c.DSN != "" {
		u, err := url.Parse(c.DSN)
		if err == nil {
			err = plaintext.CheckURLHost(u)
		}
		if err == nil {
			_, err = sentry.NewDsn(c.DSN)
		}
		if err != nil { // not shown: it may quote the address
			problem("SENTRY_DSN: want https://KEY@HOST/PROJECT, as Sentry shows it under the project's client keys; " +
				"what is set is not shown, it holds the key. DISABLE_SENTRY=true switches reports off")
		}
	}
	if len(problems) > 0 {
		return Config{}, errors.Join(problems...)
	}
	return c, nil
}
