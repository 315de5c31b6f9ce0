package sinks

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/poison"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// FileConfig appends messages to files in the recording format: one JSON object a line, that the file source and
// penstock replay read back byte for byte. It serves as sink, as record and as poison_queue; an entry of a poison
// queue also has the member poison: reason, stage, attempts, times, pipeline, and the stack of a panic.
//
//	{"id":"…","time":"2026-11-22T10:15:30.250000000Z","metadata":{"k":"v"},"payload":"the body as a string"}
//
// A body that is not valid UTF-8 is in payload_base64 instead of payload; likewise id_base64, and metadata_base64
// with names and values encoded.
//
// An acknowledged message is with the operating system, so that a crash of the process does not cost it; with fsync
// every it is on the disk. Concurrent messages are written, compressed and synced together. A write that fails is
// undone, so that no torn line stands in the middle of a file.
//
// File names are <pipeline>-<time>-<host>-<process id>-<random>-<number>.ndjson (.gz, .zst): no other process shares
// them and no file is ever overwritten. A file begins with the first message.
//
// Messages that are processed at the same time are written in any order; order: source on the pipeline keeps that of
// the source. After a stop or a failure a message may be written a second time.
//
// The time of an entry is the message's recorded_at, if it has one, else when a poisoned message was received, else
// when it was written. A full disk is an outage: messages are held until there is space again; as a poison queue it
// holds only what is to be poisoned, and penstock_poison_waiting and /api/status tell how much that is. A directory
// that can't be written to stops the pipeline.
type FileConfig struct {
	// The directory to write to; it is made, mode 0700, when it isn't there.
	Dir string `yaml:"dir" required:"true" example:"recordings"`
	// How to compress the files: "none", "gzip" or "zstd". Few messages at a time compress badly, because what is
	// acknowledged must be readable after a crash.
	Compression string `yaml:"compression" default:"none" enum:"none,gzip,zstd"`
	// When to begin another file.
	Rotation FileRotation `yaml:"rotation" example:"{size: 64MiB}"`
	// When to wait until the disk has the data: "every" before messages are acknowledged, "rotate" when a file is
	// finished and at the stop, "auto" every for a poison queue and rotate elsewhere.
	Fsync string `yaml:"fsync" default:"auto" enum:"auto,every,rotate"`
	// How long a file stays after the last write to it, such as 168h; at least rotation.age. Without it for ever. Files
	// of this pipeline's name go, those of other processes too, whenever another begins; the log and
	// penstock_files_removed_total tell. Not for a poison queue.
	Keep time.Duration `yaml:"keep" range:"1s.." example:"168h"`
	// How much the files of this pipeline's name may hold together, such as 10GiB, as they lie on the disk; at least
	// twice rotation.size. Beyond it the oldest go, as with keep. Not for a poison queue.
	MaxSize pipeline.ByteSize `yaml:"max_size" range:"2KiB.." example:"10GiB"`
	// Values to leave out of what is written: paths of member names in JSON bodies, such as customer.email. Lists are
	// stepped through, and strings that hold JSON are looked into (Message.customer.email in an SNS envelope). What is
	// found becomes "[redacted]"; the members of a body that has some are written in another order. A body that is no
	// JSON is replaced whole. A replay gives what is written: it writes "[redacted]" where that value is used, and
	// can't bring it back. Metadata are written as they are. Not for a poison queue.
	Redact []string `yaml:"redact" pattern:"^[^.]+(\\.[^.]+)*$" want:"names with dots between them, such as customer.email" example:"[customer.email]"`
}

// FileRotation says when a file is finished and another begun.
type FileRotation struct {
	// Most bytes of a file, as it lies on the disk; at least 1KiB. Messages that are written together stay together.
	Size pipeline.ByteSize `yaml:"size" default:"128MiB" range:"1KiB.."`
	// Longest time between the first message of a file and its end; at least 1s.
	Age time.Duration `yaml:"age" default:"24h" range:"1s.."`
}

const (
	defaultFileSize = 128 << 20
	defaultFileAge  = 24 * time.Hour
)

// Validate reports broken rules.
func (c *FileConfig) Validate() error {
	whole := *c
	whole.Rotation.Size = cmp.Or(whole.Rotation.Size, defaultFileSize) // of a config that was made in Go
	whole.Rotation.Age = cmp.Or(whole.Rotation.Age, defaultFileAge)
	errs := []error{pipeline.CheckTags(&whole)}
	if strings.TrimSpace(c.Dir) == "" {
		errs = append(errs, code.Mark(code.Required, pipeline.Invalid("dir", "must name a directory")))
	}
	if age := whole.Rotation.Age; c.Keep != 0 && c.Keep < age {
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("keep", "must be at least rotation.age (%s), got %s", age, c.Keep)))
	}
	if size := whole.Rotation.Size; c.MaxSize != 0 && c.MaxSize < 2*size {
		errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid("max_size", "must be at least twice rotation.size (%s), got %s", size, c.MaxSize)))
	}
	return errors.Join(errs...)
}

var _ pipeline.PoisonKeeper = (*FileConfig)(nil)

// OpenPoison opens the directory as a poison queue. It may be done beside the pipeline that writes there.
func (c *FileConfig) OpenPoison(_ context.Context, _ pipeline.Env, change bool) (pipeline.PoisonQueue, error) {
	return poison.Open(c.Dir, change)
}

