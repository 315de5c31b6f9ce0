package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// readByLibraries are the beginnings of the variables that libraries read by themselves, past the pipeline file.
var readByLibraries = []string{"AWS_", "OTEL_", "SENTRY_", "DISABLE_SENTRY", "LOG_LEVEL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_"}

// tidyEnvironment takes the line ends off the values of variables that libraries read by themselves: an env file, or
// a shell that reads a file, leaves them there, and in a header or a host they fail in ways that look like an outage.
// The notes say what was changed, the error what can't be right. set changes a variable of the process.
func tidyEnvironment(environ []string, set func(name, value string) error) (notes []string, err error) {
	var problems []error
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !slices.ContainsFunc(readByLibraries, func(prefix string) bool { return strings.HasPrefix(strings.ToUpper(name), prefix) }) {
			continue
		}
		if trimmed := trimLineEnds(value); trimmed != value {
			if err := set(name, trimmed); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
				continue
			}
			notes = append(notes, trimmedNote(name))
			value = trimmed
		}
		if err := plaintext.Check(value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	return notes, errors.Join(problems...)
}

func trimLineEnds(s string) string { return strings.TrimRight(s, "\r\n") }

func trimmedNote(name string) string { return "the line end at the end of " + name + " is left out" }

// trimmed looks variables up without the line ends at their ends.
func trimmed(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, set := lookup(name)
		return trimLineEnds(value), set
	}
}
