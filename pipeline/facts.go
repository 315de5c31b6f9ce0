package pipeline

import "errors"

// Stage returns where in a pipeline err arose, such as "transforms[1].unwrap" or "sink.redis", or "" when err doesn't tell.
// It holds names of the configuration only, nothing of a message.
func Stage(err error) string {
	if e, ok := errors.AsType[*stageError](err); ok {
		return e.stage
	}
	return ""
}

// PanicStack returns the stack of the panic that the engine made err of, as runtime/debug prints it, or nil when err is
// no panic.
func PanicStack(err error) []byte {
	if e, ok := errors.AsType[*panicError](err); ok {
		return e.stack
	}
	return nil
}