// NewSink makes the sink. Its Publisher is a [pipeline.Starter].
func (c *FileConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	if env.Role == pipeline.RolePoisonQueue && (c.Keep > 0 || c.MaxSize > 0 || len(c.Redact) > 0) {
		return pipeline.Sink{}, errors.New("keep, max_size and redact are not for a poison queue: it has the only copy of what is to be put right")
	}
	s := &fileSink{dir: c.Dir, who: strings.TrimSpace(env.Pipeline + " " + env.Path), poison: env.Role == pipeline.RolePoisonQueue}
	settings := recording.WriterSettings{
		Dir: c.Dir, Name: env.Pipeline, Compression: recording.Compression(c.Compression),
		MaxBytes: int64(c.Rotation.Size), MaxAge: c.Rotation.Age, Sync: syncPolicy(c.Fsync, env.Role),
		Locked: s.poison,
	}
	if c.Keep > 0 || c.MaxSize > 0 {
		settings.Retention = retention(c, env)
	}
	for _, path := range c.Redact {
		s.redact = append(s.redact, strings.Split(path, "."))
	}
	if settings.Name == "" {
		settings.Name = "penstock"
	}
	if settings.MaxBytes == 0 {
		settings.MaxBytes = defaultFileSize
	}
	if settings.MaxAge == 0 {
		settings.MaxAge = defaultFileAge
	}
	s.writer = recording.NewWriter(settings)
	return pipeline.BatchSinkFunc(s.store, pipeline.BatchSettings{Start: s.start, Close: s.close}), nil
}

func syncPolicy(fsync string, role pipeline.Role) recording.SyncPolicy {
	switch {
	case fsync == string(recording.SyncEvery) || fsync == string(recording.SyncRotate):
		return recording.SyncPolicy(fsync)
	case role == pipeline.RolePoisonQueue:
		return recording.SyncEvery
	default:
		return recording.SyncRotate
	}
}

type fileSink struct {
	dir    string
	who    string
	poison bool
	redact [][]string
	writer *recording.Writer
	buf    []byte // of store: there is one worker

	mu      sync.Mutex
	release func()
}

// start claims the directory and makes sure that files can be made in it.
func (s *fileSink) start(context.Context) error {
	if err := s.writer.Check(); err != nil {
		return s.explain(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release != nil {
		return nil
	}
	release, err := recording.ClaimWrite(s.dir, s.who)
	if err != nil {
		return pipeline.Fatal(code.Mark(code.FilesOfAnother, err))
	}
	s.release = release
	return nil
}

// maxKeptBuffer bounds what one large batch leaves behind.
const maxKeptBuffer = 4 << 20

// store writes a batch; it is stored as a whole or not at all.
func (s *fileSink) store(_ context.Context, msgs []*message.Message) []error {
	buf := s.buf[:0]
	now := time.Now()
	for _, msg := range msgs {
		e := s.entry(msg, now)
		if len(s.redact) > 0 {
			e.Payload = redact(e.Payload, s.redact)
		}
		buf = recording.Append(buf, &e)
	}
	err := s.writer.Write(buf)
	if s.buf = buf; cap(buf) > maxKeptBuffer {
		s.buf = nil
	}
	if err == nil {
		return nil
	}
	err = s.explain(err)
	errs := make([]error, len(msgs))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (s *fileSink) close() error {
	err := s.writer.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	if err != nil {
		return reason.Errorf("finish the file in %q: %w", s.dir, err)
	}
	return nil
}

const recordedAt = "recorded_at"

// entry makes the entry of a message. It shares the message's payload and, unless something has to go, its metadata.
func (s *fileSink) entry(msg *message.Message, now time.Time) recording.Entry {
	if s.poison {
		return poison.Entry(msg, now)
	}
	e := recording.Entry{ID: msg.UUID, Time: now, Metadata: msg.Metadata, Payload: msg.Payload}
	recorded, ok := msg.Metadata[recordedAt]
	if !ok {
		return e
	}
	e.Metadata = make(map[string]string, len(msg.Metadata))
	for k, v := range msg.Metadata {
		e.Metadata[k] = v
	}
	if t, err := time.Parse(time.RFC3339Nano, recorded); err == nil {
		// The entry's time says it, and reading the entry puts it back.
		e.Time = t
		delete(e.Metadata, recordedAt)
	}
	return e
}

// explain says what an error of the file system means for the pipeline, and what to do.
func (s *fileSink) explain(err error) error {
	var what string
	outcome := pipeline.Unavailable
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		what = "no space is left: free some, it goes on by itself then"
	case errors.Is(err, fs.ErrPermission):
		what, outcome = "let this user write there, or set dir to another directory", pipeline.Fatal
	case errors.Is(err, syscall.EROFS):
		what, outcome = "the file system is read-only: set dir to another directory", pipeline.Fatal
	case errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist):
		what, outcome = "there is a file in the way: set dir to another directory", pipeline.Fatal
	case errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EINVAL):
		what, outcome = "set dir to another directory", pipeline.Fatal
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		what = "too many files are open: raise the limit (ulimit -n)"
	default:
		what = "the disk does not take it"
	}
	return outcome(code.Mark(code.Directory, reason.Errorf("write to directory %q: %w (%s)", s.dir, err, what)))
}
