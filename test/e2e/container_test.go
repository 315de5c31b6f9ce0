package e2e

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// image is what deploy/Dockerfile says of the image beside its files.
type image struct {
	from                  []string // of all stages
	copies                []string // of the last stage
	env, entrypoint, cmd  []string
	healthcheck           []string
	labels                map[string]string
	user, workdir, volume string
	expose                string
	uid                   uint32
}

// dockerfile reads deploy/Dockerfile: the part of the language that it uses, and it fails on anything else.
func dockerfile(t testing.TB) image {
	t.Helper()
	text, err := os.ReadFile(root(t, "deploy", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAll(text, nil)
	text = regexp.MustCompile(`\\\n\s*`).ReplaceAll(text, []byte(" "))
	var i image
	list := func(rest string) (words []string) {
		if err := json.Unmarshal([]byte(rest), &words); err != nil {
			t.Fatalf("deploy/Dockerfile: want a JSON list, so that no shell is needed: %s", rest)
		}
		return words
	}
	pair := regexp.MustCompile(`([\w.]+)=("[^"]*"|\S+)`)
	for line := range strings.Lines(string(text)) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		switch instruction {
		case "":
		case "FROM":
			i = image{from: append(i.from, rest), labels: map[string]string{}}
		case "COPY":
			i.copies = append(i.copies, rest)
		case "ENV":
			for _, match := range pair.FindAllStringSubmatch(rest, -1) {
				i.env = append(i.env, match[1]+"="+strings.Trim(match[2], `"`))
			}
		case "LABEL":
			for _, match := range pair.FindAllStringSubmatch(rest, -1) {
				i.labels[match[1]] = strings.Trim(match[2], `"`)
			}
		case "HEALTHCHECK":
			_, command, _ := strings.Cut(rest, " CMD ")
			i.healthcheck = list(command)
		case "ENTRYPOINT":
			i.entrypoint = list(rest)
		case "CMD":
			i.cmd = list(rest)
		case "USER":
			i.user = rest
		case "WORKDIR":
			i.workdir = rest
		case "VOLUME":
			i.volume = rest
		case "EXPOSE":
			i.expose = rest
		case "ARG", "RUN":
		default:
			t.Fatalf("deploy/Dockerfile: this test doesn't know %s", instruction)
		}
	}
	uid, _, _ := strings.Cut(i.user, ":")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil || n == 0 {
		t.Fatalf("deploy/Dockerfile: USER %q: want a number that isn't root's", i.user)
	}
	i.uid = uint32(n)
	return i
}

var imageTree struct {
	once sync.Once
	dir  string
	err  error
}

// imageRoot makes the image's file tree once, by `make image-root`, and returns its folder, which nobody may change.
func imageRoot(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the image is for Linux")
	}
	imageTree.once.Do(func() {
		dir, err := os.MkdirTemp("", "penstock-image-")
		if err != nil {
			imageTree.err = err
			return
		}
		imageTree.dir = dir
		cmd := exec.Command("make", "--no-print-directory", "image-root", "IMAGE_ROOT="+filepath.Join(dir, "root"))
		cmd.Dir = root(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			imageTree.err = errors.Join(err, errors.New(string(out)))
		}
	})
	if imageTree.err != nil {
		t.Fatal(imageTree.err)
	}
	return filepath.Join(imageTree.dir, "root")
}

func removeImageRoot() {
	if imageTree.dir != "" {
		_ = os.RemoveAll(imageTree.dir)
	}
}

// container stands in for a container engine: the image's tree in a chroot, and the user, the environment, the working
// directory and the command line that deploy/Dockerfile gives.
type container struct {
	t    testing.TB
	root string
	image
	env []string
}

