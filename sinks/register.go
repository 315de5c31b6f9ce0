// Package sinks holds the sinks that penstock ships. They know cache writes, not entitlements.
package sinks

import (
	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks/memory"
	"github.com/penstock-dev/penstock/sinks/redis"
)

// RedisConfig declares the redis sink; see [redis.Config].
type RedisConfig = redis.Config

// MemoryConfig declares the memory sink; see [memory.Config].
type MemoryConfig = memory.Config

// Register adds the sinks of this package and their documentation to r, and returns r.
func Register(r *pipeline.Registry) *pipeline.Registry {
	pipeline.AddSink[DropConfig](r, "drop")
	pipeline.AddSink[FanOutConfig](r, "fan_out")
	pipeline.AddSink[FileConfig](r, "file")
	pipeline.AddSink[MemoryConfig](r, "memory")
	pipeline.AddSink[StdoutConfig](r, "stdout")
	pipeline.AddSink[RedisConfig](r, "redis")
	pipeline.AddSink[SQSConfig](r, "sqs")
	return r.Document(Source).Document(awsclient.ConfigSource)
}
