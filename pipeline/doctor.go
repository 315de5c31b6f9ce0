package pipeline

import (
	"context"
	"fmt"
)

// Doctor is implemented by configs of components that can look at what they will work with: whether it can be reached,
// whether rights are missing, which settings there cause trouble. It is asked by "penstock doctor", never by a run.
//
// Diagnose does I/O and returns when ctx ends at the latest. It must change nothing that another process could
// notice, and must work while the pipeline runs elsewhere. It returns what is worth knowing, most important first,
// and nothing when all is well. Components inside a component are asked separately.
type Doctor interface {
	Diagnose(ctx context.Context, env DoctorEnv) []Finding
}

// DoctorEnv is what a [Doctor] is told.
type DoctorEnv struct {
	// Pipeline is the pipeline that the component is in. It is not to be changed.
	Pipeline *Config
	// Role is the component's place in the pipeline; a child of a sink made of sinks has its parent's.
	Role Role
	// Path is where the component stands in the pipeline file, such as "sink.fan_out[0].redis".
	Path string
	// Peek permits what leaves a trace in exchange for knowing more, such as receiving a message and giving it back.
	Peek bool
}

// Finding is one thing that a [Doctor] found.
type Finding struct {
	// Code identifies the finding for good, such as PS110; the shipped ones are in docs/operations.md.
	Code string
	// Severity says how bad it is.
	Severity Severity
	// What is found, in a phrase.
	What string
	// Remedy is what to do about it; empty when there is nothing to do.
	Remedy string
	// Fix is what can be pasted to mend it: a policy, a command, settings of the pipeline file; empty when nothing can.
	// Findings of a component that are mended together have the same. It is printed by penstock doctor --fix-hints.
	Fix string
}

// Severity is how bad a [Finding] is.
type Severity uint8

// The severities.
const (
	// SeverityNote is a fact that an operator should know.
	SeverityNote Severity = iota
	// SeverityWarning is what works now but will cause trouble some day.
	SeverityWarning
	// SeverityBroken is what keeps the pipeline from working.
	SeverityBroken
)

// String is "note", "warning" or "broken".
func (s Severity) String() string {
	switch s {
	case SeverityNote:
		return "note"
	case SeverityWarning:
		return "warning"
	case SeverityBroken:
		return "broken"
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// MarshalText is [Severity.String], for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