// newContainer makes a container with that environment over the image's. It needs root, as a chroot does.
func newContainer(t testing.TB, env map[string]string) *container {
	t.Helper()
	if os.Geteuid() != 0 {
		const why = "a chroot needs root: sudo go test ./test/e2e"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	c := &container{t: t, root: filepath.Join(t.TempDir(), "root"), image: dockerfile(t)}
	copyTree(t, imageRoot(t), c.root)
	c.env = slices.Clone(c.image.env)
	for name, value := range env {
		c.env = append(c.env, name+"="+value)
	}
	return c
}

// command is `docker run IMAGE ARGS`.
func (c *container) command(args ...string) *exec.Cmd {
	if len(args) == 0 {
		args = c.cmd
	}
	return c.exec(append(slices.Clone(c.entrypoint), args...)...)
}

// exec is `docker exec CONTAINER ARGV`.
func (c *container) exec(argv ...string) *exec.Cmd {
	cmd := &exec.Cmd{Path: argv[0], Args: argv, Env: c.env, Dir: c.workdir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
	return cmd
}

// mount puts a file into the container, as a mounted one.
func (c *container) mount(path, content string) {
	c.t.Helper()
	file := filepath.Join(c.root, path)
	_ = os.Remove(file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
		c.t.Fatal(err)
	}
}

// healthy runs the image's health check and returns its exit code and what it says.
func (c *container) healthy() (int, string) {
	c.t.Helper()
	p := launch(c.t, c.exec(c.healthcheck...))
	said := ""
	for {
		select {
		case line := <-p.lines:
			said += line
			continue
		case <-p.exited:
		}
		return p.cmd.ProcessState.ExitCode(), said + p.errors()
	}
}

// untouched fails when the tree differs from the image's outside of the working directory.
func (c *container) untouched() {
	c.t.Helper()
	list := func(tree string) (files []string) {
		walk(c.t, tree, func(path string, info fs.FileInfo) {
			size := info.Size()
			if info.IsDir() {
				size = 0 // the file system's business
			}
			if !strings.HasPrefix(path, c.workdir+"/") {
				files = append(files, fmt.Sprintf("%s %s %d", path, info.Mode(), size))
			}
		})
		return files
	}
	if got, want := list(c.root), list(imageRoot(c.t)); !slices.Equal(got, want) {
		c.t.Errorf("the container's files are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// walk calls f with every file below root but root itself, by its path in the image.
func walk(t testing.TB, root string, f func(path string, info fs.FileInfo)) {
	t.Helper()
	err := filepath.Walk(root, func(path string, info fs.FileInfo, err error) error {
		if err == nil && path != root {
			f(strings.TrimPrefix(path, root), info)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyTree copies folders and links files, with their owners.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	walk(t, from, func(path string, info fs.FileInfo) {
		target := filepath.Join(to, path)
		var err error
		if info.IsDir() {
			owner := info.Sys().(*syscall.Stat_t)
			err = errors.Join(os.Mkdir(target, info.Mode().Perm()), os.Chown(target, int(owner.Uid), int(owner.Gid)))
		} else {
			err = os.Link(filepath.Join(from, path), target)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestImage_holdsTheProgramAndNothingElse(t *testing.T) {
	t.Parallel()
	tree, i := imageRoot(t), dockerfile(t)
	var files []string
	walk(t, tree, func(path string, info fs.FileInfo) {
		files = append(files, path)
		owner := info.Sys().(*syscall.Stat_t)
		switch {
		case info.Mode().Perm()&0o022 != 0:
			t.Errorf("%s: %s: others may write to it", path, info.Mode())
		case os.Geteuid() != 0: // owners are root's to give
		case path == i.workdir && owner.Uid != i.uid, path != i.workdir && owner.Uid != 0:
			t.Errorf("%s belongs to %d", path, owner.Uid)
		}
	})
	want := []string{"/etc", "/etc/group", "/etc/passwd", "/etc/ssl", "/etc/ssl/certs", "/etc/ssl/certs/ca-certificates.crt",
		"/penstock", "/var", "/var/lib", "/var/lib/penstock"}
	if !slices.Equal(files, want) {
		t.Errorf("the image holds\n%q\nwant\n%q", files, want)
	}

	program, err := elf.Open(filepath.Join(tree, "penstock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if libraries, _ := program.ImportedLibraries(); len(libraries) > 0 || slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("the program is not static: it needs %q", libraries)
	}
	roots, err := os.ReadFile(filepath.Join(tree, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(roots) {
		t.Error("there are no CA certificates in the image")
	}
	passwd, err := os.ReadFile(filepath.Join(tree, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("penstock:x:%d:%d:penstock:%s:/sbin/nologin\n", i.uid, i.uid, i.workdir); string(passwd) != want {
		t.Errorf("/etc/passwd has %q, want %q", passwd, want)
	}

	var layer counter
	zipped := gzip.NewWriter(&layer)
	archive := tar.NewWriter(zipped)
	if err := errors.Join(archive.AddFS(os.DirFS(tree)), archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	if layer > 25<<20 {
		t.Errorf("the image is %d MiB, want at most 25", layer>>20)
	}
	t.Logf("the image has %d bytes", layer)
}

// counter is a writer that counts.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func TestImage_dockerfileTakesTheTreeAsItIsAndRunsWithoutRights(t *testing.T) {
	t.Parallel()
	i := dockerfile(t)
	if want := []string{"--from=build /image-root/ /"}; !slices.Equal(i.copies, want) {
		t.Errorf("the last stage copies %q, want %q", i.copies, want)
	}
	if n := len(i.from); n != 2 || i.from[1] != "scratch" || !regexp.MustCompile(`^--platform=\$BUILDPLATFORM golang:\d+\.\d+\.\d+-\w+ AS build$`).MatchString(i.from[0]) {
		t.Errorf("the stages are from %q: want a pinned Go on the builder's architecture, then scratch", i.from)
	}
	if i.user != "65532:65532" || i.workdir != "/var/lib/penstock" || i.volume != i.workdir || i.expose != "4000" {
		t.Errorf("%+v", i)
	}
	if !slices.Equal(i.entrypoint, []string{"/penstock"}) || !slices.Equal(i.cmd, []string{"run"}) || !slices.Equal(i.healthcheck, []string{"/penstock", "healthcheck"}) {
		t.Errorf("entry point %q, command %q, health check %q", i.entrypoint, i.cmd, i.healthcheck)
	}
	for _, label := range []string{"title", "description", "url", "source", "documentation", "vendor", "licenses", "version", "revision", "created"} {
		if i.labels["org.opencontainers.image."+label] == "" {
			t.Errorf("no label %s", label)
		}
	}
	text, err := os.ReadFile(root(t, "deploy", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "GOARCH=$TARGETARCH VERSION=$VERSION deploy/image-root /image-root\n") {
		t.Error("the build stage doesn't lay out the tree for the target's architecture")
	}
	ignored, err := os.ReadFile(root(t, "deploy", "Dockerfile.dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	sent := map[string]bool{}
	for line := range strings.Lines(string(ignored)) {
		sent[strings.TrimSpace(line)] = true
	}
	// Every folder with a package of the program must get through to the build.
	list := exec.Command("go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}", "./cmd/penstock")
	list.Dir = root(t)
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		_, path, _ := strings.Cut(strings.TrimSpace(pkg), "penstock-dev/penstock/")
		folder, _, _ := strings.Cut(path, "/")
		if folder != "" && !sent["!"+folder] {
			t.Errorf("deploy/Dockerfile.dockerignore holds %s back", folder)
		}
	}
}

// pageEnvironment is the environment that docs/container.md hands to `docker run`.
func pageEnvironment(t testing.TB) map[string]string {
	t.Helper()
	page, err := os.Open(root(t, "docs", "container.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = page.Close() }()
	env := map[string]string{}
	option := regexp.MustCompile(`^  -e ([A-Z_]+)="([^"]*)" \\$`)
	for lines := bufio.NewScanner(page); lines.Scan(); {
		if match := option.FindStringSubmatch(lines.Text()); match != nil {
			env[match[1]] = match[2]
		}
	}
	if len(env) < 10 {
		t.Fatalf("docs/container.md has %d variables: the search misses them", len(env))
	}
	return env
}
