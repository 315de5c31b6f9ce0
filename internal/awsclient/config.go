package awsclient

import (
	"embed"
	"errors"
	"net/url"
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
	Region string `yaml:"region" pattern:"^[a-z0-9-]+$" want:"a region such as us-east-1" code:"PS058" example:"us-east-1"`
	// Base URL of a compatible server, such as http://127.0.0.1:4566 (S3 buckets are then part of the path). Without
	// it AWS is asked, or the host of a queue URL that is not AWS's.
	Endpoint string `yaml:"endpoint" pattern:"^https?://[^\\s/?#]+([/?#].*)?$" want:"a URL such as http://127.0.0.1:4566" code:"PS058" example:"http://127.0.0.1:4566"`
	// Access key. Without it AWS's default chain is used: environment variables, profile, web identity, container and
	// instance roles. A key that comes from files is read again every second: it may be rotated while the pipeline runs.
	AccessKeyID pipeline.Secret `yaml:"access_key_id" needs:"secret_access_key" pattern:"^[!-~]+$" want:"letters and digits, as AWS gives it out" example:"AKIAIOSFODNN7EXAMPLE"`
	// The access key's secret.
	SecretAccessKey pipeline.Secret `yaml:"secret_access_key" needs:"access_key_id"`
	// Session token of temporary credentials. The default chain renews them by itself; these last until their files
	// hold others.
	SessionToken pipeline.Secret `yaml:"session_token" pattern:"^[!-~]+$" want:"letters, digits and signs without blanks, as AWS gives it out"`
	// Role to assume with the credentials found. AWS STS is asked, or the server that the variable
	// AWS_ENDPOINT_URL_STS names.
	AssumeRole *RoleConfig `yaml:"assume_role" example:"{arn: \"arn:aws:iam::123456789012:role/penstock\"}"`
}

// RoleConfig is a role to assume with AWS STS.
type RoleConfig struct {
	// ARN of the role, such as arn:aws:iam::123456789012:role/penstock.
	ARN string `yaml:"arn" required:"true" example:"arn:aws:iam::123456789012:role/penstock"`
	// External id that the role's trust policy asks for.
	ExternalID string `yaml:"external_id" example:"penstock"`
	// Name of the session, as it appears in CloudTrail.
	SessionName string `yaml:"session_name" example:"penstock"`
}

// Validate reports half an access key, and what no server will ever take.
func (c *Config) Validate() error {
	errs := []error{pipeline.CheckTags(c)}
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && errs[0] == nil && (err != nil || plaintext.CheckURLHost(u) != nil) {
		errs = append(errs, code.Mark(code.BadAddress, pipeline.Invalid("endpoint", "want a URL such as http://127.0.0.1:4566"))) // not shown: it may hold a password
	}
	// Both become parts of headers, where such characters fail every request.
	if !isVisibleASCII(c.AccessKeyID.Reveal()) {
		errs = append(errs, code.Mark(code.BadForm, pipeline.Invalid("access_key_id", "want letters and digits, as AWS gives it out")))
	}
	if !isVisibleASCII(c.SessionToken.Reveal()) {
		errs = append(errs, code.Mark(code.BadForm, pipeline.Invalid("session_token", "want letters, digits and signs without blanks, as AWS gives it out")))
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
		AccessKeyID: c.AccessKeyID.Reveal(), SecretAccessKey: c.SecretAccessKey.Reveal(), SessionToken: c.SessionToken.Reveal(),
	}
	if id, secret, token := c.AccessKeyID, c.SecretAccessKey, c.SessionToken; !id.IsZero() {
		s.Current = func() (string, string, string) { return id.Current(), secret.Current(), token.Current() }
	}
	if r := c.AssumeRole; r != nil {
		s.AssumeRole = AssumeRole{ARN: r.ARN, ExternalID: r.ExternalID, SessionName: r.SessionName}
	}
	return s
}
