package penstock_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// sourceFiles returns the files of this checkout that git knows or would take.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(out)), "\n"), func(file string) bool {
		_, err := os.Stat(file)
		return err != nil // deleted, but not yet for git
	})
}

// scratch is a repository of its own with this checkout's files in one commit.
type scratch struct {
	t   *testing.T
	dir string
}

func newScratch(t *testing.T) *scratch {
	t.Helper()
	s := &scratch{t, t.TempDir()}
	for _, file := range sourceFiles(t) {
		s.copy(file)
	}
	s.must("git", "init", "-q")
	s.must("git", "add", "-A")
	s.commit()
	return s
}

func (s *scratch) copy(file string) {
	s.t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	target := filepath.Join(s.dir, file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, text, info.Mode().Perm())); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scratch) run(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), name, args...)
	cmd.Dir = s.dir
	// Neither the person's git settings nor a version from outside; make release is not part of make test here.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "VERSION=", "MAKEFLAGS=",
		"PLATFORMS="+runtime.GOOS+"/"+runtime.GOARCH)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *scratch) must(name string, args ...string) {
	s.t.Helper()
	if out, err := s.run(name, args...); err != nil {
		s.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func (s *scratch) commit() {
	s.t.Helper()
	s.must("git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "--allow-empty", "-m", "test")
}

func TestRelease_filesAreOfTheTag(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	if out, err := s.run("make", "release"); err == nil || !strings.Contains(out, "this commit has no tag") {
		t.Errorf("without a tag: %v\n%s", err, out)
	}
	s.must("git", "tag", "v0.9.8")
	s.must("make", "release")
	release := filepath.Join(s.dir, "dist", "release")
	name := fmt.Sprintf("penstock_0.9.8_%s_%s", runtime.GOOS, runtime.GOARCH)
	read := func(file string) []byte {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(release, file))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}

	entries, err := os.ReadDir(release)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	sums := ""
	for _, e := range entries {
		files = append(files, e.Name())
		if e.Name() != "SHA256SUMS" {
			sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(read(e.Name())), e.Name())
		}
	}
	if want := []string{"SHA256SUMS", name + ".cdx.json", name + ".tar.gz"}; !slices.Equal(files, want) {
		t.Fatalf("the release has %q, want %q", files, want)
	}
	if got := string(read("SHA256SUMS")); got != sums {
		t.Errorf("SHA256SUMS has\n%swant\n%s", got, sums)
	}

	// The archive.
	unzipped, err := gzip.NewReader(bytes.NewReader(read(name + ".tar.gz")))
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	program := filepath.Join(t.TempDir(), "penstock")
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s belongs to %d %q: the archive tells who made it", h.Name, h.Uid, h.Uname)
		}
		if path.Base(h.Name) == "penstock" {
			content, err := io.ReadAll(archive)
			if err := errors.Join(err, os.WriteFile(program, content, h.FileInfo().Mode())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []string{name + "/", name + "/LICENSE", name + "/README.md", name + "/penstock"}; !slices.Equal(held, want) {
		t.Fatalf("the archive has %q, want %q", held, want)
	}
	if out, err := exec.Command(program, "version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "penstock 0.9.8 (go") {
		t.Errorf("penstock version: %v, %s", err, out)
	}
	if content, err := os.ReadFile(program); err != nil || bytes.Contains(content, []byte(s.dir)) {
		t.Errorf("the program knows where it was built (%v)", err)
	}

	// The bill of materials.
	var bom struct {
		BomFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(read(name+".cdx.json"), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BomFormat != "CycloneDX" || bom.Metadata.Component.Name != module || bom.Metadata.Component.Version != "v0.9.8" {
		t.Errorf("the bill of materials is a %q of %+v", bom.BomFormat, bom.Metadata.Component)
	}
	for _, name := range []string{"github.com/ThreeDotsLabs/watermill", "github.com/redis/go-redis/v9", "std"} {
		if !slices.ContainsFunc(bom.Components, func(c struct{ Name, Version string }) bool { return c.Name == name && c.Version != "" }) {
			t.Errorf("the bill of materials has no %s", name)
		}
	}

	// The same commit makes the same bytes.
	s.must("make", "release")
	if got := string(read("SHA256SUMS")); got != sums {
		t.Errorf("made again, SHA256SUMS has\n%swant\n%s", got, sums)
	}

	// What was changed after the tag is no release.
	if err := os.WriteFile(filepath.Join(s.dir, "README.md"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.run("make", "release"); err == nil || !strings.Contains(out, "differs from its tag, v0.9.8-dirty") {
		t.Errorf("after a change: %v\n%s", err, out)
	}
}

// TestRelease_goInstallTellsItsVersion installs from a module proxy that has this checkout as v0.9.8, and the other
// modules from where Go keeps those of this test.
func TestRelease_goInstallTellsItsVersion(t *testing.T) {
	t.Parallel()
	proxy := t.TempDir()
	versions := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	archive := zip.NewWriter(&zipped)
	for _, file := range sourceFiles(t) {
		nested := false // a folder with a go.mod of its own is another module
		for folder := path.Dir(file); folder != "."; folder = path.Dir(folder) {
			nested = nested || isModule(folder)
		}
		if nested {
			continue
		}
		w, err := archive.Create(module + "@v0.9.8/" + file)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err := errors.Join(err, archive.Close(),
		os.WriteFile(filepath.Join(versions, "list"), []byte("v0.9.8\n"), 0o600),
		os.WriteFile(filepath.Join(versions, "v0.9.8.info"), []byte(`{"Version":"v0.9.8"}`), 0o600),
		os.WriteFile(filepath.Join(versions, "v0.9.8.mod"), mod, 0o600),
		os.WriteFile(filepath.Join(versions, "v0.9.8.zip"), zipped.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	modules, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}

	bin, dir := t.TempDir(), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "install", module+"/cmd/penstock@v0.9.8")
	cmd.Dir = dir // outside of any module
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOWORK=off", "CGO_ENABLED=0", "GONOSUMDB=*", "GOSUMDB=off", "GONOPROXY=", "GOPRIVATE=",
		"GOMODCACHE="+filepath.Join(dir, "modules"), "GOPROXY=file://"+filepath.ToSlash(proxy)+",file://"+filepath.ToSlash(filepath.Join(strings.TrimSpace(string(modules)), "cache", "download")),
		// With -trimpath what is compiled doesn't depend on its folder, so that it is compiled once; read-only
		// modules could not be removed.
		"GOFLAGS=-trimpath -modcacherw")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(bin, "penstock"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "penstock 0.9.8 (go") {
		t.Errorf("penstock version: %v, %s", err, out)
	}
}
