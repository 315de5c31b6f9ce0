package heap

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
	"time"
)

func TestContainerLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no cgroups":                {},
		"version 2, in a container": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n"}, 256 << 20},
		"version 2, no limit":       {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 2, a limit above": {map[string]string{"proc/self/cgroup": "0::/system.slice/penstock.service\n",
			"sys/fs/cgroup/system.slice/penstock.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/memory.max": "1048576\n"}, 1 << 20},
		"version 2, two limits": {map[string]string{"proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max": "4096\n", "sys/fs/cgroup/a/b/memory.max": "8192\n"}, 4096},
		"version 1, whose path is the host's": {map[string]string{"proc/self/cgroup": "5:cpu:/docker/1\n4:memory:/docker/1\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n", "sys/fs/cgroup/cpu/memory.limit_in_bytes": "1\n"}, 128 << 20},
		"version 1, several controllers": {map[string]string{"proc/self/cgroup": "4:cpu,memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4096\n"}, 4096},
		"version 1, no limit":            {map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"what nobody can read":           {map[string]string{"proc/self/cgroup": "x\n::\n0::../..\n", "sys/fs/cgroup/memory.max": "many\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for file, text := range c.files {
				root[file] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := containerLimit(root); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestPercent_theHeapGrowsByTheHeadroomAtMost(t *testing.T) {
	for live, want := range map[uint64]int{0: 200, 4 << 20: 200, 24 << 20: 200, 48 << 20: 100, 96 << 20: 50, 1 << 30: 30} {
		if got := percent(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d %%", live, got, want)
		}
	}
}

func TestTune(t *testing.T) {
	t.Cleanup(func() {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
	})
	limited := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/\n")}, "sys/fs/cgroup/memory.max": {Data: []byte("10737418240\n")}}
	Tune(func(name string) string { return map[string]string{"GOGC": "77", "GOMEMLIMIT": "5GiB"}[name] }, limited)
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		t.Errorf("with GOMEMLIMIT the limit was set to %d", limit)
	}
	if now := debug.SetGCPercent(100); now != 100 {
		t.Errorf("with GOGC the percentage was set to %d", now)
	}

	Tune(func(string) string { return "" }, limited)
	if limit := debug.SetMemoryLimit(-1); limit != 9<<30 {
		t.Errorf("the limit is %d, want nine tenths of the container's 10 GiB", limit)
	}
	live := make([]byte, 128<<20)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		if now := debug.SetGCPercent(60); now < 60 { // what the last collection has led to
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("with 128 MiB live the heap may still grow by 60 % or more")
		}
	}
	runtime.KeepAlive(live)
}
