package redisclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"regexp"

	"github.com/redis/go-redis/v9"
)

// Failure is what an error of Redis means to an operator.
type Failure uint8

// The failures of Redis.
const (
	// Unreachable is a connection that can't be made, broke, or brought no answer.
	Unreachable Failure = iota
	// BadTLS is a server without TLS, or a certificate that either side doesn't take.
	BadTLS
	// BadLogin is a wrong or missing user or password.
	BadLogin
	// NoRight is a right that the user lacks.
	NoRight
	// NoDatabase is a database that the server doesn't have.
	NoDatabase
	// NoCommand is a command that the server doesn't have.
	NoCommand
	// ReadOnly is a replica.
	ReadOnly
	// Cluster is a node of a cluster that keeps its keys elsewhere, for now or for good.
	Cluster
	// NoCluster is a server outside a cluster that was asked for one.
	NoCluster
	// Refusing is a server that is loading, full, out of disk, without its master or replicas, or out of connections.
	Refusing
	// Other is any other answer.
	Other
)

var (
	readOnly    = regexp.MustCompile(`(?:^|[ :]-?)READONLY `)
	clusterAway = regexp.MustCompile(`(?:^|[ :]-?)(?:ASK|CLUSTERDOWN|TRYAGAIN) `)
)

// FailureOf tells what an error of a request means. See [Outcome] for what it means to messages.
func FailureOf(err error) Failure {
	if reply, ok := errors.AsType[redis.Error](err); ok {
		switch text := reply.Error(); {
		case readOnly.MatchString(text):
			return ReadOnly
		case moved.MatchString(text), crossed.MatchString(text), clusterAway.MatchString(text):
			return Cluster
		case noCluster.MatchString(text):
			return NoCluster
		case awayCodes.MatchString(text):
			return Refusing
		case authCodes.MatchString(text), noAuth.MatchString(text):
			return BadLogin
		case noPerm.MatchString(text):
			return NoRight
		case badDB.MatchString(text):
			return NoDatabase
		case unknown.MatchString(text):
			return NoCommand
		}
		return Other
	}
	var (
		header    tls.RecordHeaderError
		cert      *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		file      *fs.PathError
		op        *net.OpError
	)
	if errors.Is(err, errNoHandshake) || errors.As(err, &header) || errors.As(err, &cert) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &file) || errors.As(err, &op) && op.Op == "remote error" {
		return BadTLS
	}
	return Unreachable
}
