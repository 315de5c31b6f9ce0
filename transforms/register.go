// Package transforms holds the shipped transforms, one file each.
package transforms

import (
	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// Register adds the shipped transforms to r and returns it.
func Register(r *pipeline.Registry) *pipeline.Registry {
	pipeline.AddTransform[UnwrapConfig](r, "unwrap")
	pipeline.AddTransform[DecodeEntitlementsConfig](r, "decode_entitlements")
	pipeline.AddTransform[RefreshEntitlementsConfig](r, "refresh_entitlements")
	pipeline.AddTransform[FilterConfig](r, "filter")
	pipeline.AddTransform[MapConfig](r, "map")
	pipeline.AddTransform[SplitConfig](r, "split")
	pipeline.AddTransform[CacheWriteConfig](r, "cache_write")
	return r.Document(Source).Document(awsclient.ConfigSource)
}
