package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/entitlement"
)

// model is what a store must hold in the end: of all writes to a key the greatest.
type model map[string]cache.Write

func newDecoder() (*entitlement.Decoder, error) {
	return entitlement.NewDecoder(entitlement.Options{Layout: entitlement.LayoutDual})
}

// newModel folds the events of a workload.
func newModel(w workload) (model, error) {
	decoder, err := newDecoder()
	if err != nil {
		return nil, err
	}
	m := model{}
	now := time.Now()
	err = w.each(func(body []byte) error {
		writes, _, err := decoder.Decode(entitlement.Input{Body: body, Now: now})
		if err != nil {
			return err
		}
		for _, write := range writes {
			if old, ok := m[write.Key]; !ok || cache.Compare(old, write) < 0 {
				write.Value = bytes.Clone(write.Value) // a part of the payload would keep all of it
				write.Key = strings.Clone(write.Key)
				m[write.Key] = write
			}
		}
		return nil
	})
	return m, err
}

// redisKeys is how many keys a Redis holds that holds the model: values, versions, and the clocks of two-clock keys.
func (m model) redisKeys() int {
	n := 0
	for _, write := range m {
		if !write.Delete {
			n += 2
		}
		if write.AsOf != 0 {
			n++
		}
	}
	return n
}

// compare returns nil when the Redis holds the model under the prefix, and nothing else: for every key its value and
// its version.
func (m model) compare(ctx context.Context, client *redis.Client, prefix string) error {
	want := map[string]string{}
	for key, write := range m {
		if write.Delete {
			continue
		}
		want[prefix+":"+key] = string(write.Value)
		want[prefix+":"+key+"#timestamp"] = strconv.FormatInt(write.Version, 10)
	}
	missing := len(want)
	var wrong []string
	complain := func(format string, args ...any) {
		if len(wrong) < 5 {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	extra, differ := 0, 0
	seen := map[string]bool{} // SCAN may return a key twice
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return fmt.Errorf("scan the Redis: %w", err)
		}
		ours := keys[:0]
		for _, key := range keys {
			switch _, ok := want[key]; {
			case strings.HasPrefix(key, prefix+":penstock:") || seen[key]:
			case !ok:
				extra++
				complain("extra key %q", key)
			default:
				seen[key] = true
				ours = append(ours, key)
			}
		}
		if len(ours) > 0 {
			values, err := client.MGet(ctx, ours...).Result()
			if err != nil {
				return fmt.Errorf("read the Redis: %w", err)
			}
			for i, value := range values {
				missing--
				if got, _ := value.(string); got != want[ours[i]] {
					differ++
					complain("%s: got %.80q, want %.80q", ours[i], got, want[ours[i]])
				}
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if missing+extra+differ == 0 {
		return nil
	}
	return fmt.Errorf("the Redis differs from the model: of %d keys %d are missing and %d differ, %d are extra: %s",
		len(want), missing, differ, extra, strings.Join(wrong, "; "))
}
