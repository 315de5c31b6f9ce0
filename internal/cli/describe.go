package cli

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"reflect"
	"strings"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

// flow is a pipeline in one line: source → transforms → sink.
func flow(cfg *pipeline.Config) string {
	components := []pipeline.Component{cfg.Source.Component}
	for _, t := range cfg.Transforms {
		components = append(components, t.Component)
	}
	components = append(components, cfg.Sink.Component)
	var parts []string
	for _, c := range components {
		if text := summary(c); text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " → ")
}

func summary(c pipeline.Component) string {
	switch config := c.Config.(type) {
	case pipeline.Summarizer:
		return config.Summary()
	case *sources.SQSConfig:
		return "SQS " + queueNames(config)
	case *sources.GenerateConfig:
		return grouped(int64(config.Customers)) + " made-up customers"
	case *sources.FileConfig:
		return "files " + strings.Join(config.Paths, ", ")
	case *transforms.UnwrapConfig:
		return "" // does nothing to most messages
	case *transforms.DecodeEntitlementsConfig:
		return "decode"
	case *sinks.RedisConfig:
		if config.Embedded != "" {
			return "Redis (embedded, " + config.Embedded + ")"
		}
		return "Redis (" + config.Address() + ")"
	case *sinks.SQSConfig:
		return "SQS " + path.Base(cmp.Or(config.QueueURL, config.Queue))
	case *sinks.FileConfig:
		return "files in " + config.Dir
	}
	// Sinks made of sinks say what they are made of.
	if children := childSinks(c.Config); len(children) > 0 {
		var parts []string
		for _, child := range children {
			parts = append(parts, summary(child.Component))
		}
		return strings.Join(parts, " + ")
	}
	return c.Name
}

// queueNames are the last parts of queue URLs: accounts and hosts are no help to a reader.
func queueNames(c *sources.SQSConfig) string {
	var names []string
	for _, list := range append([]string{c.QueueURL, c.Queue}, c.QueueURLs...) {
		for queue := range strings.SplitSeq(list, ",") {
			if name := path.Base(strings.TrimSpace(queue)); name != "." {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

// childSinks returns the sinks that stand in a config, in their order.
func childSinks(config any) []pipeline.SinkSpec {
	var children []pipeline.SinkSpec
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		if v.IsValid() && v.Type() == reflect.TypeFor[pipeline.SinkSpec]() {
			if v.CanInterface() {
				children = append(children, v.Interface().(pipeline.SinkSpec))
			}
			return
		}
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		}
	}
	walk(reflect.ValueOf(config))
	return children
}

// leaves returns the sinks that store something: the sink itself, or those that it is made of.
func leaves(spec pipeline.SinkSpec) []pipeline.SinkSpec {
	children := childSinks(spec.Config)
	if len(children) == 0 {
		return []pipeline.SinkSpec{spec}
	}
	var all []pipeline.SinkSpec
	for _, child := range children {
		all = append(all, leaves(child)...)
	}
	return all
}

// hints are the commands that look at what a pipeline stores, for people on a terminal.
func (s *session) hints(cfg *pipeline.Config, ref string) string {
	if cfg.Source.Name != "generate" || len(sdkUses(cfg.Sink)) == 0 {
		return "" // whose customers these are is not known here
	}
	text := foldedCommand("  look     ", fmt.Sprintf("%s inspect customer-3 -f %s", s.Invocation, ref), s.width())
	if _, err := os.Stat(nodeReader); err == nil {
		command := "node " + nodeReader + " customer-3 feature-api-calls"
		if line := "  read it as your app does:   "; s.width() == 0 || cellsOf(line+command) <= s.width() {
			text += line + command + "\n"
		} else {
			text += "  read it as your app does:\n" + foldedCommand("           ", command, s.width())
		}
	}
	return text
}

// nodeReader is the program that reads with the provider's SDK, where it stands in this repository.
const nodeReader = "examples/node-reader/read.mjs"
