package cli

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTidyEnvironment_trimsLineEndsAndRefusesTheRest(t *testing.T) {
	environ := []string{
		"AWS_PROFILE=work\n", "AWS_SESSION_TOKEN=abc\r\n", "AWS_REGION=eu-west-1", "OTEL_SERVICE_NAME='penstock'", "https_proxy=http://proxy:3128 ",
		"AWS_SECRET_ACCESS_KEY=s3c\x00ret", "OTHER=what\never\n", "AWS_EMPTY=", "LOG_LEVEL=info\n",
	}
	set := map[string]string{}
	notes, err := tidyEnvironment(environ, func(name, value string) error { set[name] = value; return nil })
	if want := map[string]string{"AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "abc", "LOG_LEVEL": "info"}; !maps.Equal(set, want) {
		t.Errorf("set %q, want %q", set, want)
	}
	if want := []string{"the line end at the end of AWS_PROFILE is left out", "the line end at the end of AWS_SESSION_TOKEN is left out",
		"the line end at the end of LOG_LEVEL is left out"}; !slices.Equal(notes, want) {
		t.Errorf("notes %q", notes)
	}
	const want = `OTEL_SERVICE_NAME: is wrapped in quotes ('…'), which would be a part of it: write it without them (env files keep quotes as they are)
https_proxy: ends with a blank (" ")
AWS_SECRET_ACCESS_KEY: has a control character in it: "\x00", character 4 of 7`
	if err == nil || err.Error() != want || strings.Contains(err.Error(), "s3c") {
		t.Errorf("error:\n%v", err)
	}
}
