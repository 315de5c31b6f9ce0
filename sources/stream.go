package sources

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// stdin is the path of the standard input.
const stdin = "-"

// isStream reports whether a path is a pipe, a device or a socket, which can be read once, from its beginning, and
// whose end only its writer knows.
func isStream(name string) bool {
	if name == stdin {
		return true
	}
	info, err := os.Stat(name)
	return err == nil && !info.Mode().IsRegular() && !info.IsDir()
}

// errStopped says that the source stops while it waits for a stream.
var errStopped = errors.New("the source stops")

// stream reads from a file that may make its reader wait, and returns when the source stops.
type stream struct {
	file    *os.File
	stopped <-chan struct{}
	buf     []byte
	pending chan read // of the read at hand; nil: none
}

type read struct {
	n   int
	err error
}

// writerPatience is how long a pipe may be without a writer before the log says so.
const writerPatience = time.Second

// openStream opens a stream. A named pipe is open when it has a writer: until then there is one line in the log.
func openStream(name string, stopped <-chan struct{}, log *zap.Logger) (*stream, error) {
	s := &stream{stopped: stopped, buf: make([]byte, 64<<10)}
	if name == stdin {
		s.file = os.Stdin
		return s, nil
	}
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		file, err := os.Open(name)
		done <- opened{file, err}
	}()
	waiting := time.NewTimer(writerPatience)
	defer waiting.Stop()
	for {
		select {
		case o := <-done:
			s.file = o.file
			return s, o.err
		case <-waiting.C:
			log.Info("waiting for somebody to write to the pipe", zap.String("file", name))
		case <-stopped:
			// A writer that comes and goes lets the open return.
			if w, err := os.OpenFile(name, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				_ = w.Close()
			}
			return nil, errStopped
		}
	}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.pending == nil {
		pending := make(chan read, 1)
		s.pending = pending
		buf := s.buf[:min(len(s.buf), len(p))]
		go func() {
			n, err := s.file.Read(buf)
			pending <- read{n, err}
		}()
	}
	select {
	case r := <-s.pending:
		s.pending = nil
		copy(p, s.buf[:r.n])
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			r.err = fmt.Errorf("read %s: %w", s.file.Name(), r.err)
		}
		return r.n, r.err
	case <-s.stopped:
		return 0, errStopped
	}
}

// Close ends reading. The standard input stays open: it is not ours.
func (s *stream) Close() error {
	if s.file == nil || s.file == os.Stdin {
		return nil
	}
	return s.file.Close()
}
