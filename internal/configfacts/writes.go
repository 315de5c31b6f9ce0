package configfacts

import (
	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/pipeline"
)

// RoleOf returns the part that the component with a config plays in its pipeline, a leg of a fan_out that of the whole;
// "" when it is not in there.
func RoleOf(config any, whole *pipeline.Config) (role pipeline.Role) {
	whole.Walk(func(r pipeline.Role, _ pipeline.Kind, c *pipeline.Component) {
		if c.Config == config {
			role = r
		}
	})
	return role
}

// WarnWithoutWrites returns a warning for the config of a sink that stores cache writes when what reaches it is
// probably none: no transform makes them, or it is the poison queue, or the recorder, which get messages as they
// came. It returns nil when all is well, or when a transform of a user's own stands before the sink, which may make
// anything.
func WarnWithoutWrites(config any, whole *pipeline.Config) error {
	role := RoleOf(config, whole)
	switch role {
	case pipeline.RolePoisonQueue, pipeline.RoleRecord:
		return code.Mark(code.NoWritesToStore, pipeline.Invalid("", "stores cache writes, but as %s it gets messages as they came: use a sink such as file or sqs here", role))
	case pipeline.RoleSink:
	default:
		return nil
	}
	if whole.Source.IsZero() {
		return nil // left out by the command at hand
	}
	for _, t := range whole.Transforms {
		if _, ok := t.Config.(PassThrough); !ok {
			return nil
		}
	}
	return code.Mark(code.NoWritesToStore, pipeline.Invalid("", "stores cache writes, but no transform makes them of the messages of %s: add decode_entitlements, or plain: {} on a redis sink for JSON messages "+
		"with a key and a value; without, every message that is no cache write yet fails for good", whole.Source.Name))
}
