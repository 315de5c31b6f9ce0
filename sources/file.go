package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/bmatcuk/doublestar/v4"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/expression"
	"github.com/penstock-dev/penstock/internal/feed"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// FileConfig replays recordings, or takes each line of a file as a message. It comes to an end by itself, unless it
// loops.
//
// Files may be compressed with gzip or zstd, whatever they are called. Empty lines are passed over, and a last line
// without a newline counts. A torn or malformed line goes to the poison queue as it stands, with file and line as the
// reason. What can't be handed on at all (a line longer than max_line, what lies behind a damaged place in a compressed
// file) is unresolved: the run goes on, and ends with exit code 1.
//
// A nack means that the message is offered again, at once and redeliveries times at most; then it is unresolved.
//
// Order: many lines are processed at a time, and they overtake each other. With order: source on the pipeline they are
// processed one after another as they stand in the files, and a released one comes again before the next. One that is
// given up after its redeliveries, or poisoned, is passed over. A stop forgets how far the source was: the next run
// begins at the first line again, so that a line may be delivered twice, but none is left out; with a checkpoint it
// begins at the first line that was not resolved.
//
// A message of a recording has the recorded metadata, and recorded_at: the time at which it was recorded (RFC 3339).
// The poison member of a poison queue's entry is left out, so that a poisoned message is again what it was.
//
// It refuses to start when a file sink of the same process writes to a directory that it reads from.
type FileConfig struct {
	// What to read: files, directories (all files in and below them but hidden ones), or globs, in which ** stands for any
	// number of directories; "-" is the standard input. Named pipes, devices and process substitutions are read, too,
	// once: what is in flight when a run stops does not come again. Files are read one after another, in the order of
	// this list and by name within an item of it, and none twice. What is there at the start is read, no more.
	Paths []string `yaml:"paths" required:"true" pattern:"^([^\\[\\\\]|\\\\.|\\[([^\\]\\\\]|\\\\.)+\\])*$" want:"a file, a directory, or a glob whose brackets are closed" example:"[recordings/]"`
	// How to read a file: "recording" is the recording format (one JSON object a line), "lines" takes each line as a body
	// as it stands, without its line end.
	Format string `yaml:"format" default:"recording" enum:"recording,lines" when:"=lines" excludes:"speed,restamp" note:"plain lines have no recorded times"`
	// Most messages in a unit of time, such as "500/s" or "30/m"; "max" for as many as the pipeline takes.
	Rate Rate `yaml:"rate" default:"max" pattern:"^\\s*(max|0|0*([1-9][0-9]*(\\.[0-9]*)?|0?\\.[0-9]+)([eE][+-]?[0-9]+)?\\s*(/\\s*[smh])?)\\s*$" want:"a rate such as 500/s, 30/m or max" code:"PS036" example:"500/s"`
	// How fast recorded time passes: "1x" keeps the recorded distances between messages, "10x" a tenth of them, "max"
	// takes no notice of them. Messages without a recorded time, or with one before their predecessor's, are not
	// delayed.
	Speed Speed `yaml:"speed" default:"max" pattern:"^\\s*(max|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][+-]?[0-9]+)?x)\\s*$" want:"a speed such as 1x, 10x or max" code:"PS036" example:"10x"`
	// Starts over behind the last file, for ever.
	Loop bool `yaml:"loop" default:"false"`
	// Moves times to now, so that a replay counts as news: everything in a message is moved by the same time, that
	// between its recording and its being handed on now (whole milliseconds). An event that was recorded 2 s after it
	// happened is thus handed on 2 s after it happens; versions grow from loop to loop and never run ahead of the
	// clock. Faster than 1x, events that were recorded late may swap places in time with others.
	//
	// Moved are the metadata recorded_at, sqs_sent_at and sqs_first_sent_at, and in the body, at any depth and also
	// in JSON within strings, the members timestamp, Timestamp, time, entitlementsUpdatedAt, entitlementUpdatedAt,
	// usageUpdatedAt, usagePeriodAnchor, usagePeriodStart, usagePeriodEnd, nextResetDate and validUntil, when they
	// are RFC 3339 times or epoch milliseconds of 12 or 13 digits. What is in base64 or compressed is not moved.
	Restamp bool `yaml:"restamp" default:"false"`
	// How often a released message is offered again before it is unresolved; at least 0.
	Redeliveries int `yaml:"redeliveries" default:"3" range:"0.." unit:"redeliveries"`
	// File in which to remember how far everything is resolved, so that a run that was stopped, or killed, goes on
	// there when it is started again: at the first message that is not written, filtered or poisoned. Messages behind
	// that one may be delivered a second time. It is written four times a second and at the end, beside the old one and
	// then put in its place. It knows its files by name, size and beginning; one that is another now, or that is missing
	// and was not done, is an error. A file that has grown is read on. Two processes must not share one. It is as safe
	// as the sink is: what a sink acknowledges before it is on a disk can be lost in a power failure.
	Checkpoint string `yaml:"checkpoint" excludes:"loop" note:"a loop has no end to come to" example:"replay.checkpoint"`
	// Longest line to accept, at least 1KiB. Reading may take as much memory.
	MaxLine pipeline.ByteSize `yaml:"max_line" default:"16MiB" range:"1KiB..1GiB"`

	// Selection is for programs: penstock replay fills it from its flags.
	Selection Selection `yaml:"-"`
}

