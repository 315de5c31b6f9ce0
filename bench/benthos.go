package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// benthosName is the contender that takes part only when asked to.
const benthosName = "benthos"

// Batch sizes at which Benthos is fastest.
const (
	benthosBatch      = 512
	benthosQueueBatch = 128
)

// benthosScript is newer-wins for a batch, with one clock: what one writes for Benthos.
const benthosScript = `
local siblings = {}
for i, key in ipairs(KEYS) do siblings[i] = key .. '#timestamp' end
local seen = redis.call('MGET', unpack(siblings))
local newest = {}
for i, key in ipairs(KEYS) do
  local version = tonumber(ARGV[2 * i - 1])
  local old = newest[key] or tonumber(seen[i] or '')
  if not old or old <= version then
    redis.call('SET', key, ARGV[2 * i], 'PX', 604800000)
    redis.call('SET', siblings[i], ARGV[2 * i - 1], 'PX', 604800000)
    newest[key] = version
  end
end
return #KEYS
`

// benthosFile reads lines, which spares it the recording's envelope. The period is for the last batch: without one it
// waits for ever at the end of the file.
const benthosFile = `
input:
  batched:
    child: {file: {paths: [%q], scanner: {lines: {}}}}
    policy: {count: %d, period: 100ms}
`

// benthosQueue has as many inputs as the fastest Watermill has subscriptions. They poll for as long as SQS lets them:
// that costs it no speed, and spares requests that would bring nothing.
const benthosQueue = `
input:
  broker:
    copies: 8
    inputs:
      - aws_sqs:
          url: %q
          endpoint: %q
          region: us-east-1
          credentials: {id: bench, secret: bench}
          max_number_of_messages: 10
          wait_time_seconds: 20
    batching: {count: %d, period: 20ms}
`

// benthosPipeline is its best configuration for this job, after the input. One write an event, its value as it comes,
// the layouts: it has less to do than the others.
const benthosPipeline = `
http: {enabled: false}
logger: {level: ERROR}
pipeline:
  threads: 2
  processors:
    - mapping: |
        root = if this.usage != null {
          {
            "k": %[1]q + ":c_" + this.customerId + ":f_" + this.entitlementReference.id,
            "t": this.usage.usageUpdatedAt.ts_unix_milli().string(),
            "v": this.usage.format_json(no_indent: true).string()
          }
        } else {
          {
            "k": %[1]q + ":c_" + this.customerId,
            "t": this.entitlements.index(0).entitlementUpdatedAt.ts_unix_milli().string(),
            "v": this.entitlements.format_json(no_indent: true).string()
          }
        }
    - archive: {format: json_array}
    - redis_script:
        url: %[2]q
        script: %[3]s
        keys_mapping: root = this.map_each(m -> m.k)
        args_mapping: root = this.map_each(m -> [m.t, m.v]).flatten()
output: {drop: {}}
`

// buildBenthos builds the module beside this one.
func (b *bench) buildBenthos(ctx context.Context) error {
	b.say("building Benthos, which takes minutes")
	b.benthos = filepath.Join(b.dir, "benthos")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.benthos, ".")
	cmd.Dir = filepath.Join(b.root, "bench", "benthos")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Benthos: %w: %s", err, out)
	}
	return nil
}

func (f *fileBench) runBenthos(ctx context.Context) (cost, error) {
	lines := filepath.Join(f.dir, "events.lines")
	if _, err := os.Stat(lines); errors.Is(err, os.ErrNotExist) {
		if err := f.workload.writeLines(lines); err != nil {
			return cost{}, err
		}
	}
	cmd, err := f.benthosCommand(fmt.Sprintf(benthosFile, lines, benthosBatch), f.redis.addr)
	if err != nil {
		return cost{}, err
	}
	took, err := run(ctx, cmd, false)
	if err != nil {
		return cost{}, err
	}
	return took, checkVersions(ctx, f.redis.client, f.workload)
}

func (s *sqsBench) runBenthos(settings sqsSettings) (*exec.Cmd, error) {
	return s.benthosCommand(fmt.Sprintf(benthosQueue, settings.Queue, settings.Endpoint, benthosQueueBatch), settings.Redis)
}

// benthosCommand writes the configuration with that input and returns the command that runs it.
func (b *bench) benthosCommand(input, redisAddr string) (*exec.Cmd, error) {
	script, err := json.Marshal(benthosScript) // JSON is YAML
	if err != nil {
		return nil, err
	}
	text := input + fmt.Sprintf(benthosPipeline, prefix, "redis://"+redisAddr, script)
	file, err := b.configFile("benthos", text)
	if err != nil {
		return nil, err
	}
	return exec.Command(b.benthos, "-c", file), nil
}

// checkVersions compares the Redis with the newest time of every key, since the values are Benthos's own.
func checkVersions(ctx context.Context, client *redis.Client, w workload) error {
	newest := map[string]int64{}
	err := w.each(func(body []byte) error {
		var event struct {
			CustomerID           string              `json:"customerId"`
			EntitlementReference struct{ ID string } `json:"entitlementReference"`
			Usage                *struct {
				UsageUpdatedAt time.Time `json:"usageUpdatedAt"`
			} `json:"usage"`
			Entitlements []struct {
				EntitlementUpdatedAt time.Time `json:"entitlementUpdatedAt"`
			} `json:"entitlements"`
		}
		if err := json.Unmarshal(body, &event); err != nil {
			return err
		}
		key := prefix + ":c_" + event.CustomerID
		if event.Usage != nil {
			key += ":f_" + event.EntitlementReference.ID
			newest[key] = max(newest[key], event.Usage.UsageUpdatedAt.UnixMilli())
		} else {
			newest[key] = max(newest[key], event.Entitlements[0].EntitlementUpdatedAt.UnixMilli())
		}
		return nil
	})
	if err != nil {
		return err
	}
	n, err := client.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	if n != int64(2*len(newest)) {
		return fmt.Errorf("the Redis holds %d keys, want %d", n, 2*len(newest))
	}
	for key, want := range newest {
		got, err := client.Get(ctx, key+"#timestamp").Result()
		if err != nil {
			return fmt.Errorf("%s#timestamp: %w", key, err)
		}
		if got != strconv.FormatInt(want, 10) {
			return fmt.Errorf("%s#timestamp: got %s, want %d", key, got, want)
		}
	}
	return nil
}
