// Package heap has the garbage collector keep the program's memory within bounds that users can plan with.
package heap

import (
	"io/fs"
	"math"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Tune sets the collector up for the whole process, but for what the environment already says:
//
// Without GOGC it lets the heap grow by headroom beyond what is live, by less while little is live. Go's default would
// collect after every few megabytes then, and spend a sixth of the CPU on walking the stacks of what is in flight; with
// much live, it would need twice as much.
//
// Without GOMEMLIMIT it collects more often when 90 % of what the container may have are used. root is the root of the
// file system.
func Tune(getenv func(string) string, root fs.FS) {
	if getenv("GOMEMLIMIT") == "" {
		if limit := containerLimit(root); limit > 0 {
			debug.SetMemoryLimit(limit / 10 * 9)
		}
	}
	if getenv("GOGC") == "" {
		debug.SetGCPercent(mostPercent)
		runtime.SetFinalizer(&cycle{}, (*cycle).collected)
	}
}

const (
	headroom = 48 << 20
	// mostPercent and leastPercent bound by how much the heap may grow, in percent of what is live: a program with much
	// in a cache of its own must not collect all the time.
	mostPercent, leastPercent = 200, 30
)

// percent is by how much the heap may grow when so many bytes are live.
func percent(live uint64) int {
	return int(min(mostPercent, max(leastPercent, headroom*100/max(1, live))))
}

// cycle is garbage, which every collection finds.
type cycle struct {
	last int
	_    *byte // objects without pointers may share their memory with others, and live longer
}

// collected is called after a collection.
func (c *cycle) collected() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		// It stops the world for a moment: not for a small change.
		if p := percent(live[0].Value.Uint64()); p < c.last*9/10 || p > c.last*10/9 {
			c.last = p
			debug.SetGCPercent(p)
		}
	}
	runtime.SetFinalizer(c, (*cycle).collected)
}

// containerLimit is the memory that the process's cgroups leave it; 0 where there is no limit, and where there are no
// cgroups.
func containerLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) { // 0::/of/version/2, or 4:memory:/of/version/1
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir, file := "sys/fs/cgroup", "memory.max"
		if fields[0] != "0" {
			if !strings.Contains(","+fields[1]+",", ",memory,") {
				continue
			}
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// Those above bound it too. In a container its own may be the root, whatever the path says.
		for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
			if text, err := fs.ReadFile(root, path.Join(dir, group, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 { // or "max"
					limit = min(limit, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	if limit > unlimited {
		return 0
	}
	return limit
}

// unlimited: version 1 says so with a number near the largest one.
const unlimited = 1 << 60
