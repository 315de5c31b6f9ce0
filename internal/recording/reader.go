package recording

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-dev/penstock/internal/reason"
)

// DefaultMaxLine is the most bytes of a line when nothing else is said: a body of 1 MiB (the most that SQS takes) fits
// however it is escaped.
const DefaultMaxLine = 16 << 20

// ErrLineTooLong says that a line was longer than the reader's bound. The reader stands behind that line.
var ErrLineTooLong error = reason.New("line is too long")

// Lines reads the lines of a file, which may be compressed with gzip or zstd (recognised by content). It is not safe
// for concurrent use, but Offset is.
type Lines struct {
	file   *os.File
	src    io.Reader
	close  func()
	in     *bufio.Reader // of the file as it lies there
	plain  bool          // not compressed
	read   int64         // bytes of the file
	offset atomic.Int64

	buf     []byte
	r, w    int // buf[r:w] is read and not yet returned
	max     int
	line    int64
	last    bool // the line returned last has no newline
	err     error
	skipBOM bool
}

// OpenLines opens a file. Lines longer than maxLine bytes are errors; 0 means [DefaultMaxLine].
func OpenLines(name string, maxLine int) (*Lines, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	l, err := NewLines(f, maxLine)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	l.file = f
	return l, nil
}

// NewLines reads from r, which stays the caller's to close.
func NewLines(r io.Reader, maxLine int) (*Lines, error) {
	if maxLine <= 0 {
		maxLine = DefaultMaxLine
	}
	l := &Lines{max: maxLine, buf: make([]byte, min(256<<10, maxLine+1)), skipBOM: true, close: func() {}}
	in := bufio.NewReaderSize(&counter{r: r, n: &l.read}, 64<<10)
	l.in = in
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for format, f := range foreign {
		if head, _ := in.Peek(len(f.magic)); string(head) == f.magic {
			return nil, reason.Errorf("it is %s, which is not read here: unpack it first, or pipe it in: %s", format, f.unpack)
		}
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := newGzip(in)
		if err != nil {
			return nil, err
		}
		l.src = z
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// One at a time needs no goroutines of its own.
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, reason.Errorf("zstd: %w", err)
		}
		l.src, l.close = zstdReader{z}, z.Close
	default:
		l.src, l.plain = in, true
	}
	return l, nil
}

// foreign are the compressions that are not read, by what such a file begins with.
var foreign = map[string]struct{ magic, unpack string }{
	"bzip2":           {"BZh", "bzcat FILE | penstock replay PIPELINE -"},
	"xz":              {"\xfd7zXZ\x00", "xzcat FILE | penstock replay PIPELINE -"},
	"a zip archive":   {"PK\x03\x04", "unzip -p FILE | penstock replay PIPELINE -"},
	"lz4":             {"\x04\x22\x4d\x18", "lz4cat FILE | penstock replay PIPELINE -"},
	"a 7-Zip archive": {"7z\xbc\xaf\x27\x1c", "7z x -so FILE | penstock replay PIPELINE -"},
}

var gzipMagic = []byte{0x1f, 0x8b}

// gzipReader reads the members of a gzip file. What is behind the last one is zeros, which tapes and some tools pad
// with, or garbage.
type gzipReader struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func newGzip(in *bufio.Reader) (*gzipReader, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, reason.Errorf("gzip: %w", err)
	}
	z.Multistream(false)
	return &gzipReader{in: in, z: z}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, io.ErrUnexpectedEOF // the file ends inside its compression
		}
		if !errors.Is(err, io.EOF) {
			return 0, reason.Errorf("gzip: %w", err)
		}
		if err := g.next(); err != nil {
			return 0, err
		}
	}
}

// next goes to the next member; io.EOF when there is none.
func (g *gzipReader) next() error {
	for {
		head, err := g.in.Peek(1)
		if err != nil {
			return err
		}
		if head[0] != 0 {
			break
		}
		_, _ = g.in.Discard(1)
	}
	if head, _ := g.in.Peek(2); !bytes.Equal(head, gzipMagic) {
		return reason.Errorf("gzip: garbage behind the end of the compressed data: it begins with %q", head)
	}
	if err := g.z.Reset(g.in); err != nil {
		return reason.Errorf("gzip: %w", err)
	}
	g.z.Multistream(false)
	return nil
}

// zstdReader names what is behind the end of the compressed data.
type zstdReader struct{ z *zstd.Decoder }

func (r zstdReader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	if errors.Is(err, zstd.ErrMagicMismatch) {
		err = reason.New("zstd: garbage behind the end of the compressed data")
	}
	return n, err
}

// errUTF16 is the one error of a file that is not UTF-8.
var errUTF16 = reason.New("the file is UTF-16 and must be UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW")

// isUTF16 looks at the first bytes: a byte order mark, or every second byte 0.
func isUTF16(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) ||
		len(head) >= 4 && (head[0] == 0) != (head[1] == 0) && (head[0] == 0) == (head[2] == 0) && (head[1] == 0) == (head[3] == 0)
}

