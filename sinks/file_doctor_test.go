package sinks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// diagnoseFile returns the findings as "CODE severity what".
func diagnoseFile(t *testing.T, c *FileConfig, role pipeline.Role) []string {
	t.Helper()
	config := pipeline.DefaultConfig()
	config.Name = "orders"
	var told []string
	for _, f := range c.Diagnose(t.Context(), pipeline.DoctorEnv{Pipeline: &config, Role: role}) {
		told = append(told, fmt.Sprintf("%s %s %s", f.Code, f.Severity, f.What))
	}
	return told
}

// wantFindings checks that there is one finding a part, in this order.
func wantFindings(t *testing.T, got []string, parts ...string) {
	t.Helper()
	ok := len(got) == len(parts)
	for i := range min(len(got), len(parts)) {
		ok = ok && strings.Contains(got[i], parts[i])
	}
	if !ok {
		t.Errorf("got %q\nwant %q", got, parts)
	}
}

func TestFile_doctorLooksAtTheDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir, Keep: time.Hour}, pipeline.RoleRecord))
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("the doctor made the directory")
	}
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: file}, pipeline.RoleRecord), "PS311 broken "+file+" is a file")
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: filepath.Join(file, "below")}, pipeline.RoleSink), "PS311 broken ")
}

func TestFile_doctorSaysWhatStaysForEver(t *testing.T) {
	dir := t.TempDir()
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir}, pipeline.RoleRecord), "PS313 note files stay in "+dir+" for ever")
	now := time.Now()
	for name, at := range map[string]time.Time{"orders-1.ndjson": now.Add(-48 * time.Hour), "orders-2.ndjson": now, "other.ndjson": now.Add(-1000 * time.Hour)} {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir}, pipeline.RoleRecord), "for ever: 2 MiB in 2 files, about 1 MiB a day")
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir, Keep: time.Hour}, pipeline.RoleRecord))
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir, MaxSize: 3 << 20}, pipeline.RoleSink))
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir, MaxSize: 1 << 60}, pipeline.RoleRecord), "PS314 warning max_size is ")
}

func TestFile_doctorJudgesTheDisk(t *testing.T) {
	if s, err := spaceOf(t.TempDir()); err != nil || s.total == 0 || s.free > s.total {
		t.Fatalf("got %+v, %v", s, err)
	}
	for name, c := range map[string]struct {
		space space
		want  []string
	}{
		"room":         {space{free: 6 << 30, total: 100 << 30}, nil},
		"nearly full":  {space{free: 4 << 30, total: 100 << 30}, []string{"PS312 warning the disk of d is nearly full (4 GiB of 100 GiB are free): deliveries are not recorded"}},
		"full":         {space{total: 100 << 30}, []string{"PS312 broken the disk of d is full"}},
		"no more file": {space{free: 50 << 30, total: 100 << 30, full: true}, []string{"PS312 broken the disk of d is full"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := pipeline.DefaultConfig()
			d := &fileDoctor{config: &FileConfig{Dir: "d"}, env: pipeline.DoctorEnv{Pipeline: &config, Role: pipeline.RoleRecord}}
			d.disk(c.space, fileSet{})
			var told []string
			for _, f := range d.found {
				told = append(told, fmt.Sprintf("%s %s %s", f.Code, f.Severity, f.What))
			}
			wantFindings(t, told, c.want...)
		})
	}
}

func TestFile_doctorSaysSizesAsPeopleDo(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 64490796 << 10: "62 GiB", 1 << 40: "1 TiB", 1<<64 - 1: "16 EiB"} {
		if got := about(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestFile_doctorSaysWhatWaitsInThePoisonQueue(t *testing.T) {
	dir := t.TempDir()
	c := &FileConfig{Dir: dir}
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: filepath.Join(dir, "not-yet")}, pipeline.RolePoisonQueue))
	wantFindings(t, diagnoseFile(t, c, pipeline.RolePoisonQueue))
	var lines []byte
	for i, reason := range []string{"the second", "the first"} {
		lines = recording.Append(lines, &recording.Entry{ID: fmt.Sprint(i), Time: time.Now(), Payload: []byte("x"),
			Poison: &recording.Poison{Reason: reason, At: fmt.Sprintf("2026-11-2%dT10:00:00Z", 9-i)}})
	}
	if err := os.WriteFile(filepath.Join(dir, "orders-1.ndjson"), append(lines, "torn\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFindings(t, diagnoseFile(t, c, pipeline.RolePoisonQueue),
		"PS163 warning messages in the poison queue "+dir+": 2; the oldest since 2026-11-28 10:00:00 UTC: the first; places that are damaged: 1")
	wantFindings(t, diagnoseFile(t, &FileConfig{Dir: dir, Keep: time.Hour}, pipeline.RoleSink)) // the files of a sink are no poison
}