const (
	formatRecording = "recording"
	formatLines     = "lines"
)

var _ configfacts.Ordered = (*FileConfig)(nil)

// HasOrder says that the lines of a file stand in an order.
func (c *FileConfig) HasOrder() {}

// Validate reports broken rules.
func (c *FileConfig) Validate() error {
	whole := *c
	if whole.MaxLine == 0 {
		whole.MaxLine = recording.DefaultMaxLine // of a config that was made in Go
	}
	errs := []error{pipeline.CheckTags(&whole)}
	if len(c.Paths) == 0 {
		errs = append(errs, code.Mark(code.Required, pipeline.Invalid("paths", "must name at least one file, directory or glob")))
	}
	for i, p := range c.Paths {
		field := fmt.Sprintf("paths[%d]", i)
		switch {
		case p == "":
			errs = append(errs, code.Mark(code.Required, pipeline.Invalid(field, "must not be empty")))
		case errs[0] == nil && !doublestar.ValidatePathPattern(p):
			errs = append(errs, code.Mark(code.BadForm, pipeline.Invalid(field, "is not a valid glob: %q", plaintext.Cut(p))))
		}
	}
	if c.Selection.Filter != "" {
		if _, err := expression.Compile(c.Selection.Filter); err != nil {
			errs = append(errs, fmt.Errorf("filter: %w", err))
		}
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"rate", float64(c.Rate)}, {"speed", float64(c.Speed)}} {
		if f.value < 0 { // only in Go
			errs = append(errs, code.Mark(code.OutOfRange, pipeline.Invalid(f.name, "must not be negative")))
		}
	}
	return errors.Join(errs...)
}

// NewSource makes the source. Its Subscriber is a [pipeline.Starter], [pipeline.Drainer], [pipeline.Finite] and
// [Progress].
func (c *FileConfig) NewSource(env pipeline.Env) (pipeline.Source, error) {
	if env.Logger == nil {
		env.Logger = zap.NewNop()
	}
	s := &fileSource{config: *c, env: env}
	if c.Selection.Filter != "" {
		var err error
		if s.filter, err = expression.Compile(c.Selection.Filter); err != nil {
			return pipeline.Source{}, fmt.Errorf("filter: %w", err)
		}
	}
	settings := feed.Settings{Next: s.next, Rate: float64(c.Rate), Redeliveries: c.Redeliveries, OneByOne: env.MaxInFlight == 1}
	settings.Checkpoints = c.Checkpoint != ""
	if c.Restamp {
		settings.Ready = s.restamp
	}
	s.Feed = feed.New(settings)
	if c.Checkpoint != "" {
		s.checkpoint = &checkpoint{path: c.Checkpoint, pipeline: env.Pipeline, what: c.what(), feed: s.Feed, log: env.Logger}
	}
	return pipeline.Source{Subscriber: s}, nil
}

