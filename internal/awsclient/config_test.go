package awsclient

import (
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
)

func TestConfig_refusesWhatNoServerWillTake(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"nothing":                 {func(c *Config) { *c = Config{} }, ""},
		"a key":                   {func(*Config) {}, ""},
		"half a key":              {func(c *Config) { c.AccessKeyID = pipeline.Secret{} }, "secret_access_key: needs access_key_id"},
		"the other half":          {func(c *Config) { c.SecretAccessKey = pipeline.Secret{} }, "access_key_id: needs secret_access_key"},
		"region with a blank":     {func(c *Config) { c.Region = "us east 1" }, `region: want a region such as us-east-1, got "us east 1"`},
		"region in capitals":      {func(c *Config) { c.Region = "US-EAST-1" }, `region: want a region such as us-east-1, got "US-EAST-1"`},
		"endpoint without scheme": {func(c *Config) { c.Endpoint = "127.0.0.1:4566" }, `endpoint: want a URL such as http://127.0.0.1:4566, got "127.0.0.1:4566"`},
		"endpoint, other scheme":  {func(c *Config) { c.Endpoint = "sqs://127.0.0.1:4566" }, "endpoint: want a URL such as http://127.0.0.1:4566"},
		"endpoint with a blank":   {func(c *Config) { c.Endpoint = "http://127.0.0.1 :4566" }, "endpoint: want a URL such as http://127.0.0.1:4566"},
		"endpoint, no such port":  {func(c *Config) { c.Endpoint = "http://127.0.0.1:70000" }, "endpoint: want a URL such as http://127.0.0.1:4566"},
		"endpoint, no such host":  {func(c *Config) { c.Endpoint = "http://sqs..internal" }, "endpoint: want a URL such as http://127.0.0.1:4566"},
		"key with a line end":     {func(c *Config) { c.AccessKeyID = pipeline.NewSecret("AKIA\n") }, "access_key_id: want letters and digits, as AWS gives it out"},
		"key in Cyrillic":         {func(c *Config) { c.AccessKeyID = pipeline.NewSecret("АKIA") }, "access_key_id: want letters and digits, as AWS gives it out"},
		"token with a blank":      {func(c *Config) { c.SessionToken = pipeline.NewSecret("a b") }, "session_token: want letters, digits and signs without blanks, as AWS gives it out"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Region: "us-east-1", Endpoint: "http://127.0.0.1:4566", AccessKeyID: pipeline.NewSecret("AKIA"), SecretAccessKey: pipeline.NewSecret("s3cret")}
			c.edit(&config)
			got := ""
			if err := config.Validate(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
