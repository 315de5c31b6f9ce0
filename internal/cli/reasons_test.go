package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/sources"
)

func TestReasons_tellTheMostFrequentAndCountTheRest(t *testing.T) {
	var r reasons
	for i := range 12 {
		for n := range 20 - i {
			err := fmt.Errorf("kind %c: number %d of %q", 'a'+i, n, fmt.Sprint("customer", n))
			r.observe(complaint.Incident{Title: complaint.NewTitle("message poisoned"), Err: err})
		}
	}
	r.observe(complaint.Incident{Title: complaint.NewTitle("something else"), Err: errors.New("x")})
	var b strings.Builder
	r.write(&b)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 11 || lines[0] != "20  poisoned: kind a: number … of …" || strings.TrimSpace(lines[10]) != "19  for other reasons" {
		t.Errorf("%q", lines)
	}
}

func TestReasons_stayBounded(t *testing.T) {
	var r reasons
	for i := range 5000 {
		text := strings.Repeat("x", i%700) + strings.Repeat("y", i/700)
		r.observe(complaint.Incident{Title: complaint.NewTitle("message poisoned"), Err: errors.New(text)})
	}
	if len(r.count) > maxReasons {
		t.Errorf("%d reasons are kept", len(r.count))
	}
}

func TestSelectMessages_readsTimesAndRefusesWhatMakesNoSense(t *testing.T) {
	var c sources.FileConfig
	if err := (&replayFlags{from: "2026-11-21", to: "2026-11-22T10:00:00+01:00", filter: ".payload.n == 1", limit: 7}).choose(&c); err != nil {
		t.Fatal(err)
	}
	if s := c.Selection; !s.From.Equal(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)) || !s.To.Equal(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)) || s.Limit != 7 || s.Filter != ".payload.n == 1" {
		t.Errorf("%+v", s)
	}
	for want, flags := range map[string][2]string{
		"--from: want a time": {"yesterday", ""}, "--from must be before --to": {"2026-11-22", "2026-11-22"},
	} {
		if err := (&replayFlags{from: flags[0], to: flags[1]}).choose(&sources.FileConfig{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", flags, err)
		}
	}
	if err := (&replayFlags{from: "2026-11-22"}).choose(&sources.FileConfig{Format: "lines"}); err == nil {
		t.Error("times of plain lines are taken")
	}
}