// what says which messages of the files are handed on.
func (c *FileConfig) what() string {
	what := c.Format
	for _, bound := range []struct {
		name string
		t    time.Time
	}{{"from", c.Selection.From}, {"to", c.Selection.To}} {
		if !bound.t.IsZero() {
			what += " " + bound.name + " " + bound.t.UTC().Format(time.RFC3339Nano)
		}
	}
	if c.Selection.Filter != "" {
		what += fmt.Sprintf(" filter %q", c.Selection.Filter)
	}
	return what
}

// Progress is implemented by sources that know how far they are: the bytes read and to be read (of files as they lie
// there, compressed ones too; 0 to be read when there is no end), and the messages handed on. It does not block and
// may be called at any time.
type Progress interface {
	Progress() (bytesRead, bytesTotal, messages int64)
}

type fileSource struct {
	*feed.Feed
	config     FileConfig
	env        pipeline.Env
	checkpoint *checkpoint // nil: none

	starting sync.Mutex
	files    []string // nil: not started
	endless  bool     // a file among them is a pipe, whose length nobody knows
	release  func()
	filter   *expression.Expression // nil: none
	passed   passedOver
	total    atomic.Int64
	done     atomic.Int64 // bytes of files that were read to their end
	current  atomic.Pointer[recording.Lines]

	// The fields below belong to the feed's loop.
	index     int
	lines     *recording.Lines
	stream    *stream // behind lines; nil: a file on a disk
	reader    *recording.Reader
	entry     recording.Entry
	handedOn  int64
	made      bool      // this pass over the files made a message
	first     time.Time // recorded time of the first message of this pass, and when it was due
	firstDue  time.Time
	warnedFor string
}

var (
	_ pipeline.Starter = (*fileSource)(nil)
	_ Progress         = (*fileSource)(nil)
)

// Start finds the files and makes sure that they can be read and that nobody in this process writes beside them.
func (s *fileSource) Start(context.Context) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.files != nil {
		return nil
	}
	files, err := expand(s.config.Paths)
	if err != nil {
		return pipeline.Fatal(code.Mark(code.SourceFiles, err))
	}
	var total int64
	var onDisk []string
	for _, name := range files {
		if isStream(name) {
			switch {
			case s.config.Loop:
				return pipeline.Fatal(code.Mark(code.SourceFiles, fmt.Errorf("loop: %s is a pipe, which can be read once", name)))
			case s.checkpoint != nil:
				return pipeline.Fatal(code.Mark(code.SourceFiles, fmt.Errorf("checkpoint: %s is a pipe, which can be read once: there is no going on in it", name)))
			}
			s.endless = true
			s.env.Logger.Info("reading a pipe, once: what a stop leaves in flight does not come again", zap.String("file", name))
			continue
		}
		onDisk = append(onDisk, name)
		f, err := os.Open(name)
		if err != nil {
			return pipeline.Fatal(code.Mark(code.SourceFiles, err))
		}
		info, err := f.Stat()
		_ = f.Close()
		if err != nil {
			return pipeline.Fatal(code.Mark(code.SourceFiles, err))
		}
		total += info.Size()
	}
	release, err := recording.ClaimRead(onDisk, owner(s.env))
	if err != nil {
		return pipeline.Fatal(code.Mark(code.FilesOfAnother, err))
	}
	if s.checkpoint != nil {
		if err := s.checkpoint.open(files); err != nil {
			release()
			return pipeline.Fatal(code.Mark(code.SourceFiles, err))
		}
	}
	s.files, s.release = files, release
	if !s.config.Loop && !s.endless {
		s.total.Store(total)
	}
	return nil
}

func owner(env pipeline.Env) string {
	who := env.Path
	if who == "" {
		who = string(env.Role)
	}
	return strings.TrimSpace(env.Pipeline + " " + who)
}

// Subscribe starts reading; the topic means nothing. It may be called once.
func (s *fileSource) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	if s.checkpoint != nil {
		s.checkpoint.begin()
	}
	return s.Feed.Subscribe(ctx, topic)
}

