package awsclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestQueueLocation(t *testing.T) {
	for name, c := range map[string]struct{ url, region, endpoint string }{
		"AWS":                {"https://sqs.eu-west-1.amazonaws.com/123456789012/events", "eu-west-1", ""},
		"China":              {"https://sqs.cn-north-1.amazonaws.com.cn/123456789012/events", "cn-north-1", ""},
		"FIPS":               {"https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1", ""},
		"dual stack":         {"https://sqs.eu-west-1.api.aws/1/q", "eu-west-1", ""},
		"old name":           {"https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1", ""},
		"oldest name":        {"https://queue.amazonaws.com/1/q", "us-east-1", ""},
		"VPC endpoint":       {"https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2", "https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com"},
		"emulator":           {"http://sqs.us-west-2.localhost.localstack.cloud:4566/0/q", "us-west-2", "http://sqs.us-west-2.localhost.localstack.cloud:4566"},
		"loopback":           {"http://127.0.0.1:4566/000000000000/q", "", "http://127.0.0.1:4566"},
		"looks like AWS, no": {"https://sqs.eu-west-1.amazonaws.com.evil.example/1/q", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com.evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			region, endpoint, err := QueueLocation(c.url)
			if err != nil {
				t.Fatal(err)
			}
			if region != c.region || endpoint != c.endpoint {
				t.Errorf("got region %q, endpoint %q; want %q, %q", region, endpoint, c.region, c.endpoint)
			}
		})
	}
	for _, bad := range []string{"", "events", "https://sqs.eu-west-1.amazonaws.com", "ftp://host/q", "http://%zz/q",
		"https://me:s3cret@host", "https://me:s3cret@ho st/1/q", "https://a..b/1/q", "https://host:70000/1/q"} {
		if _, _, err := QueueLocation(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("QueueLocation(%q): %v, want an error without the password", bad, err)
		}
	}
}

func TestWholeBodies_readsBeforeItReturns(t *testing.T) {
	for name, chunked := range map[string]bool{"with a length": false, "chunked": true} {
		t.Run(name, func(t *testing.T) {
			want := strings.Repeat("x", 1<<20)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if !chunked {
					w.Header().Set("Content-Length", "1048576")
				}
				_, _ = io.WriteString(w, want)
			}))
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			resp, err := WholeBodies(server.Client()).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			server.CloseClientConnections()
			server.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != want {
				t.Errorf("after the connection is gone: %d bytes, %v; want %d", len(got), err, len(want))
			}
		})
	}
}

func TestWholeBodies_tornBodyIsAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	}))
	defer server.Close()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	resp, err := WholeBodies(server.Client()).Do(req)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, %v; want an unexpected end", resp, err)
	}
}

func TestWithRoom_isAskedBeforeABodyIsRead(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			_, _ = io.WriteString(w, "12")
			_ = http.NewResponseController(w).Flush()
			return
		}
		_, _ = io.WriteString(w, "123")
	}))
	defer server.Close()
	refused := errors.New("no room")
	for path, want := range map[string]int64{"/": 3, "/chunked": -1} {
		for _, answer := range []error{nil, refused} {
			asked := int64(0)
			ctx := WithRoom(t.Context(), func(_ context.Context, length int64) error { asked = length; return answer })
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := WholeBodies(server.Client()).Do(req)
			if !errors.Is(err, answer) || err == nil && resp == nil {
				t.Errorf("%s: %v, want %v", path, err, answer)
			}
			if asked != want {
				t.Errorf("%s: asked for %d bytes, want %d", path, asked, want)
			}
		}
	}
}

func TestLoad_regionIsNeededForAWSOnly(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	if _, err := Load(t.Context(), Settings{}); !errors.Is(err, ErrNoRegion) {
		t.Errorf("without a region: got %v, want ErrNoRegion", err)
	}
	cfg, err := Load(t.Context(), Settings{Endpoint: "http://127.0.0.1:1", AccessKeyID: "a", SecretAccessKey: "b"})
	if err != nil || cfg.Region == "" {
		t.Errorf("with an endpoint: got %q, %v; want some region", cfg.Region, err)
	}
	creds, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || creds.AccessKeyID != "a" {
		t.Errorf("static credentials: got %v, %v", creds.AccessKeyID, err)
	}
}
