package pipeline

import (
	"errors"
	"fmt"
	"net"

	"github.com/penstock-dev/penstock/internal/code"
)

// Validate reports the rules of a pipeline that concern it as a whole; its parts have rules of their own, which [Load]
// checks too.
func (c *Config) Validate() error {
	return checkTags(c, c.skipped...)
}

// Validate reports waits and counts that make no sense.
func (r RetryConfig) Validate() error {
	errs := []error{CheckTags(r)}
	if r.MaxInterval < r.InitialInterval {
		errs = append(errs, code.Mark(code.OutOfRange, Invalid("max_interval", "must be at least initial_interval (%s), got %s", r.InitialInterval, r.MaxInterval)))
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
func (h HTTPConfig) Validate() error { return CheckTags(h) }

// Validate reports an address that can't be listened on, and one that would show payloads to strangers.
func (a AdminConfig) Validate() error {
	if err := CheckTags(a); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(a.Address)
	if ip := net.ParseIP(host); err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) && a.Token.IsZero() {
		return code.Mark(code.OpenAdmin, Invalid("address", "%s is not a loopback address: it may show payloads to strangers, so it wants a token", a.Address))
	}
	return nil
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
