// Package cause says why something failed without saying anything that came from outside: no part of a message, no
// id, no address, no user, no secret. Error texts hold all of these, so texts are never passed on. What is: the
// stage, what the engine makes of the error, the types of the errors, system calls and their error numbers, codes of
// AWS, Redis and HTTP, the reasons of our own errors (package reason), and which of Go's own panics it was.
//
// It is what leaves the process for error reports and traces.
package cause

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/aws/smithy-go"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/pipeline"
)

// Cause is why something failed.
type Cause struct {
	// Stage is where, such as "sink.redis"; "" when the error doesn't tell.
	Stage string
	// Kind is what the engine makes of the error: "fatal", "unavailable", "permanent" or "retryable".
	Kind string
	// Text is the rest, such as "*net.OpError dial tcp: connection refused".
	Text string
	// Stack is where a component panicked, the innermost call first; nil for other errors.
	Stack []Frame
}

// Frame is one call of a stack.
type Frame struct {
	// Package is the import path, Function the name in it, such as "(*writer).Publish".
	Package, Function string
	// File is the file's name, without folders.
	File string
	Line int
}

// String is the cause in one line.
func (c Cause) String() string {
	s := c.Kind + ": " + c.Text
	if c.Stage != "" {
		s = c.Stage + ": " + s
	}
	return s
}

// Of returns the cause that err has. It never panics, whatever the errors' own methods do.
func Of(err error) (c Cause) {
	defer func() {
		if recover() != nil {
			c = Cause{Kind: "retryable", Text: "an error that can't be looked at"}
		}
	}()
	c = Cause{Stage: inside.Stage(err), Kind: kind(err), Stack: parseStack(inside.PanicStack(err))}
	var parts list
	if len(c.Stack) > 0 {
		parts.add("panic in " + c.Stack[0].Package + "." + c.Stack[0].Function)
	}
	parts.walk(err, 0)
	if len(parts) == 0 {
		parts.add("an error of no type of its own")
	}
	c.Text = strings.Join(parts, ", ")
	return c
}

// OfPanic returns the cause that a panic has, from its stack as runtime/debug printed it.
func OfPanic(stack []byte) Cause {
	c := Cause{Kind: "permanent", Stack: parseStack(stack), Text: "panic"}
	if len(c.Stack) > 0 {
		c.Text = "panic in " + c.Stack[0].Package + "." + c.Stack[0].Function
	}
	return c
}

func kind(err error) string {
	switch {
	case pipeline.IsFatal(err):
		return "fatal"
	case pipeline.IsUnavailable(err):
		return "unavailable"
	case pipeline.IsPermanent(err):
		return "permanent"
	}
	return "retryable"
}

const (
	maxDepth = 32
	maxParts = 12
	// maxText bounds how much of an error's text is searched.
	maxText = 1 << 10
)

// list is the parts of a text, each once.
type list []string

func (l *list) add(part string) {
	if part != "" && len(*l) < maxParts && !slices.Contains(*l, part) {
		*l = append(*l, part)
	}
}

// wrappers are types that say nothing about a cause.
var wrappers = map[string]bool{
	"*errors.errorString": true, "*errors.joinError": true, "*os.SyscallError": true, "*fmt.wrapError": true, "*fmt.wrapErrors": true,
	"*pipeline.outcomeError": true, "*inside.StageError": true, "*inside.PanicError": true, "*pipeline.poisonedError": true,
}

// walk adds what the types in the tree of err tell.
func (l *list) walk(err error, depth int) {
	if err == nil || depth > maxDepth {
		return
	}
	if fact := describe(err); fact != "" {
		l.add(fact)
	} else if name := typeName(err); !wrappers[name] {
		l.add(name)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		l.walk(e.Unwrap(), depth+1)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			l.walk(err, depth+1)
		}
	}
}

// typeName is the type as %T prints it. A struct type without a name would bring its field tags along.
func typeName(err error) string {
	t := reflect.TypeOf(err)
	named := t
	if t.Kind() == reflect.Pointer {
		named = t.Elem()
	}
	if named.Name() == "" {
		return "an error of a type without a name"
	}
	return t.String()
}

// sentinels are errors that are known by what they are; their texts are constants of ours or of the standard library.
var sentinels = []error{
	context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	fs.ErrNotExist, fs.ErrPermission, fs.ErrExist, fs.ErrClosed, os.ErrDeadlineExceeded, os.ErrNoDeadline,
}

var (
	awsCode = regexp.MustCompile(`^[A-Z][A-Za-z]{2,39}(\.[A-Z][A-Za-z]{2,39}){0,3}$`)
	// redisCode is the first word of an answer of Redis, one of those that servers are known to give.
	redisCode = regexp.MustCompile(`(?:^|[ :]-?)(ASK|BUSY|BUSYGROUP|BUSYKEY|CLUSTERDOWN|CROSSSLOT|ERR|EXECABORT|FAILOVER|LOADING|MASTERDOWN|` +
		`MISCONF|MOVED|NOAUTH|NOGOODSLAVE|NOPERM|NOPROTO|NOREPL|NOREPLICAS|NOSCRIPT|NOTBUSY|NOTREADY|OOM|READONLY|TRYAGAIN|UNBLOCKED|UNKILLABLE|WRONGPASS|WRONGTYPE) `)
	networks   = []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", "unixgram", "ip", "ip4", "ip6"}
	operations = []string{"dial", "read", "write", "accept", "listen", "close", "set", "sendfile", "splice", "remote error", "local error"}
	fileOps    = []string{
		"open", "read", "write", "close", "rename", "link", "symlink", "mkdir", "remove", "unlink", "unlinkat", "rmdir",
		"stat", "lstat", "chmod", "chown", "sync", "truncate", "seek", "readdir", "readdirent", "fstat", "fdatasync", "fsync",
	}
	methods = []string{"Get", "Head", "Post", "Put", "Patch", "Delete", "Connect", "Options", "Trace", "parse"}
)

