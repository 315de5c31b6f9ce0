package awsclient

import (
	"embed"
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline"
)

// ConfigSource is the source code of [Config]: its doc comments are the reference documentation.
//
//go:embed config.go
var ConfigSource embed.FS

// Config says where a service of AWS is and who asks. Configs of components inline it.
type Config struct {
	// AWS region, such as us-east-1. Needed only if the queue's URL and AWS's default chain don't tell.
	Region string `yaml:"region"`
	// Base URL of a compatible server, such as http://127.0.0.1:4566 (S3 buckets are then part of the path). Without
	// it AWS is asked, or the host of a queue URL that is not AWS's.
	Endpoint string `yaml:"endpoint"`
	// Access key. Without it AWS's default chain is used: environment variables, profile, web identity, container and
	// instance roles.
	AccessKeyID string `yaml:"access_key_id"`
	// The access key's secret.
	SecretAccessKey pipeline.Secret `yaml:"secret_access_key"`
	// Session token of temporary credentials. The default chain renews them by itself; these can't be.
	SessionToken pipeline.Secret `yaml:"session_token"`
	// Role to assume with the credentials found. AWS STS is asked, or the server that the variable
	// AWS_ENDPOINT_URL_STS names.
	AssumeRole *RoleConfig `yaml:"assume_role"`
}

// RoleConfig is a role to assume with AWS STS.
type RoleConfig struct {
	// ARN of the role, such as arn:aws:iam::123456789012:role/penstock.
	ARN string `yaml:"arn" required:"true"`
	// External id that the role's trust policy asks for.
	ExternalID string `yaml:"external_id"`
	// Name of the session, as it appears in CloudTrail.
	SessionName string `yaml:"session_name"`
}

var region = regexp.MustCompile(`^[a-z0-9-]+$`)

// Validate reports half an access key, and what no server will ever take.
func (c *Config) Validate() error {
	var errs []error
	invalid := func(c code.Code, field, format string, args ...any) {
		errs = append(errs, code.Mark(c, pipeline.Invalid(field, format, args...)))
	}
	if (c.AccessKeyID == "") != c.SecretAccessKey.IsZero() {
		invalid(code.Contradiction, "access_key_id", "and secret_access_key need each other")
	}
	if c.Region != "" && !region.MatchString(c.Region) {
		invalid(code.BadAddress, "region", "want a region such as us-east-1, got %q", plaintext.Cut(c.Region))
	}
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || plaintext.CheckURLHost(u) != nil) {
		invalid(code.BadAddress, "endpoint", "want a URL such as http://127.0.0.1:4566") // not shown: it may hold a password
	}
	// Both become parts of headers, where such characters fail every request.
	if !isVisibleASCII(c.AccessKeyID) {
		invalid(code.BadForm, "access_key_id", "want letters and digits, as AWS gives it out")
	}
	if !isVisibleASCII(c.SessionToken.Reveal()) {
		invalid(code.BadForm, "session_token", "want letters, digits and signs without blanks, as AWS gives it out")
	}
	return errors.Join(errs...)
}

func isVisibleASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Settings are what the config says.
func (c *Config) Settings() Settings {
	s := Settings{
		Region: c.Region, Endpoint: c.Endpoint,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey.Reveal(), SessionToken: c.SessionToken.Reveal(),
	}
	if r := c.AssumeRole; r != nil {
		s.AssumeRole = AssumeRole{ARN: r.ARN, ExternalID: r.ExternalID, SessionName: r.SessionName}
	}
	return s
}
