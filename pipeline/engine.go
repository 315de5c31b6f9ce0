package pipeline

import (
	"fmt"
	"runtime/debug"
)

// panicError is a panic of a component, as an error of the message it was given.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func newPanicError(value any) error {
	return Permanent(&panicError{value: value, stack: debug.Stack()})
}
