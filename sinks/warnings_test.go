package sinks

import (
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sources"
	"github.com/penstock-dev/penstock/transforms"
)

// Loading warns where messages would be poisoned, or would lose an order that their user takes for granted.
func TestWarnings_tellWhatIsValidAndProbablyAMistake(t *testing.T) {
	const (
		file   = "source: {file: {paths: [x]}}\n"
		made   = "source: {generate: {}}\n"
		decode = "transforms: [{unwrap: {}}, {decode_entitlements: {}}]\n"
		noCash = "stores cache writes, but no transform makes them"
		aside  = "it gets messages as they came"
		lost   = "overtake each other"
	)
	queue := func(name string) string { return "source: {sqs: {queue: " + name + ", region: us-east-1}}\n" }
	registry := sources.Register(transforms.Register(Register(pipeline.NewRegistry())))
	for name, c := range map[string]struct{ text, want string }{
		"redis behind nothing":           {made + "sink: {redis: {}}\n", noCash},
		"redis behind unwrap":            {made + "transforms: [{unwrap: {}}]\nsink: {redis: {}}\n", noCash},
		"redis behind a decoder":         {made + decode + "sink: {redis: {}}\n", ""},
		"memory behind nothing":          {made + "sink: {memory: {}}\n", noCash},
		"memory behind a decoder":        {made + decode + "sink: {memory: {}}\n", ""},
		"one leg of two":                 {made + "sink: {fan_out: [{drop: {}}, {redis: {}}]}\n", noCash},
		"plain redis":                    {made + "sink: {redis: {plain: {}}}\n", ""},
		"redis as the poison queue":      {made + decode + "sink: {redis: {}}\npoison_queue: {redis: {}}\n", aside},
		"redis as the recorder":          {made + decode + "sink: {redis: {}}\nrecord: {redis: {}}\n", aside},
		"plain redis from a file":        {file + "sink: {redis: {plain: {}}}\n", lost},
		"with a version":                 {file + "sink: {redis: {plain: {version: rev}}}\n", ""},
		"in order":                       {file + "order: source\nsink: {redis: {plain: {}}}\n", ""},
		"in no order":                    {file + "order: none\nsink: {redis: {plain: {}}}\n", ""},
		"one at a time":                  {file + "max_in_flight: 1\nsink: {redis: {plain: {}}}\n", ""},
		"lines to stdout":                {file + "sink: {stdout: {}}\n", lost},
		"lines to stdout, too":           {file + "sink: {fan_out: [{drop: {}}, {stdout: {}}]}\n", lost},
		"lines to stdout, too, in order": {file + "order: source\nsink: {fan_out: [{drop: {}}, {stdout: {}}]}\n", ""},
		"one leg of two, plain":          {file + "sink: {fan_out: [{drop: {}}, {redis: {plain: {}}}]}\n", lost},
		"recorded to stdout":             {file + "sink: {drop: {}}\nrecord: {stdout: {}}\n", ""},
		"poison into a plain redis":      {file + "sink: {drop: {}}\npoison_queue: {redis: {plain: {}}}\n", ""},
		"lines to stdout in order":       {file + "order: source\nsink: {stdout: {}}\n", ""},
		"made-up events to stdout":       {made + "sink: {stdout: {}}\n", ""},
		"a standard queue in order":      {queue("q") + "order: source\n" + decode + "sink: {redis: {}}\n", "order: source keeps no order here"},
		"a FIFO queue in order":          {queue("q.fifo") + "order: source\n" + decode + "sink: {redis: {}}\n", ""},
		"a standard queue":               {queue("q") + decode + "sink: {redis: {}}\n", ""},
		"files, whose order few mind":    {file + "sink: {file: {dir: y}}\n", ""},
		"stdout beside, as poison queue": {file + "order: none\nsink: {drop: {}}\npoison_queue: {stdout: {}}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := pipeline.LoadBytes(registry, "x.yaml", []byte("name: x\n"+c.text), pipeline.LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range warnings {
				got = append(got, w.String())
			}
			if text := strings.Join(got, "\n"); (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
				t.Errorf("warnings: %q, want %q", text, c.want)
			}
		})
	}
}
