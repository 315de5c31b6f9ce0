package pipeline_test

import (
	"testing"
	"testing/synctest"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/inside"
	"github.com/penstock-dev/penstock/pipeline"
)

// A message that a transform releases goes back to its source at once: no second attempt, no poison.
func TestRelease_givesBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(true, "a")
		calls := 0
		f.p.Transforms = []pipeline.Transform{func(msg *message.Message) ([]*message.Message, error) {
			if calls++; calls < 3 {
				return nil, inside.Release(errBroken)
			}
			return []*message.Message{msg}, nil
		}}
		f.start(t)
		l, err := f.finish(t)
		if err != nil || l.Released != 2 || l.Written != 1 || l.Poisoned != 0 || calls != 3 {
			t.Errorf("%+v, %d attempts, %v; want 2 released, 1 written, 3 attempts", l, calls, err)
		}
	})
}
