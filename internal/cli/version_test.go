package cli

import (
	"runtime/debug"
	"testing"
)

func TestVersion_isThatOfTheBuild(t *testing.T) {
	ours := func(version string) debug.Module { return debug.Module{Path: modulePath, Version: version} }
	theirs := debug.Module{Path: "example.com/mine", Version: "v9.9.9"}
	for name, c := range map[string]struct {
		release string
		info    *debug.BuildInfo
		want    string
	}{
		"a release build":            {"1.2.3", &debug.BuildInfo{Main: ours("v0.0.0-20261126014242-5009fd9aaaaa+dirty")}, "1.2.3"},
		"a release named by its tag": {"v1.2.3", nil, "1.2.3"},
		"go install at a version":    {"", &debug.BuildInfo{Main: ours("v1.2.3")}, "1.2.3"},
		"go install at a commit":     {"", &debug.BuildInfo{Main: ours("v1.2.4-0.20261126014242-5009fd9aaaaa")}, "1.2.4-0.20261126014242-5009fd9aaaaa"},
		"go run in a checkout":       {"", &debug.BuildInfo{Main: ours("(devel)")}, developed},
		"a test":                     {"", &debug.BuildInfo{Main: ours("")}, developed},
		"no build info":              {"", nil, developed},
		"a program of one's own": {"", &debug.BuildInfo{Main: theirs, Deps: []*debug.Module{
			{Path: "example.com/other", Version: "v3.0.0"}, {Path: modulePath, Version: "v1.2.3"}}}, "1.2.3"},
		"... with penstock from a folder": {"", &debug.BuildInfo{Main: theirs, Deps: []*debug.Module{
			{Path: modulePath, Version: "v0.0.0", Replace: &debug.Module{Path: "../.."}}}}, developed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := version(c.release, func() (*debug.BuildInfo, bool) { return c.info, c.info != nil }); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
