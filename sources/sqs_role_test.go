package sources

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// askers is an SQS server without messages that notes who asked.
func askers(t *testing.T) (endpoint string, asked func() []string) {
	var mu sync.Mutex
	var list []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		key, _, _ := strings.Cut(credential, "/")
		mu.Lock()
		list = append(list, key+" "+r.Header.Get("X-Amz-Security-Token"))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprint(w, `{"Attributes":{"VisibilityTimeout":"30"}}`)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), list...)
	}
}

func roleConfig(endpoint string) *SQSConfig {
	return sqsConfig(func(c *SQSConfig) {
		c.QueueURL, c.AWS.Region = endpoint+"/1/q", "eu-west-1"
		c.AWS.AssumeRole = &awsclient.RoleConfig{ARN: "arn:aws:iam::123456789012:role/penstock", ExternalID: "x-17", SessionName: "cache"}
	})
}

func TestSQS_asksAsTheAssumedRole(t *testing.T) {
	sts := testserver.STS(t)
	endpoint, asked := askers(t)
	if _, err := startSQSSource(t, roleConfig(endpoint)); err != nil {
		t.Fatal(err)
	}
	assumed := sts.Assumed()
	if len(assumed) != 1 {
		t.Fatalf("the role was assumed %d times, want once", len(assumed))
	}
	for parameter, want := range map[string]string{
		"RoleArn": "arn:aws:iam::123456789012:role/penstock", "ExternalId": "x-17", "RoleSessionName": "cache",
	} {
		if got := assumed[0].Get(parameter); got != want {
			t.Errorf("%s is %q, want %q", parameter, got, want)
		}
	}
	want := sts.AccessKey(1) + " " + sts.SessionToken(1)
	if len(asked()) == 0 {
		t.Error("the queue was not asked")
	}
	for _, got := range asked() {
		if got != want {
			t.Errorf("a request of %q, want %q", got, want)
		}
	}
}

func TestSQS_credentialsOfARoleAreRenewed(t *testing.T) {
	sts := testserver.STS(t)
	sts.Lifetime = -time.Second // each is expired when the next request is made
	endpoint, asked := askers(t)
	if _, err := startSQSSource(t, roleConfig(endpoint)); err != nil {
		t.Fatal(err)
	}
	if got := asked(); len(got) < 2 || got[0] == got[1] {
		t.Errorf("requests of %v, want new credentials for each", got)
	}
}

func TestSQS_aRoleThatCannotBeAssumedIsTold(t *testing.T) {
	for name, code := range map[string]string{"denied": "AccessDenied", "not an ARN": "ValidationError"} {
		t.Run(name, func(t *testing.T) {
			sts := testserver.STS(t)
			sts.Deny = code
			endpoint, asked := askers(t)
			config := roleConfig(endpoint)
			_, err := startSQSSource(t, config)
			if !pipeline.IsFatal(err) || !strings.Contains(err.Error(), "can't be assumed: allow sts:AssumeRole") {
				t.Errorf("got %v, want a fatal error that says what to allow", err)
			}
			pipelineConfig := pipeline.DefaultConfig()
			found := config.Diagnose(t.Context(), pipeline.DoctorEnv{Pipeline: &pipelineConfig})
			if len(found) != 1 || found[0].Code != "PS103" || !strings.Contains(found[0].Remedy, "sts:AssumeRole") {
				t.Errorf("the doctor found %+v", found)
			}
			if n := len(asked()); n != 0 {
				t.Errorf("the queue was asked %d times without credentials", n)
			}
		})
	}
}

func TestSQS_anSTSThatIsAwayIsAnOutage(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	endpoint, _ := askers(t)
	if _, err := startSQSSource(t, roleConfig(endpoint)); !pipeline.IsUnavailable(err) || pipeline.IsFatal(err) {
		t.Errorf("got %v, want unavailable", err)
	}
}
