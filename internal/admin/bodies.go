package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/penstock-dev/penstock/internal/cause"
	"github.com/penstock-dev/penstock/pipeline"
)

// stuckAfter is how long the engine may go without a step of its own run loop (not of messages) before it is not alive.
const stuckAfter = time.Minute

// alive judges by the engine's newest step: a pipeline that has come to its end makes none, and is no reason to restart
// the others. Before the first step the start of the servers counts.
func alive(health []pipeline.Health, started, now time.Time) bool {
	last := started
	for _, h := range health {
		if h.LastStep.After(last) {
			last = h.LastStep
		}
	}
	return now.Sub(last) <= stuckAfter
}

// readiness is the existing service's answer, byte for byte, for a pipeline into redis; other sinks stand under their
// own name. Several pipelines: the consumers add up, it is UP when all are, and sinks of one name are CONNECTED when
// all are.
func readiness(health []pipeline.Health) (code int, body []byte) {
	up, consumers := len(health) > 0, 0
	var sinks []string
	connected := map[string]bool{}
	for _, h := range health {
		up = up && h.Up
		consumers += h.Consumers
		if !slices.Contains(sinks, h.Sink) {
			sinks = append(sinks, h.Sink)
			connected[h.Sink] = true
		}
		connected[h.Sink] = connected[h.Sink] && h.SinkConnected
	}
	code, word := http.StatusServiceUnavailable, "DOWN"
	if up {
		code, word = http.StatusOK, "UP"
	}
	body = append(body, `{"status":"`+word+`","consumers":`...)
	body = strconv.AppendInt(body, int64(consumers), 10)
	for _, name := range sinks {
		key, _ := json.Marshal(name)
		word := "DISCONNECTED"
		if connected[name] {
			word = "CONNECTED"
		}
		body = append(body, ',')
		body = append(body, key...)
		body = append(body, `:"`+word+`"`...)
	}
	return code, append(body, '}')
}

type statusJSON struct {
	Version       string           `json:"version"`
	StartedAt     time.Time        `json:"started_at"`
	UptimeSeconds float64          `json:"uptime_seconds"`
	Pipelines     []pipelineStatus `json:"pipelines"`
}

type pipelineStatus struct {
	Name                  string     `json:"name"`
	Up                    bool       `json:"up"`
	Reason                string     `json:"reason,omitempty"`
	Consumers             int        `json:"consumers"`
	Sink                  string     `json:"sink"`
	SinkConnected         bool       `json:"sink_connected"`
	OldestInFlightSeconds float64    `json:"oldest_in_flight_seconds"`
	Ledger                ledgerJSON `json:"ledger"`
	// Components are the states of the pipeline's components.
	Components []componentJSON `json:"components"`
	// PoisonWaiting is what waits for room in the poison queue.
	PoisonWaiting *poisonWaitingJSON `json:"poison_waiting,omitempty"`
	// Reports are the components' own facts, by role.
	Reports map[pipeline.Role]map[string]any `json:"reports,omitempty"`
}

type componentJSON struct {
	Path      string         `json:"path"`
	Role      pipeline.Role  `json:"role"`
	State     string         `json:"state"`
	Since     time.Time      `json:"since"`
	LastError *lastErrorJSON `json:"last_error,omitempty"`
	Tries     int            `json:"tries,omitempty"`
	Held      int            `json:"held,omitempty"`
	NextTry   *time.Time     `json:"next_try,omitempty"`
}

type lastErrorJSON struct {
	// Reason is what error reports say of it: nothing that came from outside.
	Reason string    `json:"reason"`
	Code   string    `json:"code,omitempty"`
	At     time.Time `json:"at"`
}

func components(all []pipeline.ComponentHealth) []componentJSON {
	list := make([]componentJSON, len(all))
	for i, c := range all {
		list[i] = componentJSON{Path: c.Path, Role: c.Role, State: c.State, Since: c.Since.UTC(), Tries: c.Tries, Held: c.Held}
		if c.LastError != nil {
			list[i].LastError = &lastErrorJSON{Reason: cause.Of(c.LastError).Text, Code: c.Code, At: c.LastErrorAt.UTC()}
		}
		if !c.NextTry.IsZero() {
			next := c.NextTry.UTC()
			list[i].NextTry = &next
		}
	}
	return list
}

type poisonWaitingJSON struct {
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason,omitempty"`
}

func poisonWaiting(w *pipeline.PoisonWaiting) *poisonWaitingJSON {
	if w == nil {
		return nil
	}
	return &poisonWaitingJSON{Messages: w.Messages, Bytes: w.Bytes, Since: w.Since.UTC(), Reason: w.Reason}
}

type ledgerJSON struct {
	Received     int64    `json:"received"`
	InFlight     int64    `json:"in_flight"`
	Written      int64    `json:"written"`
	Filtered     int64    `json:"filtered"`
	Poisoned     int64    `json:"poisoned"`
	Released     int64    `json:"released"`
	Retries      int64    `json:"retries"`
	RecordErrors int64    `json:"record_errors"`
	Unresolved   int64    `json:"unresolved"`
	UnresolvedAt []string `json:"unresolved_at,omitempty"`
	LastPoison   string   `json:"last_poison,omitempty"`
}

func statusBody(o Options, started time.Time) []byte {
	ledgers := map[string]pipeline.Ledger{}
	for _, l := range o.Engine.Ledgers() {
		ledgers[l.Pipeline] = l
	}
	s := statusJSON{
		Version:       o.Version,
		StartedAt:     started.UTC(),
		UptimeSeconds: o.now().Sub(started).Seconds(),
		Pipelines:     []pipelineStatus{},
	}
	for _, h := range o.Engine.Health() {
		l := ledgers[h.Pipeline]
		s.Pipelines = append(s.Pipelines, pipelineStatus{
			Name: h.Pipeline, Up: h.Up, Reason: h.Reason, Consumers: h.Consumers,
			Sink: h.Sink, SinkConnected: h.SinkConnected, OldestInFlightSeconds: h.OldestInFlight.Seconds(),
			Ledger: ledgerJSON{
				Received: l.Received, InFlight: l.InFlight(), Written: l.Written, Filtered: l.Filtered, Poisoned: l.Poisoned,
				Released: l.Released, Retries: l.Retries, RecordErrors: l.RecordErrors,
				Unresolved: l.Unresolved, UnresolvedAt: l.UnresolvedAt, LastPoison: l.LastPoison,
			},
			Components:    components(h.Components),
			PoisonWaiting: poisonWaiting(h.PoisonWaiting),
			Reports:       h.Reports,
		})
	}
	body, err := json.Marshal(s)
	if err != nil {
		// Only a report can hold what JSON can't; the rest is worth more than it.
		for i := range s.Pipelines {
			s.Pipelines[i].Reports = nil
		}
		body, _ = json.Marshal(s)
	}
	return body
}
