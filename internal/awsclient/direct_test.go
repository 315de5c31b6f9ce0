package awsclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// consumer is what a Direct and the SDK's client have in common.
type consumer interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

const directURL = "http://sqs.eu-west-1.example/1/q \"<é\u2028"

// asks are requests of every kind.
var asks = map[string]func(context.Context, consumer) error{
	"receive": func(ctx context.Context, c consumer) error {
		_, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(directURL), MaxNumberOfMessages: 10, WaitTimeSeconds: 20,
			MessageAttributeNames:       []string{"All"},
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{"SentTimestamp", "MessageGroupId"},
		})
		return err
	},
	"receive, all settings": func(ctx context.Context, c consumer) error {
		_, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(directURL), MaxNumberOfMessages: 1,
			VisibilityTimeout: 30, ReceiveRequestAttemptId: aws.String("attempt \" 1")})
		return err
	},
	"delete": func(ctx context.Context, c consumer) error {
		_, err := c.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(directURL), Entries: []types.DeleteMessageBatchRequestEntry{
			{Id: aws.String("0"), ReceiptHandle: aws.String("a+/=\"\\\n")}, {Id: aws.String("1"), ReceiptHandle: aws.String("b")},
		}})
		return err
	},
	"change": func(ctx context.Context, c consumer) error {
		_, err := c.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: aws.String(directURL), Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
			{Id: aws.String("0"), ReceiptHandle: aws.String("a"), VisibilityTimeout: 30}, {Id: aws.String("1"), ReceiptHandle: aws.String("b")},
		}})
		return err
	},
}

// direct makes a client that asks the handler past the SDK, and one that asks it through the SDK.
func direct(t *testing.T, path string, handler http.HandlerFunc) (past, through consumer) {
	t.Helper()
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	cfg, err := Load(t.Context(), Settings{Region: "eu-west-1", Endpoint: web.URL + path, AccessKeyID: "key", SecretAccessKey: "secret", SessionToken: "token"})
	if err != nil {
		t.Fatal(err)
	}
	client := SQS(cfg, web.URL+path)
	t.Cleanup(func() { CloseIdle(client) })
	return NewDirect(t.Context(), client), client
}

func TestDirect_asksAsTheSDKDoes(t *testing.T) {
	for name, ask := range asks {
		for _, path := range []string{"", "/", "/sqs", "/sqs/"} {
			t.Run(name+" at "+path, func(t *testing.T) {
				var mu sync.Mutex
				var seen []map[string]any
				past, through := direct(t, path, func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					if got, want := r.Header.Get("Authorization"), signature(t, r, body); got != want {
						t.Errorf("what is signed is not what is sent: %s, want %s", got, want)
					}
					var object map[string]any
					if err := json.Unmarshal(body, &object); err != nil {
						t.Errorf("%s: %v", body, err)
					}
					if object["WaitTimeSeconds"] == 0.0 {
						delete(object, "WaitTimeSeconds") // the SDK can't say it
					}
					request := map[string]any{"method": r.Method, "path": r.URL.String(), "host": r.Host, "body": object}
					for _, h := range []string{"X-Amz-Target", "Content-Type", "X-Amz-Security-Token", "X-Amzn-Query-Mode"} {
						request[h] = r.Header.Get(h)
					}
					mu.Lock()
					defer mu.Unlock()
					seen = append(seen, request)
					_, _ = io.WriteString(w, "{}")
				})
				for _, c := range []consumer{past, through} {
					if err := ask(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				if len(seen) != 2 || !reflect.DeepEqual(seen[0], seen[1]) {
					t.Errorf("requests differ:\n%v", seen)
				}
			})
		}
	}
}

// signature signs what came as the sender should have.
func signature(t *testing.T, r *http.Request, body []byte) string {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Error(err)
	}
	again, _ := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	_, signed, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	signed, _, _ = strings.Cut(signed, ",")
	for h := range strings.SplitSeq(signed, ";") {
		if v := r.Header.Values(h); len(v) > 0 && h != "content-length" {
			again.Header[http.CanonicalHeaderKey(h)] = slices.Clone(v)
		}
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret", SessionToken: "token"},
		again, hex.EncodeToString(sum[:]), "sqs", "eu-west-1", at); err != nil {
		t.Error(err)
	}
	return again.Header.Get("Authorization")
}

