package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// cost is what a contender took for its work.
type cost struct {
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"` // user and system
	// RSS is the most memory that was resident, in bytes; 0 = not measured.
	RSS int64 `json:"rss,omitempty"`
}

// process is a running contender.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	out     tail
	err     tail
	done    chan struct{}
	failure error // set before done is closed

	mu  sync.Mutex
	rss int64
}

// startProcess starts a contender.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	endWithParent(cmd)
	p.started = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	ended := make(chan struct{})
	go func() {
		// The high water mark is gone with the process: it is read again and again until then.
		for every := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ended:
				every.Stop()
				return
			case <-every.C:
				rss := peakRSS(cmd.Process.Pid)
				p.mu.Lock()
				p.rss = max(p.rss, rss)
				p.mu.Unlock()
			}
		}
	}()
	go func() {
		defer close(p.done)
		if err := cmd.Wait(); err != nil {
			p.failure = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, p.err.String())
		}
		close(ended)
	}()
	return p, nil
}

// wait returns what the process took until it ended by itself.
func (p *process) wait(ctx context.Context) (cost, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return cost{}, ctx.Err()
	}
	wall := time.Since(p.started)
	if p.failure != nil {
		return cost{}, p.failure
	}
	if err := checkLedgers(p.err.String()); err != nil {
		return cost{}, err
	}
	return cost{Wall: wall, CPU: p.cpu(), RSS: p.peakRSS()}, nil
}

// checkLedgers returns an error when a ledger that penstock has logged at its end doesn't add up.
func checkLedgers(log string) error {
	for line := range strings.Lines(log) {
		var l struct{ Received, Written, Filtered, Poisoned, Released int64 }
		if strings.Contains(line, `"received"`) && json.Unmarshal([]byte(line), &l) == nil && l.Received != l.Written+l.Filtered+l.Poisoned+l.Released {
			return fmt.Errorf("the ledger doesn't add up: %s", line)
		}
	}
	return nil
}

// stop asks the process to end and returns what it took in all.
func (p *process) stop(ctx context.Context) (cost, error) {
	_ = p.cmd.Process.Signal(os.Interrupt)
	return p.wait(ctx)
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) cpu() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

func (p *process) peakRSS() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rss
}

// run runs a command to its end. One that reports may print its own measurement, which then counts.
func run(ctx context.Context, cmd *exec.Cmd, reports bool) (cost, error) {
	p, err := startProcess(cmd)
	if err != nil {
		return cost{}, err
	}
	took, err := p.wait(ctx)
	if err == nil && reports && p.out.String() != "" {
		err = p.report(&took)
	}
	return took, err
}

// contenderFlag starts this program as one of the contenders that are written here: each runs in a process of its own,
// as penstock does.
const contenderFlag = "contender"

// contender is the command of a contender that is written here. Its settings are passed as JSON.
func contender(name string, settings any) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	return exec.Command(program, contenderFlag, name, string(text)), nil
}

// runContender is contender and run; it returns the cost that the contender itself reports, or that of its process.
func runContender(ctx context.Context, name string, settings any) (cost, error) {
	cmd, err := contender(name, settings)
	if err != nil {
		return cost{}, err
	}
	return run(ctx, cmd, true)
}

// report replaces took by what the contender itself measured and printed.
func (p *process) report(took *cost) error {
	*took = cost{}
	if err := json.Unmarshal([]byte(p.out.String()), took); err != nil {
		return fmt.Errorf("%s said %q: %w", filepath.Base(p.cmd.Path), p.out.String(), err)
	}
	return nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
