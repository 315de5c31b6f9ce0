package awsclient

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3 makes an S3 client of cfg; endpoint is as in [Settings]. It repeats what fails for a moment, up to three
// attempts in all.
func S3(cfg aws.Config, endpoint string) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
			o.UsePathStyle = true // hosts named after buckets resolve at AWS only
		}
		o.HTTPSignerV4 = newSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }) // as S3 wants it
		o.DisableLogOutputChecksumValidationSkipped = true                                        // a log line for every object without a checksum
	})
}