func TestDirect_errorsAreTheSDKs(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Query-Error", "AWS.SimpleQueueService.NonExistentQueue;Sender")
			w.Header().Set("X-Amzn-RequestId", "r-1")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no such queue"}`)
		},
		"throttled": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}`)
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>")
		},
		"a success that is not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Messages":[{`) },
		"a body that breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"Messages":`)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			requests := 0
			past, through := direct(t, "", func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				requests++
				mu.Unlock()
				handler(w, r)
			})
			got, want := asks["receive"](t.Context(), past), asks["receive"](t.Context(), through)
			if got == nil || want == nil || got.Error() != want.Error() {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			var a, b smithy.APIError
			if errors.As(got, &a) != errors.As(want, &b) || a != nil && a.ErrorCode() != b.ErrorCode() {
				t.Errorf("got %#v, want %#v", a, b)
			}
			mu.Lock()
			defer mu.Unlock()
			if requests != 2 {
				t.Errorf("%d requests for two calls: one that fails must not be repeated", requests)
			}
		})
	}
}

func TestDirect_endsWithItsContext(t *testing.T) {
	past, _ := direct(t, "", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := asks["receive"](ctx, past); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is over", err)
	}
}

// SQS refuses signatures of a clock that is off; its answer says what time it is.
func TestDirect_followsAClockThatDiffers(t *testing.T) {
	const ahead = time.Hour
	var mu sync.Mutex
	var off []time.Duration
	past, _ := direct(t, "", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		now := time.Now().Add(ahead)
		at, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		mu.Lock()
		off = append(off, now.Sub(at))
		mu.Unlock()
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		if now.Sub(at).Abs() > 15*time.Minute {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"__type":"InvalidSignatureException","message":"Signature expired"}`)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	if err := asks["receive"](t.Context(), past); err == nil {
		t.Error("the first request should be refused")
	}
	if err := asks["receive"](t.Context(), past); err != nil {
		t.Errorf("the second: %v; signatures were off by %v", err, off)
	}
}

func TestDirect_credentialsThatCannotBeHadAreTold(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked without credentials") }))
	defer web.Close()
	cfg, err := Load(t.Context(), Settings{Region: "eu-west-1", Endpoint: web.URL, AccessKeyID: "key", SecretAccessKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("none today")
	})
	client := SQS(cfg, web.URL)
	defer CloseIdle(client)
	if err := asks["receive"](t.Context(), NewDirect(t.Context(), client)); err == nil || !strings.Contains(err.Error(), "none today") {
		t.Errorf("got %v", err)
	}
}

// Where AWS's own hosts are asked, the SDK's rules say which.
func TestDirect_asksTheSDKsHost(t *testing.T) {
	for name, c := range map[string]struct {
		region string
		env    map[string]string
		want   string
	}{
		"a region":   {"eu-west-1", nil, "https://sqs.eu-west-1.amazonaws.com/"},
		"China":      {"cn-north-1", nil, "https://sqs.cn-north-1.amazonaws.com.cn/"},
		"FIPS":       {"us-gov-west-1", map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, "https://sqs.us-gov-west-1.amazonaws.com/"},
		"two stacks": {"eu-west-1", map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://sqs.eu-west-1.api.aws/"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			cfg, err := Load(t.Context(), Settings{Region: c.region, AccessKeyID: "key", SecretAccessKey: "secret"})
			if err != nil {
				t.Fatal(err)
			}
			var asked []string
			record := httpFunc(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, r.URL.String())
				return canned("{}").Do(r)
			})
			client := sqs.New(SQS(cfg, "").Options(), func(o *sqs.Options) { o.HTTPClient = WholeBodies(record) })
			for _, each := range []consumer{NewDirect(t.Context(), client), client} {
				if err := asks["delete"](t.Context(), each); err != nil {
					t.Fatal(err)
				}
			}
			if len(asked) != 2 || asked[0] != c.want || asked[1] != c.want {
				t.Errorf("asked %v, want %s past the SDK and through it", asked, c.want)
			}
		})
	}
}

type httpFunc func(*http.Request) (*http.Response, error)

func (f httpFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestDirect_isSafeForConcurrentUse(t *testing.T) {
	past, _ := direct(t, "", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"Messages":[{"MessageId":"`+strconv.Itoa(int(r.ContentLength))+`"}]}`)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := asks["receive"](t.Context(), past); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
