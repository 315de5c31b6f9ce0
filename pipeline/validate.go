package pipeline

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
)

// Validate reports the rules of a pipeline that concern it as a whole; its parts have rules of their own, which [Load]
// checks too.
func (c *Config) Validate() error {
	var errs []error
	if err := checkName(c.Name); err != nil {
		errs = append(errs, code.Mark(code.PipelineName, Invalid("name", "%w", err)))
	}
	if c.MaxInFlight < 1 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("max_in_flight", "must be at least 1, got %d", c.MaxInFlight)))
	}
	if c.MaxInFlightBytes < 1 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("max_in_flight_bytes", "must be at least 1, got %d", int64(c.MaxInFlightBytes))))
	}
	if c.MessageTimeout <= 0 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("message_timeout", "must be more than 0, got %s", c.MessageTimeout)))
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("shutdown_timeout", "must be more than 0, got %s", c.ShutdownTimeout)))
	}
	if c.Retry.OnExhausted == "poison" && c.PoisonQueue == nil && !slices.Contains(c.skipped, "poison_queue") {
		errs = append(errs, code.Mark(code.PoisonUnqueued, Invalid("retry.on_exhausted", "poison wants a poison_queue")))
	}
	return errors.Join(errs...)
}

func checkName(name string) error {
	if len(name) > 63 {
		return fmt.Errorf("must be at most 63 characters, got %d", len(name))
	}
	for _, r := range name {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			continue
		}
		return fmt.Errorf("want only a-z, 0-9 and -, got %q", plaintext.Cut(name))
	}
	if name == "" {
		return code.Markf(code.Required, "is required")
	}
	return nil
}

// Validate reports waits and counts that make no sense.
func (r RetryConfig) Validate() error {
	var errs []error
	if r.InitialInterval <= 0 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("initial_interval", "must be more than 0, got %s", r.InitialInterval)))
	}
	if r.MaxInterval < r.InitialInterval {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("max_interval", "must be at least initial_interval (%s), got %s", r.InitialInterval, r.MaxInterval)))
	}
	if r.Multiplier < 1 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("multiplier", "must be at least 1, got %v", r.Multiplier)))
	}
	if r.MaxAttempts < 1 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("max_attempts", "must be at least 1, got %d", r.MaxAttempts)))
	}
	if r.MaxElapsedTime <= 0 {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("max_elapsed_time", "must be more than 0, got %s", r.MaxElapsedTime)))
	}
	return errors.Join(errs...)
}

// Validate reports two addresses that can't be listened on both.
func (s ServiceConfig) Validate() error {
	if s.HTTP == nil || s.Admin == nil || s.HTTP.Address == s.Admin.Address {
		return nil
	}
	host, port, err := net.SplitHostPort(s.HTTP.Address)
	adminHost, adminPort, adminErr := net.SplitHostPort(s.Admin.Address)
	if err == nil && adminErr == nil && port == adminPort && port != "0" && (host == "" || adminHost == "" || host == adminHost) {
		return code.Mark(code.PortTwice, Invalid("admin.address", "takes the port of http.address (%s): want the same address, or another port", s.HTTP.Address))
	}
	return nil
}

// Validate reports an address that can't be listened on.
func (h HTTPConfig) Validate() error {
	_, err := listenHost(h.Address)
	return err
}

// Validate reports an address that can't be listened on, and one that would show payloads to strangers.
func (a AdminConfig) Validate() error {
	host, err := listenHost(a.Address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && a.Token.IsZero() {
		return code.Mark(code.OpenAdmin, Invalid("address", "%s is not a loopback address: it may show payloads to strangers, so it wants a token", a.Address))
	}
	return nil
}

func listenHost(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", code.Mark(code.ListenAddress, Invalid("address", `want "host:port" or ":port", got %q`, plaintext.Cut(address)))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", code.Mark(code.ListenAddress, Invalid("address", "want a port from 0 to 65535, got %q", plaintext.Cut(port)))
	}
	return host, nil
}

// checkTogether reports what keeps pipelines from running in one process: two of one name, or more than one service.
// The error is a [ConfigError].
func checkTogether(configs ...*Config) error {
	var problems []Problem
	names := map[string]*Config{}
	var service *Config
	for _, c := range configs {
		if first, ok := names[c.Name]; ok {
			problems = append(problems, c.problem(code.NameTwice, "name", fmt.Sprintf("%q is the name of the pipeline in %s already", c.Name, first.File)))
		} else {
			names[c.Name] = c
		}
		if c.Service == nil {
			continue
		}
		if service != nil {
			problems = append(problems, c.problem(code.ServiceTwice, "service", fmt.Sprintf("one service a process: %s has it already", service.File)))
		} else {
			service = c
		}
	}
	return configError(problems)
}

func (c *Config) problem(kind code.Code, path, what string) Problem {
	at := c.places.Nearest(path)
	return Problem{File: c.File, Line: at.Line, Column: at.Column, Path: path, What: what, Code: string(kind)}
}
