package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

// goVersion is the go directive of penstock's own go.mod: a module that requires it can't have a lower one.
const goVersion = "1.26.0"

// programFiles makes the files of a Go module. Their names end with .txt where they are kept, because a go.mod and Go
// files there would be a module and a package of penstock's own.
func programFiles(name, dir, checkout string) ([]starterFile, error) {
	_, source, _, _ := runtime.Caller(0)
	pin, err := pinOf(checkout, release, source, debug.ReadBuildInfo)
	if err != nil {
		return nil, err
	}
	program := programName(dir)
	files := []starterFile{{"go.mod", []byte(pin.goMod(program))}}
	entries, err := templateFiles.ReadDir("templates/" + name)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := templateFiles.ReadFile("templates/" + name + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		file := strings.TrimSuffix(e.Name(), ".txt")
		if file == "gitignore" {
			file = ".gitignore"
		}
		files = append(files, starterFile{file, []byte(strings.ReplaceAll(string(text), "my-program", program))})
	}
	return files, nil
}

var notInName = regexp.MustCompile(`[^a-z0-9_-]+`)

// programName is what the module and its program are called: as the directory, as far as that is a name.
func programName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-_")
	if name == "" {
		return "my-program"
	}
	return name
}

// pin says where a Go module takes penstock from.
type pin struct {
	version string // as in v1.2.3
	replace string // what takes its place, as go.mod has it, or ""
}

func (p pin) goMod(program string) string {
	text := "// The path of the module: rename it to where it will live, as in github.com/me/" + program + ".\nmodule example.com/" + program +
		"\n\ngo " + goVersion + "\n\n"
	if p.replace == "" {
		return text + "// The penstock that wrote this file. A newer one: go get " + modulePath + "@latest\nrequire " + modulePath + " " + p.version + "\n"
	}
	return text + "require " + modulePath + " " + p.version + "\n\n" +
		"// The penstock that wrote this file has no version that Go could download. With one that has been released, remove this\n" +
		"// line and: go get " + modulePath + "@latest\nreplace " + modulePath + " => " + p.replace + "\n"
}

// unreleased is the version that stands in go.mod where another place is named for it.
const unreleased = "v0.0.0"

// pinOf finds out where a module is to take the penstock from that this program is made of: from a checkout that is
// named, by the version of a release, from where this program's own go.mod has it, or from the checkout that it was
// built in. source is the path of this file at the build; it is not absolute with -trimpath.
func pinOf(checkout, release, source string, buildInfo func() (*debug.BuildInfo, bool)) (pin, error) {
	if checkout != "" {
		dir, err := filepath.Abs(checkout)
		if err != nil {
			return pin{}, err
		}
		if !isCheckout(dir) {
			return pin{}, usagef("--checkout: %s has no go.mod of %s", checkout, modulePath)
		}
		return pin{unreleased, modFilePath(dir)}, nil
	}
	if release != "" {
		return pin{version: "v" + strings.TrimPrefix(release, "v")}, nil
	}
	if info, ok := buildInfo(); ok {
		for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
			switch {
			case m.Path != modulePath:
			case m.Replace != nil && filepath.IsAbs(m.Replace.Path) && isCheckout(m.Replace.Path):
				return pin{unreleased, modFilePath(m.Replace.Path)}, nil
			case m.Replace != nil && m.Replace.Version != "":
				return pin{m.Version, m.Replace.Path + " " + m.Replace.Version}, nil
			case m.Replace == nil && m.Sum != "": // it was downloaded, and can be again
				return pin{version: m.Version}, nil
			}
		}
	}
	if dir := filepath.Join(filepath.Dir(source), "..", ".."); filepath.IsAbs(dir) && isCheckout(dir) {
		return pin{unreleased, modFilePath(dir)}, nil
	}
	return pin{}, usagef("this penstock was built in a checkout and has no version that Go could download: name a checkout with --checkout DIR, or take a released penstock")
}

// isCheckout reports whether penstock's own module is in the directory.
func isCheckout(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	first, _, _ := strings.Cut(string(text), "\n")
	return err == nil && strings.TrimSpace(first) == "module "+modulePath
}

// modFilePath is a path as go.mod has it.
func modFilePath(path string) string {
	if strings.ContainsAny(path, " \t()[]{},'`") {
		return fmt.Sprintf("%q", path)
	}
	return path
}
