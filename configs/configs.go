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

// Names returns the names of the ready pipelines, sorted.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Read returns the ready pipeline of that name, such as "quickstart"; ok is false when there is none.
func Read(name string) (yaml []byte, ok bool) {
	b, err := files.ReadFile(name + ".yaml")
	return b, err == nil
}
