package cli

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTidyVariables_trimsLineEndsAndRefusesTheRest(t *testing.T) {
	environ := []string{
		"AWS_PROFILE=work\n", "AWS_SESSION_TOKEN=abc\r\n", "AWS_REGION=eu-west-1", "OTEL_SERVICE_NAME='penstock'", "https_proxy=http://proxy:3128 ",
		"AWS_SECRET_ACCESS_KEY=s3c\x00ret", "OTHER=what\never\n", "AWS_EMPTY=", "LOG_LEVEL=info\n",
	}
	set := map[string]string{}
	notes, err := tidyVariables(environ, func(name, value string) error { set[name] = value; return nil })
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

// What can never heal is a mistake of the configuration, and no outage.
func TestTidyVariables_refusesAddressesOfNobody(t *testing.T) {
	const (
		proxy    = "want the address of a proxy, such as http://proxy:3128 or socks5://proxy:1080"
		endpoint = "want a URL such as http://127.0.0.1:4566"
	)
	for variable, want := range map[string]string{
		"HTTPS_PROXY=http://proxy:3128": "", "HTTP_PROXY=proxy:3128": "", "http_proxy=proxy": "", "https_proxy=socks5://me:s3cret@proxy:1080": "",
		"HTTPS_PROXY=": "", "NO_PROXY=.internal,10.0.0.0/8": "", "NO_PROXY=*": "", "HTTP_PROXY_NOTE=see the wiki": "",
		"AWS_ENDPOINT_URL=http://127.0.0.1:4566": "", "AWS_ENDPOINT_URL_SQS=https://sqs.internal": "", "AWS_ENDPOINT_URL_STS=": "",
		"HTTPS_PROXY=http://proxy:3128:4":             "HTTPS_PROXY: " + proxy,
		"https_proxy=http://me:s3cret@pro xy":         "https_proxy: " + proxy,
		"HTTP_PROXY=ftp://me:s3cret@proxy":            "HTTP_PROXY: " + proxy,
		"HTTP_PROXY=http://":                          "HTTP_PROXY: " + proxy,
		"HTTPS_PROXY=http://s3cret..internal":         "HTTPS_PROXY: " + proxy,
		"HTTPS_PROXY=socks5://proxy:99999":            "HTTPS_PROXY: " + proxy,
		"NO_PROXY='localhost'":                        "NO_PROXY: is wrapped in quotes ('…'), which would be a part of it: write it without them (env files keep quotes as they are)",
		"AWS_ENDPOINT_URL=127.0.0.1:4566":             "AWS_ENDPOINT_URL: " + endpoint,
		"AWS_ENDPOINT_URL_SQS=http://127.0.0.1:70000": "AWS_ENDPOINT_URL_SQS: " + endpoint,
		"AWS_ENDPOINT_URL_STS=https://-sts":           "AWS_ENDPOINT_URL_STS: " + endpoint,
	} {
		_, err := tidyVariables([]string{variable}, func(string, string) error { return nil })
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want || strings.Contains(got, "s3cret") {
			t.Errorf("%s: %q, want %q", variable, got, want)
		}
	}
}

func TestTidyVariables_saysThatAllProxyIsNotRead(t *testing.T) {
	const note = "ALL_PROXY is set, but not read: HTTPS_PROXY and HTTP_PROXY name the proxies (socks5://HOST:PORT, too)"
	for environ, want := range map[string]string{
		"ALL_PROXY=socks5://proxy": note, "all_proxy=x": strings.Replace(note, "ALL_PROXY", "all_proxy", 1),
		"": "", "ALL_PROXY=": "", "ALL_PROXY=socks5://proxy HTTPS_PROXY=socks5://proxy": "", "http_proxy=proxy all_proxy=proxy": "",
	} {
		notes, err := tidyVariables(strings.Fields(environ), nil)
		if got := strings.Join(notes, "\n"); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", environ, got, err, want)
		}
	}
}
