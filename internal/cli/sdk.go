package cli

import (
	"net"
	"strconv"

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
		if !ok || c.Sentinel.Master != "" {
			continue // where the master is now is for the Sentinels to say
		}
		host, port, err := net.SplitHostPort(c.Address())
		if err != nil {
			continue
		}
		n, _ := strconv.Atoi(port)
		if host == "" {
			host = "localhost"
		}
		uses = append(uses, sdkUse{Host: host, Port: n, DB: c.DB, EnvironmentPrefix: c.Prefix})
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
