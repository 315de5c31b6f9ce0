package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthcheckTimeout is below the time that container engines give a check.
const healthcheckTimeout = 3 * time.Second

func (p *Program) healthcheckCommand() *cobra.Command {
	timeout := healthcheckTimeout
	c := &cobra.Command{
		Use:   "healthcheck [URL]",
		Short: "asks a running penstock whether it is alive",
		Long: `Asks a running penstock for its probe and prints the answer: for container engines and service managers, in images that
have no curl.

URL is the probe's, or only its path. Without it, that is /livez on this machine's port PORT (4000 when it is not
set): not /readyz, because what restarts a container that is unhealthy would restart it for an outage of the queue or
the store, which no restart ends and penstock gets over by itself.`,
		Example: p.examples(`
			penstock healthcheck
			penstock healthcheck /readyz
			penstock healthcheck http://127.0.0.1:8080/livez --timeout 1s`),
		Args: atMost("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			probe := "/livez"
			if len(args) > 0 {
				probe = args[0]
			}
			u, err := p.probeURL(probe)
			if err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef("--timeout: want a time above 0, got %s", timeout)
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return p.healthcheck(ctx, u)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", timeout, "how long the answer may take")
	return c
}

// probeURL makes the URL of a probe of what a person gave, which may be only its path.
func (p *Program) probeURL(probe string) (string, error) {
	if strings.HasPrefix(probe, "/") {
		port, _ := trimmed(p.LookupEnv)("PORT")
		if port == "" {
			port = "4000"
		}
		probe = "http://" + net.JoinHostPort("127.0.0.1", port) + probe
	}
	u, err := url.Parse(probe)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", usagef("want http://HOST:PORT/PATH or /PATH, got %q", probe)
	}
	return u.String(), nil
}

func (p *Program) healthcheck(ctx context.Context, probe string) error {
	// Not the default transport: a proxy in HTTPS_PROXY is for the queue, not for a probe.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, probe, nil)
	if err != nil {
		return &usageError{err}
	}
	res, err := transport.RoundTrip(req) // a probe that redirects is not ours
	if err != nil {
		return fmt.Errorf("%s: %w", probe, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", probe, err)
	}
	if _, err := fmt.Fprintf(p.Stdout, "%d %s\n", res.StatusCode, strings.TrimSpace(string(body))); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return exitError(exitFailed)
	}
	return nil
}
