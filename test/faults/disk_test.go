package faults

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// smallDisk mounts a disk of 24 MiB at "disk", in memory. That needs Linux and root.
func smallDisk(s *scene) {
	dir := filepath.Join(s.dir, "disk")
	s.must(os.Mkdir(dir, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		s.t.Skipf("a small disk can't be mounted here: %v: %s", err, out)
	}
	s.t.Cleanup(func() {
		_ = exec.Command("umount", "-l", dir).Run()
	})
}

// fillDisk leaves no room on it.
func (s *scene) fillDisk() {
	file, err := os.Create(filepath.Join(s.dir, "disk", "filling"))
	s.must(err)
	for block := bytes.Repeat([]byte{1}, 64<<10); len(block) > 0; {
		if _, err := file.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	s.must(file.Close())
}

// emptyDisk makes room again.
func (s *scene) emptyDisk() {
	if err := os.Remove(filepath.Join(s.dir, "disk", "filling")); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.must(err)
	}
}

// bombs sends n events that are small and unpack to 15 MiB each, which is just allowed.
func (s *scene) bombs(n int) {
	blanks := s.packed(strings.Repeat(" ", 15<<20))
	for range n {
		body := s.load.next()
		// Members of one gzip stream, so that the blanks are packed once.
		stream := slices.Concat(s.packed(body[:len(body)-1]), blanks, s.packed("}"))
		s.must(s.queue.send(base64.StdEncoding.EncodeToString(stream)))
	}
}

// large has so many events of 995 kB wait for the program: every receive brings as many as it may.
func (s *scene) large(n [2]int) {
	name := strings.Repeat(`the \"second\" version of the API, `, 995_000/34)
	s.program.signal(syscall.SIGSTOP)
	for range form(n) {
		s.must(s.queue.send(s.load.event(name)))
	}
	s.program.signal(syscall.SIGCONT)
}

func (s *scene) packed(text string) []byte {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, text)
	s.must(errors.Join(err, w.Close()))
	return packed.Bytes()
}
