package cli

import (
	"cmp"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
)

// sdkUse is how to point the provider's SDK at a Redis that a pipeline fills, in the SDK's own words.
type sdkUse struct {
	Host              string `json:"host"`
	Port              int    `json:"port"`
	DB                int    `json:"db"`
	EnvironmentPrefix string `json:"environmentPrefix"`
}

func sdkUses(sink pipeline.SinkSpec) []sdkUse {
	var uses []sdkUse
	for _, leaf := range leaves(sink) {
		c, ok := leaf.Config.(*sinks.RedisConfig)
		if !ok {
			continue
		}
		host, port, db, ok := c.Single()
		if !ok {
			continue // where the master is now is for the Sentinels, or the cluster, to say
		}
		uses = append(uses, sdkUse{Host: cmp.Or(host, "localhost"), Port: port, DB: db, EnvironmentPrefix: c.Prefix})
	}
	return uses
}

// embeddedAt returns where a redis sink serves its built-in Redis, or "".
func embeddedAt(sink pipeline.SinkSpec) string {
	if c, ok := sink.Config.(*sinks.RedisConfig); ok {
		return c.Embedded
	}
	return ""
}
