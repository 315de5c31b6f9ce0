// Package configs holds the ready pipelines that every penstock program carries.
package configs

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// PersistentCache is the name of the built-in cache service.
const PersistentCache = "persistent-cache"

// testsSuffix ends the names of the files of tests beside the pipelines.
const testsSuffix = "_test"

// Names returns the names of the ready pipelines, sorted.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	var names []string
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), ".yaml"); !strings.HasSuffix(name, testsSuffix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Read returns the ready pipeline of that name, such as "quickstart"; ok is false when there is none.
func Read(name string) (yaml []byte, ok bool) {
	if strings.HasSuffix(name, testsSuffix) {
		return nil, false
	}
	b, err := files.ReadFile(name + ".yaml")
	return b, err == nil
}

// ReadWithTests returns the ready pipeline of that name and the file of tests beside it.
func ReadWithTests(name string) (yaml, tests []byte, ok bool) {
	if yaml, ok = Read(name); !ok {
		return nil, nil, false
	}
	tests, err := files.ReadFile(name + testsSuffix + ".yaml")
	return yaml, tests, err == nil
}
