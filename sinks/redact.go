package sinks

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/recording"
	"github.com/penstock-dev/penstock/pipeline"
)

// redacted stands for a value that was left out, and for a body in which nothing can be looked for.
const redacted = "[redacted]"

// redact returns the body without the values at paths. One that has none of them comes back as it is.
func redact(body []byte, paths [][]string) []byte {
	v, err := parseJSON(body)
	if err != nil {
		return []byte(redacted)
	}
	found := false
	for _, path := range paths {
		var hit bool
		if v, hit = redactAt(v, path); hit {
			found = true
		}
	}
	if !found {
		return body
	}
	return compactJSON(v)
}

func redactAt(v any, path []string) (_ any, found bool) {
	if len(path) == 0 {
		return redacted, true
	}
	switch v := v.(type) {
	case map[string]any:
		inner, ok := v[path[0]]
		if !ok {
			return v, false
		}
		v[path[0]], found = redactAt(inner, path[1:])
		return v, found
	case []any:
		for i := range v {
			var hit bool
			v[i], hit = redactAt(v[i], path)
			found = found || hit
		}
		return v, found
	case string:
		if !strings.HasPrefix(strings.TrimSpace(v), "{") && !strings.HasPrefix(strings.TrimSpace(v), "[") {
			return v, false
		}
		inner, err := parseJSON([]byte(v))
		if err != nil {
			return redacted, true // it may hold the value in a form that can't be looked into
		}
		if inner, found = redactAt(inner, path); found {
			return string(compactJSON(inner)), true
		}
		return v, false
	}
	return v, false
}

func parseJSON(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // numbers stay as they are written
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more behind the JSON")
	}
	return v, nil
}

func compactJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // what was parsed can be encoded
		return []byte(redacted)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// retention bounds the files, and tells what has gone.
func retention(c *FileConfig, env pipeline.Env) *recording.Retention {
	gone := pipeline.RegisterMetric(env.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "penstock_files_removed_total", Help: "Files of a file sink that were removed because of keep or max_size.",
	}))
	log := env.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &recording.Retention{
		Keep: c.Keep, MaxBytes: int64(c.MaxSize),
		Removed: func(files int, bytes int64, err error) {
			gone.Add(float64(files))
			if files > 0 {
				log.Info("old files removed, as keep and max_size say", zap.String("dir", c.Dir), zap.Int("files", files), zap.Int64("bytes", bytes))
			}
			if err != nil {
				complaint.Warn(log, "old files can't be removed", zap.String("dir", c.Dir), zap.Error(err))
			}
		},
	}
}