// Close stops reading and releases the files.
func (s *fileSource) Close() error {
	err := s.Feed.Close()
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.lines != nil { // the loop has ended
		err = errors.Join(err, s.lines.Close())
		s.lines = nil
	}
	if s.stream != nil {
		err = errors.Join(err, s.stream.Close())
		s.stream = nil
	}
	if s.checkpoint != nil {
		err = errors.Join(err, s.checkpoint.close())
	}
	if s.release != nil {
		s.release()
		s.release = nil
	}
	return err
}

// Progress implements [Progress].
func (s *fileSource) Progress() (bytesRead, bytesTotal, messages int64) {
	bytesRead = s.done.Load()
	if l := s.current.Load(); l != nil {
		bytesRead += l.Offset()
	}
	return bytesRead, s.total.Load(), s.Handed()
}

// expand returns the files that the paths stand for.
func expand(paths []string) ([]string, error) {
	var files []string
	seen := make(map[string]bool)
	add := func(found []string) {
		slices.Sort(found)
		for _, f := range found {
			key := f
			if real, err := filepath.EvalSymlinks(f); err == nil {
				key = real
			}
			if key, _ = filepath.Abs(key); !seen[key] {
				seen[key] = true
				files = append(files, f)
			}
		}
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		var found []string
		switch {
		case p == stdin:
			found, err = []string{stdin}, nil
		case err == nil && !info.IsDir():
			found = []string{p}
		case err == nil:
			if found, err = filesBelow(p); err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, fmt.Errorf("paths: there is no file in directory %q", p)
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("paths: %w", err)
		default:
			if found, err = doublestar.FilepathGlob(p, doublestar.WithFilesOnly(), doublestar.WithFailOnIOErrors()); err != nil {
				return nil, fmt.Errorf("paths: %q: %w", p, err)
			}
			if len(found) == 0 {
				return nil, fmt.Errorf("paths: no file matches %q (relative paths start at the working directory)", p)
			}
		}
		add(found)
	}
	return files, nil
}

func filesBelow(dir string) ([]string, error) {
	var found []string
	// The separator makes a link to a directory the directory itself.
	dir = strings.TrimSuffix(dir, string(filepath.Separator)) + string(filepath.Separator)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == dir:
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
		case !d.IsDir():
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				found = append(found, path)
			}
		}
		return nil
	})
	return found, err
}

// next makes the next message. Errors of reading end a file, not the run.
func (s *fileSource) next() (feed.Item, error) {
	for {
		if limit := s.config.Selection.Limit; limit > 0 && s.handedOn == limit {
			return feed.Item{}, io.EOF
		}
		if s.lines == nil {
			if err := s.open(); err != nil {
				return feed.Item{}, err
			}
			continue
		}
		name := s.files[s.index]
		item, err := s.read(name)
		switch {
		case err == nil:
			chosen, err := s.choose(&item)
			if err != nil {
				return feed.Item{}, err
			}
			if !chosen {
				continue
			}
			s.made = true
			s.handedOn++
			item.End = s.position()
			return item, nil
		case errors.Is(err, errStopped):
			return feed.Item{}, io.EOF
		case errors.Is(err, recording.ErrLineTooLong):
			s.giveUp(fmt.Sprintf("%s:%d", name, s.lines.Line()), reason.Errorf("longer than max_line (%s)", s.config.MaxLine))
			continue
		case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			s.giveUp(fmt.Sprintf("%s:%d", name, s.lines.Line()+1), reason.Errorf("the rest of the file can't be read: %w", err))
		}
		if s.checkpoint != nil {
			s.checkpoint.endOfFile(s.index, s.lines.Offset(), s.lines.Line())
		}
		s.done.Add(s.lines.Offset())
		s.current.Store(nil)
		_ = s.lines.Close()
		if s.stream != nil {
			_ = s.stream.Close()
		}
		s.lines, s.stream, s.reader = nil, nil, nil
		s.index++
	}
}