// describe says what a known error tells, or "".
func describe(err error) string {
	for _, s := range sentinels {
		if err == s {
			return s.Error()
		}
	}
	switch e := err.(type) {
	case *reason.Error:
		return e.Reason()
	case *inside.PanicError:
		return ofRuntime(e)
	case syscall.Errno:
		return e.Error() // from the system's table
	case tls.AlertError:
		return "tls.AlertError: " + e.Error() // from the standard library's table
	case *net.OpError:
		return words("*net.OpError", known(e.Op, operations), known(e.Net, networks))
	case *net.DNSError:
		switch {
		case e.IsNotFound:
			return "*net.DNSError: no such host"
		case e.IsTimeout:
			return "*net.DNSError: timeout"
		}
		return "*net.DNSError"
	case *url.Error:
		return words("*url.Error", known(e.Op, methods))
	case *fs.PathError:
		return words("*fs.PathError", known(e.Op, fileOps))
	case *os.LinkError:
		return words("*os.LinkError", known(e.Op, fileOps))
	}
	facts := []string{typeName(err)}
	if e, ok := err.(smithy.APIError); ok && awsCode.MatchString(e.ErrorCode()) {
		facts = append(facts, e.ErrorCode())
	}
	if e, ok := err.(interface{ HTTPStatusCode() int }); ok {
		facts = append(facts, "status "+strconv.Itoa(e.HTTPStatusCode()))
	}
	if _, ok := err.(interface{ RedisError() }); ok {
		if code := redisCode.FindStringSubmatch(clip(err.Error())); code != nil {
			facts = append(facts, code[1])
		}
	}
	if e, ok := err.(interface{ Timeout() bool }); ok && e.Timeout() {
		facts = append(facts, "timeout")
	}
	if len(facts) == 1 {
		return ""
	}
	return words(facts...)
}

func known(word string, of []string) string {
	if slices.Contains(of, word) {
		return word
	}
	return ""
}

func words(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), " ")
}

func clip(s string) string { return s[:min(len(s), maxText)] }

// runtimePhrases are parts of the texts of Go's own panics.
var runtimePhrases = []string{
	"index out of range", "slice bounds out of range", "invalid memory address or nil pointer dereference",
	"assignment to entry in nil map", "integer divide by zero", "interface conversion",
}

// ofRuntime says which of Go's own panics e is, or "": the text of the rest may hold values.
func ofRuntime(e *inside.PanicError) string {
	if err, ok := e.Value.(runtime.Error); ok {
		text := err.Error()
		for _, phrase := range runtimePhrases {
			if strings.Contains(text, phrase) {
				return phrase
			}
		}
	}
	return ""
}

var stackPlace = regexp.MustCompile(`^\t(.+):(\d+)(?: \+0x[0-9a-f]+)?$`)

// parseStack reads what runtime/debug.Stack printed in a deferred function during a panic: names and places, no values.
func parseStack(stack []byte) []Frame {
	const most = 50
	lines := strings.Split(string(stack), "\n")
	var frames []Frame
	for i := 0; i+1 < len(lines) && len(frames) < most; i++ {
		where := stackPlace.FindStringSubmatch(lines[i+1])
		if where == nil || strings.HasPrefix(lines[i], "created by ") {
			continue
		}
		if strings.HasPrefix(lines[i], "panic(") {
			frames = nil // those so far dealt with the panic
			i++
			continue
		}
		line, _ := strconv.Atoi(where[2])
		pkg, function := splitCall(lines[i])
		frames = append(frames, Frame{Package: pkg, Function: function, File: where[1][strings.LastIndexAny(where[1], `/\`)+1:], Line: line})
		i++
	}
	for len(frames) > 1 && frames[0].Package == "runtime" {
		frames = frames[1:]
	}
	return frames
}

// splitCall cuts a call, as a stack has it, into package and function, and leaves its arguments out:
// "example.org/a.b/c.(*T).M(0x1, 0x2)" is "example.org/a.b/c" and "(*T).M".
func splitCall(call string) (pkg, function string) {
	// Arguments are in the last pair of parentheses.
	if end := strings.LastIndexByte(call, '('); end > 0 {
		call = call[:end]
	}
	slash := strings.LastIndexByte(call, '/') + 1
	if bracket := strings.IndexByte(call, '['); bracket >= 0 && bracket < slash { // type arguments may hold paths
		slash = strings.LastIndexByte(call[:bracket], '/') + 1
	}
	dot := strings.IndexByte(call[slash:], '.')
	if dot < 0 {
		return "", call
	}
	return call[:slash+dot], call[slash+dot+1:]
}

// Errors returns the errors that were joined into err, or err alone.
func Errors(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && fmt.Sprintf("%T", err) == "*errors.joinError" {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, Errors(e)...)
		}
		return all
	}
	return []error{err}
}
