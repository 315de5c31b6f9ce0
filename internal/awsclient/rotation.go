package awsclient

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// rotating hands out credentials that may be replaced at any time, in the files that they come from.
type rotating func() (accessKeyID, secretAccessKey, sessionToken string)

// rereadEvery is how long the SDK keeps them.
const rereadEvery = time.Second

// Retrieve reads the files again. An access key and its secret that don't belong together, because only one of the
// files is new yet, are refused by AWS and read again.
func (r rotating) Retrieve(context.Context) (aws.Credentials, error) {
	id, secret, token := r()
	return aws.Credentials{
		AccessKeyID: id, SecretAccessKey: secret, SessionToken: token, Source: "penstock",
		CanExpire: true, Expires: time.Now().Add(rereadEvery),
	}, nil
}

// signer is the SDK's. That one keeps what it derives from a secret by the access key alone, and would go on with an
// old secret for the rest of the day: this one forgets it when the secret changes.
type signer struct {
	options []func(*v4.SignerOptions)

	mu     sync.Mutex
	secret string
	v4     *v4.Signer
}

func newSigner(options ...func(*v4.SignerOptions)) *signer {
	return &signer{options: options, v4: v4.NewSigner(options...)}
}

// SignHTTP signs the request. It is safe for concurrent use.
func (s *signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payloadHash, service, region string, at time.Time, options ...func(*v4.SignerOptions)) error {
	s.mu.Lock()
	if c.SecretAccessKey != s.secret {
		s.secret, s.v4 = c.SecretAccessKey, v4.NewSigner(s.options...)
	}
	with := s.v4
	s.mu.Unlock()
	return with.SignHTTP(ctx, c, r, payloadHash, service, region, at, options...)
}
