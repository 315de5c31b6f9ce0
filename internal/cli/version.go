package cli

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

const modulePath = "github.com/penstock-dev/penstock"

// release is the version of a release build, which sets it with -ldflags "-X …/internal/cli.release=1.2.3".
var release string

// developed is the version that a checkout works towards, for builds that know nothing better: go run, go test.
const developed = "0.1.0"

// Version of penstock: 1.2.3, without a v.
var Version = version(release, debug.ReadBuildInfo)

// version is what a release build was told; else what Go noted of penstock's module, which go install, a user's own
// program that requires it, and a build in a checkout have; else the one that is developed.
func version(release string, buildInfo func() (*debug.BuildInfo, bool)) string {
	if release != "" {
		return strings.TrimPrefix(release, "v")
	}
	if info, ok := buildInfo(); ok {
		modules := append([]*debug.Module{&info.Main}, info.Deps...)
		for _, m := range modules {
			if m.Path != modulePath {
				continue
			}
			if m.Replace != nil {
				m = m.Replace
			}
			if v, ok := strings.CutPrefix(m.Version, "v"); ok { // not "(devel)", nor a folder in its place
				return v
			}
		}
	}
	return developed
}

func (p *Program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "prints the version",
		Example: p.examples("penstock version\npenstock version | cut -d ' ' -f 2   # the number alone"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.Stdout, versionLine())
			return err
		},
	}
}

// versionLine is the version with the Go and the commit that the program was built of.
func versionLine() string {
	line := "penstock " + Version
	if info, ok := debug.ReadBuildInfo(); ok {
		line += " (" + info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				line += ", " + s.Value[:12]
			}
		}
		line += ")"
	}
	return line
}
