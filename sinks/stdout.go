package sinks

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// StdoutConfig prints messages to the standard output, a line each, never interleaved. When nobody reads the output any
// more, the pipeline stops.
//
// Messages that are processed at the same time are printed in any order; order: source on the pipeline keeps that of
// the source. After a stop or a failure a message may be printed a second time.
type StdoutConfig struct {
	// What to print of a message: "payload" is the body as it is and a newline (a body that holds line breaks fills
	// several lines), "recording" is the recording format, metadata included.
	Format string `yaml:"format" default:"payload" enum:"payload,recording"`
}

// Warnings tells when lines of a file may be printed in another order.
func (c *StdoutConfig) Warnings(whole *pipeline.Config) []error {
	if _, ordered := whole.Source.Config.(configfacts.Ordered); !ordered || whole.Order != "" || whole.MaxInFlight == 1 || configfacts.RoleOf(c, whole) != pipeline.RoleSink {
		return nil
	}
	return []error{code.Mark(code.Overtaking, pipeline.Invalid("", "lines of the source overtake each other on their way here: order: source on the pipeline keeps their order, order: none says that it doesn't matter"))}
}

// NewSink makes the sink.
func (c *StdoutConfig) NewSink(env pipeline.Env) (pipeline.Sink, error) {
	return c.to(os.Stdout, env), nil
}

func (c *StdoutConfig) to(out io.Writer, env pipeline.Env) pipeline.Sink {
	s := &stdoutSink{out: out, recording: c.Format == "recording", file: fileSink{poison: env.Role == pipeline.RolePoisonQueue}}
	return pipeline.BatchSinkFunc(s.store)
}

type stdoutSink struct {
	out       io.Writer
	recording bool
	file      fileSink // knows what an entry is
	buf       []byte   // of store: there is one worker
}

func (s *stdoutSink) store(_ context.Context, msgs []*message.Message) []error {
	buf := s.buf[:0]
	now := time.Now()
	for _, msg := range msgs {
		if s.recording {
			e := s.file.entry(msg, now)
			buf = recording.Append(buf, &e)
			continue
		}
		buf = append(buf, msg.Payload...)
		buf = append(buf, '\n')
	}
	_, err := s.out.Write(buf)
	if s.buf = buf; cap(buf) > maxKeptBuffer {
		s.buf = nil
	}
	if err == nil {
		return nil
	}
	err = reason.Errorf("write to the standard output: %w", err)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		err = pipeline.Fatal(code.Mark(code.ReaderGone, err))
	} else {
		err = pipeline.Unavailable(err)
	}
	errs := make([]error, len(msgs))
	for i := range errs {
		errs[i] = err
	}
	return errs
}
