package cli

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// readByLibraries are the beginnings of the variables that libraries read by themselves, past the pipeline file.
// Nothing reads ALL_PROXY: Go's HTTP client asks the variables of http and https.
var readByLibraries = []string{"AWS_", "OTEL_", "SENTRY_", "DISABLE_SENTRY", "LOG_LEVEL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_"}

// tidyVariables takes the line ends off the values of variables that libraries read by themselves: an env file, or
// a shell that reads a file, leaves them there, and in a header or a host they fail in ways that look like an outage.
// The notes say what was changed, the error what can't be right. set changes a variable of the process.
func tidyVariables(environ []string, set func(name, value string) error) (notes []string, err error) {
	var problems []error
	if lone := loneAllProxy(environ); lone != "" {
		notes = append(notes, lone+" is set, but not read: HTTPS_PROXY and HTTP_PROXY name the proxies (socks5://HOST:PORT, too)")
	}
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
		err := plaintext.Check(value)
		if err == nil && value != "" {
			err = checkAddress(strings.ToUpper(name), value)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	return notes, errors.Join(problems...)
}

// checkAddress reports an address at which nobody can ever be reached: every request would fail in a way that looks
// like an outage. The address is not shown, it may hold a password.
func checkAddress(name, value string) error {
	switch {
	case name == "HTTP_PROXY" || name == "HTTPS_PROXY":
		u, err := url.Parse(value)
		if err != nil || u.Host == "" { // without a scheme it is a proxy of http
			u, err = url.Parse("http://" + value)
		}
		schemes := []string{"http", "https", "socks5", "socks5h"}
		if err != nil || !slices.Contains(schemes, u.Scheme) || plaintext.CheckURLHost(u) != nil {
			return errors.New("want the address of a proxy, such as http://proxy:3128 or socks5://proxy:1080")
		}
	case name == "AWS_ENDPOINT_URL" || strings.HasPrefix(name, "AWS_ENDPOINT_URL_"):
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || plaintext.CheckURLHost(u) != nil {
			return errors.New("want a URL such as http://127.0.0.1:4566")
		}
	}
	return nil
}

// loneAllProxy returns the name of ALL_PROXY, as it is spelled, when no variable that is read names a proxy.
func loneAllProxy(environ []string) (name string) {
	for _, variable := range environ {
		spelled, value, _ := strings.Cut(variable, "=")
		switch strings.ToUpper(spelled) {
		case "HTTP_PROXY", "HTTPS_PROXY":
			return ""
		case "ALL_PROXY":
			if value != "" {
				name = spelled
			}
		}
	}
	return name
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
