package redis

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// ownCPU and redisCPU are the seconds of CPU that this process and the server have used.
func ownCPU(b *testing.B) float64 {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func redisCPU(b testing.TB, client *goredis.Client) float64 {
	b.Helper()
	var sum float64
	for line := range strings.Lines(client.Info(b.Context(), "cpu").Val()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += seconds
		}
	}
	return sum
}

// BenchmarkStore measures messages of one write from Publish to stored, on a real Redis on this machine.
func BenchmarkStore(b *testing.B) {
	for name, c := range map[string]struct {
		size      int
		twoClocks bool
	}{
		"usage 300 B": {300, false}, "entitlements 1.5 KB": {1500, true},
	} {
		b.Run(name, func(b *testing.B) {
			addr := testserver.Redis(b)
			sink := started(b, newSink(testConfig(addr), pipeline.Env{}, writeScript))
			client := testClient(b, addr)
			value := []byte(`"` + strings.Repeat("v", c.size) + `"`)
			b.ReportAllocs()
			own, theirs := ownCPU(b), redisCPU(b, client)
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range 1024 {
				wg.Go(func() {
					for {
						i := int(next.Add(1))
						if i > b.N {
							return
						}
						w := cache.Write{Key: fmt.Sprintf("c_customer-%d:f_feature", i*7%20000), Version: 1795169730250 + int64(i), Value: value}
						if c.twoClocks {
							w.AsOf = w.Version + 1
						}
						if err := sink.Publisher.Publish("", message.NewMessage("m", payload(w))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			// CPU says more than the rate where others share the machine.
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			b.ReportMetric((ownCPU(b)-own)*1e6/float64(b.N), "own-µs/op")
			b.ReportMetric((redisCPU(b, client)-theirs)*1e6/float64(b.N), "redis-µs/op")
		})
	}
}