// open opens the next file; io.EOF when there is none.
func (s *fileSource) open() error {
	if s.index == len(s.files) {
		if !s.config.Loop || !s.made {
			if s.checkpoint != nil {
				s.checkpoint.end()
			}
			return io.EOF
		}
		s.index, s.made, s.first = 0, false, time.Time{}
	}
	name := s.files[s.index]
	var from checkpointFile
	if s.checkpoint != nil {
		from = s.checkpoint.files[s.index]
	}
	if from.Done {
		s.checkpoint.endOfFile(s.index, from.Offset, from.Line)
		s.done.Add(from.Size)
		s.index++
		return nil
	}
	lines, err := s.openLines(name)
	if errors.Is(err, errStopped) {
		return io.EOF
	}
	if err == nil && from.Line > 0 {
		if err = lines.Skip(from.Offset, from.Line); err != nil {
			err = errors.Join(fmt.Errorf("go to line %d: %w", from.Line, err), lines.Close())
		}
	}
	if err != nil {
		s.giveUp(name, err)
		s.index++
		return nil
	}
	s.lines = lines
	s.current.Store(lines)
	if s.config.Format != formatLines {
		s.reader = recording.NewReader(lines, name)
	}
	return nil
}

func (s *fileSource) openLines(name string) (*recording.Lines, error) {
	if !isStream(name) {
		return recording.OpenLines(name, int(s.config.MaxLine))
	}
	in, err := openStream(name, s.Stopped(), s.env.Logger)
	if err != nil {
		return nil, err
	}
	lines, err := recording.NewLines(in, int(s.config.MaxLine))
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	s.stream = in
	return lines, nil
}

// giveUp counts a place that can't be handed on, and names the first of each file in the log.
func (s *fileSource) giveUp(place string, err error) {
	s.GiveUp(place)
	if file := s.files[s.index]; s.warnedFor != file {
		s.warnedFor = file
		complaint.Warn(s.env.Logger, "unresolved", zap.String("at", place), zap.Error(err))
	}
}

func (s *fileSource) read(name string) (feed.Item, error) {
	if s.reader == nil {
		return s.readLine(name)
	}
	err := s.reader.Next(&s.entry)
	for err == nil && !s.config.Selection.has(s.entry.Time) {
		s.passed.byTime.Add(1)
		s.Resolve(s.position())
		err = s.reader.Next(&s.entry)
	}
	item := feed.Item{File: name, Line: s.lines.Line()}
	var bad *recording.LineError
	if errors.As(err, &bad) {
		item.Message = message.NewMessage(item.Place(), bad.Raw)
		item.Rejected = bad
		s.entry.Time = time.Time{}
		return item, nil
	}
	if err != nil {
		return item, err
	}
	e := &s.entry
	if e.ID == "" {
		e.ID = item.Place()
	}
	item.Message = message.NewMessage(e.ID, e.Payload)
	if e.Metadata != nil {
		item.Message.Metadata = e.Metadata
	}
	if !e.Time.IsZero() {
		item.Message.Metadata["recorded_at"] = e.TimeText
	}
	return item, nil
}

func (s *fileSource) readLine(name string) (feed.Item, error) {
	for {
		line, err := s.lines.Next()
		item := feed.Item{File: name, Line: s.lines.Line()}
		if err != nil {
			return item, err
		}
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			continue
		}
		item.Message = message.NewMessage(item.Place(), bytes.Clone(line))
		return item, nil
	}
}

// due returns when a message is to be handed on that was recorded at t.
func (s *fileSource) due(t time.Time) time.Time {
	if s.first.IsZero() {
		s.first, s.firstDue = t, time.Now()
	}
	return s.firstDue.Add(time.Duration(float64(t.Sub(s.first)) / float64(s.config.Speed)))
}

// restamp moves the times of the message that next made last to now.
func (s *fileSource) restamp(item *feed.Item) {
	if s.entry.Time.IsZero() {
		return
	}
	now := time.Now()
	moveTimes(item.Message, now.Sub(s.entry.Time).Truncate(time.Millisecond))
	item.Message.Metadata["recorded_at"] = now.UTC().Format(recording.TimeFormat)
}