type counter struct {
	r io.Reader
	n *int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// Next returns the next line without its newline; a last line without one counts. The line is valid until the next
// call. At the end of the file the error is io.EOF. After [ErrLineTooLong] reading goes on behind that line; after
// any other error it doesn't. A file that ends inside its compression gives the part of a line that could be read
// with a nil error, and io.ErrUnexpectedEOF on the next call.
func (l *Lines) Next() ([]byte, error) {
	line, err := l.next()
	offset := l.read - int64(l.in.Buffered())
	if l.plain {
		offset -= int64(l.w - l.r)
	}
	l.offset.Store(offset)
	return line, err
}

func (l *Lines) next() ([]byte, error) {
	scanned := l.r
	for {
		if i := bytes.IndexByte(l.buf[scanned:l.w], '\n'); i >= 0 {
			line := l.buf[l.r : scanned+i]
			l.r = scanned + i + 1
			return l.returned(line)
		}
		scanned = l.w
		if l.w-l.r > l.max {
			return nil, l.tooLong()
		}
		if l.err != nil {
			if l.r == l.w {
				return nil, l.err
			}
			line := l.buf[l.r:l.w]
			l.r, l.last = l.w, true
			return l.returned(line)
		}
		if l.w == len(l.buf) {
			if l.r > 0 {
				copy(l.buf, l.buf[l.r:l.w])
			} else {
				bigger := make([]byte, min(2*len(l.buf), l.max+1))
				copy(bigger, l.buf[:l.w])
				l.buf = bigger
			}
			scanned, l.w, l.r = scanned-l.r, l.w-l.r, 0
		}
		l.fill()
	}
}

func (l *Lines) fill() {
	var n int
	n, l.err = l.src.Read(l.buf[l.w:])
	l.w += n
}

func (l *Lines) returned(line []byte) ([]byte, error) {
	l.line++
	if l.skipBOM {
		l.skipBOM = false
		if isUTF16(line) {
			l.r, l.w, l.err = 0, 0, errUTF16
			return nil, errUTF16
		}
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line, nil
}

// tooLong skips the rest of the line.
func (l *Lines) tooLong() error {
	l.line++
	l.skipBOM = false
	for {
		if i := bytes.IndexByte(l.buf[l.r:l.w], '\n'); i >= 0 {
			l.r += i + 1
			return ErrLineTooLong
		}
		l.r, l.w = 0, 0
		if l.err != nil {
			return ErrLineTooLong
		}
		l.fill()
	}
}

// Skip goes to the end of line number line, which lies at offset: nothing must have been read yet. Of a compressed
// file offset is not looked at. io.EOF means that the file is shorter.
func (l *Lines) Skip(offset, line int64) error {
	if l.plain && l.file != nil {
		if _, err := l.file.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		l.read = offset
		l.in.Reset(&counter{r: l.file, n: &l.read})
		l.line, l.skipBOM = line, line == 0
		l.offset.Store(offset)
		return nil
	}
	for l.line < line {
		if _, err := l.Next(); err != nil && !errors.Is(err, ErrLineTooLong) {
			return err
		}
	}
	return nil
}

// Line is the number of the line that Next returned last, or found too long; the first is 1.
func (l *Lines) Line() int64 { return l.line }

// Unterminated reports whether the line that Next returned last has no newline, because the file ends there.
func (l *Lines) Unterminated() bool { return l.last }

// Offset is where in the file, as it lies there, the line that Next returned last ends; of a compressed file, how
// much has been decompressed. Safe for concurrent use.
func (l *Lines) Offset() int64 { return l.offset.Load() }

// Close releases the reader, and the file if it was opened by [OpenLines].
func (l *Lines) Close() error {
	l.close()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// LineError is a line that is torn, or malformed in another way.
type LineError struct {
	// Name of the file, and number of the line in it; the first is 1.
	Name string
	Line int64
	// Raw is the line as it stands in the file, without its newline: a copy.
	Raw []byte
	Err error
}

func (e *LineError) Error() string {
	return fmt.Sprintf("%s:%d: torn or malformed entry: %v", e.Name, e.Line, e.Err)
}

func (e *LineError) Unwrap() error { return e.Err }

// Reader reads the entries of a recording. It is not safe for concurrent use, but Offset is.
type Reader struct {
	*Lines
	name   string
	parser Parser
}

// NewReader reads the entries of lines; name is what errors call the file. Closing the reader closes lines.
func NewReader(lines *Lines, name string) *Reader { return &Reader{Lines: lines, name: name} }

// Next reads the next entry into e, which it overwrites. Empty lines are passed over. At the end of the file the
// error is io.EOF; after a [*LineError] or [ErrLineTooLong] reading goes on behind that line.
func (r *Reader) Next(e *Entry) error {
	for {
		line, err := r.Lines.Next()
		if err != nil {
			return err
		}
		if len(line) == 0 || line[0] <= ' ' && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := r.parser.Parse(line, e); err != nil {
			return &LineError{Name: r.name, Line: r.Line(), Raw: bytes.Clone(line), Err: err}
		}
		return nil
	}
}
